"""
Who works: this process, or worker processes that may die without harm to others.

Covers starting, talking to and ending workers. What they are given, and what becomes of what a
lost one held, is the driver's.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import socket
import struct
import sys
import types
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from typing import TYPE_CHECKING

import psutil

from fastlung.run.inside import aws_variables, work
from fastlung.run.messages import Finish, Take, Tune
from fastlung.run.worker import Workbench

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    from fastlung.run.messages import ForWorker, FromWorker
    from fastlung.sink.commit import Job

__all__ = ["PATIENCE_SECONDS", "ProcessWorker", "SerialWorker", "start_server"]

#: Seconds a worker is given to end by itself before it is killed.
PATIENCE_SECONDS = 5.0

PRELOAD = "fastlung.run.preload"


def start_server() -> None:
    """
    Begin the process that workers are forked from, and do not wait for it.

    It imports and loads for 1.5 s, in which a run can list its source and load kernels itself.
    """
    forkserver.set_forkserver_preload([PRELOAD])
    with _blank_main(), _safe_path():
        forkserver.ensure_running()


class SerialWorker:
    """
    Works in this process, whenever it is asked for news: nobody can watch or kill it.

    Parameters
    ----------
    job : Job
        What all groups have in common.
    ring : callable
        Called when there is news, from any thread.
    """

    is_alive = False

    def __init__(self, job: Job, ring: Callable[[], None]) -> None:
        self._news: queue.SimpleQueue[FromWorker] = queue.SimpleQueue()
        self._ring = ring
        self._bench = Workbench(job, self._post).__enter__()
        self._closed = False

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to compute."""
        return self._closed or self._bench.is_idle

    def send(self, message: ForWorker) -> None:
        """Heed a message."""
        match message:
            case Take():
                self._bench.hand(message.groups)
            case Tune():
                self._bench.tune(message.ahead_bytes, message.requests)
            case Finish():
                self._bench.finish(begun_only=message.begun_only)

    def news(self) -> Iterator[FromWorker]:
        """Do a group if there is one, and tell what happened since."""
        if not self.is_idle:
            self._bench.step()
        with suppress(queue.Empty):
            while True:
                yield self._news.get(block=False)

    def kill(self) -> None:
        """Do nothing: what it did is over."""

    def last_words(self) -> str:
        """Never asked: it is not lost."""
        return ""

    def close(self) -> None:
        """Wait for what is being written."""
        if not self._closed:
            self._closed = True
            self._bench.__exit__(None, None, None)

    def _post(self, message: FromWorker) -> None:
        self._news.put(message)
        self._ring()


class ProcessWorker:
    """
    Works in a process of its own, which begins at once.

    Parameters
    ----------
    job : Job
        What all groups have in common.
    memory_bytes : int
        What the process may allocate beyond what it begins with; past that it gets a MemoryError
        instead of being killed by the system.
    """

    def __init__(self, job: Job, memory_bytes: int) -> None:
        start_server()
        context = multiprocessing.get_context("forkserver")
        self.connection, there = context.Pipe()
        _limit_sending(self.connection)
        self._process = context.Process(
            target=work, args=(there, job, memory_bytes, aws_variables()), daemon=True
        )
        with _blank_main():
            self._process.start()
        there.close()  # or the end of the process would not be the end of the connection
        self._seen_bytes = 0

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid or 0

    @property
    def is_alive(self) -> bool:
        """Whether the process goes on."""
        return self._process.is_alive()

    def send(self, message: ForWorker) -> None:
        """Tell the worker something; one that is gone does not mind, one that is deaf is ended."""
        try:
            self.connection.send(message)
        except OSError:
            self.kill()

    def news(self) -> Iterator[FromWorker]:
        """
        Tell what happened since.

        Raises
        ------
        EOFError
            If the worker is gone, and everything it ever said has been told.
        """
        try:
            while self.connection.poll():
                message: FromWorker = self.connection.recv()
                yield message
        except OSError:  # it died in the middle of a word
            raise EOFError from None

    def look(self) -> None:
        """Note what it holds, for its last words."""
        with suppress(psutil.Error):
            self._seen_bytes = max(self._seen_bytes, psutil.Process(self.pid).memory_info().rss)

    def kill(self) -> None:
        """End the process at once, whatever it is doing."""
        self._process.kill()

    def last_words(self) -> str:
        """By what signal or exit code it ended, and what it held."""
        self.close()
        code = self._process.exitcode
        held = f", holding {self._seen_bytes / 1e9:.1f} GB when last seen" * bool(self._seen_bytes)
        if code == -signal.SIGKILL:
            return f"was killed (SIGKILL{held}), as happens when the machine runs out of memory"
        if code is not None and code < 0:
            return f"crashed ({signal.Signals(-code).name}{held})"
        return f"ended (exit code {code}{held})"

    def close(self) -> None:
        """Wait for the process, which was told to end or has ended; kill it if it does not."""
        self._process.join(PATIENCE_SECONDS)
        if self._process.exitcode is None:
            self.kill()
            self._process.join()
        self.connection.close()


def _limit_sending(connection: Connection) -> None:
    """Let no worker that has stopped listening, held up in compiled code, hold up the driver."""
    timeout = struct.pack("ll", int(PATIENCE_SECONDS), 0)
    with socket.socket(fileno=os.dup(connection.fileno())) as end:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)


@contextmanager
def _blank_main() -> Iterator[None]:
    """
    Hide the user's script from a process that is being started.

    multiprocessing imports the parent's script again in every new process. A script that calls
    fastlung without an ``if __name__ == "__main__"`` would then start its run anew in each worker,
    or fail with a page of advice. Our workers need nothing of it.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _safe_path() -> Iterator[None]:
    """
    Keep the fork server from importing what lies in the current folder.

    It starts as ``python -c``, which puts that folder first on its path: in a checkout it would
    preload another fastlung than the parent's, compile all kernels again (measured: 24 s), and a
    folder that happens to be called numpy would end it.
    """
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before
