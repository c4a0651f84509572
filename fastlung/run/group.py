"""
One source group, from its bytes to its commit.

Whatever is wrong with a scan ends as its failed outcome. Only a group that needs more memory than
its lease allows is given back, to be retried once so much is free.
"""

from __future__ import annotations

import logging
import resource
import traceback
from collections import Counter
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fastlung.dicom.checks import Policy
from fastlung.errors import (
    CredentialsError,
    FastlungError,
    InsufficientMemoryError,
    ScanError,
    StoreError,
)
from fastlung.limits import check_listing, limited
from fastlung.pipeline import process_scan
from fastlung.plan.sizes import computing_bytes, series_size
from fastlung.report.picture import picture
from fastlung.scan import Outcome
from fastlung.segmenter import segmenter_of
from fastlung.sink.names import pseudonym, recorded_uid, scan_names
from fastlung.sink.writer import PREVIEW_NAME, encode
from fastlung.source.archives import member_key
from fastlung.source.read import index_blobs, unpacked
from fastlung.text import byte_size, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from typing_extensions import Buffer

    from fastlung.config import Config
    from fastlung.dicom import SeriesHeaders, SeriesIndex
    from fastlung.run.schedule import Lease
    from fastlung.run.worker import Stopwatch
    from fastlung.scan import ScanResult
    from fastlung.sink.commit import Job, Storer, Task
    from fastlung.source.groups import SourceGroup

    Blobs = dict[str, bytes | memoryview]
    Files = Mapping[str, Sequence[Buffer]]

__all__ = ["GroupRun", "MoreMemoryError", "check_group"]

logger = logging.getLogger(__name__)


class MoreMemoryError(BaseException):
    """
    The group needs more memory than its lease allows; never leaves the worker.

    Not an `Exception`, because any of those is caught and becomes the scan's outcome.

    Parameters
    ----------
    need_bytes : int
        What it needs by its headers; 0 if memory ran out all the same.
    """

    def __init__(self, need_bytes: int) -> None:
        super().__init__(need_bytes)
        self.need_bytes = need_bytes


