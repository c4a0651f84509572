"""
The workers of a run: started, given leases, watched and retired; and recovery after a loss.

Covers the processes only; what each gets is decided by the driver.
"""

from __future__ import annotations

import selectors
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fastlung.errors import ScanTimeoutError, WorkerDiedError
from fastlung.run.process import SHUTDOWN_SECONDS, ProcessWorker, SerialWorker
from fastlung.run.protocol import Drop, Finish, Take, Tally, Tune
from fastlung.sink.commit import Storer, committed_outcomes, failed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fastlung.errors import ResourceError
    from fastlung.plan.model import Setting
    from fastlung.run.protocol import FromWorker, PackedTask
    from fastlung.run.schedule import Lease
    from fastlung.run.signals import Wakeup
    from fastlung.scan import Outcome
    from fastlung.sink.commit import Job, Task
    from fastlung.storage.base import Store

__all__ = ["PoolMember", "Recovery", "WorkerPool", "record_failure", "recover"]


@dataclass(slots=True, eq=False)
class PoolMember:
    """
    A worker of the pool and its leases.

    Attributes
    ----------
    number : int
        Unique in a run.
    worker : ProcessWorker or SerialWorker
        The process, or this one.
    leases : dict of int to Lease
        Groups that it holds, by number.
    begun : dict of int to float
        When each group that is being computed or written was begun, the oldest first.
    tally : Tally
        What it has measured, by its last message.
    leaving : bool
        Whether it gets no more leases.
    overdue : int or None
        Number of the group for which it was killed because that took too long.
    """

    number: int
    worker: ProcessWorker | SerialWorker
    leases: dict[int, Lease[PackedTask]] = field(default_factory=dict)
    begun: dict[int, float] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    leaving: bool = False
    overdue: int | None = None

    @property
    def suspect(self) -> int:
        """Number of the group to blame if the worker is lost now, begun last; -1 for none."""
        if self.overdue is not None:
            return self.overdue
        return list(self.begun)[-1] if self.begun else -1

    def give(self, chunk: tuple[Lease[PackedTask], ...]) -> None:
        """Send leases to the worker."""
        self.leases |= {lease.number: lease for lease in chunk}
        self.worker.send(Take(groups=chunk))

    def forget(self, number: int) -> Lease[PackedTask]:
        """End a lease."""
        self.begun.pop(number, None)
        return self.leases.pop(number)


