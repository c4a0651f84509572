"""
Many scans: list, skip what is done, plan, drive the workers, sum up.

`run` is what the command line calls, `process` what Python code does. Results are in the sink as
soon as a source group is committed; being killed at any moment loses only what was in progress.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastlung.config import build_config, build_run_options
from fastlung.errors import NothingFoundError, StoreError
from fastlung.io.locate import open_source, store_of
from fastlung.io.names import load_names_key
from fastlung.io.records import read_records
from fastlung.io.store import Store, open_store
from fastlung.kernels import warm_up
from fastlung.limits import limited
from fastlung.report.summary import duration, nothing_found
from fastlung.run.commit import Job, Task
from fastlung.run.drive import carry_out
from fastlung.run.estimate import estimate_sizes
from fastlung.run.events import (
    KernelsReady,
    RunEnded,
    RunPlanned,
    RunSummary,
    ScanEnded,
)
from fastlung.run.machine import Machine, probe
from fastlung.run.manifest import manifest_afterwards, write_manifest
from fastlung.run.outside import reference_to, segmenter_of
from fastlung.run.plan import Plan, plan_run, scan_bytes
from fastlung.run.resume import Survey, check_sink, source_groups, survey, write_run_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fastlung.config import Config, RunOptions, StoreOptions
    from fastlung.io.source import SourceGroup
    from fastlung.limits import Limits
    from fastlung.run.events import Event
    from fastlung.scan import Outcome

__all__ = ["DryRun", "RunSummary", "dry_run", "process", "run"]


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
    """

    machine: Machine
    plan: Plan
    pending: tuple[SourceGroup, ...]
    already_done: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """A run that is ready to start; nothing has been written yet."""

    source: Store
    sink: Store
    config: Config
    options: RunOptions
    names_key: bytes
    survey: Survey
    machine: Machine
    plan: Plan
    shared: tuple[Task, ...]
    alone: tuple[Task, ...]


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
        If the options cannot be used, `SinkConflictError` if the sink has other ones.
    NothingFoundError
        If the source holds no CT series.
    StoreError
        If the source cannot be read, or the sink takes no more writes.
    InsufficientMemoryError
        If no scan at all fits into memory.
    """
    tell = on_event or (lambda _event: None)
    started = time.perf_counter()
    prepared = _prepare(source, sink, config, options)
    tasks, plan = prepared.survey.tasks, prepared.plan
    tell(
        RunPlanned(
            machine=prepared.machine,
            plan=plan,
            groups=len(tasks),
            already_done=prepared.survey.already_done,
        )
    )
    prepared.sink.sweep()
    outcomes: list[Outcome] = []
    limited_by = ""
    if tasks:
        _claim_sink(prepared)
        tell(KernelsReady(seconds=_ready_kernels()))
        ended = carry_out(
            _job(prepared),
            plan,
            shared=prepared.shared,
            alone=prepared.alone,
            timeout_seconds=options.scan_timeout_seconds,
        )
        with manifest_afterwards(prepared.sink), closing(ended):
            for outcome in ended:
                outcomes.append(outcome)
                tell(ScanEnded(outcome=outcome))
        limited_by = _limited_by(outcomes, prepared.machine, plan)
    else:
        write_manifest(prepared.sink)
    summary = RunSummary(
        outcomes=tuple(outcomes),
        earlier=prepared.survey.earlier,
        groups_total=len(tasks) + prepared.survey.already_done,
        groups_already_done=prepared.survey.already_done,
        seconds=time.perf_counter() - started,
        machine=prepared.machine,
        plan=plan,
        limited_by=limited_by,
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
    overwrite: bool = False,
    retry_failed: bool = False,
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
    overwrite : bool
        Redo everything, and take over a sink written with another configuration.
    retry_failed : bool
        Try scans again whose own bytes made them fail before.
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
        overwrite=overwrite,
        retry_failed=retry_failed,
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
    prepared = _prepare(source, sink, config, options)
    return DryRun(
        machine=prepared.machine,
        plan=prepared.plan,
        pending=tuple(task.group for task in prepared.survey.tasks),
        already_done=prepared.survey.already_done,
    )


def _prepare(source: str, sink: str, config: Config, options: RunOptions) -> _Prepared:
    places, sink_store = open_source(source, options.storage), open_store(sink, options.storage)
    places.check()
    segmenter_of(config)  # refused here, not once a scan
    sink_store.check_sink()
    names_key = load_names_key() if config.names == "hash" else b""
    check_sink(sink_store, config, names_key, options)

    def opened(group: SourceGroup) -> Store:
        return store_of(group, places.store, options.storage)

    # The listing ends before work starts, because the plan wants the largest scan. Locally that is
    # cheap: 220,000 files a second with a warm cache, 68,000 with a cold one.
    with limited(options.limits):
        groups = source_groups(
            places,
            sink_store,
            group_by=config.group_by,
            names_key=names_key,
            storage=options.storage,
        )
        left = survey(groups, sink_store, config, options)
        sizes = estimate_sizes([task.group for task in left.tasks], config, opened)
    machine = probe()
    plan = plan_run(sizes, machine, config, options)
    needs = [scan_bytes(size, config) for size in sizes]
    # The largest first, so that no long scan is begun when all else is over.
    order = sorted(range(len(needs)), key=lambda number: -needs[number])
    ordered = [(left.tasks[number], needs[number] <= plan.share_bytes) for number in order]
    return _Prepared(
        source=places.store,
        sink=sink_store,
        config=config,
        options=options,
        names_key=names_key,
        survey=left,
        machine=machine,
        plan=plan,
        shared=tuple(task for task, fits in ordered if fits),
        alone=tuple(task for task, fits in ordered if not fits),
    )


def _claim_sink(prepared: _Prepared) -> None:
    """First write of a run: say whose sink this is."""
    try:
        write_run_file(
            prepared.sink,
            config=prepared.config,
            names_key=prepared.names_key,
            groups=len(prepared.survey.tasks) + prepared.survey.already_done,
            machine=prepared.machine,
            plan=prepared.plan,
        )
    except StoreError as error:
        raise type(error)(f"sink {prepared.sink.url}: {error}") from error


def _ready_kernels() -> float:
    # Here, before any worker starts: it fills the cache that workers load from, and several
    # processes compiling into one cache is not safe.
    started = time.perf_counter()
    warm_up()
    return time.perf_counter() - started


def _job(prepared: _Prepared) -> Job:
    return Job(
        source=prepared.source.url,
        sink=prepared.sink.url,
        config=prepared.config,
        storage=prepared.options.storage,
        names_key=prepared.names_key,
        writer=secrets.token_hex(16),
        share_bytes=prepared.plan.share_bytes,
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