def check_group(job: Job, group: SourceGroup, allowed_bytes: int) -> None:
    """
    Refuse a group by its listing, before anything of it is read.

    Parameters
    ----------
    job : Job
        The run.
    group : SourceGroup
        The group.
    allowed_bytes : int
        Memory that may be used for it.

    Raises
    ------
    StoreError
        If it could not be listed.
    LimitError
        If it is larger than any series.
    InsufficientMemoryError
        If its bytes alone are more than the run may use.
    MoreMemoryError
        If they are more than the lease allows.
    """
    if group.unreadable:
        usual = (
            f"folder {group.label} cannot be listed, or holds nothing; check that it is there, and "
            "its permissions"
        )
        raise StoreError(group.problem or usual)
    if group.kind == "files":
        with limited(job.limits):
            check_listing([info.size_bytes for info in group.objects])
    size_bytes = group.size_bytes
    if size_bytes > job.memory_bytes:
        raise InsufficientMemoryError(
            f"the folder holds {byte_size(size_bytes)} in {len(group.objects)} files and the run "
            f"may use {byte_size(job.memory_bytes)}; give every series a folder of its own, or "
            "raise the memory limit"
        )
    if size_bytes > allowed_bytes:
        raise MoreMemoryError(size_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRun:
    """
    The work on one leased group: read, compute, encode, commit.

    Attributes
    ----------
    job : Job
        The run.
    lease : Lease
        The group, and the memory it is allowed.
    storer : Storer
        Where scans and the record go.
    report_need : callable
        Called with what a series needs by its headers, in bytes, before it is computed.
    """

    job: Job
    lease: Lease[Task]
    storer: Storer
    report_need: Callable[[int], None]

    def __call__(
        self, clock: Stopwatch, fetched: Callable[[], Blobs]
    ) -> Future[tuple[Outcome, ...]]:
        """
        Carry it out.

        Parameters
        ----------
        clock : Stopwatch
            Times each step; fetching and indexing count for the first series.
        fetched : callable
            Waits for the bytes, or raises why there are none.

        Returns
        -------
        Future of tuple of Outcome
            Ready when the group is committed.

        Raises
        ------
        MoreMemoryError
            If it must be given back; nothing is being written any more.
        StoreError
            If the sink takes no more writes at all, or credentials are good no more.
        """
        with limited(self.job.limits):
            return self._run(clock, fetched)

    def _run(self, clock: Stopwatch, fetched: Callable[[], Blobs]) -> Future[tuple[Outcome, ...]]:
        task = self.lease.task
        group = task.group
        no_series = Outcome(name=group.label, group=group.id, status="skipped")
        try:
            blobs = self._readable(clock, fetched)
            with clock("read"):
                index = index_blobs(group, blobs, Policy.of(self.job.config))
            index.check()
        except (KeyboardInterrupt, SystemExit, MoreMemoryError, CredentialsError):
            raise
        except BaseException as error:  # noqa: BLE001 (a Rust panic is no Exception)
            self._give_back_if_short(error)
            return self.storer.commit(task, [_failure(no_series, error, clock)], {})
        skipped = Counter(index.skipped.values())
        lost = [] if index.loss is None else [_failure(no_series, index.loss, clock)]
        if not index.series:
            nothing = replace(no_series, message=_why_nothing(skipped))
            return self.storer.commit(task, [nothing], skipped)
        outcomes: list[Outcome | Future[Outcome]] = []
        try:
            self._run_all(index, blobs, clock, outcomes)
        except MoreMemoryError:
            # It will be begun anew, elsewhere; two must not write it at a time.
            wait([outcome for outcome in outcomes if isinstance(outcome, Future)])
            raise
        return self.storer.commit(task, [*outcomes, *lost], skipped)

    def _readable(self, clock: Stopwatch, fetched: Callable[[], Blobs]) -> Blobs:
        """Bytes of the files, under keys that may be recorded."""
        group, job = self.lease.task.group, self.job
        with clock("fetch"):
            try:
                blobs = fetched()
            except StoreError as error:
                if job.config.names == "hash":
                    raise type(error)(_hidden(str(error), job, group)) from None
                raise
        if job.config.names == "hash":
            blobs = {
                member_key(pseudonym(job.names_key, key), key): blob for key, blob in blobs.items()
            }
        with clock("read"):
            room = self.lease.allowed_bytes - sum(map(len, blobs.values()))
            return unpacked(group, blobs, memory_bytes=max(0, room))

    def _run_all(
        self,
        index: SeriesIndex,
        blobs: Blobs,
        clock: Stopwatch,
        outcomes: list[Outcome | Future[Outcome]],
    ) -> None:
        """Compute every series of the group."""
        task, job = self.lease.task, self.job
        uids = [series.series_uid for series in index.series]
        names = scan_names(uids, task.group, job.config.names, job.names_key)
        # A file of several stacks is wanted by several series; the last one frees it.
        wanted = Counter(key for series in index.series for key in series.pixel_keys)
        for name, series in zip(names, index.series, strict=True):
            own = {key: blobs[key] for key in series.pixel_keys}
            wanted.subtract(own.keys())
            for key in own:
                if not wanted[key]:
                    del blobs[key]
            outcome, files = self._run_series(name, series, own, clock)
            outcomes.append(self.storer.put(task, outcome, files) if files else outcome)
            clock.restart()  # fetching and indexing count for the first series only

    def _run_series(
        self, name: str, series: SeriesHeaders, blobs: Blobs, clock: Stopwatch
    ) -> tuple[Outcome, Files]:
        """Outcome and files of one series; no files if it failed. Empties `blobs`."""
        task, job = self.lease.task, self.job
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
            self._check_memory(series)
            with clock("read"):
                raw = series.load(blobs, threads=job.threads)
            blobs.clear()
            segment = segmenter_of(job.config)
            result = process_scan(raw, job.config, clock, segment=segment, threads=job.threads)
            if reason := _not_asked_for(result, job.config):
                return replace(outcome, status="skipped", message=reason, flags=result.flags), {}
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
        except (KeyboardInterrupt, SystemExit, MoreMemoryError):
            raise
        except BaseException as error:  # noqa: BLE001 (a Rust panic is no Exception)
            self._give_back_if_short(error)
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

    def _give_back_if_short(self, error: BaseException) -> None:
        """Give a group that ran out of memory beside others back, to be retried alone."""
        unforeseen = isinstance(error, MemoryError) and not self.lease.alone
        refused = isinstance(error, InsufficientMemoryError)
        if unforeseen or (refused and self.lease.allowed_bytes < self.job.memory_bytes):
            raise MoreMemoryError(0)

    def _check_memory(self, series: SeriesHeaders) -> None:
        """Refuse a scan by the arithmetic of its headers, before anything is allocated."""
        size = series_size(self.lease.task.group, series, self.job.config)
        if size is None:
            return  # loading will say why
        need = computing_bytes(size, self.job.config)
        if need > self.job.memory_bytes and self.lease.allowed_bytes >= self.job.memory_bytes:
            raise InsufficientMemoryError(
                f"{size.acquired_voxels:,} voxels that become {size.output_voxels:,} need "
                f"{byte_size(need)}, and the run may use {byte_size(self.job.memory_bytes)}; raise "
                "the memory limit, or ask for a coarser spacing"
            )
        if need > self.lease.allowed_bytes:
            raise MoreMemoryError(need)
        self.report_need(need)


def _not_asked_for(result: ScanResult, config: Config) -> str:
    """Why a result is left out by what was asked for; empty where it is not."""
    if config.only != "chest":
        return ""
    texts = [flag.text for flag in result.flags if flag.name in ("not_chest", "reformat")]
    return f"left out by --only chest: {'; '.join(texts)}" if texts else ""


def _hidden(message: str, job: Job, group: SourceGroup) -> str:
    """Message of a store with keys replaced by their pseudonyms."""
    for info in sorted(group.objects, key=lambda info: -len(info.key)):
        message = message.replace(info.key, pseudonym(job.names_key, info.key))
    return message


def _failure(outcome: Outcome, error: BaseException, clock: Stopwatch) -> Outcome:
    """Outcome of a scan that `error` ended; quotes no exception but ours."""
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


def _why_nothing(skipped: Counter[str]) -> str:
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in skipped.most_common())
    return f"no CT series here; its files: {reasons}"


def _peak_rss_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts kibibytes
