"""Cohorts of scans and machines to simulate, and the least time that a run of them can take."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from simulation.simulator import SimulatedMachine, SimulatedScan

from fastlung.config import build_config, build_run_options
from fastlung.run.calibration import Calibration, Routes, scan_cost
from fastlung.run.machine import Machine
from fastlung.run.need import ScanSize, computing_bytes, output_voxels
from fastlung.run.plan import memory_budget, plan_run, resources_of
from fastlung.run.tune import Tuner

GIB = 2**30
CONFIG = build_config()
OVER_S3 = Routes(source="network", sink="network")


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

    def __init__(self, case: Case) -> None:
        self.case = case
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
        self.sizes = [one for one in sizes if computing_bytes(one, CONFIG) <= self.budget_bytes]
        self.plan = plan_run(self.sizes, self.machine, CONFIG, options, routes=OVER_S3)
        self.scans = [
            SimulatedScan(
                cost=scan_cost(one, CONFIG, OVER_S3, case.truth),
                need_bytes=computing_bytes(one, CONFIG),
                true_need_bytes=int(case.memory_factor * computing_bytes(one, CONFIG)),
            )
            for one in self.sizes
        ]

    def tuner(self) -> Tuner:
        return Tuner.of_plan(
            self.plan, self.sizes, CONFIG, OVER_S3, resources_of(self.machine, self.budget_bytes)
        )


def least_seconds(prepared: Prepared) -> float:
    """
    Time that no scheduler can beat, from the scans alone.

    Every processor busy all the time, every link full all the time, every byte of the budget in
    use while scans compute, and the longest single scan.
    """
    scans, machine = prepared.scans, prepared.simulated
    processors = sum(
        one.cost.compute_cpu_seconds + one.cost.fetch_cpu_seconds + one.cost.store_cpu_seconds
        for one in scans
    )
    held = sum(one.need_bytes * one.cost.compute_cpu_seconds for one in scans)
    return max(
        processors / machine.cpus,
        sum(one.cost.fetch_bytes for one in scans) / machine.network_bytes_per_second,
        sum(one.cost.store_bytes for one in scans) / machine.network_bytes_per_second,
        held / prepared.budget_bytes,
        max(one.cost.compute_cpu_seconds for one in scans),
    )


def with_truth(case: Case, **truth: float) -> Case:
    return replace(case, truth=replace(case.truth, **truth))
