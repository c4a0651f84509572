"""
Which worker gets which source group when: a queue by size, leases, and a memory budget.

Pure: no clock, no process. The simulator in the tests runs this very code.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastlung.plan.model import Setting

__all__ = ["LARGEST_CHUNK", "Dispatcher", "Lease", "SizeQueue", "Task", "Weighed"]


#: Groups whose needs differ by less than this factor are taken as they came.
ALIKE = 1.05


class Weighed(Protocol):
    """What is dispatched: anything whose memory and bytes are known, or predicted."""

    @property
    def need_bytes(self) -> int:
        """Memory of a worker that computes it, without what is read ahead."""

    @property
    def source_bytes(self) -> int:
        """Bytes to be read."""


Task = TypeVar("Task", bound=Weighed)


class SizeQueue(Generic[Task]):
    """
    Groups without a lease, by need: the largest at hand, and the largest below a bound.

    A class takes all needs within a factor, in the order they came. There are a few hundred
    classes at most, so that nothing here depends on the number of groups.
    """

    def __init__(self) -> None:
        self._queue: dict[int, deque[Task]] = {}
        self._order: list[int] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, task: Task) -> None:
        """Queue a group."""
        number = _size_class(task.need_bytes)
        if number not in self._queue:
            self._queue[number] = deque()
            insort(self._order, number)
        self._queue[number].append(task)
        self._count += 1

    def largest(self) -> Task | None:
        """Show the group that is due; it stays."""
        return self._queue[self._order[-1]][0] if self._order else None

    def largest_below(self, need_bytes: float) -> Task | None:
        """Show one of the largest groups that need no more; it stays."""
        if need_bytes < 1:
            return None
        number = _size_class(int(need_bytes))
        place = bisect_right(self._order, number)
        if place and self._order[place - 1] == number:
            task = self._queue[number][0]
            if task.need_bytes <= need_bytes:
                return task
            place -= 1
        return self._queue[self._order[place - 1]][0] if place else None

    def remove(self, task: Task) -> None:
        """Remove what `largest` or `largest_below` has shown."""
        number = _size_class(task.need_bytes)
        tasks = self._queue[number]
        tasks.popleft()
        self._count -= 1
        if not tasks:
            del self._queue[number]
            del self._order[bisect_left(self._order, number)]


def _size_class(need_bytes: int) -> int:
    return math.ceil(math.log(max(1, need_bytes), ALIKE))


#: Source groups handed to a worker at once, at most, unless the user says otherwise.
LARGEST_CHUNK = 8

#: Chunks that each worker still gets when one is cut: a chunk is never more of what is left than
#: that, so that chunks shrink toward the end and no worker keeps the others waiting.
CHUNKS_LEFT = 2

#: What is kept free above the highest part of a prediction that was measured.
MARGIN = 1.05

#: How slowly the correction falls while measurements stay below it, a factor a group: half in 70.
FORGETTING = 0.99

#: A correction is never below or above these: a worker's fixed part is in every measurement, and
#: beyond four times the prediction something else is wrong.
LEAST_CORRECTION, MOST_CORRECTION = 0.5, 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease(Generic[Task]):
    """
    A source group that a worker holds.

    Attributes
    ----------
    number : int
        Unique in a run; counts up in the order of leasing.
    task : Task
        The group.
    allowed_bytes : int
        Memory that its worker may use for it: what it is predicted to need, or an equal share of
        the budget if that is more, because predictions come from listings.
    alone : bool
        Whether nothing else runs beside it.
    """

    number: int
    task: Task
    allowed_bytes: int
    alone: bool = False


@dataclass(slots=True)
class _Held:
    need_bytes: int
    source_bytes: int
    late: bool
    begun: bool = False


@dataclass(slots=True)
class _WorkerLeases(Generic[Task]):
    """Leases of one worker, in the order of work."""

    tasks: dict[int, Task] = field(default_factory=dict)
    held: dict[int, _Held] = field(default_factory=dict)
    waiting: int = 0
    waiting_bytes: int = 0
    #: Memory counted for it: all its leases, and those given after a reservation.
    charge: int = 0
    late_charge: int = 0
    reservation: int = -1

    @property
    def ahead_bytes(self) -> int:
        """Bytes of what it holds beside the group that it computes, or computes next."""
        if self.waiting < len(self.held) or not self.held:
            return self.waiting_bytes
        return self.waiting_bytes - next(iter(self.held.values())).source_bytes

    def charge_with(self, task: Task, ahead_bytes: int) -> int:
        """What would be counted for it if it held one more."""
        more = _Held(task.need_bytes, task.source_bytes, late=False)
        return _charge((*self.held.values(), more), ahead_bytes)


def _charge(held: Iterable[_Held], ahead_bytes: int) -> int:
    """Largest need of a worker's leases and, with several, what may be prefetched."""
    needs, sources, count = 0, 0, 0
    for lease in held:
        needs = max(needs, lease.need_bytes)
        sources += lease.source_bytes
        count += 1
    return needs + (min(ahead_bytes, sources) if count > 1 else 0)


