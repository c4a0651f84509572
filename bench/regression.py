"""
The gate against slow-downs that noise cannot fool.

Each job and its yardstick run in turn, ours, yardstick, ours, ..., in one process on one pinned
core; what counts is the ratio of each pair, yardstick over ours. Stored in ``bench/baselines`` by
CPU model, with versions. A job fails if the median ratio has dropped by more than a fifth and the
whole interval of the medians (bootstrap, 95 %) lies below what that allows.

    python bench/regression.py            compare with the baseline of this CPU
    python bench/regression.py --update   measure and store
"""

import argparse
import datetime as dt
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

BASELINES = Path(__file__).parent / "baselines"
FORMAT = 1
ROUNDS = 15
#: A drop of the median ratio by more than this part fails.
TOLERATED = 0.20
PACKAGES = ("fastlung", "numpy", "numba", "scipy", "pydicom")


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
    seconds : float
        Median CPU seconds of ours, for the record only.
    """

    median: float
    low: float
    high: float
    seconds: float


def measure(
    ours: Callable[[], object], yardstick: Callable[[], object], rounds: int = ROUNDS
) -> Measured:
    """Time a job against its yardstick in interleaved rounds, by CPU time."""
    ours(), yardstick()  # compiles, loads and caches
    times = np.array([(_seconds(ours), _seconds(yardstick)) for _ in range(rounds)])
    ratios = times[:, 1] / times[:, 0]
    drawn = np.random.default_rng(0).choice(ratios, (2000, rounds))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return Measured(
        median=float(np.median(ratios)),
        low=float(low),
        high=float(high),
        seconds=float(np.median(times[:, 0])),
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


def load(path: Path) -> dict[str, Measured]:
    """Stored ratios by job; empty where there is no baseline for this CPU."""
    if not path.exists():
        return {}
    stored = json.loads(path.read_text())
    if stored["format"] != FORMAT:
        return {}
    return {name: Measured(**job) for name, job in stored["jobs"].items()}


def store(path: Path, jobs: dict[str, Measured], rivals: dict[str, dict[str, float]]) -> None:
    """Write a baseline, with what it was measured on."""
    path.parent.mkdir(exist_ok=True)
    about = {
        "format": FORMAT,
        "cpu": cpu_model(),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "jobs": {name: asdict(job) for name, job in jobs.items()},
        "rivals": rivals,
    }
    path.write_text(json.dumps(about, indent=1, sort_keys=True) + "\n")


def compare(jobs: dict[str, Measured], before: dict[str, Measured]) -> tuple[str, bool]:
    """Table of now and before, and whether nothing is slower."""
    lines = [f"{'job':36} {'ratio':>8} {'interval':>17} {'baseline':>9}  verdict"]
    fine = True
    for name, now in jobs.items():
        stored = before.get(name)
        slower = stored is not None and is_slower(now, stored)
        fine &= not slower
        verdict = "SLOWER" if slower else "ok" if stored else "no baseline"
        was = f"{stored.median:9.2f}" if stored else "        -"
        interval = f"{now.low:7.2f} - {now.high:7.2f}"
        lines.append(f"{name:36} {now.median:8.2f} {interval} {was}  {verdict}")
    return "\n".join(lines), fine


def measure_rivals(jobs: Sequence, rounds: int) -> dict[str, dict[str, float]]:
    """How many times slower each rival is, by job: median of paired rounds, after `agree`."""
    ratios: dict[str, dict[str, float]] = {}
    for job in jobs:
        ours = job.ours()
        for name, rival in job.rivals.items():
            job.agree(ours, rival())
            ratios.setdefault(job.name, {})[name] = measure(job.ours, rival, rounds).median
    return ratios


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, compare or store; 1 if anything is slower than its baseline."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--update", action="store_true", help="store what is measured")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    args = parser.parse_args(arguments)
    # Imported here: the scan is drawn on a pinned core too.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    from comparisons import COMPARISONS  # noqa: PLC0415

    path = BASELINES / f"{cpu_model()}.json"
    before = load(path)
    jobs = {job.name: measure(job.ours, job.yardstick, args.rounds) for job in COMPARISONS}
    table, fine = compare(jobs, before)
    print(table)  # noqa: T201
    if args.update:
        store(path, jobs, measure_rivals(COMPARISONS, rounds=3))
        return 0
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
