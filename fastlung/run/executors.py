"""
Who runs a chunk: this process, or worker processes that may die without harm to others.

Covers starting, watching and ending workers. A pool shared by all would lose every chunk when one
worker dies (measured: one killed worker failed four innocent jobs of eight), so that each worker
is a pool of its own. What a chunk is, and what becomes of a lost one, is decided elsewhere.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
import types
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import sharedctypes
from typing import TYPE_CHECKING, Protocol

import psutil

from fastlung.errors import StoreError
from fastlung.run.inside import aws_variables, run_in_worker, start_worker
from fastlung.run.worker import run_chunk

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Generator, Iterator, Sequence
    from multiprocessing.process import BaseProcess

    from fastlung.run.commit import Job, Task
    from fastlung.scan import Outcome

__all__ = ["ChunkEnd", "ProcessWorker", "SerialWorker", "Worker", "work_through"]

#: Seconds between looks at what the workers are at; the grain of the time limit.
POLL_SECONDS = 0.25
#: Seconds a worker is given to end by itself before it is killed.
PATIENCE_SECONDS = 5.0

PRELOAD = "fastlung.run.preload"


class Worker(Protocol):
    """Runs one chunk at a time."""

    def submit(self, job: Job, tasks: Sequence[Task]) -> Future[list[Outcome]]:
        """Start a chunk; its outcomes, or why there are none, come with the future."""

    def position(self) -> int:
        """Number of the group of the chunk that was begun last; -1 for none yet."""

    def interrupt(self) -> None:
        """Ask it to drop its chunk."""

    def kill(self) -> None:
        """End it at once, whatever it is doing."""

    def last_words(self) -> str:
        """How it ended, after its future has said that it did."""

    def close(self) -> None:
        """Release it; it must be idle or dead."""


class SerialWorker:
    """Runs chunks in this process, while `submit` is called: nobody can watch or kill it."""

    def submit(self, job: Job, tasks: Sequence[Task]) -> Future[list[Outcome]]:
        """Run a chunk now."""
        future: Future[list[Outcome]] = Future()
        try:
            future.set_result(run_chunk(job, tasks))
        except StoreError as error:
            future.set_exception(error)
        return future

    def position(self) -> int:
        """Never asked: the chunk is over when `submit` returns."""
        return -1

    def interrupt(self) -> None:
        """Do nothing: Ctrl-C reaches this process by itself."""

    def kill(self) -> None:
        """Do nothing."""

    def last_words(self) -> str:
        """Never asked."""
        return ""

    def close(self) -> None:
        """Do nothing."""


class ProcessWorker:
    """
    Runs chunks in a process of its own, a new one after each death.

    Parameters
    ----------
    memory_bytes : int
        What the process may allocate beyond what it starts with; past that it gets a MemoryError
        instead of being killed by the system.
    """

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._pool: ProcessPoolExecutor | None = None
        self._process: BaseProcess | None = None
        # The worker says in shared memory which group it is at. Unlike a pipe or a file that costs
        # nothing, cannot block, and can be read after its death.
        self._position = sharedctypes.RawValue("q", -1)
        self._peak_bytes = 0

    def submit(self, job: Job, tasks: Sequence[Task]) -> Future[list[Outcome]]:
        """Start a chunk, and the process if there is none."""
        self._position.value = -1
        if self._pool is not None:
            try:
                return self._pool.submit(run_in_worker, job, tasks)
            except BrokenExecutor:
                self.last_words()  # it was killed while it had nothing to do
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([PRELOAD])
        self._pool = ProcessPoolExecutor(
            1,
            mp_context=context,
            initializer=start_worker,
            initargs=(self._position, self._memory_bytes, aws_variables()),
        )
        others = {process.pid for process in multiprocessing.active_children()}
        with _blank_main(), _safe_path():
            future = self._pool.submit(run_in_worker, job, tasks)
        started = [p for p in multiprocessing.active_children() if p.pid not in others]
        self._process = started[0] if started else None
        self._peak_bytes = 0
        return future

    def position(self) -> int:
        """Number of the group of the chunk that was begun last; notes memory in passing."""
        if self._process is not None and self._process.pid is not None:
            with suppress(psutil.Error):
                resident = psutil.Process(self._process.pid).memory_info().rss
                self._peak_bytes = max(self._peak_bytes, resident)
        return int(self._position.value)

    def interrupt(self) -> None:
        """Ask the process to drop its chunk: what is being written is finished, nothing else."""
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """End the process at once."""
        if self._process is not None:
            self._process.kill()

    def last_words(self) -> str:
        """By what signal or exit code it ended, and what it held; a new process may follow."""
        process, self._process = self._process, None
        self.close()  # waits until the pool knows how its process ended
        code = None if process is None else process.exitcode
        held = f", holding {self._peak_bytes / 1e9:.1f} GB when last seen" * bool(self._peak_bytes)
        if code == -signal.SIGKILL:
            return f"was killed (SIGKILL{held}), as happens when the machine runs out of memory"
        if code is not None and code < 0:
            return f"crashed ({signal.Signals(-code).name}{held})"
        return f"ended (exit code {code}{held})"

    def close(self) -> None:
        """Let the process end, and wait for it."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkEnd:
    """
    How a chunk ended.

    Attributes
    ----------
    tasks : tuple of Task
        Its source groups.
    outcomes : tuple of Outcome or None
        What became of them; None where the worker was lost.
    position : int
        Where the worker was lost: number of the group it had begun last, or -1.
    last_words : str
        How it was lost.
    timed_out : bool
        Whether it was killed for holding one group too long.
    """

    tasks: tuple[Task, ...]
    outcomes: tuple[Outcome, ...] | None
    position: int = -1
    last_words: str = ""
    timed_out: bool = False


