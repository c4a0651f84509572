"""
One chunk of source groups, from bytes to commit: what a worker does.

While one scan is computed the next group's bytes are read and the last scan is written, each in
one thread. Whatever is wrong with a scan ends as its failed outcome; the chunk goes on.
"""

from __future__ import annotations

import logging
import math
import resource
import time
import traceback
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fastlung.errors import (
    FastlungError,
    FormatError,
    InsufficientMemoryError,
    ScanError,
    StoreError,
)
from fastlung.geometry import Policy
from fastlung.io.archives import unpack
from fastlung.io.dicom import index_series, load_series
from fastlung.io.locate import store_of
from fastlung.io.names import pseudonym, recorded_uid, scan_names
from fastlung.io.source import printable
from fastlung.io.store import open_store
from fastlung.io.volumes import index_volume, load_volume
from fastlung.io.writer import PREVIEW_NAME, encode
from fastlung.limits import check_listing, limited
from fastlung.pipeline import process_scan
from fastlung.report.picture import picture
from fastlung.report.summary import byte_size
from fastlung.run.commit import Storer
from fastlung.run.plan import ScanSize, output_voxels, scan_bytes
from fastlung.scan import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from typing_extensions import Buffer

    from fastlung.io.dicom import SeriesHeaders, SeriesIndex
    from fastlung.io.objects import Store
    from fastlung.io.source import SourceGroup
    from fastlung.run.commit import Job, Task

    Blobs = dict[str, bytes]
    Files = Mapping[str, Sequence[Buffer]]

__all__ = ["run_chunk"]

logger = logging.getLogger(__name__)


class Stopwatch:
    """
    Wall and processor seconds of each step; entered around it by name.

    Attributes
    ----------
    seconds : dict of str to float
        Step -> wall seconds so far.
    cpu_seconds : dict of str to float
        Step -> processor seconds of the thread that entered it.
    stage : str
        The step entered last.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}
        self._process_started = time.process_time()
        self.stage = "fetch"

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time one step."""
        started, cpu_started = time.perf_counter(), time.thread_time()
        self.stage = stage
        try:
            yield
        finally:
            elapsed = time.perf_counter() - started
            cpu = time.thread_time() - cpu_started
            self.seconds[stage] = self.seconds.get(stage, 0.0) + elapsed
            self.cpu_seconds[stage] = self.cpu_seconds.get(stage, 0.0) + cpu

    def all_cpu_seconds(self) -> dict[str, float]:
        """Processor seconds of the steps, and of the whole process since this watch was made."""
        # Clients of stores have threads of their own, which no clock of ours can be entered around.
        process = time.process_time() - self._process_started
        return {**self.cpu_seconds, "process": process}


def run_chunk(
    job: Job, tasks: Sequence[Task], begin: Callable[[int], None] = lambda _number: None
) -> list[Outcome]:
    """
    Do some source groups, one after the other.

    Parameters
    ----------
    job : Job
        What they have in common.
    tasks : sequence of Task
        At least one group.
    begin : callable
        Told the number of each group as it begins.

    Returns
    -------
    list of Outcome
        One for each series, or for each group that could not be read; all committed.

    Raises
    ------
    StoreError
        If the sink takes no more writes at all.
    """
    source, sink = open_store(job.source, job.storage), open_store(job.sink, job.storage)
    committed = []
    cpu_started = time.process_time()
    with (
        limited(job.limits),
        ThreadPoolExecutor(1, "fastlung-reader") as reader,
        Storer(job, sink) as storer,
    ):
        fetches = deque([reader.submit(_fetch, job, source, tasks[0])])
        for number, task in enumerate(tasks):
            begin(number)
            clock = Stopwatch()
            with clock("fetch"):
                wait(fetches)  # only then ask for the next: one group ahead, never two
            if number + 1 < len(tasks):
                fetches.append(reader.submit(_fetch, job, source, tasks[number + 1]))
            committed.append(_run_group(job, task, fetches.popleft(), storer, clock))
        with clock("wait"):
            outcomes = [outcome for future in committed for outcome in future.result()]
    # The chunk's end is waited for, too; the record in the sink could not know that yet.
    waited = outcomes[-1].seconds.get("wait", 0.0) + clock.seconds["wait"]
    cpu = time.process_time() - cpu_started
    before = math.fsum(outcome.cpu_seconds.get("process", 0.0) for outcome in outcomes[:-1])
    outcomes[-1] = replace(
        outcomes[-1],
        seconds={**outcomes[-1].seconds, "wait": waited},
        cpu_seconds={**outcomes[-1].cpu_seconds, "process": max(0.0, cpu - before)},
    )
    return outcomes


