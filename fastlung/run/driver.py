"""
The driver of a run: leases out, outcomes back, more workers or fewer, and the end.

One thread, which waits for the next message, signal or task. Which worker gets which group is
decided by `fastlung.run.schedule`, the recovery of a lost worker's groups by `fastlung.run.pool`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from fastlung.plan.machine import IdleClock, available_memory
from fastlung.plan.setting import Progress
from fastlung.run.listing import ListingThread
from fastlung.run.pool import WorkerPool, died, record_failure, recover
from fastlung.run.protocol import Began, Broke, Ended, GaveBack
from fastlung.run.schedule import Dispatcher
from fastlung.run.signals import Interruptions, Wakeup
from fastlung.storage import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fastlung.plan.model import Setting
    from fastlung.run.pool import PoolMember
    from fastlung.run.protocol import FromWorker, PackedTask
    from fastlung.scan import Outcome
    from fastlung.sink.commit import Job, Task

__all__ = ["Driver", "Report"]

#: Seconds between checks of the workers when nothing happens; the grain of the time limit.
POLL_SECONDS = 0.25
#: Seconds between reports and checks of free memory.
REPORT_SECONDS = 1.0
#: Worker processes started before messages are read again; each takes about 15 ms.
STARTED_AT_ONCE = 4
#: Workers in a row that may be lost before they begin anything, as when an idle one is killed just
#: when it gets a lease; beyond it the group is taken for the cause.
IDLE_LOSSES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    State of a run, once a second.

    Attributes
    ----------
    progress : Progress
        What was measured so far.
    setting : Setting
        What is in force.
    pending, held : int
        Groups that no worker holds yet, and that workers hold.
    charged_bytes : int
        Memory that is counted for what workers hold.
    listed : bool
        Whether all groups have been found.
    short_of_memory : bool
        Whether workers are being given up because memory has become scarce.
    """

    progress: Progress
    setting: Setting
    pending: int
    held: int
    charged_bytes: int
    listed: bool
    short_of_memory: bool


