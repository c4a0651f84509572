"""The best setting by the model, and what a run has measured, interval by interval."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Literal

from fastlung.plan.model import Setting, predict, shared_rate, worker_bytes, worker_seconds

if TYPE_CHECKING:
    from typing import Self

    from fastlung.plan.model import Resources, ScanCost

__all__ = ["REQUESTS", "Interval", "Progress", "best_setting"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """
    What a run has measured since its first lease; sums over all workers.

    Attributes
    ----------
    seconds : float
        Wall seconds.
    groups : int
        Source groups that are committed.
    cpu_seconds : float
        Processor seconds of all workers, every thread of theirs.
    idle_cpu_seconds : float
        Processor seconds left idle, of those that this run may use.
    compute_seconds : float
        Wall seconds in which workers computed.
    fetch_wait_seconds, store_wait_seconds : float
        Wall seconds in which a worker had nothing to compute because bytes were still to come, or
        still to go.
    fetch_seconds : float
        Wall seconds of all requests that read, added up: with 16 under way, 16 in each second.
    store_seconds : float
        Wall seconds in which workers wrote, each counted once however many requests were under way.
    fetched_bytes, stored_bytes : int
        Bytes read from the source and written to the sink.
    committed_bytes : int
        Source bytes of the groups that are committed.
    throttled : int
        Requests that a store refused because there were too many.
    workers : int
        Worker processes now.
    peak_worker_bytes : int
        Most private memory that any worker has held.
    memory_available_bytes : int
        What is free now under the limit of the run.
    """

    seconds: float
    groups: int
    cpu_seconds: float
    idle_cpu_seconds: float
    compute_seconds: float
    fetch_wait_seconds: float
    store_wait_seconds: float
    fetch_seconds: float
    store_seconds: float
    fetched_bytes: int
    stored_bytes: int
    committed_bytes: int
    throttled: int
    workers: int
    peak_worker_bytes: int
    memory_available_bytes: int

    @classmethod
    def nothing(cls) -> Self:
        """Zeros: the very start of a run."""
        return cls(**dict.fromkeys((field.name for field in fields(cls)), 0))


#: Where more requests are under way, so much of what they should add must come through, or they
#: wait for one another.
THROUGH = 0.5


@dataclass(frozen=True, slots=True)
class Interval:
    """The time between two measurements of a run."""

    begin: Progress
    end: Progress

    @classmethod
    def since_the_start(cls, end: Progress) -> Self:
        """Begin at the first lease."""
        return cls(Progress.nothing(), end)

    def grown(self, name: str) -> float:
        """How much one of the sums of `Progress` has grown."""
        return float(getattr(self.end, name) - getattr(self.begin, name))

    def gain(self, before: Interval) -> float:
        """
        How much faster than another interval it was.

        Scans are not alike, and the large ones come first: what is done for each byte drifts. A
        setting that is faster commits, writes and computes more in a second, all three.
        """
        ratios = [
            self.grown(name) / self.grown("seconds") * before.grown("seconds") / before.grown(name)
            for name in ("committed_bytes", "stored_bytes", "cpu_seconds")
            if before.grown(name) > 0 and self.grown("seconds") > 0
        ]
        return min(ratios, default=1.0)

    def idle_share(self, cpus: float) -> float:
        """Part of so many processors that was idle, 0 to 1."""
        seconds = self.grown("seconds")
        return min(1.0, self.grown("idle_cpu_seconds") / seconds / cpus) if seconds > 0 else 1.0

    def queued_behind(self, lighter: Interval, way: Literal["fetch", "store"]) -> bool:
        """
        Whether its transfers waited for one another more than for their own answers.

        That is so where more was under way than in another interval and hardly more came through:
        what a request takes then tells how many there were, not how slow the store is.
        """
        loads, rates = [], []
        for interval in (lighter, self):
            seconds = interval.grown("seconds")
            moved = interval.grown("fetched_bytes" if way == "fetch" else "stored_bytes")
            loads.append(interval.grown(f"{way}_seconds") / seconds if seconds > 0 else 0.0)
            rates.append(moved / seconds if seconds > 0 else 0.0)
        if min(*loads, *rates) <= 0 or loads[1] <= loads[0]:
            return False
        return rates[1] / rates[0] - 1 < THROUGH * (loads[1] / loads[0] - 1)

    def ratio(self, above: str, below: str) -> float | None:
        """One sum for each unit of another; None if the other did not grow."""
        divisor = self.grown(below)
        return self.grown(above) / divisor if divisor > 0 else None


#: Requests that one worker may have under way, to choose from.
REQUESTS = (4, 8, 16, 32, 64)

#: Source bytes held ahead, in usual scans, to choose from. One keeps the next scan coming; two
#: keep on when a small scan is followed by a large one.
AHEAD_SCANS = (1.0, 2.0)

#: How much slower transfers are taken to be when a setting is chosen: scans differ and stores have
#: slow moments, and what only just keeps up on average leaves processors idle (simulated: a tenth).
HASTE = 1.5

#: Settings whose predicted rates differ by less count as equal; the cheaper one is taken.
EQUAL = 0.01


def best_setting(
    cost: ScanCost,
    resources: Resources,
    *,
    most_workers: int,
    most_requests: int = REQUESTS[-1],
    threads: int = 1,
) -> Setting:
    """
    Find the setting with the highest predicted rate; among equals the one that takes least memory.

    Parameters
    ----------
    cost : ScanCost
        The usual scan.
    resources : Resources
        What there is.
    most_workers : int
        No more: scans that are left, or what was asked for. At least 1.
    most_requests : int
        No more requests a worker.
    threads : int
        Threads that compute one scan.

    Returns
    -------
    Setting
        At least one worker, even if its memory does not fit.
    """
    slow = replace(
        cost,
        first_byte_seconds=HASTE * cost.first_byte_seconds,
        connection_bytes_per_second=cost.connection_bytes_per_second / HASTE,
    )
    tried = []
    most_ahead = max(0.0, resources.memory_bytes - cost.memory_bytes)  # of a single worker
    for ahead in AHEAD_SCANS:
        for requests in REQUESTS:
            single = Setting(
                workers=1,
                ahead_bytes=int(min(ahead * cost.fetch_bytes, most_ahead)),
                requests=min(requests, most_requests),
            )
            workers = _workers_for(slow, resources, single, most_workers, threads)
            tried.append(replace(single, workers=workers))
    rates = [predict(slow, resources, setting, threads).scans_per_second for setting in tried]
    enough = (1 - EQUAL) * max(rates)
    equals = [setting for setting, rate in zip(tried, rates, strict=True) if rate >= enough]
    return min(
        equals,
        key=lambda setting: (setting.workers * worker_bytes(cost, setting), setting.requests),
    )


def _workers_for(
    cost: ScanCost, resources: Resources, setting: Setting, most_workers: int, threads: int
) -> int:
    """Workers that use up what is shared, within memory."""
    shared = shared_rate(cost, resources)
    wanted = math.ceil(shared * worker_seconds(cost, setting, threads) - 1e-9)
    if resources.cpus / cost.cpu_seconds <= shared:
        # Where processors bind, one worker for each: clients of the stores fill the gaps.
        wanted = max(wanted, math.ceil(resources.cpus / threads - 1e-9))
    fitting = int(resources.memory_bytes // max(1.0, worker_bytes(cost, setting)))
    return max(1, min(wanted, fitting, most_workers))
