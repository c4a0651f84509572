"""
Plan, dispatcher and tuner, driven through whole runs in virtual time.

A slice of the matrix runs here; ``nox -s simulate`` runs all of it and prints a table.
"""

import os
from dataclasses import replace

import pytest
from simulation.cohorts import (
    CONFIG,
    GIB,
    OVER_S3,
    Case,
    Prepared,
    best_of_grid,
    least_seconds,
    simulate,
)

from fastlung.config import build_run_options
from fastlung.plan.costs import Calibration
from fastlung.plan.model import Setting
from fastlung.plan.plan import plan_run
from fastlung.plan.setting import Interval, Progress

WHOLE = "FASTLUNG_SIMULATE" in os.environ
GBPS = 125e6
TRUE = Calibration()


def case(cpus=4, gib_each=4, gbps=10.0, cohort="nlst", *, each=60, truth=TRUE, **more):
    return Case(
        cpus=cpus,
        memory_bytes=max(2, cpus * gib_each) * GIB,
        network_bytes_per_second=gbps * GBPS,
        cohort=cohort,
        scans=max(200, each * cpus),
        truth=truth,
        **more,
    )


def each_of(cases):
    return pytest.mark.parametrize(
        "case",
        cases,
        ids=lambda c: (
            f"{c.cpus}cpu-{c.memory_bytes // GIB}GiB-"
            f"{c.network_bytes_per_second / GBPS:g}Gbps-{c.cohort}-x{c.truth.requests:g}"
        ),
    )


MACHINES = [
    case(cpus, gib, gbps * max(1, cpus / 8), cohort)
    for cpus in (1, 2, 8, 32, 96, 192)
    for gib in (2, 4)
    for gbps in (0.1, 1, 10, 25)
    for cohort in ("nlst", "thin", "mixed")
]
SLICE = [
    case(1, 8, 25), case(2, 8, 0.1), case(8, 4, 10), case(8, 4, 10, "mixed"),
    case(16, 4, 50, "thin"), case(64, 2, 100), case(192, 4, 100, each=50),
]  # fmt: skip


def reachable(case):
    """
    Part of the bound that is to be reached.

    The bound adds up the whole run. Where scans are very unlike, now one way of the network binds,
    now the other, now memory and now processors; and where memory has room for one scan at a time
    nothing can be read ahead. No scheduler reaches it then: the best of the grid does not, either.
    """
    if case.cohort == "nlst":
        return 0.95
    poor = case.memory_bytes < 3 * GIB * case.cpus
    if case.cohort == "thin":
        return 0.75 if poor else 0.95
    return 0.75 if poor else 0.84


@each_of(MACHINES if WHOLE else SLICE)
def test_nearly_as_fast_as_any_scheduler_could_be(case):
    prepared = Prepared(case)
    ended = simulate(prepared, prepared.tuner())
    assert ended.groups == len(prepared.scans)
    assert least_seconds(prepared) / ended.seconds >= reachable(case)
    assert ended.peak_bytes <= prepared.budget_bytes
    # What is begun last is small: the end is short beside the longest scan of all.
    longest = max(scan.cost.compute_cpu_seconds for scan in prepared.scans)
    assert ended.tail_seconds <= max(0.05 * ended.seconds, 6 * longest)


@each_of([case(2, 8, 25, each=150), case(4, 8, 1, "thin", truth=replace(TRUE, requests=0.3)),
          case(4, 4, 25, truth=replace(TRUE, requests=2.0, cpu=0.7), each=150)])  # fmt: skip
def test_tuning_is_as_good_as_the_best_fixed_setting(case):
    prepared = Prepared(case)
    tuned = simulate(prepared, prepared.tuner())
    _, fixed = best_of_grid(prepared)
    # A store twice as slow as assumed costs a short run a little more in its beginning.
    assert fixed.seconds / tuned.seconds >= (0.95 if case.truth.requests <= 1 else 0.94)


def test_what_a_first_run_learned_a_second_one_begins_with():
    # Requests that take six times as long as assumed.
    first = Prepared(case(4, 8, 25, truth=replace(TRUE, requests=6.0), each=100))
    tuner = first.tuner()
    learning = simulate(first, tuner)
    assert tuner.calibration.requests == pytest.approx(6.0, rel=0.15)
    assert tuner.calibration.cpu == pytest.approx(1.0, rel=0.2)
    second = first.planned_again(tuner.calibration)
    knowing = simulate(second, second.tuner())
    assert knowing.seconds < learning.seconds
    _, fixed = best_of_grid(second)
    assert fixed.seconds / knowing.seconds >= 0.95


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.15])
def test_memory_is_never_exceeded_however_wrong_the_prediction(factor):
    prepared = Prepared(case(8, 2, 25, "mixed", memory_factor=factor))
    ended = simulate(prepared, prepared.tuner())
    assert ended.peak_bytes <= prepared.simulated.free_bytes
    if factor <= 1:
        assert ended.peak_bytes <= prepared.budget_bytes


def test_a_run_is_the_same_every_time():
    prepared = Prepared(case(4, 4, 10, "mixed"))
    assert simulate(prepared, prepared.tuner()) == simulate(prepared, prepared.tuner())


