"""
Real runs beside simulated ones: is the simulator right where it can be checked?

One worker is measured; from its processor and request seconds the simulator says how fast two
workers are, and one. Local disk to local disk, and through an S3 of half a second to the first
byte. ``nox -s simulate -- --validation`` prints both, with the load of the machine, which the
simulator takes for slower processors.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from null_s3 import Pace, null_s3_process
from simulation.simulator import SimulatedMachine, SimulatedScan, Simulation

from fastlung.config import StoreOptions, build_config, build_run_options
from fastlung.demo.cohort import COHORT, write_cohort
from fastlung.plan.costs import Calibration, Routes, route_of, scan_cost
from fastlung.plan.model import request_seconds
from fastlung.plan.sizes import ScanSize, computing_bytes, estimate_sizes
from fastlung.run.engine import run
from fastlung.run.events import RunPlanned, RunProgressed, ScanEnded
from fastlung.source.open import open_source

SHAPE, SPACING_MM = (120, 512, 512), (2.0, 0.7, 0.7)
SCANS, ROUNDS = 16, 3
SLOW = Pace(first_byte_seconds=0.5, connection_bytes_per_second=8e6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A run: scans a second between its first and its last commits, its plan, and its sums."""

    rate: float
    plan: object
    progress: object


def rate_of(ends, workers: int) -> float:
    """Scans a second once every worker has ended one, so that its start does not count."""
    ends = sorted(ends)
    return (len(ends) - workers) / (ends[-1] - ends[workers - 1])


def measure(source: str, sink: str, config, workers: int) -> Measured:
    """Carry out a run."""
    ends, seen = [], {}

    def hear(event) -> None:
        match event:
            case RunPlanned():
                seen["plan"] = event.plan
            case ScanEnded():
                ends.append(time.perf_counter())
            case RunProgressed():
                seen["progress"] = event.report.progress

    run(source, sink, config, build_run_options(workers=workers), hear)
    return Measured(rate=rate_of(ends, workers), plan=seen["plan"], progress=seen["progress"])


def calibrated(single: Measured, size: ScanSize, config, routes: Routes) -> Calibration:
    """
    What one worker tells of a scan's cost.

    Computing that took longer on the wall than in processor seconds shared its processor with other
    programs: for the simulator it was a slower one.
    """
    assumed, sums = scan_cost(size, config, routes), single.progress
    slower = max(1.0, sums.compute_seconds / sums.cpu_seconds)
    requests = 1.0
    if routes.source == "network":
        seconds = sums.fetch_seconds / sums.fetched_bytes * assumed.fetch_bytes
        requests = seconds / request_seconds(assumed, "fetch")
    return Calibration(
        cpu=slower * sums.cpu_seconds / sums.groups / assumed.cpu_seconds,
        requests=requests,
        stored=sums.stored_bytes / sums.groups / assumed.store_bytes,
        scans=sums.groups,
    )


def simulated(plan, size: ScanSize, config, routes: Routes, known: Calibration) -> float:
    """Scans a second of the same run in virtual time."""
    need = computing_bytes(size, config)
    scan = SimulatedScan(
        cost=scan_cost(size, config, routes, known), need_bytes=need, true_need_bytes=need
    )
    machine = SimulatedMachine(
        cpus=len(os.sched_getaffinity(0)), free_bytes=1e12, network_bytes_per_second=1e12
    )
    ended = Simulation(
        [scan] * SCANS, machine, plan.setting,
        budget_bytes=plan.memory_budget_bytes, longest_chunk=plan.chunk_size,
    ).run()  # fmt: skip
    return rate_of(ended.committed_at, plan.setting.workers)


def compare(name: str, source: str, sink, config, size: ScanSize) -> None:
    """Print measured and simulated rates for one and two workers, in interleaved rounds."""
    routes = Routes(source=route_of(source), sink=route_of(sink(0, 0)))
    rounds = [
        {workers: measure(source, sink(turn, workers), config, workers) for workers in (1, 2)}
        for turn in range(ROUNDS)
    ]
    middle = sorted(rounds, key=lambda measured: measured[1].rate)[ROUNDS // 2]
    known = calibrated(middle[1], size, config, routes)
    for workers in (1, 2):
        measured = statistics.median(round_[workers].rate for round_ in rounds)
        expected = simulated(middle[workers].plan, size, config, routes, known)
        sys.stdout.write(
            f"{name}, {workers} workers: measured {measured:.3f} scans/s, simulated {expected:.3f} "
            f"({measured / expected:.2f}); load {os.getloadavg()[0]:.1f}\n"
        )
        sys.stdout.flush()


def usual_size(source: str, config) -> ScanSize:
    """Size of the scans of a source, which are all alike."""
    places = open_source(source, StoreOptions())
    sizes = estimate_sizes(list(places.groups()), config, lambda _group: places.store)
    return sizes[0]


def main() -> None:
    """Compare both profiles."""
    config = build_config(names="folder", spacing_mm=1.5)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_cohort(root / "drawn", shape=SHAPE, spacing_mm=SPACING_MM, scans=COHORT[:1])
        drawn = next(path.parent for path in (root / "drawn").rglob("*.dcm"))
        for number in range(SCANS):
            shutil.copytree(drawn, root / "source" / f"{number:02}", copy_function=os.link)
        source = str(root / "source")
        size = usual_size(source, config)

        def fresh(turn: int, workers: int) -> str:
            return str(root / f"sink-{turn}-{workers}-{len(list(root.iterdir()))}")

        compare("local disk", source, fresh, config, size)
        with null_s3_process(drawn, copies=SCANS, pace=SLOW) as (endpoint, _pid):
            os.environ |= {
                "AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "nobody",
                "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_REGION": "us-east-1",
            }  # fmt: skip
            compare("slow S3", "s3://bucket/", fresh, config, size)


if __name__ == "__main__":
    main()
