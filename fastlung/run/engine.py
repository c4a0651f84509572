"""
Many scans: list, skip what is done, plan, drive the workers, summarise.

`run` is what the command line calls, `process` what Python code does. Results are in the sink as
soon as a source group is committed; being killed at any moment loses only what was in progress.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastlung.config import build_config, build_run_options
from fastlung.errors import NothingFoundError, SinkLostError, StoreError
from fastlung.kernels.jit import kernel_place
from fastlung.plan.costs import remember as keep
from fastlung.report.summary import nothing_found
from fastlung.run.driver import Driver
from fastlung.run.events import (
    KernelsReady,
    NamesSettled,
    RunEnded,
    RunPlanned,
    RunProgressed,
    RunSummary,
    ScanEnded,
    SinkUnguarded,
)
from fastlung.run.listing import entries_hidden, open_places, prepare
from fastlung.run.process import start_server
from fastlung.run.signals import SpotNotice
from fastlung.run.warmup import ready_kernels
from fastlung.segmenter import reference_to
from fastlung.sink.commit import Job
from fastlung.sink.contents import write_run_file
from fastlung.sink.identity import check_identity
from fastlung.sink.manifest import manifest_afterwards, write_manifest
from fastlung.sink.records import read_records
from fastlung.sink.shared_names import settle_names
from fastlung.text import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fastlung.config import Config, RunOptions, StoreOptions
    from fastlung.limits import Limits
    from fastlung.plan.machine import Machine
    from fastlung.plan.model import Setting
    from fastlung.plan.plan import Plan
    from fastlung.run.driver import Report
    from fastlung.run.events import Event
    from fastlung.run.listing import Places, Prepared
    from fastlung.scan import Outcome
    from fastlung.sink.older import OlderScans
    from fastlung.source.groups import SourceGroup
    from fastlung.storage.base import Store

__all__ = ["DryRun", "RunSummary", "dry_run", "process", "run"]

#: Outcomes that are kept whole: 7.5 kB each, which would be 1.5 GB for 200,000 scans. Later ones
#: are whole in the event of their end and in the manifest.
KEPT_WHOLE = 10_000
#: Memory of which workers are given up rather than to take more: a part of the limit, and at most.
FLOOR_SHARE, MOST_FLOOR_BYTES = 0.04, 500_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """
    What a run would do.

    Attributes
    ----------
    machine : Machine
        What it could use.
    plan : Plan
        How it would be carried out.
    pending : tuple of SourceGroup
        What it would work on.
    already_done : int
        Source groups it would leave alone.
    older : OlderScans
        What the sink holds of other revisions than today's.
    """

    machine: Machine
    plan: Plan
    pending: tuple[SourceGroup, ...]
    already_done: int
    older: OlderScans


def run(
    source: str,
    sink: str,
    config: Config,
    options: RunOptions,
    on_event: Callable[[Event], None] | None = None,
) -> RunSummary:
    """
    Process every scan of a source that the sink does not hold yet.

    Parameters
    ----------
    source, sink : str
        Folders or s3:// prefixes; the sink is made if it does not exist.
    config : Config
        What is done to each scan.
    options : RunOptions
        How the run is carried out.
    on_event : callable, optional
        Told what happens, as it happens; see `fastlung.run.events`.

    Returns
    -------
    RunSummary
        Every outcome, and what limited the run.

    Raises
    ------
    ConfigError
        If the options cannot be used; `SinkConflictError` if the sink has other ones, or holds
        scans of other revisions and nothing was said of these.
    NothingFoundError
        If the source holds no CT series.
    StoreError
        If the source cannot be read, or the sink takes no more writes.
    InsufficientMemoryError
        If no scan at all fits into memory.
    """
    tell = on_event or (lambda _event: None)
    started = time.perf_counter()
    places = open_places(source, sink, config, options)
    if options.workers != 0:
        start_server()  # it loads kernels beside us
    with entries_hidden(places.source, config):
        return _run(source, places, config, options, tell, started)


def _run(
    source: str,
    places: Places,
    config: Config,
    options: RunOptions,
    tell: Callable[[Event], None],
    started: float,
) -> RunSummary:
    """Process what is there, from places that can be used."""
    prepared = prepare(places, config, options)
    contents, listing = prepared.contents, prepared.listing
    tell(
        RunPlanned(
            machine=prepared.machine,
            plan=prepared.plan,
            groups=prepared.groups,
            already_done=contents.already_done,
            listed=listing.listed,
            older=contents.older,
            redone=options.overwrite or options.redo == "older",
        )
    )
    prepared.sink.sweep()
    outcomes: list[Outcome] = []
    if listing.first:
        sink_id = _claim_sink(prepared)
        if not prepared.sink.enforces_create():
            tell(SinkUnguarded(sink=prepared.sink.url))
        tell(_kernels_ready(serial=not prepared.plan.workers))
        with manifest_afterwards(prepared.sink, sink_id):
            _drive(prepared, sink_id, outcomes, tell)
            _settle(prepared, outcomes, tell)
        _remember(prepared)
    else:
        _settle(prepared, outcomes, tell)
        write_manifest(prepared.sink)
    summary = RunSummary(
        outcomes=tuple(outcomes),
        earlier=tuple(contents.earlier),
        groups_total=listing.found,
        groups_already_done=contents.already_done,
        seconds=time.perf_counter() - started,
        machine=prepared.machine,
        plan=prepared.plan,
        limited_by=_limited_by(outcomes, prepared.machine, prepared.plan),
    )
    tell(RunEnded(summary=summary))
    if all(outcome.status == "skipped" for outcome in (*outcomes, *summary.earlier)):
        raise NothingFoundError(_why_nothing(source, prepared.sink, summary))
    return summary


def process(
    source: str,
    sink: str,
    *,
    preset: str = "hu",
    workers: int | None = None,
    chunk_size: int | None = None,
    memory_limit_bytes: int | str | None = None,
    scan_timeout_seconds: float | None = None,
    auto_tune: bool = False,
    remember: bool = True,
    overwrite: bool = False,
    retry_failed: bool = False,
    redo: str | None = None,
    keep_older: bool = False,
    storage: StoreOptions | None = None,
    limits: Limits | Mapping[str, int] | None = None,
    on_event: Callable[[Event], None] | None = None,
    **options: Any,
) -> RunSummary:
    """
    Process every scan of a source that the sink does not hold yet.

    Parameters
    ----------
    source, sink : str
        Folders or s3:// prefixes; the sink is made if it does not exist.
    preset : str
        A key of `fastlung.config.PRESETS`.
    workers : int, optional
        Worker processes; 0 works in this process, None lets the plan decide.
    chunk_size : int, optional
        Source groups handed to a worker at once.
    memory_limit_bytes : int or str, optional
        Memory for all workers together, such as ``"8GB"``.
    scan_timeout_seconds : float, optional
        A worker that holds one source group longer than this is killed, in seconds.
    auto_tune : bool
        Measure while the run goes on, and adjust workers, reading ahead and requests.
    remember : bool
        Keep what was measured for the next run on such a machine.
    overwrite : bool
        Redo everything, and take over a sink written with another configuration.
    retry_failed : bool
        Try scans again whose own bytes made them fail before.
    redo : str, optional
        ``"older"``: do scans again that other revisions of fastlung's own work have made.
    keep_older : bool
        Leave those scans as they are and go on beside them; with neither, such a sink is refused.
    storage : StoreOptions, optional
        How s3:// is reached.
    limits : Limits or mapping, optional
        The largest input that is taken, or the fields of `fastlung.Limits` that differ.
    on_event : callable, optional
        Told what happens, as it happens.
    **options
        Fields of `fastlung.Config`, such as ``spacing_mm=1.5``; `mask_function` may be the function
        itself.

    Returns
    -------
    RunSummary
        Every outcome, and what limited the run.

    Raises
    ------
    FastlungError
        As `run` does.

    Examples
    --------
    >>> summary = fastlung.process("stage1", "preprocessed", spacing_mm=1.0)  # doctest: +SKIP
    >>> summary.exit_code  # doctest: +SKIP
    0
    """
    run_options = build_run_options(
        workers=workers,
        chunk_size=chunk_size,
        memory_limit_bytes=memory_limit_bytes,
        scan_timeout_seconds=scan_timeout_seconds,
        auto_tune=auto_tune,
        remember=remember,
        overwrite=overwrite,
        retry_failed=retry_failed,
        redo=redo,
        keep_older=keep_older,
        storage=storage,
        limits=limits,
    )
    if options.get("mask_function") is not None:
        options["mask_function"] = reference_to(options["mask_function"])
    return run(str(source), str(sink), build_config(preset, **options), run_options, on_event)


def dry_run(source: str, sink: str, config: Config, options: RunOptions) -> DryRun:
    """
    Say what `run` would do, and write nothing.

    Parameters
    ----------
    source, sink : str
        Folders.
    config : Config
        What would be done to each scan.
    options : RunOptions
        How the run would be carried out.

    Raises
    ------
    FastlungError
        As `run` does before it starts.
    """
    places = open_places(source, sink, config, options)
    prepared = prepare(places, config, options, all_of_them=True)
    return DryRun(
        machine=prepared.machine,
        plan=prepared.plan,
        pending=tuple(task.group for task in prepared.listing.first),
        already_done=prepared.contents.already_done,
        older=prepared.contents.older,
    )


def _settle(prepared: Prepared, outcomes: list[Outcome], tell: Callable[[Event], None]) -> None:
    """Let names follow from the source, where several groups hold the same series."""
    changed = settle_names(prepared.sink, prepared.contents.wishes)
    if not changed:
        return
    for known in (outcomes, prepared.contents.earlier):
        known[:] = [changed.get((outcome.group, outcome.name), outcome) for outcome in known]
    moved = {before: now.name for before, now in changed.items() if now.name != before[1]}
    tell(NamesSettled(moved=moved))


def _drive(
    prepared: Prepared, sink_id: str, outcomes: list[Outcome], tell: Callable[[Event], None]
) -> None:
    """Run the driver over the listing, its reports through the tuner."""
    contents, listing, plan, tuner = (
        prepared.contents, prepared.listing, prepared.plan, prepared.tuner,
    )  # fmt: skip
    counted = listing.listed

    def end(outcome: Outcome) -> None:
        outcomes.append(outcome if len(outcomes) < KEPT_WHOLE else outcome.in_short())
        tell(ScanEnded(outcome=outcome))

    def report(now: Report) -> Setting:
        nonlocal counted
        if listing.listed and not counted:
            counted = True
            _claim_sink(prepared, sink_id)  # it says how many groups there are
        setting = now.setting if tuner is None else tuner.observe(now.progress)
        why = plan.limit if tuner is None else tuner.why
        tell(
            RunProgressed(
                report=now,
                groups=prepared.groups,
                already_done=contents.already_done,
                why=why,
            )
        )
        return setting

    driver = Driver(
        _job(prepared, sink_id),
        plan.setting,
        longest_chunk=plan.chunk_size,
        timeout_seconds=prepared.options.scan_timeout_seconds,
        serial=not plan.workers,
        tell=end,
        report=report,
        floor_bytes=_floor_bytes(prepared.machine),
    )
    with SpotNotice(driver.interruptions.ask):
        driver.run(listing)
    if counted:
        check_identity(prepared.sink, sink_id)
    else:
        _claim_sink(prepared, sink_id)


def _floor_bytes(machine: Machine) -> int:
    """Free memory below which workers are given up."""
    return min(int(FLOOR_SHARE * machine.memory_limit_bytes), MOST_FLOOR_BYTES)


def _remember(prepared: Prepared) -> None:
    """Keep the tuner's measured costs for the next run on such a machine."""
    tuner = prepared.tuner
    if tuner is not None and tuner.calibration.scans and prepared.options.remember:
        keep(prepared.machine, prepared.config, prepared.routes, tuner.calibration)


