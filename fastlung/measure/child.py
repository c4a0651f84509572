"""
A process that measures one run on a bounded sample of scans: synthetic, or the first of a source.

Copies of a scan are links: they cost no disk, and are read from the page cache.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from fastlung.demo.cohort import COHORT, DemoScan, write_cohort
from fastlung.errors import FastlungError, NothingFoundError
from fastlung.measure.profile import STAGES
from fastlung.source.open import open_source

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fastlung.config import StoreOptions
    from fastlung.run.events import Event, RunSummary
    from fastlung.scan import Outcome
    from fastlung.source.groups import SourceGroup

__all__ = [
    "SYNTHETIC_SHAPE",
    "ChildJob",
    "Sample",
    "main",
    "request_line",
    "sample_of",
    "synthetic_sample",
    "write_list",
]


#: A series of the usual size: 150 slices of 512 x 512, as NLST's are at 2 mm, and their distances.
SYNTHETIC_SHAPE, SYNTHETIC_SPACING_MM = (150, 512, 512), (2.0, 0.7, 0.7)

#: Different chests that are drawn; drawing one takes three seconds.
SYNTHETIC_CHESTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """
    Scans to measure with.

    Attributes
    ----------
    origin : str
        ``synthetic`` or ``source``.
    urls : tuple of str
        Where each scan is; a scan may be there several times under different names.
    different : int
        Scans that differ.
    fetch_bytes, fetch_objects : float
        Bytes and objects of a scan, on average.
    """

    origin: Literal["synthetic", "source"]
    urls: tuple[str, ...]
    different: int
    fetch_bytes: float
    fetch_objects: float


def synthetic_sample(
    folder: Path, scans: int, shape: tuple[int, int, int] = SYNTHETIC_SHAPE
) -> Sample:
    """
    Draw chests and write them as DICOM series.

    Parameters
    ----------
    folder : Path
        Where to; must not exist yet.
    scans : int
        How many.
    shape : tuple of int
        Slices, rows and columns of each; a smaller one covers the same chest.
    """
    factors = [wanted / have for wanted, have in zip(SYNTHETIC_SHAPE, shape, strict=True)]
    z_mm, y_mm, x_mm = (
        step * factor for step, factor in zip(SYNTHETIC_SPACING_MM, factors, strict=True)
    )
    chests = [
        DemoScan(name=f"chest-{number}", story=COHORT[0].story)
        for number in range(min(SYNTHETIC_CHESTS, scans))
    ]
    written = write_cohort(
        folder / "drawn", shape=shape, spacing_mm=(z_mm, y_mm, x_mm), scans=chests
    )
    urls = []
    for number in range(scans):
        chest = folder / "drawn" / chests[number % len(chests)].name
        copy = folder / "scans" / f"{number:05}"
        copy.mkdir(parents=True)
        for slice_file in chest.iterdir():
            os.link(slice_file, copy / slice_file.name)
        urls.append(f"{copy}/")
    return Sample(
        origin="synthetic",
        urls=tuple(urls),
        different=len(chests),
        fetch_bytes=written / len(chests),
        fetch_objects=shape[0],
    )


def sample_of(source: str, storage: StoreOptions, scans: int) -> Sample:
    """
    Take the first source groups of a source.

    Parameters
    ----------
    source : str
        As ``fastlung process`` takes it.
    storage : StoreOptions
        How s3:// is reached.
    scans : int
        How many, if there are so many.

    Raises
    ------
    NothingFoundError
        If it holds nothing.
    FastlungError
        As `open_source` does.
    """
    places = open_source(source, storage)
    places.check()
    groups = tuple(islice((group for group in places.groups() if group.objects), scans))
    if not groups:
        raise NothingFoundError(f"{source}: holds nothing to take a sample from")
    return Sample(
        origin="source",
        urls=tuple(_url(group.store_url or places.store.url, group) for group in groups),
        different=len(groups),
        fetch_bytes=statistics.fmean(group.size_bytes for group in groups),
        fetch_objects=statistics.fmean(len(group.objects) for group in groups),
    )


def write_list(path: Path, sample: Sample, scans: int) -> int:
    """
    Write a list that a run takes for a source.

    Parameters
    ----------
    path : Path
        A new .txt file.
    sample : Sample
        What to choose from.
    scans : int
        How many of them, the first ones.

    Returns
    -------
    int
        How many it names.
    """
    urls = sample.urls[:scans]
    path.write_text("".join(f"{url}\n" for url in urls), "utf-8", errors="surrogateescape")
    return len(urls)


def _url(base: str, group: SourceGroup) -> str:
    key = group.objects[0].key
    inner = f"{key.rpartition('/')[0]}/" if group.kind == "files" else key
    return f"{base.rstrip('/')}/{inner.lstrip('/')}"


#: What a worker waits for, by the stage that goes on meanwhile.
WAITED_FOR = {"store": "wait"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildJob:
    """
    Job of a child process: what all its runs have in common.

    Attributes
    ----------
    cpus : tuple of int
        Hardware threads it may run on.
    memory_limit_bytes : int or None
        Memory of all workers; None for what there is.
    config, storage : dict
        Fields of `Config` and of `StoreOptions`.
    """

    cpus: tuple[int, ...]
    memory_limit_bytes: int | None
    config: dict[str, Any]
    storage: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Write as one line."""
        return json.dumps(asdict(self))


