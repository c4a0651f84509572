"""Rates that are promised for instances nobody measured, held against a run in virtual time."""

import random
from dataclasses import replace

import pytest
from profiles import profile
from simulation.cohorts import OVER_S3, size_of
from simulation.simulator import SimulatedMachine, SimulatedScan, Simulation

from fastlung.config import Config, RunOptions
from fastlung.measure.cost import calibration_of, offers, representative
from fastlung.plan.catalogue import load_catalogue, machine_of, read_catalogue
from fastlung.plan.costs import scan_cost
from fastlung.plan.machine import probe
from fastlung.plan.plan import memory_budget, plan_run
from fastlung.plan.sizes import computing_bytes

CONFIG = Config()
#: Target of the cost model.
TOLERANCE = 0.15


def simulated_rate(name, sizes, calibration):
    """Scans a second of a long run on an instance, without its start and end."""
    machine = machine_of(load_catalogue()[name], probe())
    budget, _ = memory_budget(machine, RunOptions())
    plan = plan_run(
        representative(sizes), machine, CONFIG, RunOptions(), routes=OVER_S3,
        calibration=calibration, more_to_come=True,
    )  # fmt: skip
    simulated = SimulatedMachine(
        cpus=machine.cpus,
        free_bytes=budget,
        network_bytes_per_second=machine.link_bytes_per_second,
    )

    def seconds(count):
        scans = []
        for size in sizes[:count]:
            need = computing_bytes(size, CONFIG)
            cost = scan_cost(size, CONFIG, OVER_S3, calibration)
            scans.append(SimulatedScan(cost=cost, need_bytes=need, true_need_bytes=need))
        return Simulation(scans, simulated, plan.setting, budget_bytes=budget).run().seconds

    few, many = 10 * plan.workers, 30 * plan.workers
    return (many - few) / (seconds(many) - seconds(few))


@pytest.mark.parametrize(
    ("name", "cpu_seconds"),
    [
        ("c7g.xlarge", 0.45),
        ("c7g.xlarge", 4.0),
        ("c8g.4xlarge", 0.45),
        ("c8g.4xlarge", 4.0),
        ("m7g.16xlarge", 4.0),
        ("r8g.16xlarge", 0.45),
        ("c8g.48xlarge", 4.0),
    ],
)
def test_a_promised_rate_is_within_reach_of_a_simulated_run(
    name, cpu_seconds, monkeypatch, tmp_path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    draw = random.Random(5)
    sizes = [size_of("nlst", draw) for _ in range(30 * 200)]
    measured = profile(cpu_seconds=cpu_seconds)
    calibration = calibration_of(measured, measured.whole, CONFIG)
    catalogue = read_catalogue()
    catalogue = replace(catalogue, instances={name: catalogue.instances[name]})
    (offer,) = offers(sizes, CONFIG, OVER_S3, catalogue, [measured]).offers
    rate = simulated_rate(name, sizes, calibration)
    assert offer.scans_per_second == pytest.approx(rate, rel=TOLERANCE)
