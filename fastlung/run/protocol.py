"""Messages between the driver and its workers; small, picklable, free of patient data."""

from __future__ import annotations

import pickle
import zlib
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from fastlung.run.schedule import Lease

if TYPE_CHECKING:
    from fastlung.errors import StoreError
    from fastlung.scan import Outcome
    from fastlung.sink.commit import Task

__all__ = [
    "Began",
    "Broke",
    "Drop",
    "Ended",
    "Finish",
    "ForWorker",
    "FromWorker",
    "GaveBack",
    "PackedTask",
    "Take",
    "Tally",
    "Tune",
    "unpacked",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """Leases of a chunk, in the order of work."""

    groups: tuple[Lease[PackedTask], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tune:
    """How far to prefetch from now on, as in `fastlung.plan.model.Setting`."""

    ahead_bytes: int
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """End when nothing is left to do; with `begun_only`, drop what is not begun yet."""

    begun_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """End as soon as what is being written is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """
    What a worker has measured since it began; the fields are those of `Progress`.

    Attributes
    ----------
    cpu_seconds, compute_seconds, fetch_wait_seconds, store_wait_seconds, fetch_seconds : float
        See `fastlung.plan.setting.Progress`.
    store_seconds : float
        Wall seconds of writing.
    fetched_bytes, stored_bytes, throttled : int
        See `fastlung.plan.setting.Progress`.
    """

    cpu_seconds: float = 0.0
    compute_seconds: float = 0.0
    fetch_wait_seconds: float = 0.0
    store_wait_seconds: float = 0.0
    fetch_seconds: float = 0.0
    store_seconds: float = 0.0
    fetched_bytes: int = 0
    stored_bytes: int = 0
    throttled: int = 0

    def __add__(self, other: Tally) -> Tally:
        """Sum of both, field by field."""
        names = [field.name for field in fields(self)]
        return Tally(**{name: getattr(self, name) + getattr(other, name) for name in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class Began:
    """
    A group is computed now.

    Attributes
    ----------
    number : int
        `Lease.number` of it.
    need_bytes : int
        What it needs by its own headers; 0 before they are read, or if it is as predicted.
    tally : Tally or None
        All that the worker has measured so far, once the bytes of the group are there.
    """

    number: int
    need_bytes: int = 0
    tally: Tally | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """
    A group is committed.

    Attributes
    ----------
    number : int
        `Lease.number` of it.
    outcomes : tuple of Outcome
        One a series, or a single one for a group that could not be read.
    peak_bytes : int
        Most private memory of the worker while it was computed; 0 if not known.
    tally : Tally
        All that the worker has measured so far.
    """

    number: int
    outcomes: tuple[Outcome, ...]
    peak_bytes: int
    tally: Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class GaveBack:
    """
    A group was not committed: it needs more memory than it was allowed, or could not be written.

    Attributes
    ----------
    number : int
        `Lease.number` of it.
    need_bytes : int
        What it needs by its own headers; 0 if memory ran out all the same.
    words : str
        What the worker did, for the message of a failure.
    """

    number: int
    need_bytes: int
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Broke:
    """The sink takes no more writes at all."""

    error: StoreError


ForWorker = Take | Tune | Finish | Drop

FromWorker = Began | Ended | GaveBack | Broke


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedTask:
    """
    A task, packed: a folder of 200 slices takes 2 to 7 kB instead of 64.

    Attributes
    ----------
    need_bytes, source_bytes : int
        As in `Task`.
    data : bytes
        The task.
    touched : bool
        Whether a worker has had it, and may have committed it before it was lost.
    """

    need_bytes: int
    source_bytes: int
    data: bytes
    touched: bool = False

    @classmethod
    def of(cls, task: Task) -> PackedTask:
        """Pack a task."""
        data = zlib.compress(pickle.dumps(task, pickle.HIGHEST_PROTOCOL), 1)
        return cls(need_bytes=task.need_bytes, source_bytes=task.source_bytes, data=data)

    def task(self) -> Task:
        """Unpack it."""
        found: Task = pickle.loads(zlib.decompress(self.data))  # noqa: S301 - our own bytes
        committed = found.committed or self.touched
        return replace(found, need_bytes=self.need_bytes, committed=committed)


def unpacked(lease: Lease[PackedTask]) -> Lease[Task]:
    """The same lease with its task unpacked, as a worker needs it."""
    return Lease(
        number=lease.number,
        task=lease.task.task(),
        allowed_bytes=lease.allowed_bytes,
        alone=lease.alone,
    )