def _claim_sink(prepared: Prepared, sink_id: str = "") -> str:
    """First write of a run, and the last: say whose sink this is; which it is."""
    try:
        return write_run_file(
            prepared.sink,
            config=prepared.config,
            names_key=prepared.names_key,
            groups=prepared.listing.found if prepared.listing.listed else None,
            machine=prepared.machine,
            plan=prepared.plan,
            sink_id=sink_id,
        )
    except SinkLostError:
        raise
    except StoreError as error:
        raise type(error)(f"sink {prepared.sink.url}: {error}") from error


def _kernels_ready(*, serial: bool) -> KernelsReady:
    """Have kernels for this process, or in the place that the workers' server loads them from."""
    started, place = time.perf_counter(), kernel_place()
    # Without a place, what is compiled here would be of no use there.
    if serial or place.folder:
        ready_kernels()
    return KernelsReady(seconds=time.perf_counter() - started, note=place.note)


def _job(prepared: Prepared, sink_id: str) -> Job:
    return Job(
        source=prepared.source.url,
        sink=prepared.sink.url,
        config=prepared.config,
        storage=prepared.options.storage,
        names_key=prepared.names_key,
        writer=secrets.token_hex(16),
        sink_id=sink_id,
        memory_bytes=prepared.plan.memory_budget_bytes,
        threads=prepared.plan.threads,
        limits=prepared.options.limits,
    )