def _fetch(job: Job, source: Store, task: Task) -> Blobs:
    """Read all objects of a group, under keys that may be recorded."""
    group = task.group
    if group.unreadable:
        raise StoreError(
            f"folder {group.label} cannot be listed, or holds nothing; check that it is there, and "
            "its permissions"
        )
    if group.kind == "files":
        with limited(job.limits):  # the reader is a thread of its own
            check_listing([info.size_bytes for info in group.objects])
    if group.size_bytes > job.share_bytes:
        raise InsufficientMemoryError(
            f"the folder holds {byte_size(group.size_bytes)} in {len(group.objects)} files and a "
            f"worker may use {byte_size(job.share_bytes)}; give every series a folder of its own, "
            "or raise the memory limit"
        )
    store = store_of(group, source, job.storage)
    blobs = {}
    for info in group.objects:
        key = info.key
        if job.config.names == "hash":
            key = pseudonym(job.names_key, info.key)
        try:
            blobs[key] = store.get(info.key, etag=info.etag)
        except StoreError as error:
            raise type(error)(str(error).replace(info.key, key)) from None
    if group.kind == "archive":
        (archive,) = blobs.values()
        return unpack(archive, memory_bytes=job.share_bytes - len(archive))
    return blobs


def _run_group(
    job: Job, task: Task, fetch: Future[Blobs], storer: Storer, clock: Stopwatch
) -> Future[tuple[Outcome, ...]]:
    group = task.group
    nobody = Outcome(name=group.label, group=group.id, status="skipped")
    try:
        blobs = fetch.result()
        with clock("read"):
            index = _indexed(job, group, blobs)
        _refuse_broken(index, len(blobs))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 (a Rust panic is no Exception)
        return storer.commit(task, [_failure(nobody, error, clock)], {})

    skipped = Counter(index.skipped.values())
    if not index.series:
        return storer.commit(task, [replace(nobody, message=_why_nothing(skipped))], skipped)
    names = scan_names(
        [series.series_uid for series in index.series], group, job.config.names, job.names_key
    )
    outcomes: list[Outcome | Future[Outcome]] = []
    # A file of several stacks is wanted by several series; the last one frees it.
    wanted = Counter(key for series in index.series for key in _files_of(series))
    for name, series in zip(names, index.series, strict=True):
        own = {key: blobs[key] for key in _files_of(series)}
        wanted.subtract(own.keys())
        for key in own:
            if not wanted[key]:
                del blobs[key]
        outcome, files = _run_series(job, task, name, series, own, clock)
        outcomes.append(storer.put(task, outcome, files) if files else outcome)
        clock = Stopwatch()  # fetching and indexing count for the first series only
    return storer.commit(task, outcomes, skipped)


def _indexed(job: Job, group: SourceGroup, blobs: Blobs) -> SeriesIndex:
    if group.kind == "volume":
        return index_volume(blobs)
    return index_series(blobs, Policy.of(job.config))


def _files_of(series: SeriesHeaders) -> set[str]:
    # A volume has no slices, and wants all its files.
    return {header.key for header in series.headers} or set(series.keys)


