"""Cohorts of scans and machines to simulate, and the least time that a run of them can take."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

from simulation.simulator import Ended, SimulatedMachine, SimulatedScan, Simulation

from fastlung.config import build_config, build_run_options
from fastlung.plan.costs import ASSUMED, Calibration, Routes, scan_cost
from fastlung.plan.machine import Machine
from fastlung.plan.model import Setting
from fastlung.plan.plan import memory_budget, plan_run
from fastlung.plan.sizes import ScanSize, computing_bytes, output_voxels
from fastlung.plan.tune import Tuner

GIB = 2**30
CONFIG = build_config()
OVER_S3 = Routes(source="network", sink="network")
#: Fixed settings that are tried: workers for each CPU, usual scans ahead, requests.
WORKERS, AHEAD, REQUESTS = (0.5, 0.75, 1, 1.25, 1.5, 2, 3, 4, 6), (1, 2), (4, 16, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One machine, one cohort, and the truth that the plan does not know."""

    cpus: int
    memory_bytes: int
    network_bytes_per_second: float
    cohort: str
    scans: int
    truth: Calibration
    seed: int = 1
    memory_factor: float = 0.9
    link_is_known: bool = False


def size_of(kind: str, random: random.Random) -> ScanSize:
    """A scan of a kind: 512 x 512 slices of some number and thickness, to 1 mm."""
    if kind == "nlst":
        slices, thickness, pixel = random.randint(120, 190), 2.0, random.uniform(0.6, 0.8)
    elif kind == "thin":
        slices, thickness, pixel = random.randint(250, 600), 0.75, random.uniform(0.6, 0.8)
    else:  # giant: 0.4 mm
        slices, thickness, pixel = random.randint(900, 1700), 0.4, random.uniform(0.6, 0.8)
    shape = (slices, 512, 512)
    return ScanSize(
        label=kind,
        group_bytes=slices * 530_000,
        acquired_voxels=slices * 512 * 512,
        output_voxels=output_voxels(shape, (thickness, pixel, pixel), CONFIG.spacing_mm),
        objects=slices,
    )


def sizes_of(case: Case) -> list[ScanSize]:
    """Sizes of a cohort: all alike, all thin, or one in thirty a giant."""
    chance = random.Random(case.seed)
    mixes = {"nlst": ["nlst"], "thin": ["thin"], "mixed": ["nlst"] * 20 + ["thin"] * 9 + ["giant"]}
    kinds = mixes[case.cohort]
    return [size_of(kinds[number % len(kinds)], chance) for number in range(case.scans)]


class Prepared:
    """What a run of a case needs: the plan of `fastlung`, and scans as they truly are."""

    def __init__(self, case: Case, calibration: Calibration = ASSUMED) -> None:
        self.case, self.calibration = case, calibration
        free = int(0.95 * case.memory_bytes)
        known = case.network_bytes_per_second if case.link_is_known else None
        self.machine = Machine(
            cpus_logical=case.cpus, cpus_physical=case.cpus, cpus_affinity=case.cpus,
            cpu_quota=None, cpus=case.cpus, cpus_origin="CPUs", memory_total_bytes=free,
            memory_limit_bytes=case.memory_bytes, memory_available_bytes=free,
            memory_origin="memory", link_bytes_per_second=known,
        )  # fmt: skip
        self.simulated = SimulatedMachine(
            cpus=case.cpus, free_bytes=free, network_bytes_per_second=case.network_bytes_per_second
        )
        options = build_run_options()
        self.budget_bytes, _ = memory_budget(self.machine, options)
        sizes = sizes_of(case)
        self.sizes = [size for size in sizes if computing_bytes(size, CONFIG) <= self.budget_bytes]
        self.plan = plan_run(
            self.sizes, self.machine, CONFIG, options, routes=OVER_S3, calibration=calibration
        )
        self.scans = [
            SimulatedScan(
                cost=scan_cost(size, CONFIG, OVER_S3, case.truth),
                need_bytes=computing_bytes(size, CONFIG),
                true_need_bytes=int(case.memory_factor * computing_bytes(size, CONFIG)),
            )
            for size in self.sizes
        ]

    def tuner(self) -> Tuner:
        return Tuner.of_plan(
            self.plan, self.sizes, self.machine, CONFIG, OVER_S3, self.calibration, len(self.sizes)
        )

    def planned_again(self, calibration: Calibration) -> Prepared:
        """The same machine and scans, with what a run has measured."""
        return Prepared(self.case, calibration)


def simulate(prepared: Prepared, tuner: Tuner | None, setting: Setting | None = None) -> Ended:
    """Run a case: by the plan or a fixed setting, with or without a tuner."""
    return Simulation(
        prepared.scans,
        prepared.simulated,
        setting or prepared.plan.setting,
        budget_bytes=prepared.budget_bytes,
        longest_chunk=prepared.plan.chunk_size,
        tuner=tuner,
    ).run()


def best_of_grid(prepared: Prepared) -> tuple[Setting, Ended]:
    """The best of all fixed settings of a grid, found by trying every one of them."""
    usual = sum(scan.source_bytes for scan in prepared.scans) // len(prepared.scans)
    workers = {max(1, round(part * prepared.case.cpus)) for part in WORKERS}
    settings = [
        Setting(workers=count, ahead_bytes=ahead * usual, requests=requests)
        for count, ahead, requests in itertools.product(sorted(workers), AHEAD, REQUESTS)
    ]
    ended = [(setting, simulate(prepared, None, setting)) for setting in settings]
    return min(ended, key=lambda pair: pair[1].seconds)


def least_seconds(prepared: Prepared) -> float:
    """
    Time that no scheduler can beat, from the scans alone.

    Every processor busy all the time, every link full all the time, every byte of the budget in
    use while scans compute, and the longest single scan.
    """
    scans, machine = prepared.scans, prepared.simulated
    processors = sum(
        scan.cost.compute_cpu_seconds + scan.cost.fetch_cpu_seconds + scan.cost.store_cpu_seconds
        for scan in scans
    )
    held = sum(scan.need_bytes * scan.cost.compute_cpu_seconds for scan in scans)
    longest = max(scan.cost.compute_cpu_seconds for scan in scans)
    return max(
        processors / machine.cpus,
        sum(scan.cost.fetch_bytes for scan in scans) / machine.network_bytes_per_second,
        sum(scan.cost.store_bytes for scan in scans) / machine.network_bytes_per_second,
        held / prepared.budget_bytes,
        longest,
    )
