"""What a sink knows of itself: how far it is, what failed, when it was last written."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastlung.config import StoreOptions
from fastlung.sink.contents import read_run_file
from fastlung.sink.records import read_records
from fastlung.storage.open import open_store

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SinkStatus", "sink_status"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkStatus:
    """
    How far a sink is, as far as it knows itself.

    Attributes
    ----------
    series : mapping of str to int
        Status -> series; ``skipped`` counts folders without CT.
    failures : mapping of str to int
        Class -> failed series.
    retried : int
        Failed series that the next run tries again.
    flags : mapping of str to int
        Flag -> series.
    groups : int
        Source groups committed with the configuration below.
    groups_other : int
        Source groups committed with another one; the next run does them again.
    groups_total : int or None
        Source groups that the last run found; None if it did not say.
    written_at : str
        When the last record was written, UTC; empty where there is none.
    config : mapping
        Configuration of the last run, resolved.
    config_digest : str
        Its digest.
    fastlung : str
        Version of the last run.
    """

    series: Mapping[str, int]
    failures: Mapping[str, int]
    retried: int
    flags: Mapping[str, int]
    groups: int
    groups_other: int
    groups_total: int | None
    written_at: str
    config: Mapping[str, Any]
    config_digest: str
    fastlung: str

    @property
    def groups_left(self) -> int | None:
        """Source groups that the last run found and that are not committed; None if unknown."""
        return None if self.groups_total is None else max(0, self.groups_total - self.groups)


def sink_status(sink: str, storage: StoreOptions | None = None) -> SinkStatus:
    """
    Sum up a sink from its records; no source and no output is opened.

    Parameters
    ----------
    sink : str
        A sink of `fastlung.process`.
    storage : StoreOptions, optional
        How s3:// is reached.

    Raises
    ------
    ConfigError
        If it is none.
    StoreError
        If it cannot be read.
    """
    store = open_store(sink, storage or StoreOptions())
    run_file = read_run_file(store)
    series: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    flags: Counter[str] = Counter()
    groups: Counter[bool] = Counter()
    retried, written_at = 0, ""
    for record in read_records(store):
        groups[record.config_digest == run_file.config_digest] += 1
        written_at = max(written_at, record.written_at)
        for outcome in record.outcomes:
            series[outcome.status] += 1
            flags.update(flag.name for flag in outcome.flags)
            if outcome.status == "failed":
                failures[outcome.error] += 1
                retried += outcome.transient
    return SinkStatus(
        series=dict(series),
        failures=dict(failures),
        retried=retried,
        flags=dict(flags),
        groups=groups[True],
        groups_other=groups[False],
        groups_total=run_file.source_groups,
        written_at=written_at,
        config=run_file.config,
        config_digest=run_file.config_digest,
        fastlung=run_file.fastlung,
    )