class Dispatcher(Generic[Task]):
    """
    Leases source groups to workers.

    The largest group goes first, so that no long scan begins when all else is over. The needs of
    all workers together stay within the budget. A group that does not fit yet waits: what is
    running ends, and until then only groups that also fit beside it are leased, so that it does
    not starve. A group that needs more than the budget, and one that came back by `retry_alone`,
    runs at the end with nothing beside it.

    Parameters
    ----------
    setting : Setting
        Workers, and the bytes that each may read ahead.
    budget_bytes : int
        Memory of all workers together.
    longest_chunk : int
        Groups handed to a worker at once, at most.
    """

    def __init__(
        self, setting: Setting, *, budget_bytes: int, longest_chunk: int = LARGEST_CHUNK
    ) -> None:
        self._setting = setting
        self._budget = budget_bytes
        self._longest_chunk = longest_chunk
        self._queue: SizeQueue[Task] = SizeQueue()
        self._last: deque[Task] = deque()
        self._leases: dict[int, _WorkerLeases[Task]] = {}
        self._numbers = 0
        self._held = 0
        self._closed = self._stopped = False
        self._alone = False
        #: Sums over all workers: memory counted, and the part leased since the reservation.
        self._charged = 0
        self._late = 0
        self._reservation = 0
        self._reserved: Task | None = None
        self.correction = 1.0

    @property
    def pending(self) -> int:
        """Groups that no worker holds."""
        return len(self._queue) + len(self._last)

    @property
    def held(self) -> int:
        """Groups that workers hold."""
        return self._held

    @property
    def charged_bytes(self) -> int:
        """Memory that is counted for what workers hold, corrected by what was measured."""
        return int(self._charged * self.correction)

    @property
    def over(self) -> bool:
        """Whether all is done and no more will come."""
        return self._closed and not self.pending and not self._held

    def add(self, tasks: Iterable[Task]) -> None:
        """Queue groups, in the order they were found; also such as workers gave back."""
        for task in tasks:
            if self._stopped:
                return
            if task.need_bytes > self._budget:
                self._last.append(task)
            else:
                self._queue.add(task)

    def retry_alone(self, task: Task) -> None:
        """Queue a group that ended its worker, or had too little memory, to be retried alone."""
        if not self._stopped:
            self._last.append(task)

    def close(self) -> None:
        """Note that the listing is complete."""
        self._closed = True

    def stop(self) -> None:
        """Lease nothing any more, and drop the queue."""
        self._closed = self._stopped = True
        self._queue = SizeQueue()
        self._last.clear()

    def resize(self, setting: Setting) -> None:
        """Go on with another setting; leases stay."""
        self._setting = setting
        self._charged = self._late = 0
        for leases in self._leases.values():
            self._weigh(leases, fresh=True)

    def take(self, worker: int) -> tuple[Lease[Task], ...]:
        """
        Lease a chunk to a worker.

        Parameters
        ----------
        worker : int
            Any number; an unknown one is a new worker.

        Returns
        -------
        tuple of Lease
            In the order of work; empty if nothing fits now. Worth asking again after `began`,
            `ended`, `lost`, `add`, `close` or `resize`. Workers that hold nothing are all alike:
            nothing for an idle one is nothing for any.
        """
        if self._alone:
            return ()
        leases = self._leases.get(worker) or _WorkerLeases()
        if self._last and self._closed and not len(self._queue) and not self._held:
            self._alone = True
            return (self._give(worker, leases, self._last.popleft(), late=False),)
        chunk: list[Lease[Task]] = []
        most = self._room(leases)
        while len(chunk) < most and (found := self._next(leases)) is not None:
            task, late = found
            self._queue.remove(task)
            chunk.append(self._give(worker, leases, task, late=late))
            if leases.ahead_bytes >= self._setting.ahead_bytes:
                break
        return tuple(chunk)

    def began(self, worker: int, number: int, need_bytes: int = 0) -> None:
        """
        Note that a worker computes a group now.

        Parameters
        ----------
        worker, number : int
            Which.
        need_bytes : int
            What it needs by its own headers; 0 if not known.
        """
        leases = self._leases[worker]
        held = leases.held[number]
        if not held.begun:
            held.begun = True
            leases.waiting -= 1
            leases.waiting_bytes -= held.source_bytes
        if need_bytes:
            held.need_bytes = need_bytes
            self._weigh(leases)

    def ended(self, worker: int, number: int, peak_bytes: int = 0) -> Task:
        """
        Note that a group is committed, or given back; then `add` or `retry_alone` may follow.

        Parameters
        ----------
        worker, number : int
            Which.
        peak_bytes : int
            Most memory that the worker held meanwhile; 0 if not measured.
        """
        leases = self._leases[worker]
        if peak_bytes and leases.charge:
            measured = MARGIN * peak_bytes / leases.charge
            corrected = max(measured, self.correction * FORGETTING)
            self.correction = min(max(corrected, LEAST_CORRECTION), MOST_CORRECTION)
        task = self._drop(leases, number)
        self._weigh(leases)
        return task

    def lost(self, worker: int) -> tuple[Task, ...]:
        """
        Note that a worker has ended, and take back its leases.

        Returns
        -------
        tuple of Task
            What it held, in the order of work.
        """
        leases = self._leases.pop(worker, None)
        if leases is None:
            return ()
        tasks = tuple(self._drop(leases, number) for number in list(leases.tasks))
        self._weigh(leases)
        return tasks

    def _room(self, leases: _WorkerLeases[Task]) -> int:
        """How many more leases a worker may hold: fewer toward the end, none once it is full."""
        left, workers = len(self._queue), max(1, self._setting.workers)
        if leases.waiting and leases.ahead_bytes >= self._setting.ahead_bytes:
            return 0
        # What a worker holds in advance at the very end, an idle one would begin sooner.
        if self._closed and left < workers and leases.held:
            return 0
        fair = max(1, left // (CHUNKS_LEFT * workers))
        return max(0, min(self._longest_chunk, fair) - leases.waiting)

    def _next(self, leases: _WorkerLeases[Task]) -> tuple[Task, bool] | None:
        """What fits into memory now, the largest first; and whether it must fit beside another."""
        due = self._queue.largest()
        if due is None:
            return None
        budget = self._budget / self.correction
        free = budget - (self._charged - leases.charge)
        if not self._held or leases.charge_with(due, self._setting.ahead_bytes) <= free:
            self._reserved = None
            return due, False
        if self._reserved is not due:
            self._reserve(due)
        # A worker that holds nothing yet reads nothing ahead.
        ahead = self._setting.ahead_bytes if leases.held else 0
        if leases.charge + ahead > free:
            return None
        # What is leased now must leave room for the group that waits once all else has ended.
        others = self._late - self._late_charge(leases)
        beside = budget - due.need_bytes - self._setting.ahead_bytes - others
        task = self._queue.largest_below(min(free, beside) - ahead)
        return None if task is None else (task, True)

    def _late_charge(self, leases: _WorkerLeases[Task]) -> int:
        return leases.late_charge if leases.reservation == self._reservation else 0

    def _reserve(self, due: Task) -> None:
        """Reserve memory for a group: all leases so far will end before it begins."""
        self._reserved = due
        self._reservation += 1
        self._late = 0

    def _give(
        self, worker: int, leases: _WorkerLeases[Task], task: Task, *, late: bool
    ) -> Lease[Task]:
        number, self._numbers = self._numbers, self._numbers + 1
        self._leases[worker] = leases
        if leases.reservation != self._reservation:
            leases.reservation, leases.late_charge = self._reservation, 0
            for held in leases.held.values():
                held.late = False
        leases.tasks[number] = task
        leases.held[number] = _Held(task.need_bytes, task.source_bytes, late)
        leases.waiting += 1
        leases.waiting_bytes += task.source_bytes
        self._held += 1
        self._weigh(leases)
        share = self._budget // max(1, self._setting.workers)
        allowed = self._budget if self._alone else max(task.need_bytes, share)
        return Lease(number=number, task=task, allowed_bytes=allowed, alone=self._alone)

    def _drop(self, leases: _WorkerLeases[Task], number: int) -> Task:
        held = leases.held.pop(number)
        if not held.begun:
            leases.waiting -= 1
            leases.waiting_bytes -= held.source_bytes
        self._held -= 1
        self._alone = False
        return leases.tasks.pop(number)

    def _weigh(self, leases: _WorkerLeases[Task], *, fresh: bool = False) -> None:
        """Bring the sums up to date with what a worker holds."""
        ahead = self._setting.ahead_bytes
        if not fresh:
            self._charged -= leases.charge
        leases.charge = _charge(leases.held.values(), ahead)
        self._charged += leases.charge
        if not fresh:
            self._late -= self._late_charge(leases)
        if leases.reservation == self._reservation:
            late = [held for held in leases.held.values() if held.late]
            leases.late_charge = _charge(late, ahead)
            self._late += leases.late_charge
