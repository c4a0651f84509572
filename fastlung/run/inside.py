"""
Inside a worker process: how it begins, what it heeds, what it measures, and how it ends.

Starting, watching and killing it from outside is `fastlung.run.executors`' work.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import resource
import signal
import threading
import time
import warnings
from contextlib import suppress
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from fastlung.run.messages import Drop, Finish, Take, Tune
from fastlung.run.worker import Workbench
from fastlung.storage.prefetch import share_arenas

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from fastlung.run.messages import ForWorker, FromWorker
    from fastlung.sink.commit import Job

__all__ = ["PrivatePeak", "aws_variables", "work"]

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
        with sending, suppress(BrokenPipeError, ConnectionResetError):  # nobody is left to tell
            at.send(message)

    with Workbench(job, post, PrivatePeak()) as bench:
        listener = threading.Thread(
            target=_listen, args=(at, bench), daemon=True, name="fastlung-listener"
        )
        listener.start()
        while bench.step():
            pass


def _prepare(memory_bytes: int, aws_environment: dict[str, str]) -> None:
    # The fork server keeps the environment of the first run in its life; a notebook may have
    # chosen other credentials since.
    for name in aws_variables():
        del os.environ[name]
    os.environ.update(aws_environment)
    # Both reach the whole process group, or job; the parent decides what becomes of the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Foreign warnings and logs quote values of tags; nobody reads them here.
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
    share_arenas()
    _limit_memory(memory_bytes)


def _listen(at: Connection, bench: Workbench) -> None:
    """Heed the driver; end at once when it is gone, or cannot be understood."""
    try:
        while (message := _heard(at)) is not None:
            match message:
                case Take():
                    bench.hand(message.groups)
                case Tune():
                    bench.tune(message.ahead_bytes, message.requests)
                case Finish():
                    bench.finish(begun_only=message.begun_only)
                case Drop():
                    bench.drain()
                    os._exit(0)
    finally:
        # A worker that is deaf would wait for ever, and its driver for it.
        os._exit(1)


def _heard(at: Connection) -> ForWorker | None:
    """What the driver says next; None if it is gone."""
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
    limit = psutil.Process().memory_info().vms + memory_bytes
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY or limit < soft:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
