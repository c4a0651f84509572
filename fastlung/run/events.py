"""Events of a run, in this order; frozen, free of patient data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastlung.sink.older import OlderScans

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastlung.plan.machine import Machine
    from fastlung.plan.plan import Plan
    from fastlung.run.driver import Report
    from fastlung.scan import Outcome

__all__ = [
    "Event",
    "KernelsReady",
    "NamesSettled",
    "RunEnded",
    "RunPlanned",
    "RunProgressed",
    "RunSummary",
    "ScanEnded",
    "SinkUnguarded",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """
    What a run did.

    Attributes
    ----------
    outcomes : sequence of Outcome
        What this run did, in the order it ended; beyond the first 10,000 in short.
    earlier : sequence of Outcome
        What earlier runs did and this one left alone, in short.
    groups_total, groups_already_done : int
        Source groups found, and how many of them were left alone.
    seconds : float
        Wall seconds from the start of the run to its end.
    machine : Machine
        What the run could use.
    plan : Plan
        How it was carried out.
    limited_by : str
        A sentence, from measured seconds, on what kept the run from being faster; empty where
        nothing was done.
    """

    outcomes: Sequence[Outcome]
    earlier: Sequence[Outcome]
    groups_total: int
    groups_already_done: int
    seconds: float
    machine: Machine
    plan: Plan
    limited_by: str

    @property
    def exit_code(self) -> int:
        """0 if every scan is done, 1 if some failed, now or earlier."""
        return int(any(o.status == "failed" for o in (*self.outcomes, *self.earlier)))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlanned:
    """
    The run is planned, from the source groups that were found first.

    Attributes
    ----------
    machine : Machine
        What the run can use.
    plan : Plan
        How it will be carried out.
    groups : int
        Source groups that this run will work on, as far as they are known.
    already_done : int
        Source groups that it leaves alone, as far as they are known.
    listed : bool
        Whether these are all.
    older : OlderScans
        What the sink holds of other revisions than today's.
    redone : bool
        Whether these are done again; otherwise they stay as they are.
    """

    machine: Machine
    plan: Plan
    groups: int
    already_done: int
    listed: bool = True
    older: OlderScans = field(default_factory=OlderScans)
    redone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkUnguarded:
    """
    The sink's store ignores conditional creates; sent once, and only then.

    Attributes
    ----------
    sink : str
        URL of the sink. Two runs at it at once would both commit the same scans.
    """

    sink: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelsReady:
    """
    The compiled kernels are loaded; long `seconds` mean that they had to be compiled.

    Attributes
    ----------
    seconds : float
        How long that took.
    note : str
        What it costs that they cannot be kept where they usually are; else empty.
    """

    seconds: float
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanEnded:
    """One series, or a source group that could not be read, has its final outcome."""

    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgressed:
    """
    State of the run; once a second.

    Attributes
    ----------
    report : Report
        What was measured, the setting in force and what is left.
    groups : int
        Source groups that this run works on, as far as they are known.
    already_done : int
        Source groups that it leaves alone, as far as they are known.
    why : str
        Why there are so many workers.
    """

    report: Report
    groups: int
    already_done: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NamesSettled:
    """
    Names that several source groups would have were given to the first of them, by label.

    Attributes
    ----------
    moved : mapping of (str, str) to str
        Group and the name that its scan had until now -> the name it has; empty where all had
        theirs.
    """

    moved: Mapping[tuple[str, str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """Nothing is left to do."""

    summary: RunSummary


Event = (
    RunPlanned | SinkUnguarded | KernelsReady | ScanEnded | RunProgressed | NamesSettled | RunEnded
)
