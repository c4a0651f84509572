"""The plan's arithmetic obeys its laws for any scans on any machine."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import GB, machine

from fastlung.config import build_config, build_run_options
from fastlung.errors import InsufficientMemoryError
from fastlung.plan.costs import Calibration, Routes, scan_cost, store_requests
from fastlung.plan.model import request_seconds
from fastlung.plan.plan import plan_run
from fastlung.plan.sizes import ScanSize, computing_bytes, output_bytes, output_voxels, scan_stages

CONFIG = build_config()


def scan(slices=180, *, label="a"):
    """A scan of the usual kind: 512 x 512 slices 1.8 mm apart, to 1 mm."""
    shape = (slices, 512, 512)
    return ScanSize(
        label=label,
        group_bytes=slices * 512 * 512 * 2,
        acquired_voxels=slices * 512 * 512,
        output_voxels=output_voxels(shape, (1.8, 0.68, 0.68), (1.0, 1.0, 1.0)),
    )


sizes = st.lists(st.integers(1, 3000).map(scan), min_size=1, max_size=40)

memories = st.integers(GB, 200 * GB)

machines = st.builds(machine, cpus=st.integers(1, 64), available=memories)

options = st.builds(
    build_run_options,
    workers=st.none() | st.integers(0, 64),
    chunk_size=st.none() | st.integers(1, 20),
    memory_limit_bytes=st.none() | memories,
)


def plan_or_none(*args):
    try:
        return plan_run(*args)
    except InsufficientMemoryError:
        return None


@given(sizes=sizes, machine=machines, options=options)
def test_a_plan_stays_within_every_bound(sizes, machine, options):
    plan = plan_or_none(sizes, machine, CONFIG, options)
    needs = [computing_bytes(size, CONFIG) for size in sizes]
    if plan is None:
        assert min(needs) > machine.memory_available_bytes * 0.8 - 550e6 or (
            options.memory_limit_bytes is not None and min(needs) > options.memory_limit_bytes
        )
        return
    assert plan.memory_budget_bytes <= machine.memory_limit_bytes
    assert plan.worker_bytes <= plan.memory_budget_bytes
    assert max(plan.workers, 1) * plan.share_bytes <= plan.memory_budget_bytes
    assert plan.workers <= (machine.cpus if options.workers is None else options.workers)
    assert plan.workers <= len(sizes)
    assert (plan.workers == 0) == (options.workers == 0)
    assert 1 <= plan.chunk_size <= max(8, options.chunk_size or 0)
    assert all(isinstance(reason, str) and reason for reason in plan.reasons)
    shared = sum(need <= plan.share_bytes for need in needs)
    fitting = sum(need <= plan.memory_budget_bytes for need in needs)
    assert plan.alone == fitting - shared
    assert shared > 0


@given(size=st.integers(1, 3000).map(scan), count=st.integers(1, 40), machine=machines,
       more=st.integers(0, 100 * GB))  # fmt: skip
def test_more_memory_never_means_fewer_workers_for_like_scans(size, count, machine, more):
    def workers(limit):
        options = build_run_options(memory_limit_bytes=limit)
        plan = plan_or_none([size] * count, machine, CONFIG, options)
        return 0 if plan is None else plan.workers

    limit = machine.memory_limit_bytes // 2
    assert workers(limit) <= workers(min(limit + more, machine.memory_limit_bytes))


@given(sizes=sizes, machine=machines, more=st.integers(0, 100 * GB))
def test_more_memory_never_makes_a_run_slower(sizes, machine, more):
    limit = machine.memory_limit_bytes // 2
    little = plan_or_none(sizes, machine, CONFIG, build_run_options(memory_limit_bytes=limit))
    if little is None or max(computing_bytes(size, CONFIG) for size in sizes) > limit:
        return  # with more memory there would be more to do
    limit = min(limit + more, machine.memory_limit_bytes)
    much = plan_run(sizes, machine, CONFIG, build_run_options(memory_limit_bytes=limit))
    assert (
        much.scans_per_second >= little.scans_per_second * 0.989
    )  # equal within the model's grain


def test_cpus_limit_where_memory_is_plenty():
    plan = plan_run([scan()] * 1000, machine(available=64 * GB), CONFIG, build_run_options())
    assert (plan.workers, plan.chunk_size, plan.limit) == (8, 8, "cpus")
    assert any("8 workers on 8 CPUs of this machine" in reason for reason in plan.reasons)


def test_memory_limits_where_it_is_scarce():
    plan = plan_run([scan()] * 1000, machine(available=6 * GB), CONFIG, build_run_options())
    assert 0 < plan.workers < 8
    assert plan.limit == "memory"
    assert any("memory has room for no more" in reason for reason in plan.reasons)


def test_few_groups_mean_few_workers_and_short_chunks():
    plan = plan_run([scan()] * 3, machine(), CONFIG, build_run_options())
    assert (plan.workers, plan.chunk_size, plan.limit) == (3, 1, "groups")


def test_one_giant_does_not_cost_all_others_their_workers():
    cohort = [scan(100)] * 200 + [scan(4000, label="giant")]
    plan = plan_run(cohort, machine(available=24 * GB), CONFIG, build_run_options())
    assert plan.workers == 8
    assert plan.alone == 1
    assert computing_bytes(cohort[-1], CONFIG) > plan.share_bytes
    assert "larger scans that wait until memory is free for them: 1" in plan.reasons


def test_no_memory_for_anything_names_scan_need_and_limit():
    with pytest.raises(InsufficientMemoryError, match=r"a: .* needs \d.* GB, and 500.0 MB may"):
        plan_run([scan(900)], machine(), CONFIG, build_run_options(memory_limit_bytes=500_000_000))


def test_nothing_to_do_needs_no_worker():
    assert plan_run([], machine(), CONFIG, build_run_options()).workers == 0


def test_every_step_holds_what_it_must():
    stages = scan_stages(scan(), build_config("tutorial", format="nifti"))
    acquired, out = scan().acquired_voxels, scan().output_voxels
    assert stages["hu"] > 2 * (2 * acquired) + 5 * out  # words, HU, and the last scan's outputs
    assert stages["normalise"] > 2 * acquired + 2 * out + out + 4 * out + 5 * out
    assert stages["encode"] > 3 * 5 * out


def test_output_voxels_are_exact_beyond_any_machine_integer():
    assert output_voxels((10, 100, 100), (2.0, 0.5, 0.5), (1.0, 1.0, 1.0)) == 20 * 50 * 50
    assert output_voxels((1, 1, 1), (0.1, 0.1, 0.1), (20.0, 20.0, 20.0)) == 1
    assert output_voxels((10**9, 10**9, 10**9), (1.0, 1.0, 1.0), (0.5, 1.0, 1.0)) == 2 * 10**27


def planned(sizes, *, cpus=8, options=None, **more):
    return plan_run(
        sizes, machine(cpus=cpus, available=64 * GB), CONFIG, options or build_run_options(), **more
    )


OVER_S3 = Routes(source="network", sink="network")


def test_a_folder_without_ct_is_not_the_smallest_scan():
    rubbish = replace(scan(1, label="notes"), is_scan=False)
    limit = build_run_options(memory_limit_bytes=500_000_000)
    with pytest.raises(InsufficientMemoryError, match=r"big: the smallest scan needs"):
        planned([rubbish, scan(900, label="big")], options=limit)
    assert planned([rubbish]).workers == 1  # it is still looked into


def test_fewer_scans_than_processors_get_threads():
    plan = planned([scan()] * 2, cpus=8)
    assert (plan.workers, plan.threads) == (2, 4)
    assert any("4 threads a scan" in reason for reason in plan.reasons)
    assert planned([scan()] * 2, cpus=3).threads == 1
    assert planned([scan()] * 2, cpus=8, more_to_come=True).threads == 1


def test_what_is_known_so_far_is_enough_to_begin_with():
    plan = planned([scan()] * 3, more_to_come=True)
    assert (plan.workers, plan.chunk_size, plan.limit) == (8, 8, "cpus")


def test_more_workers_than_processors_where_reading_is_slow_and_cannot_be_split():
    # One object of 94 MB a scan at 6 MB/s: 15 s of reading beside 0.4 s of computing.
    slow = Calibration(requests=10.0, scans=50)
    plan = planned([scan()] * 1000, routes=OVER_S3, calibration=slow)
    assert plan.workers > 3 * 8
    assert any("measured on 50 scans" in reason for reason in plan.reasons)
    assert planned([scan()] * 1000, routes=OVER_S3).requests > 1
    # Few scans: with more workers all would read at first and all write at last.
    assert planned([scan()] * 40, routes=OVER_S3, calibration=slow).workers == 10
    assert planned([scan()] * 9, routes=OVER_S3, calibration=slow).workers == 8


def test_a_network_that_was_found_narrow_binds():
    narrow = Calibration(network_bytes_per_second=100e6, scans=50)
    plan = planned([scan()] * 1000, routes=OVER_S3, calibration=narrow)
    assert plan.limit == "network"
    assert plan.workers < 8
    # Results are larger than what they are made from: they bind.
    assert plan.scans_per_second == pytest.approx(100e6 / output_bytes(scan(), CONFIG))


def test_expected_time_is_that_of_the_processors_where_nothing_else_binds():
    slower = planned([scan()] * 1000, calibration=Calibration(cpu=2.0, scans=9))
    assert slower.scans_per_second == pytest.approx(planned([scan()] * 1000).scans_per_second / 2)


def test_few_open_files_mean_few_requests():
    few = replace(machine(available=64 * GB), open_files=110)
    plan = plan_run([scan()] * 99, few, CONFIG, build_run_options(), routes=OVER_S3)
    assert plan.requests <= 10


def test_a_quota_of_half_a_processor_more_counts_as_such():
    quota = replace(machine(cpus=3, available=64 * GB), cpus_affinity=8, cpu_quota=3.5)
    plan = plan_run([scan()] * 99, quota, CONFIG, build_run_options())
    assert plan.scans_per_second == pytest.approx(
        planned([scan()] * 99, cpus=7).scans_per_second / 2
    )


def test_writing_a_chest_to_s3_is_counted_in_parts_side_by_side():
    chest = ScanSize(
        label="chest", group_bytes=65_000_000, acquired_voxels=32_000_000, output_voxels=31_000_000
    )
    cost = scan_cost(chest, CONFIG, OVER_S3)
    # Image of 62 MB in eight parts at once, mask of 31 MB beside it in four; beginning of parts,
    # parts and their end follow each other. Names and records hold up no other scan.
    alone = 3 * cost.first_byte_seconds + 62e6 / 8 / cost.connection_bytes_per_second
    assert request_seconds(cost, "store") == pytest.approx(alone)
    assert store_requests(93e6, CONFIG) == 4 + (8 + 2) + (4 + 2)
    assert store_requests(20e6, CONFIG) == 6
