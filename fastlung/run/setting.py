"""What may be changed while a run goes on, and what it has measured so far."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Progress", "Setting"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """
    What may be changed while a run goes on.

    Attributes
    ----------
    workers : int
        Worker processes.
    ahead_bytes : int
        Source bytes that one worker may hold beside those of the scan it computes.
    requests : int
        Requests that one worker may have under way at once.
    """

    workers: int
    ahead_bytes: int
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """
    What a run has measured since its first source group was handed out; sums over all workers.

    Attributes
    ----------
    seconds : float
        Wall seconds.
    groups : int
        Source groups that are committed.
    cpu_seconds : float
        Processor seconds of all workers, every thread of theirs.
    idle_cpu_seconds : float
        Processor seconds that nobody used, of those that this run may use.
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
        """At the very start."""
        return cls(**dict.fromkeys((one.name for one in fields(cls)), 0))