@dataclass(slots=True)
class _Assignment:
    """A chunk that a worker has, and when it began the group it is at."""

    worker: Worker
    tasks: tuple[Task, ...]
    future: Future[list[Outcome]]
    since: float
    position: int = -1
    timed_out: bool = False

    def watch(self, timeout_seconds: float) -> None:
        """Kill the worker if it has been at the same group for too long."""
        now, position = time.monotonic(), self.worker.position()
        if position != self.position:
            self.position, self.since = position, now
        elif now - self.since > timeout_seconds and not self.future.done():
            self.timed_out = True
            self.worker.kill()

    def end(self) -> ChunkEnd:
        """What became of it, once the future is done."""
        error = self.future.exception()
        if error is None:
            return ChunkEnd(tasks=self.tasks, outcomes=tuple(self.future.result()))
        if isinstance(error, StoreError):
            raise error
        position = self.worker.position()
        words = f"raised {type(error).__name__} between scans"
        if isinstance(error, (BrokenExecutor, SystemExit)):
            words = self.worker.last_words()
        return ChunkEnd(
            tasks=self.tasks,
            outcomes=None,
            position=position,
            last_words=words,
            timed_out=self.timed_out,
        )


def work_through(
    workers: Sequence[Worker],
    chunks: deque[tuple[Task, ...]],
    job: Job,
    *,
    timeout_seconds: float,
) -> Generator[ChunkEnd]:
    """
    Run chunks on workers until none is left.

    Parameters
    ----------
    workers : sequence of Worker
        All idle.
    chunks : deque of tuple of Task
        Taken from the left; may grow while this runs.
    job : Job
        What all chunks have in common.
    timeout_seconds : float
        A worker that is at one group for longer is killed, in seconds.

    Yields
    ------
    ChunkEnd
        As they end. If the iteration is left early, chunks that still run are dropped.

    Raises
    ------
    StoreError
        If the sink takes no more writes at all.
    """
    idle, running = list(workers), list[_Assignment]()
    try:
        while chunks or running:
            while idle and chunks:
                worker, tasks = idle.pop(), chunks.popleft()
                future = worker.submit(job, tasks)
                running.append(_Assignment(worker, tasks, future, time.monotonic()))
            wait([a.future for a in running], POLL_SECONDS, FIRST_COMPLETED)
            for assignment in [a for a in running if a.future.done()]:
                running.remove(assignment)
                end = assignment.end()
                idle.append(assignment.worker)
                yield end
            for assignment in running:
                assignment.watch(timeout_seconds)
    finally:
        _drop(running)


def _drop(running: Sequence[_Assignment]) -> None:
    """End chunks that nobody waits for any more: politely at first, then not."""
    for assignment in running:
        assignment.worker.interrupt()
    wait([a.future for a in running], PATIENCE_SECONDS)
    for assignment in running:
        if not assignment.future.done():
            assignment.worker.kill()
    wait([a.future for a in running])
