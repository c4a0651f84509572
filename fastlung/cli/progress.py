"""
Progress of a run: a bar on a terminal, lines of JSON anywhere else.

Both take the run's events as they come. Neither holds patient data, because outcomes do not.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from rich.text import Text

from fastlung.report.summary import shorten
from fastlung.run.events import (
    KernelsReady,
    NamesSettled,
    RunPlanned,
    RunProgressed,
    ScanEnded,
    SinkUnguarded,
)
from fastlung.text import byte_size, duration

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from fastlung.plan.setting import Progress
    from fastlung.run.events import Event, RunSummary
    from fastlung.scan import Outcome
    from fastlung.sink.older import OlderScans

__all__ = ["Bar", "JsonLines", "compiled_once", "older_sentence"]

#: Loading compiled kernels takes about a second; longer than this, they were compiled.
COMPILED_SECONDS = 5.0
#: Rates are those of so many seconds before.
RATE_SECONDS = 15.0
#: Seconds between lines of JSON on the progress of the run.
JSON_SECONDS = 10.0


class JsonLines:
    """Each event as one line of JSON on standard output; the keys are in ``process --help``."""

    def __init__(self) -> None:
        self._start = self._progressed = time.perf_counter()

    def __call__(self, event: Event) -> None:
        """Write an event; the end of the run is written by `end`, which has the summary's text."""
        match event:
            case RunPlanned():
                plan = event.plan
                self._write(
                    "run_planned",
                    source_groups=event.groups,
                    already_done=event.already_done,
                    listed=event.listed,
                    older=event.older.scans,
                    workers=plan.workers,
                    chunk_size=plan.chunk_size,
                    worker_bytes=plan.worker_bytes,
                    memory_budget_bytes=plan.memory_budget_bytes,
                    reasons=list(plan.reasons),
                )
            case SinkUnguarded():
                self._write("sink_unguarded", sink=event.sink, message=unguarded(event))
            case KernelsReady():
                note = {"note": event.note} if event.note else {}
                self._write("kernels_ready", seconds=round(event.seconds, 3), **note)
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

            case NamesSettled():
                self._write(
                    "names_settled",
                    moved=[
                        {"group": group, "before": before, "scan": now}
                        for (group, before), now in sorted(event.moved.items())
                    ],
                )
            case RunProgressed() if time.perf_counter() - self._progressed >= JSON_SECONDS:
                self._progressed = time.perf_counter()
                now, setting = event.report.progress, event.report.setting
                self._write(
                    "progress",
                    source_groups=event.groups,
                    listed=event.report.listed,
                    ended=now.groups,
                    workers=now.workers,
                    fetched_bytes=now.fetched_bytes,
                    stored_bytes=now.stored_bytes,
                    peak_worker_bytes=now.peak_worker_bytes,
                    memory_available_bytes=now.memory_available_bytes,
                    ahead_bytes=setting.ahead_bytes,
                    requests=setting.requests,
                    why=event.why,
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


def older_sentence(older: OlderScans, *, redone: bool) -> str:
    """Say what becomes of scans of other revisions."""
    return f"{older} {'are done again' if redone else 'stay as they are'}."


def unguarded(event: SinkUnguarded) -> str:
    """Say what it means that a sink ignores conditional creates."""
    return (
        f"{event.sink} ignores If-None-Match: two runs at it at once would both commit the same "
        "scans; run one at a time"
    )


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


def rate(before: Progress | None, now: Progress, name: str) -> float:
    """Growth of a sum per second, since an earlier measurement or the beginning."""
    seconds = now.seconds - (before.seconds if before else 0.0)
    grown = getattr(now, name) - (getattr(before, name) if before else 0)
    return float(grown) / max(seconds, 1e-3)


def flow_line(event: RunProgressed, before: Progress | None) -> str:
    """
    Say the rates of reading and writing, the memory in use, the number of workers and its reason.

    Parameters
    ----------
    event : RunProgressed
        State of the run.
    before : Progress or None
        What was measured some time ago; None takes rates from the beginning.
    """
    now = event.report.progress
    coming, going = rate(before, now, "fetched_bytes"), rate(before, now, "stored_bytes")
    workers = f"{now.workers} worker{'s' * (now.workers != 1)}"
    why = "memory has become scarce" if event.report.short_of_memory else event.why
    return (
        f"in {byte_size(int(coming))}/s, out {byte_size(int(going))}/s; "
        f"memory {byte_size(event.report.charged_bytes)} taken, "
        f"{byte_size(now.memory_available_bytes)} free; {workers} ({why})"
    )


class Bar:
    """
    A live bar with pace and time to go, and two lines below it.

    The first line counts what is done, failed and left; the second is `flow_line`.

    Parameters
    ----------
    explain : bool
        Whether the plan's reasons are printed above the bar.
    """

    def __init__(self, *, explain: bool = False) -> None:
        self._explain = explain
        self._total = 0
        self._listed = False
        self._groups: set[str] = set()
        self._status: Counter[str] = Counter()
        self._past: deque[Progress] = deque()
        self._bar = ProgressBar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            TimeRemainingColumn(),
        )
        self._task = self._bar.add_task("listing", total=None, pace="")
        self._below = Text(no_wrap=True, overflow="ellipsis")
        self._flow = Text(no_wrap=True, overflow="ellipsis")
        self._live = Live(
            Group(self._bar, self._below, self._flow),
            console=Console(file=sys.stdout),
            transient=True,
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
                self._find(event.groups, listed=event.listed)
                self._bar.update(self._task, description="starting")
                self._below.plain = "preparing the compiled kernels; slow the first time only"
                if event.older:
                    self._print(older_sentence(event.older, redone=event.redone))
                for reason in event.plan.reasons if self._explain else ():
                    self._print(f"auto-tune: {reason}")
            case SinkUnguarded():
                self._print(unguarded(event))
            case KernelsReady():
                self._bar.update(self._task, description="processing")
                self._below.plain = ""
                for sentence in filter(None, (event.note, compiled_once(event))):
                    self._print(sentence)
            case ScanEnded(outcome=outcome):
                self._count(outcome)
            case RunProgressed():
                self._find(event.groups, listed=event.report.listed)
                self._show(event)

    def _find(self, groups: int, *, listed: bool) -> None:
        self._total, self._listed = groups, self._listed or listed
        self._bar.update(self._task, total=groups if self._listed else None)

    def _count(self, outcome: Outcome) -> None:
        self._groups.add(outcome.group)
        self._status[outcome.status] += 1
        self._bar.update(self._task, completed=len(self._groups))
        left = self._total - len(self._groups)
        more = "" if self._listed else " and more"
        self._below.plain = (
            f"{self._status['done']:,} done, {self._status['failed']:,} failed, "
            f"{left:,} left{more}; last: {shorten(outcome.name)}"
        )

    def _show(self, event: RunProgressed) -> None:
        now = event.report.progress
        self._past.append(now)
        while now.seconds - self._past[0].seconds > RATE_SECONDS:
            self._past.popleft()
        before = self._past[0] if len(self._past) > 1 else None
        self._bar.update(
            self._task, pace=f"{rate(before, now, 'groups'):.2f} scans/s" if now.groups else ""
        )
        self._flow.plain = flow_line(event, before)

    def _print(self, line: str) -> None:
        self._live.console.print(line, markup=False, highlight=False)
