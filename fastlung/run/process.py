"""
Worker processes, both ends of them; and this process as the only worker.

Covers starting, messages and ending, and the main function of the worker process. What workers
get, and the recovery after a loss, is the driver's.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import queue
import resource
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
import types
import warnings
from contextlib import contextmanager, suppress
from multiprocessing import connection, forkserver
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from fastlung.errors import ConfigError, WorkerDiedError
from fastlung.kernels.jit import temporary_folder
from fastlung.plan.machine import address_space_bytes
from fastlung.run.protocol import Drop, Finish, Take, Tune
from fastlung.run.worker import Worker
from fastlung.storage.prefetch import share_arenas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    from fastlung.run.protocol import ForWorker, FromWorker
    from fastlung.sink.commit import Job

__all__ = [
    "SHUTDOWN_SECONDS",
    "PrivatePeak",
    "ProcessWorker",
    "SerialWorker",
    "aws_variables",
    "start_server",
    "work",
]


#: Seconds in which a worker may end by itself before it is killed.
SHUTDOWN_SECONDS = 5.0

PRELOAD = "fastlung.run.preload"


def start_server() -> None:
    """
    Start the process that workers are forked from, and do not wait for it.

    It imports and loads for 1.5 s, in which a run lists its source and loads kernels itself.
    """
    if not (folder := temporary_folder()):
        raise ConfigError(
            "worker processes meet at a socket in a temporary folder, and none can be written; "
            "set TMPDIR to one, or give --workers 0"
        )
    tempfile.tempdir = folder
    forkserver.set_forkserver_preload([PRELOAD])
    with _blank_main(), _safe_path():
        forkserver.ensure_running()


class SerialWorker:
    """
    The worker of a serial run: computes in this process, a group at each call of `news`.

    Parameters
    ----------
    job : Job
        What all groups have in common.
    wake : callable
        Called when there is a message, from any thread.
    """

    is_alive = False

    def __init__(self, job: Job, wake: Callable[[], None]) -> None:
        self._news: queue.SimpleQueue[FromWorker] = queue.SimpleQueue()
        self._wake = wake
        self._worker = Worker(job, self._post).__enter__()
        self._closed = False

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to compute."""
        return self._closed or self._worker.is_idle

    def send(self, message: ForWorker) -> None:
        """Carry out a message."""
        match message:
            case Take():
                self._worker.submit(message.groups)
            case Tune():
                self._worker.tune(message.ahead_bytes, message.requests)
            case Finish():
                self._worker.finish(begun_only=message.begun_only)

    def news(self) -> Iterator[FromWorker]:
        """Compute a group if there is one, and yield the messages since."""
        if not self.is_idle:
            self._worker.step()
        with suppress(queue.Empty):
            while True:
                yield self._news.get(block=False)

    def kill(self) -> None:
        """Do nothing: no group is in work between two calls."""

    def exit_reason(self) -> str:
        """Empty: this worker cannot be lost."""
        return ""

    def close(self) -> None:
        """Wait for what is being written."""
        if not self._closed:
            self._closed = True
            self._worker.__exit__(None, None, None)

    def _post(self, message: FromWorker) -> None:
        self._news.put(message)
        self._wake()


class ProcessWorker:
    """
    A worker process, which begins at once.

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
        try:
            with _blank_main():
                self._process.start()
        except (OSError, EOFError) as error:
            # Of a user who may not enter the folder of this Python, for one.
            raise WorkerDiedError(
                f"no worker process can be started ({type(error).__name__}); is {sys.executable} "
                "one that this user may run? --workers 0 works in this process"
            ) from error
        there.close()  # or the end of the process would not be the end of the connection
        self._seen_bytes = 0

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid or 0

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    def send(self, message: ForWorker) -> None:
        """Send a message; a worker that does not take it within `SHUTDOWN_SECONDS` is killed."""
        try:
            self.connection.send(message)
        except OSError:
            self.kill()

    def news(self) -> Iterator[FromWorker]:
        """
        Yield the messages since.

        Raises
        ------
        EOFError
            If the worker has ended and all its messages have been read.
        """
        try:
            while self.connection.poll():
                message: FromWorker = self.connection.recv()
                yield message
        except OSError:  # it ended in the middle of a message
            raise EOFError from None

    def sample_memory(self) -> None:
        """Note the memory that it holds, for `exit_reason`."""
        with suppress(psutil.Error, OSError):
            self._seen_bytes = max(self._seen_bytes, psutil.Process(self.pid).memory_info().rss)

    def kill(self) -> None:
        """End the process at once, whatever it is doing."""
        self._process.kill()

    def exit_reason(self) -> str:
        """Say by what signal or exit code it ended, and what memory it held."""
        self.close()
        code = self._process.exitcode
        held = f", holding {self._seen_bytes / 1e9:.1f} GB when last seen" * bool(self._seen_bytes)
        if code == -signal.SIGKILL:
            return f"was killed (SIGKILL{held}), as happens when the machine runs out of memory"
        if code is not None and code < 0:
            return f"crashed ({signal.Signals(-code).name}{held})"
        return f"ended (exit code {code}{held})"

    def close(self) -> None:
        """Wait for the process, which was asked to end or has ended; kill it if it does not."""
        self._process.join(SHUTDOWN_SECONDS)
        if self._process.exitcode is None:
            self.kill()
            self._process.join()
        self.connection.close()


def _limit_sending(connection: Connection) -> None:
    """Bound the driver's wait for a worker that reads no messages, busy in compiled code."""
    timeout = struct.pack("ll", int(SHUTDOWN_SECONDS), 0)
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