def _limited_by(outcomes: Sequence[Outcome], machine: Machine, plan: Plan) -> str:
    """Say where the workers' time went."""
    seconds: dict[str, float] = {}
    for outcome in outcomes:
        for stage, value in outcome.seconds.items():
            # Bytes are read and written beside computing; only waiting for them costs time.
            kind = {"fetch": "reading", "wait": "writing", "store": ""}.get(stage, "computing")
            seconds[kind] = seconds.get(kind, 0.0) + value
    seconds.pop("", None)
    total = sum(seconds.values())
    if total <= 0:
        return ""
    most = max(seconds, key=lambda kind: seconds[kind])
    parts = ", ".join(f"{kind} {value / total:.0%}" for kind, value in sorted(seconds.items()))
    where = f"of {duration(total)} of worker time: {parts}"
    if most == "computing" and plan.limit == "memory":
        return (
            f"Limited by memory: room for {plan.workers} workers on {machine.cpus} CPUs ({where})."
        )
    return f"Limited by {most} ({where})."


def _why_nothing(source: str, sink: Store, summary: RunSummary) -> str:
    groups = {outcome.group for outcome in (*summary.outcomes, *summary.earlier)}
    files: Counter[str] = Counter()
    for record in read_records(sink):
        if record.group in groups:
            files.update(record.skipped_files)
    return nothing_found(source, files, summary.groups_total)