def request_line(source: str, sink: str, fetched_bytes: float) -> str:
    """
    Line that requests one run of a child.

    Parameters
    ----------
    source, sink : str
        From where to where.
    fetched_bytes : float
        Bytes of a scan of the source, on average.
    """
    request = {"source": source, "sink": sink, "fetched_bytes": fetched_bytes}
    return json.dumps(request)


def main() -> None:
    """Answer requests until there are no more."""
    job = ChildJob(**json.loads(sys.stdin.readline()))
    # Before anything is imported that counts processors; workers inherit it.
    os.sched_setaffinity(0, job.cpus)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = _measure(job, **request)
        except FastlungError as error:
            answer = {"error": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _measure(job: ChildJob, source: str, sink: str, fetched_bytes: float) -> dict[str, Any]:
    # Imported here: they count processors, and affinity is set only now.
    from fastlung.config import Config, RunOptions, StoreOptions  # noqa: PLC0415
    from fastlung.run.engine import run  # noqa: PLC0415
    from fastlung.run.events import RunPlanned  # noqa: PLC0415

    started = [0.0]

    def on_event(event: Event) -> None:
        if isinstance(event, RunPlanned):
            started[0] = time.perf_counter()

    summary = run(
        source,
        sink,
        Config(**job.config),
        RunOptions(memory_limit_bytes=job.memory_limit_bytes, storage=StoreOptions(**job.storage)),
        on_event,
    )
    return _answer(summary, time.perf_counter() - started[0], fetched_bytes)


def _answer(summary: RunSummary, seconds: float, fetched_bytes: float) -> dict[str, Any]:
    bad = [outcome for outcome in summary.outcomes if outcome.status != "done"]
    done = [outcome for outcome in summary.outcomes if outcome.status == "done"]
    if bad or not done:
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(_kinds(bad)).items())
        return {
            "error": f"{len(bad)} of {len(summary.outcomes)} scans of the sample are not done "
            f"({kinds or 'none found'}), and a rate of those that are would say little; choose "
            "another sample, or more memory"
        }
    return {
        "workers": summary.plan.workers,
        "plan_limit": summary.plan.limit,
        "round": {
            "seconds": seconds,
            "scans": len(done),
            "cpu_seconds": _mean(outcome.cpu_seconds.get("process", 0.0) for outcome in done),
            "peak_rss_bytes": max(outcome.peak_rss_bytes for outcome in done),
            "stages": _stages(done, fetched_bytes),
        },
        "sample": {
            "store_bytes": _mean(
                sum(size for size, _ in outcome.outputs.values()) for outcome in done
            ),
            # The outcome and the group's record are written too.
            "store_objects": _mean(len(outcome.outputs) + 2 for outcome in done),
            "acquired_voxels": _mean(_voxels(outcome, "acquired") for outcome in done),
            "output_voxels": _mean(_voxels(outcome, "grid") for outcome in done),
        },
    }


def _stages(done: Sequence[Outcome], fetched: float) -> dict[str, dict[str, float]]:
    """Mean seconds of each stage that any scan had."""
    found = {}
    for stage in STAGES:
        wall = _mean(outcome.seconds.get(WAITED_FOR.get(stage, stage), 0.0) for outcome in done)
        cpu = _mean(outcome.cpu_seconds.get(stage, 0.0) for outcome in done)
        if wall or cpu:
            found[stage] = {"cpu_seconds": cpu, "wall_seconds": wall}
    # Store clients have threads of their own: what the computing thread did not take is theirs. It
    # cannot be timed apart, so it is shared between fetch and store by bytes.
    process = _mean(outcome.cpu_seconds.get("process", 0.0) for outcome in done)
    clients = max(0.0, process - sum(seconds["cpu_seconds"] for seconds in found.values()))
    stored = _mean(sum(size for size, _ in outcome.outputs.values()) for outcome in done)
    shares = {"fetch": fetched / (fetched + stored), "store": stored / (fetched + stored)}
    for stage, share in shares.items():
        wall = found.get(stage, {}).get("wall_seconds", 0.0)
        found[stage] = {"cpu_seconds": clients * share, "wall_seconds": wall}
    return found


def _voxels(outcome: Outcome, which: str) -> int:
    grid = getattr(outcome, which)
    return 0 if grid is None else grid.shape[0] * grid.shape[1] * grid.shape[2]


def _kinds(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.error or outcome.status for outcome in outcomes]


def _mean(values: Any) -> float:
    return statistics.fmean(values)


if __name__ == "__main__":
    main()