def _run_series(
    job: Job, task: Task, name: str, series: SeriesHeaders, blobs: Blobs, clock: Stopwatch
) -> tuple[Outcome, Files]:
    """Outcome and files of one series; no files if it failed. Empties `blobs`."""
    outcome = Outcome(
        name=name,
        group=task.group.id,
        status="done",
        series_uid=recorded_uid(series.series_uid, job.names_key),
        verdict=series.verdict,
        acquired=series.grid,
        acquisition=series.acquisition,
    )
    try:
        _check_memory(job, task, series)
        with clock("read"):
            load = load_volume if task.group.kind == "volume" else load_series
            raw = load(series, blobs)
        blobs.clear()
        result = process_scan(raw, job.config, clock)
        with clock("encode"):
            files = encode(
                result,
                acquired=raw.grid,
                verdict=raw.verdict,
                acquisition=raw.acquisition,
                config=job.config,
            )
        if job.config.preview != "none":
            with clock("picture"):
                files[PREVIEW_NAME] = [picture(result)]
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 (a Rust panic is no Exception)
        return _failure(outcome, error, clock), {}
    outcome = replace(
        outcome,
        grid=result.grid,
        figures=result.figures,
        flags=result.flags,
        seconds=clock.seconds,
        cpu_seconds=clock.all_cpu_seconds(),
        peak_rss_bytes=_peak_rss_bytes(),
    )
    return outcome, files


def _check_memory(job: Job, task: Task, series: SeriesHeaders) -> None:
    """Refuse a scan by the arithmetic of its headers, before anything is allocated."""
    grid = series.grid
    if grid is None:
        return  # `load_series` will say why
    # Gaps count: the output covers the whole extent, whatever the usual spacing.
    extent_mm = float(series.slice_positions_mm[-1]) + grid.spacing_mm[0]
    shifts_mm = np.zeros((1, 2)) if series.slice_shifts_mm is None else series.slice_shifts_mm
    longer_y, longer_x = np.ptp(shifts_mm, axis=0) / grid.shape[1:]  # as a sheared volume is
    spacing = (
        extent_mm / grid.shape[0],
        grid.spacing_mm[1] + float(longer_y),
        grid.spacing_mm[2] + float(longer_x),
    )
    size = ScanSize(
        label=task.group.label,
        group_bytes=task.group.size_bytes,
        acquired_voxels=math.prod(grid.shape),
        output_voxels=output_voxels(grid.shape, spacing, job.config.spacing_mm),
    )
    need = scan_bytes(size, job.config)
    if need > job.share_bytes:
        raise InsufficientMemoryError(
            f"{size.acquired_voxels:,} voxels that become {size.output_voxels:,} need "
            f"{byte_size(need)}, and a worker may use {byte_size(job.share_bytes)}; raise the "
            "memory limit, or ask for a coarser spacing"
        )


def _failure(outcome: Outcome, error: BaseException, clock: Stopwatch) -> Outcome:
    """Outcome of a scan that `error` ended; holds no word of anyone else's exception."""
    step = f"in step {clock.stage!r}"
    name, message = type(error).__name__, printable(str(error))
    if isinstance(error, MemoryError):
        name = InsufficientMemoryError.__name__
        message = f"memory ran out {step}; use fewer workers, or free memory"
    elif not isinstance(error, FastlungError):
        message = (
            f"internal error {step}, a bug in fastlung: please report it; "
            "rerun with --workers 0 --debug for the traceback"
        )
        # The places only: a foreign exception's text may quote a patient's name.
        places = "".join(traceback.format_tb(error.__traceback__))
        logger.debug("source group %s: %s %s\n%s", outcome.group, name, step, places)
    return replace(
        outcome,
        status="failed",
        error=name,
        message=message,
        seconds=clock.seconds,
        cpu_seconds=clock.all_cpu_seconds(),
        peak_rss_bytes=_peak_rss_bytes(),
        transient=not isinstance(error, ScanError),
    )


def _refuse_broken(index: SeriesIndex, count: int) -> None:
    if index.broken:
        raise FormatError(
            f"{len(index.broken)} of {count} files may be slices and cannot be read; fetch them "
            f"again or move them away; the first: {printable(index.broken[0].rpartition('/')[2])}: "
            f"{index.skipped[index.broken[0]]}"
        )


def _why_nothing(skipped: Counter[str]) -> str:
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in skipped.most_common())
    return f"no CT series here; its files: {reasons}"


def _peak_rss_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts kibibytes