#: How old a figure of what is shared with other processes may be, in seconds; it costs a
#: millisecond, as the kernel walks the page tables.
SHARED_SECONDS = 1.0


def aws_variables() -> dict[str, str]:
    """Variables of this process that say who it is to AWS."""
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}


def work(at: Connection, job: Job, memory_bytes: int, aws_environment: dict[str, str]) -> None:
    """
    Be a worker process, from beginning to end.

    Parameters
    ----------
    at : Connection
        To the driver.
    job : Job
        What all groups have in common.
    memory_bytes : int
        What may be allocated beyond what the process begins with.
    aws_environment : dict of str to str
        `aws_variables` of the driver.
    """
    _prepare(memory_bytes, aws_environment)
    sending = threading.Lock()

    def post(message: FromWorker) -> None:
        with sending, suppress(BrokenPipeError, ConnectionResetError):  # the driver has ended
            at.send(message)

    with Worker(job, post, PrivatePeak()) as worker:
        listener = threading.Thread(
            target=_listen, args=(at, worker), daemon=True, name="fastlung-listener"
        )
        listener.start()
        while worker.step():
            pass


def _prepare(memory_bytes: int, aws_environment: dict[str, str]) -> None:
    """Set environment, signals, logging and limits of a worker process."""
    # The fork server keeps the environment of the first run in its life; a notebook may have
    # chosen other credentials since.
    for name in aws_variables():
        del os.environ[name]
    os.environ.update(aws_environment)
    # Both reach the whole process group, or job; the parent decides what becomes of the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Warnings and logs of libraries quote values of tags.
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
    share_arenas()
    _limit_memory(memory_bytes)


def _listen(at: Connection, worker: Worker) -> None:
    """Carry out the driver's messages; end at once when its connection ends or breaks."""
    try:
        while (message := _received(at)) is not None:
            match message:
                case Take():
                    worker.submit(message.groups)
                case Tune():
                    worker.tune(message.ahead_bytes, message.requests)
                case Finish():
                    worker.finish(begun_only=message.begun_only)
                case Drop():
                    worker.drain()
                    os._exit(0)
    finally:
        # A worker without a listener would wait for ever, and its driver for it.
        os._exit(1)


def _received(at: Connection) -> ForWorker | None:
    """Next message of the driver; None if it has ended."""
    # PR_SET_PDEATHSIG would tell of the fork server's end, not of the parent's. Measured: gone
    # within 0.05 s of the parent's SIGKILL.
    parent = multiprocessing.parent_process()
    ends: list[Any] = [at] if parent is None else [at, parent.sentinel]
    if at not in connection.wait(ends):
        return None
    try:
        message: ForWorker = at.recv()
    except (EOFError, OSError):
        return None
    return message


class PrivatePeak:
    """
    Most memory that this process has held for itself since it was asked before.

    The peak that the kernel keeps counts pages shared with the fork server, 240 MB of them; what
    is shared now is taken off.
    """

    def __init__(self, process: Path = Path("/proc/self")) -> None:
        self._process = process
        self._shared_bytes = 0
        self._looked = -SHARED_SECONDS

    def __call__(self) -> int:
        """In bytes; 0 where the kernel does not say."""
        try:
            status = (self._process / "status").read_text("ascii", "replace")
            peak = _kibibytes(status, "VmHWM:")
            if time.monotonic() - self._looked >= SHARED_SECONDS:
                rollup = (self._process / "smaps_rollup").read_text("ascii", "replace")
                private = _kibibytes(rollup, "Private_Clean:") + _kibibytes(
                    rollup, "Private_Dirty:"
                )
                self._shared_bytes = max(0, _kibibytes(rollup, "Rss:") - private)
                self._looked = time.monotonic()
            (self._process / "clear_refs").write_text("5")  # the peak begins anew
        except (OSError, ValueError, IndexError):
            return 0
        return max(0, peak - self._shared_bytes)


def _kibibytes(text: str, name: str) -> int:
    """Bytes of a line such as ``Rss:   1234 kB``."""
    return int(text.partition(name)[2].split(maxsplit=1)[0]) * 1024


def _limit_memory(memory_bytes: int) -> None:
    """Turn an allocation that would exceed the budget of the whole run into a MemoryError."""
    taken = address_space_bytes()
    if taken is None:
        return
    limit = taken + memory_bytes
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY or limit < soft:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