class WorkerPool:
    """
    All workers of a run.

    Parameters
    ----------
    job : Job
        What all groups have in common.
    wakeup : Wakeup
        Ends the wait for messages.
    serial : bool
        Whether the only worker is this process.
    timeout_seconds : float
        A worker that holds one group longer than this is killed, in seconds.

    Attributes
    ----------
    members : dict of int to PoolMember
        Workers that run, by number.
    """

    def __init__(self, job: Job, wakeup: Wakeup, *, serial: bool, timeout_seconds: float) -> None:
        self._job = job
        self._wakeup = wakeup
        self._serial = serial
        self._timeout_seconds = timeout_seconds
        self._selector = selectors.DefaultSelector()
        self._selector.register(wakeup, selectors.EVENT_READ)
        self._ended = Tally()
        self._numbers = 0
        self.members: dict[int, PoolMember] = {}

    @property
    def next_number(self) -> int:
        """Number of the worker that is started next."""
        return self._numbers

    @property
    def staying(self) -> list[PoolMember]:
        """Workers that may get more leases."""
        return [member for member in self.members.values() if not member.leaving]

    @property
    def tally(self) -> Tally:
        """What all workers have measured, also those that have ended."""
        return sum((member.tally for member in self.members.values()), self._ended)

    def start(self, chunk: tuple[Lease[PackedTask], ...]) -> None:
        """Start a worker, with its first leases."""
        worker: ProcessWorker | SerialWorker
        if self._serial:
            worker = SerialWorker(self._job, self._wakeup.wake)
        else:
            worker = ProcessWorker(self._job, self._job.memory_bytes)
        member = self.members[self._numbers] = PoolMember(number=self._numbers, worker=worker)
        self._numbers += 1
        if isinstance(worker, ProcessWorker):
            self._selector.register(worker.connection, selectors.EVENT_READ, member)
        member.give(chunk)

    def retire(self, surplus: int) -> None:
        """Let so many workers end after what they hold, idle ones first."""
        leaving = sorted(self.staying, key=lambda member: (len(member.leases), -member.number))
        for member in leaving[: max(0, surplus)]:
            member.leaving = True
            member.worker.send(Finish())

    def tune(self, setting: Setting) -> None:
        """Send all workers how far to prefetch."""
        ahead, requests = setting.ahead_bytes, setting.requests
        self._job = replace(self._job, ahead_bytes=ahead, requests=requests)
        for member in self.members.values():
            member.worker.send(Tune(ahead_bytes=ahead, requests=requests))

    def news(self, seconds: float) -> Iterator[tuple[PoolMember, FromWorker | None]]:
        """
        Wait for messages of the workers, so long at most.

        Yields
        ------
        tuple of PoolMember and message
            None instead of a message where the worker has ended; it is no member then.
        """
        serial = [m.worker for m in self.members.values() if isinstance(m.worker, SerialWorker)]
        busy = any(not worker.is_idle for worker in serial)
        for key, _ in self._selector.select(0.0 if busy else seconds):
            if key.data is None:
                self._wakeup.clear()
                continue
            member: PoolMember = key.data
            try:
                for message in member.worker.news():
                    yield member, message
            except EOFError:
                self._selector.unregister(key.fileobj)
                self._ended += member.tally
                del self.members[member.number]
                yield member, None
        for member in tuple(self.members.values()) if serial else ():
            for message in member.worker.news():
                yield member, message

    def watch(self) -> None:
        """Kill workers that have computed the same group for longer than the time limit."""
        now = time.monotonic()
        for member in self.members.values():
            worker = member.worker
            if isinstance(worker, ProcessWorker) and member.begun:
                worker.sample_memory()
                number, since = next(iter(member.begun.items()))
                if now - since > self._timeout_seconds and member.overdue is None:
                    member.overdue = number
                    worker.kill()

    def stop(self) -> None:
        """Let all workers end after what they have begun."""
        for member in self.members.values():
            member.leaving = True
            member.worker.send(Finish(begun_only=True))

    def finish(self) -> Iterator[tuple[PoolMember, FromWorker]]:
        """Let all workers end, all being done; yield what the serial one has still written."""
        for member in self.members.values():
            member.worker.send(Finish())
        for member in tuple(self.members.values()):
            member.worker.close()
            if self._serial:
                for message in member.worker.news():
                    yield member, message
            self._ended += member.tally
            del self.members[member.number]

    def abandon(self) -> None:
        """End workers whose results are not wanted: writes may finish for 5 s, then kill."""
        for member in self.members.values():
            member.worker.send(Drop())
        until = time.monotonic() + SHUTDOWN_SECONDS
        while time.monotonic() < until and any(m.worker.is_alive for m in self.members.values()):
            time.sleep(0.01)
        self.kill()

    def kill(self) -> None:
        """Kill all workers."""
        for member in self.members.values():
            member.worker.kill()
        for member in self.members.values():
            with suppress(Exception):  # the cause of the end is what counts
                member.worker.close()

    def close(self) -> None:
        """Release the selector."""
        self._selector.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """
    What becomes of the leases of a lost worker.

    Attributes
    ----------
    outcomes : tuple of Outcome
        Final: committed before the loss, or failures recorded now.
    again : tuple of PackedTask
        Groups to be retried, like any other.
    alone : tuple of PackedTask
        Groups to be retried with nothing beside them.
    """

    outcomes: tuple[Outcome, ...]
    again: tuple[PackedTask, ...]
    alone: tuple[PackedTask, ...]


def recover(
    job: Job,
    sink: Store,
    held: Sequence[Lease[PackedTask]],
    suspect: int,
    *,
    exit_reason: str,
    timed_out: bool,
) -> Recovery:
    """
    Decide what becomes of each lease of a lost worker.

    Parameters
    ----------
    job : Job
        The run.
    sink : Store
        Where records are.
    held : sequence of Lease
        Its leases.
    suspect : int
        Number of the group to blame; -1 for none.
    exit_reason : str
        How the worker ended.
    timed_out : bool
        Whether it was killed for holding the suspect too long.
    """
    outcomes: list[Outcome] = []
    again: list[PackedTask] = []
    alone: list[PackedTask] = []
    for lease in held:
        # A worker may end after a commit and before its message; or half way through a commit.
        packed = replace(lease.task, touched=True)
        task = packed.task()
        if committed := committed_outcomes(sink, job, task.group):
            outcomes += committed
        elif lease.number != suspect:
            (alone if lease.alone else again).append(packed)
        elif timed_out:
            error = ScanTimeoutError(
                "it took longer than the time limit and its worker was killed; raise "
                "--scan-timeout, or look at the folder"
            )
            outcomes += record_failure(job, sink, task, error)
        elif lease.alone:
            outcomes += record_failure(job, sink, task, died(exit_reason))
        else:
            alone.append(packed)
    return Recovery(outcomes=tuple(outcomes), again=tuple(again), alone=tuple(alone))


def died(exit_reason: str) -> WorkerDiedError:
    """Error of a group that ended its worker twice."""
    return WorkerDiedError(
        f"its worker {exit_reason}, twice, the second time with no other scan beside it; give "
        "it more memory, or report it if the file may be shared"
    )


def record_failure(job: Job, sink: Store, task: Task, error: ResourceError) -> tuple[Outcome, ...]:
    """Commit the failure of a group whose worker has ended."""
    outcome = failed(task.group.label, task.group.id, error, transient=True)
    with Storer(job, sink) as storer:
        return storer.commit(task, [outcome], {}).result()