def test_the_simulator_does_what_can_be_worked_out_by_hand():
    # One processor, all alike: nothing but computing and clients counts.
    prepared = Prepared(case(1, 8, 100, truth=replace(TRUE, requests=0.1)))
    scan = prepared.scans[0]
    alike = [scan] * 100
    prepared.scans = alike
    setting = Setting(workers=1, ahead_bytes=2 * scan.source_bytes, requests=64)
    ended = simulate(prepared, None, setting)
    assert ended.seconds == pytest.approx(100 * scan.cost.cpu_seconds, rel=0.03)
    # A narrow network: nothing but its bytes counts, the larger way of the two.
    prepared = Prepared(case(4, 8, 0.1))
    prepared.scans = alike
    ended = simulate(prepared, None, setting)
    count = 100 * max(scan.cost.fetch_bytes, scan.cost.store_bytes)
    assert ended.seconds == pytest.approx(count / (0.1 * GBPS), rel=0.03)
    # Nothing ahead, one request at a time: everything after one another, but for writing.
    prepared = Prepared(case(4, 8, 100))
    prepared.scans = alike
    ended = simulate(prepared, None, Setting(workers=1, ahead_bytes=0, requests=1))
    requests = scan.cost.fetch_requests * scan.cost.first_byte_seconds
    requests += scan.cost.fetch_bytes / scan.cost.connection_bytes_per_second
    assert ended.seconds == pytest.approx(
        100 * (requests + scan.cost.compute_cpu_seconds), rel=0.03
    )


def progress(**changed):
    usual = dict.fromkeys(Progress.__slots__, 0) | {
        "workers": 4, "memory_available_bytes": 10**11,
    }  # fmt: skip
    return Progress(**(usual | changed))


def a_tuner():
    prepared = Prepared(case(4, 8, 25))
    return prepared.tuner(), prepared


def test_scarce_memory_takes_workers_away_at_once_and_not_twice_for_one_cause():
    tuner, _ = a_tuner()
    tuner.observe(progress())
    before = tuner.setting.workers
    fewer = tuner.observe(progress(seconds=1, memory_available_bytes=10**6))
    assert fewer.workers < before
    assert "1.0 MB of memory are free" in tuner.why
    # Memory comes back only as scans end.
    assert tuner.observe(progress(seconds=2, memory_available_bytes=10**6)) == fewer
    later = progress(seconds=9, groups=50, memory_available_bytes=10**6)
    assert tuner.observe(later).workers < fewer.workers


def test_a_store_that_refuses_requests_gets_fewer():
    tuner, _ = a_tuner()
    tuner.observe(progress())
    before = tuner.setting.requests
    tuner.observe(progress(seconds=9, groups=40, throttled=100, committed_bytes=1))
    assert tuner.setting.requests == before // 2
    assert "refuses" in tuner.why


def test_nothing_measured_changes_nothing():
    tuner, prepared = a_tuner()
    for seconds in range(100):
        assert tuner.observe(progress(seconds=seconds)) == prepared.plan.setting
    assert tuner.calibration.scans == 0


def test_all_settings_stay_within_bounds():
    prepared = Prepared(case(1, 8, 25, truth=replace(TRUE, requests=30.0)))
    prepared.machine = replace(prepared.machine, open_files=130)
    ended = simulate(prepared, prepared.tuner())
    assert max(setting.workers for _, setting, _ in ended.settings) <= 8
    assert max(setting.requests for _, setting, _ in ended.settings[1:]) <= 30


def test_on_a_machine_that_others_use_nothing_is_tried():
    tuner, prepared = a_tuner()
    for groups in range(200):
        # A hundred times as slow as planned, and nothing of the processors is left to anybody.
        read = {"fetched_bytes": groups * 10**8, "fetch_seconds": groups * 900}
        worked = {"compute_seconds": groups, "cpu_seconds": groups / 10, "idle_cpu_seconds": 0.1}
        committed = {"groups": groups, "committed_bytes": groups * 10**8}
        tuner.observe(progress(seconds=groups, **read, **worked, **committed))
    assert tuner.setting == prepared.plan.setting
    assert tuner.calibration.requests == 1.0
    assert "other programs" in tuner.why


def test_a_full_link_is_not_taken_for_a_store_that_becomes_slower_and_slower():
    first = Prepared(case(4, 8, 1, "mixed", each=150))
    tuner = first.tuner()
    simulate(first, tuner)
    # 38 before requests that wait for one another were told from slow ones, and then 24 workers.
    assert tuner.calibration.requests < 12
    assert first.planned_again(tuner.calibration).plan.workers <= 8


def test_requests_wait_for_one_another_where_more_of_them_bring_no_more():
    def interval(at_once, fetched_bytes):
        return Interval(
            Progress.nothing(),
            progress(seconds=10, fetch_seconds=10 * at_once, fetched_bytes=fetched_bytes),
        )

    light = interval(20, 10**9)
    assert interval(40, 1.1 * 10**9).queued_behind(light, "fetch")
    assert interval(21, 10**9).queued_behind(light, "fetch")
    assert not interval(40, 1.9 * 10**9).queued_behind(light, "fetch")
    assert not light.queued_behind(interval(40, 1.1 * 10**9), "fetch")
    assert not light.queued_behind(interval(0, 0), "fetch")


def test_a_plan_for_such_a_machine_is_what_the_simulation_runs():
    prepared = Prepared(case(8, 4, 10))
    options = build_run_options()
    again = plan_run(prepared.sizes, prepared.machine, CONFIG, options, routes=OVER_S3)
    assert again == prepared.plan