class Driver:
    """
    Runs source groups through a pool of workers, by a setting that may change meanwhile.

    Parameters
    ----------
    job : Job
        What they have in common.
    setting : Setting
        To begin with.
    longest_chunk : int
        Groups handed to a worker at once, at most.
    timeout_seconds : float
        A worker that holds one group longer than this is killed, in seconds.
    serial : bool
        Whether to work in this process instead of in worker processes.
    tell : callable
        Called with each final outcome.
    report : callable
        Called once a second with the state of the run; returns the setting from then on.
    available_bytes : callable
        Memory that is free under the limit of this run.
    floor_bytes : int
        With less than this free, workers are retired one by one and get no leases.
    """

    def __init__(
        self,
        job: Job,
        setting: Setting,
        *,
        longest_chunk: int,
        timeout_seconds: float,
        serial: bool = False,
        tell: Callable[[Outcome], None],
        report: Callable[[Report], Setting] = lambda report: report.setting,
        available_bytes: Callable[[], int] = available_memory,
        floor_bytes: int = 0,
    ) -> None:
        self._job = replace(job, ahead_bytes=setting.ahead_bytes, requests=setting.requests)
        self._setting = replace(setting, workers=1) if serial else setting
        self._serial = serial
        self._tell = tell
        self._report = report
        self._available_bytes = available_bytes
        self._floor_bytes = floor_bytes
        self._sink = open_store(job.sink, job.storage)
        self._dispatch: Dispatcher[PackedTask] = Dispatcher(
            self._setting, budget_bytes=job.memory_bytes, longest_chunk=longest_chunk
        )
        self._wakeup = Wakeup()
        self._pool = WorkerPool(
            self._job, self._wakeup, serial=serial, timeout_seconds=timeout_seconds
        )
        self.interruptions = Interruptions(self._wakeup)
        self._refillable: dict[int, None] = {}
        self._stopping = self._listed = False
        self._short, self._most_workers = False, self._setting.workers
        self._started: float | None = None
        self._checked = self._reported = time.monotonic()
        self._idle_losses = 0
        self._idle = IdleClock()
        self._groups = self._committed_bytes = self._peak_bytes = self._waiting_bytes = 0

    def run(self, tasks: Iterable[Task]) -> None:
        """
        Do all of them.

        Parameters
        ----------
        tasks : iterable of Task
            Iterated over in a thread, while workers compute.

        Raises
        ------
        KeyboardInterrupt
            If it was asked to end early, and has; with a word on who asked. Python itself knows
            no subclass of it: only this one ends a script as Ctrl-C should.
        StoreError
            If the sink takes no more writes at all.
        FastlungError
            Whatever `tasks` raises.
        """
        listing = ListingThread(tasks, self._wakeup)
        try:
            with self.interruptions:
                self._loop(listing)
                for member, message in self._pool.finish():
                    self._handle(member, message)
        except KeyboardInterrupt:
            self._pool.kill()
            raise
        except BaseException:
            self._pool.abandon()
            raise
        finally:
            listing.stop()
            self._pool.close()
            self._wakeup.close()
        if self._stopping:
            raise KeyboardInterrupt(self.interruptions.reason)

    def _loop(self, listing: ListingThread) -> None:
        while True:
            if self.interruptions.reason and not self._stopping:
                self._stopping = True
                listing.stop()
                self._dispatch.stop()
                self._pool.stop()
            self._take_in(listing)
            starting = self._hand_out()
            if self._dispatch.over or (self._stopping and (self._serial or not self._pool.members)):
                return
            for member, message in self._pool.news(0.0 if starting else POLL_SECONDS):
                self._handle(member, message)
            self._check()

    def _take_in(self, listing: ListingThread) -> None:
        if self._listed or self._stopping:
            return
        found = list(listing.taken())
        self._dispatch.add(found)
        self._waiting_bytes += sum(len(packed.data) for packed in found)
        listing.throttle(self._waiting_bytes)
        if listing.over:
            self._listed = True
            self._dispatch.close()
        if found or self._listed:
            self._refillable.update(dict.fromkeys(self._pool.members))

    def _hand_out(self) -> bool:
        """Lease groups to all workers that have room; whether more workers could start at once."""
        if self._stopping or (self._short and self._dispatch.held):
            return False
        staying = self._pool.staying
        if not self._serial:
            self._pool.retire(len(staying) - self._workers)
        for member in staying:
            if not member.leases and not member.leaving and not self._give(member):
                break  # nothing for an idle worker is nothing for any
            if self._short and self._dispatch.held:
                return False
        else:
            if self._start_some(self._workers - len(staying)):
                return True
        for number in self._refillable:
            worker = self._pool.members.get(number)
            if worker is not None and worker.leases and not worker.leaving:
                self._give(worker)
        self._refillable.clear()
        return False

    def _start_some(self, wanted: int) -> bool:
        """Start workers as long as there are leases for them; whether to go on at once."""
        for _ in range(min(wanted, STARTED_AT_ONCE)):
            if not self._give(None):
                return False
        return wanted > STARTED_AT_ONCE

    @property
    def _workers(self) -> int:
        return max(1, min(self._setting.workers, self._most_workers))

    def _give(self, member: PoolMember | None) -> bool:
        """Lease the next chunk to a member, or to a new worker; whether there was one."""
        number = self._pool.next_number if member is None else member.number
        chunk = self._dispatch.take(number)
        if not chunk:
            return False
        self._started = self._started or time.monotonic()
        self._waiting_bytes -= sum(len(lease.task.data) for lease in chunk)
        if member is None:
            self._pool.start(chunk)
        else:
            member.give(chunk)
        return True

    def _handle(self, member: PoolMember, message: FromWorker | None) -> None:
        match message:
            case None:
                self._lost(member)
            case Began():
                self._idle_losses = 0
                member.begun.setdefault(message.number, time.monotonic())
                member.tally = message.tally or member.tally
                self._dispatch.began(member.number, message.number, message.need_bytes)
                self._refillable[member.number] = None
            case Ended():
                lease = member.forget(message.number)
                self._dispatch.ended(member.number, message.number, message.peak_bytes)
                self._committed_bytes += lease.task.source_bytes
                member.tally = message.tally
                self._peak_bytes = max(self._peak_bytes, message.peak_bytes)
                self._end(message.outcomes)
                self._refillable[member.number] = None
            case GaveBack():
                self._take_back(member, message)
            case Broke():
                raise message.error

    def _end(self, outcomes: Iterable[Outcome]) -> None:
        self._groups += 1
        for outcome in outcomes:
            self._tell(outcome)

    def _take_back(self, member: PoolMember, message: GaveBack) -> None:
        """Queue a group that was given back again, with more memory or alone; or record its end."""
        lease = member.forget(message.number)
        packed = self._dispatch.ended(member.number, message.number)
        if message.need_bytes:
            self._return(replace(packed, need_bytes=message.need_bytes))
        elif lease.alone:
            error = died(message.words)
            self._end(record_failure(self._job, self._sink, packed.task(), error))
        else:
            self._return(packed, alone=True)

    def _return(self, packed: PackedTask, *, alone: bool = False) -> None:
        self._waiting_bytes += len(packed.data)
        if alone:
            self._dispatch.retry_alone(packed)
        else:
            self._dispatch.add([packed])

    def _lost(self, member: PoolMember) -> None:
        """Recover the leases of a worker whose connection has ended."""
        words = member.worker.exit_reason()
        self._dispatch.lost(member.number)
        if self._stopping or not member.leases:
            return
        suspect = member.suspect
        if suspect < 0:
            self._idle_losses += 1
            if self._idle_losses > IDLE_LOSSES:
                suspect = next(iter(member.leases))
        recovery = recover(
            self._job,
            self._sink,
            tuple(member.leases.values()),
            suspect,
            exit_reason=words,
            timed_out=member.overdue is not None,
        )
        for packed in recovery.again:
            self._return(packed)
        for packed in recovery.alone:
            self._return(packed, alone=True)
        self._groups += len({outcome.group for outcome in recovery.outcomes})
        for outcome in recovery.outcomes:
            self._tell(outcome)

    def _check(self) -> None:
        """Kill workers over the time limit, check free memory, report; each at its interval."""
        now = time.monotonic()
        if now - self._checked >= POLL_SECONDS:
            self._checked = now
            self._pool.watch()
        if now - self._reported >= REPORT_SECONDS and self._started is not None:
            self._reported = now
            available = self._available_bytes()
            self._check_memory(available)
            self._set(self._report(self._now(now - self._started, available)))

    def _check_memory(self, available: int) -> None:
        """Retire a worker a second while memory is scarce; allow one more when it is not."""
        self._short = available < self._floor_bytes
        if self._short:
            fewer = min(self._most_workers, len(self._pool.members)) - 1
            self._most_workers = max(1, fewer)
            if not self._serial:
                self._pool.retire(len(self._pool.staying) - self._workers)
        elif available > 2 * self._floor_bytes and self._most_workers < self._setting.workers:
            self._most_workers += 1

    def _set(self, setting: Setting) -> None:
        if setting == self._setting or self._serial:
            return
        if self._most_workers >= self._setting.workers:
            self._most_workers = setting.workers
        self._setting = setting
        self._dispatch.resize(setting)
        self._pool.tune(setting)
        self._refillable.update(dict.fromkeys(self._pool.members))

    def _now(self, seconds: float, available: int) -> Report:
        tally = self._pool.tally
        return Report(
            progress=Progress(
                seconds=seconds,
                groups=self._groups,
                committed_bytes=self._committed_bytes,
                workers=len(self._pool.members),
                peak_worker_bytes=self._peak_bytes,
                idle_cpu_seconds=self._idle(),
                memory_available_bytes=available,
                **{field.name: getattr(tally, field.name) for field in fields(tally)},
            ),
            setting=self._setting,
            pending=self._dispatch.pending,
            held=self._dispatch.held,
            charged_bytes=self._dispatch.charged_bytes,
            listed=self._listed,
            short_of_memory=self._short,
        )
