"""
What a run shows while it goes: a bar on a terminal, lines of JSON anywhere else.

Both take the run's events as they come. Neither holds patient data, because outcomes do not.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from fastlung.report.summary import duration
from fastlung.report.tables import shorten
from fastlung.run.events import KernelsReady, RunPlanned, ScanEnded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from fastlung.run.events import Event, RunSummary
    from fastlung.scan import Outcome

__all__ = ["Bar", "JsonLines", "compiled_once"]

#: Loading compiled kernels takes about a second; longer than this, they were compiled.
COMPILED_SECONDS = 5.0


class JsonLines:
    """Each event as one line of JSON on standard output; the keys are in ``process --help``."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def __call__(self, event: Event) -> None:
        """Write an event; the end of the run is for `end`, which knows the summary's words."""
        match event:
            case RunPlanned():
                plan = event.plan
                self._write(
                    "run_planned",
                    source_groups=event.groups,
                    already_done=event.already_done,
                    workers=plan.workers,
                    chunk_size=plan.chunk_size,
                    worker_bytes=plan.worker_bytes,
                    memory_budget_bytes=plan.memory_budget_bytes,
                    reasons=list(plan.reasons),
                )
            case KernelsReady():
                self._write("kernels_ready", seconds=round(event.seconds, 3))
            case ScanEnded(outcome=outcome):
                self._write(
                    "scan_ended",
                    scan=outcome.name,
                    group=outcome.group,
                    status=outcome.status,
                    error=outcome.error,
                    message=outcome.message,
                    verdict=list(outcome.verdict.classes) if outcome.verdict else [],
                    flags=[flag.name for flag in outcome.flags],
                    seconds=round(sum(outcome.seconds.values()), 3),
                    peak_rss_bytes=outcome.peak_rss_bytes,
                )

    def end(self, summary: RunSummary, text: Sequence[str]) -> None:
        """
        Write the last line.

        Parameters
        ----------
        summary : RunSummary
            What the run did.
        text : sequence of str
            The same, in words.
        """
        status = Counter(outcome.status for outcome in summary.outcomes)
        self._write(
            "run_ended",
            done=status["done"],
            failed=status["failed"],
            skipped=status["skipped"],
            already_done=summary.groups_already_done,
            seconds=round(summary.seconds, 3),
            exit_code=summary.exit_code,
            text=list(text),
        )

    def _write(self, event: str, **fields: Any) -> None:
        elapsed = round(time.perf_counter() - self._start, 3)
        line = json.dumps({"event": event, "elapsed_seconds": elapsed, **fields})
        sys.stdout.write(line + "\n")
        # A log that is followed should not lag behind by a buffer.
        sys.stdout.flush()


def compiled_once(event: Event) -> str:
    """
    Explain a long wait for the compiled kernels.

    Parameters
    ----------
    event : Event
        Any event of a run.

    Returns
    -------
    str
        A sentence; empty for other events, and if the wait was short.
    """
    if not isinstance(event, KernelsReady) or event.seconds < COMPILED_SECONDS:
        return ""
    return (
        f"Compiled the kernels in {duration(event.seconds)}; this happens once on a machine, the "
        "next run loads them."
    )


class Bar:
    """
    A live bar with pace and time to go, and a line below it: done, failed, left, the last scan.

    Parameters
    ----------
    explain : bool
        Whether the plan's reasons are printed above the bar.
    """

    def __init__(self, *, explain: bool = False) -> None:
        self._explain = explain
        self._total = 0
        self._groups: set[str] = set()
        self._status: Counter[str] = Counter()
        self._start = time.perf_counter()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            TimeRemainingColumn(),
        )
        self._task = self._progress.add_task("listing", total=None, pace="")
        self._below = Text(no_wrap=True, overflow="ellipsis")
        self._live = Live(
            Group(self._progress, self._below), console=Console(file=sys.stdout), transient=True
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        match event:
            case RunPlanned():
                self._total = event.groups
                self._progress.update(self._task, total=event.groups, description="starting")
                self._below.plain = "preparing the compiled kernels; slow the first time only"
                for reason in event.plan.reasons if self._explain else ():
                    self._print(f"auto-tune: {reason}")
            case KernelsReady():
                self._start = time.perf_counter()
                self._progress.update(self._task, description="processing")
                self._below.plain = ""
                if sentence := compiled_once(event):
                    self._print(sentence)
            case ScanEnded(outcome=outcome):
                self._count(outcome)

    def _count(self, outcome: Outcome) -> None:
        self._groups.add(outcome.group)
        self._status[outcome.status] += 1
        elapsed = max(time.perf_counter() - self._start, 1e-3)
        self._progress.update(
            self._task,
            completed=len(self._groups),
            pace=f"{self._status.total() / elapsed:.2f} scans/s",
        )
        self._below.plain = (
            f"{self._status['done']:,} done, {self._status['failed']:,} failed, "
            f"{self._total - len(self._groups):,} left; last: {shorten(outcome.name)}"
        )

    def _print(self, line: str) -> None:
        self._live.console.print(line, markup=False, highlight=False)
