"""
The gate against slow-downs that noise cannot fool.

Each job and its yardstick run in turn, ours, yardstick, ours, ..., in one process on one pinned
core; what counts is the ratio of each pair, yardstick over ours. Stored in ``bench/baselines`` by
CPU model, with versions. A job fails if the median ratio has dropped by more than a fifth and the
whole interval of the medians (bootstrap, 95 %) lies below what that allows.

    python bench/regression.py            compare with the baseline of this CPU
    python bench/regression.py --update   measure and store, rivals and costs as well
    python bench/regression.py --torch    add rivals made with torch to what is stored
    python bench/regression.py --costs    measure start-up, memory and two cores anew
"""

import argparse
import datetime as dt
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from costs import measure_cold, measure_cores, measure_memory

BASELINES = Path(__file__).parent / "baselines"
FORMAT = 2
ROUNDS = 15
#: Rivals are far slower, and only shown: fewer rounds will do.
RIVAL_ROUNDS = 3
#: A drop of the median ratio by more than this part fails.
TOLERATED = 0.20
PACKAGES = (
    "fastlung", "numpy", "numba", "scipy", "pydicom", "imagecodecs", "SimpleITK", "scikit-image",
    "connected-components-3d", "fill-voids", "torch", "torchio", "monai",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """
    Ratios of one job.

    Attributes
    ----------
    median : float
        Yardstick seconds over our seconds; higher is faster.
    low, high : float
        95 % interval of the median.
    seconds, other_seconds : float
        Median CPU seconds of ours and of the yardstick or rival, for the record only.
    """

    median: float
    low: float
    high: float
    seconds: float
    other_seconds: float


def measure(
    ours: Callable[[], object], other: Callable[[], object], rounds: int = ROUNDS
) -> Measured:
    """Time a job against its yardstick or a rival in interleaved rounds, by CPU time; both warm."""
    times = np.array([(_seconds(ours), _seconds(other)) for _ in range(rounds)])
    ratios = times[:, 1] / times[:, 0]
    drawn = np.random.default_rng(0).choice(ratios, (2000, rounds))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return Measured(
        median=float(np.median(ratios)),
        low=float(low),
        high=float(high),
        seconds=float(np.median(times[:, 0])),
        other_seconds=float(np.median(times[:, 1])),
    )


def _seconds(job: Callable[[], object]) -> float:
    # CPU time: on a shared machine the wall clock also measures the neighbours.
    started = time.process_time()
    job()
    return time.process_time() - started


def is_slower(now: Measured, before: Measured, tolerated: float = TOLERATED) -> bool:
    """Whether a job has slowed down by more than is tolerated, beyond doubt."""
    least = before.median * (1 - tolerated)
    return now.median < least and now.high < least


def cpu_model() -> str:
    """Name of this processor, fit for a file name."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return "-".join(model.lower().replace("(r)", "").replace("(tm)", "").split())


def load(path: Path) -> dict[str, Any]:
    """What is stored of this CPU; no jobs where there is nothing, or of another format."""
    stored = json.loads(path.read_text()) if path.exists() else {}
    return stored if stored.get("format") == FORMAT else {"jobs": {}, "rivals": {}, "costs": {}}


def store(
    path: Path,
    jobs: dict[str, Measured],
    rivals: dict[str, dict[str, Measured]],
    costs: dict[str, Any],
) -> None:
    """Write a baseline, with what it was measured on."""
    path.parent.mkdir(exist_ok=True)
    before = load(path)
    about = {
        "format": FORMAT,
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "python": platform.python_version(),
        "versions": {**before.get("versions", {}), **_versions()},
        "jobs": {**before["jobs"], **{name: asdict(job) for name, job in jobs.items()}},
        "rivals": dict(before["rivals"]),
        "costs": {**before["costs"], **costs},
    }
    for name, others in rivals.items():
        measured = {rival: asdict(ratio) for rival, ratio in others.items()}
        about["rivals"][name] = {**about["rivals"].get(name, {}), **measured}
    path.write_text(json.dumps(about, indent=1, sort_keys=True) + "\n")


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def compare(jobs: dict[str, Measured], stored: dict[str, Any]) -> tuple[str, bool]:
    """Table of now and before, and whether nothing is slower."""
    lines = [f"{'job':54} {'ratio':>8} {'interval':>17} {'baseline':>9}  verdict"]
    fine = True
    for name, now in jobs.items():
        before = Measured(**stored["jobs"][name]) if name in stored["jobs"] else None
        slower = before is not None and is_slower(now, before)
        fine &= not slower
        verdict = "SLOWER" if slower else "ok" if before else "no baseline"
        was = f"{before.median:9.2f}" if before else "        -"
        interval = f"{now.low:7.2f} - {now.high:7.2f}"
        lines.append(f"{name:54} {now.median:8.2f} {interval} {was}  {verdict}")
    return "\n".join(lines), fine


def measure_job(job, rounds: int) -> Measured:
    """Hold a job against its yardstick."""
    job.ours(), job.yardstick()  # compiles, loads and caches
    return measure(job.ours, job.yardstick, rounds)


def measure_rivals(job, rounds: int = RIVAL_ROUNDS) -> dict[str, Measured]:
    """How many times slower each rival of a job is, in paired rounds, after `agree`."""
    ours = job.ours()
    ratios = {}
    for name, rival in job.rivals.items():
        job.agree(ours, rival())
        ratios[name] = measure(job.ours, rival, rounds)
    return ratios


def measure_costs(scans: Sequence, spacing_mm: float) -> dict[str, Any]:
    """Start-up, memory, and what a second core brings."""
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))  # of the cores it was pinned away from
    try:
        return {
            "start": measure_cold(),
            "memory": {scan.name: measure_memory(scan.folder(), spacing_mm) for scan in scans},
            "cores": measure_cores(scans[0].folder(), spacing_mm),
        }
    finally:
        os.sched_setaffinity(0, everywhere)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, compare or store; 1 if anything is slower than its baseline."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--update", action="store_true", help="store what is measured")
    parser.add_argument("--torch", action="store_true", help="store rivals made with torch, only")
    parser.add_argument("--costs", action="store_true", help="store start-up, memory, cores, only")
    parser.add_argument("--only", default="", metavar="TEXT", help="jobs whose name holds this")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    args = parser.parse_args(arguments)
    # Imported here: the scan is drawn on a pinned core too.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    from scans import SCANS, SPACING_MM, WHY_LESS  # noqa: PLC0415

    if WHY_LESS:
        print(WHY_LESS)  # noqa: T201
    path = BASELINES / f"{cpu_model()}.json"
    if args.costs:
        store(path, {}, {}, measure_costs(SCANS, SPACING_MM))
        return 0
    if args.torch:
        from torch_rivals import TORCH_COMPARISONS  # noqa: PLC0415

        for job in TORCH_COMPARISONS:
            store(path, {}, {job.key: measure_rivals(job)}, {})
        return 0
    from comparisons import COMPARISONS  # noqa: PLC0415

    chosen = [job for job in COMPARISONS if args.only in job.key]
    before, jobs = load(path), {}
    for job in chosen:
        jobs[job.key] = measure_job(job, args.rounds)
        if args.update:  # at once: the whole takes a quarter of an hour
            store(path, {job.key: jobs[job.key]}, {job.key: measure_rivals(job)}, {})
    table, fine = compare(jobs, before)
    print(table)  # noqa: T201
    if args.update and not args.only:
        store(path, {}, {}, measure_costs(SCANS, SPACING_MM))
    return 0 if fine or args.update else 1


if __name__ == "__main__":
    sys.exit(main())
