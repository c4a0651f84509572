"""The fluid model: laws it must keep, and cases worked out by hand."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlung.plan.model import (
    Resources,
    ScanCost,
    Setting,
    mean_cost,
    predict,
    worker_bytes,
    worker_seconds,
)
from fastlung.plan.setting import best_setting

MB = 1_000_000
COST = ScanCost(
    compute_cpu_seconds=0.8,
    fetch_cpu_seconds=0.1,
    store_cpu_seconds=0.1,
    fetch_bytes=100 * MB,
    store_bytes=50 * MB,
    fetch_requests=200,
    store_turns=4,
    store_at_once=8,
    first_byte_seconds=0.03,
    connection_bytes_per_second=50 * MB,
    memory_bytes=500 * MB,
    source="network",
    sink="network",
)
ROOMY = Resources(cpus=8, memory_bytes=1e12)


def setting(workers=8, ahead_bytes=100 * MB, requests=16):
    return Setting(workers=workers, ahead_bytes=ahead_bytes, requests=requests)


def test_a_cycle_is_the_longest_of_the_three_where_all_overlap():
    # Reading: 200 * 0.03 s + 100 MB / 50 MB/s = 8 s of requests, 16 at once.
    assert worker_seconds(COST, setting()) == pytest.approx(0.8)
    assert worker_seconds(COST, setting(requests=8)) == pytest.approx(1.0)


def test_what_cannot_be_held_ahead_is_read_after_computing():
    # Half of 1 s of reading while computing, half after it.
    half = setting(ahead_bytes=50 * MB, requests=8)
    assert worker_seconds(COST, half) == pytest.approx(0.8 + 0.5)
    nothing = setting(ahead_bytes=0, requests=8)
    assert worker_seconds(COST, nothing) == pytest.approx(0.8 + 1.0)


def test_requests_beyond_the_objects_of_the_scans_in_hand_gain_nothing():
    few = replace(
        COST,
        fetch_requests=4,
        compute_cpu_seconds=0.01,
        first_byte_seconds=1.0,
        store_turns=1,
    )
    one_scan = worker_seconds(few, setting(requests=4))
    assert worker_seconds(few, setting(requests=64)) == one_scan
    assert worker_seconds(few, setting(requests=64, ahead_bytes=200 * MB)) < one_scan


@pytest.mark.parametrize(
    ("resources", "chosen", "rate", "binds"),
    [
        (ROOMY, setting(workers=8), 8.0, "cpu"),
        (ROOMY, setting(workers=16), 8.0, "cpu"),
        (ROOMY, setting(workers=4), 5.0, "workers"),
        (ROOMY, setting(workers=4, requests=4), 2.0, "latency"),
        (replace(ROOMY, network_in_bytes_per_second=300e6), setting(), 3.0, "network"),
        (replace(ROOMY, network_out_bytes_per_second=300e6), setting(), 6.0, "network"),
        (replace(ROOMY, disk_read_bytes_per_second=1e6), setting(), 8.0, "cpu"),
        (replace(ROOMY, memory_bytes=1.2e9), setting(workers=2), 2.0 / 0.8, "memory"),
        (replace(ROOMY, memory_bytes=1.2e9), setting(workers=8), 2.0 / 0.8, "memory"),
        (replace(ROOMY, cpus=2.5), setting(), 2.5, "cpu"),
    ],
)
def test_the_scarcest_resource_sets_the_rate(resources, chosen, rate, binds):
    prediction = predict(COST, resources, chosen)
    assert prediction.scans_per_second == pytest.approx(rate)
    assert prediction.binds == binds
    assert {"cpu": "CPUs bind", "workers": "number of workers binds"}.get(
        binds, binds
    ) in prediction.sentence


def test_a_local_disk_binds_like_a_network():
    local = replace(COST, source="disk", sink="disk")
    slow = replace(ROOMY, disk_read_bytes_per_second=200e6, disk_write_bytes_per_second=50e6)
    prediction = predict(local, slow, setting())
    assert (prediction.scans_per_second, prediction.binds) == (pytest.approx(1.0), "disk")
    assert prediction.utilisation["disk write"] == pytest.approx(1.0)
    assert prediction.utilisation["disk read"] == pytest.approx(0.5)


def test_threads_help_the_part_that_they_share():
    shared = replace(COST, parallel_share=0.75)
    chosen = setting(requests=64)
    assert worker_seconds(shared, chosen, threads=4) == pytest.approx(0.8 * (0.25 + 0.75 / 4))
    assert worker_seconds(COST, chosen, threads=4) == pytest.approx(0.8)


def test_more_workers_than_processors_where_reading_cannot_overlap():
    # One small object a scan: 2 s of waiting that no number of requests shortens.
    slow = replace(COST, fetch_requests=1, first_byte_seconds=2.0, fetch_bytes=MB, store_turns=1)
    chosen = best_setting(slow, ROOMY, most_workers=100)
    assert chosen.workers > 8
    assert predict(slow, ROOMY, chosen).binds == "cpu"


def test_as_many_workers_as_processors_where_computing_hides_all_transfers():
    chosen = best_setting(COST, ROOMY, most_workers=100)
    assert chosen.workers == 8
    assert predict(COST, ROOMY, chosen).scans_per_second == pytest.approx(8.0)


def test_no_more_workers_than_a_narrow_network_feeds():
    narrow = replace(ROOMY, network_in_bytes_per_second=100e6)
    chosen = best_setting(COST, narrow, most_workers=100)
    assert chosen.workers == 1
    assert predict(COST, narrow, chosen).binds == "network"


def test_memory_caps_workers_and_one_always_remains():
    tight = replace(ROOMY, memory_bytes=2e9)
    assert best_setting(COST, tight, most_workers=100).workers == 3
    assert best_setting(COST, replace(ROOMY, memory_bytes=1.0), most_workers=100).workers == 1


def test_a_mean_of_scans():
    assert mean_cost([COST, replace(COST, fetch_bytes=300 * MB)]) == replace(
        COST, fetch_bytes=200 * MB
    )


COSTS = st.builds(
    ScanCost,
    compute_cpu_seconds=st.floats(0.01, 100),
    fetch_cpu_seconds=st.floats(0, 5),
    store_cpu_seconds=st.floats(0, 5),
    fetch_bytes=st.floats(1e4, 1e10),
    store_bytes=st.floats(1e4, 1e10),
    fetch_requests=st.integers(1, 5000),
    store_turns=st.integers(1, 50),
    store_at_once=st.floats(1, 20),
    first_byte_seconds=st.floats(0, 2),
    connection_bytes_per_second=st.floats(1e5, 1e9),
    memory_bytes=st.floats(1e8, 1e11),
    source=st.sampled_from(["network", "disk"]),
    sink=st.sampled_from(["network", "disk"]),
    parallel_share=st.floats(0, 1),
)
MACHINES = st.builds(
    Resources,
    cpus=st.floats(0.25, 192),
    memory_bytes=st.floats(1e8, 1e12),
    network_in_bytes_per_second=st.none() | st.floats(1e6, 2e10),
    network_out_bytes_per_second=st.none() | st.floats(1e6, 2e10),
    disk_read_bytes_per_second=st.none() | st.floats(1e7, 1e10),
    disk_write_bytes_per_second=st.none() | st.floats(1e7, 1e10),
)
SETTINGS = st.builds(
    Setting,
    workers=st.integers(1, 400),
    ahead_bytes=st.integers(0, 10**10),
    requests=st.integers(1, 64),
)


@given(COSTS, MACHINES, SETTINGS)
def test_nothing_is_used_beyond_what_there_is(cost, resources, chosen):
    prediction = predict(cost, resources, chosen)
    assert prediction.scans_per_second > 0
    assert all(0 <= part <= 1 + 1e-9 for part in prediction.utilisation.values())


@given(COSTS, MACHINES, SETTINGS, st.sampled_from(["cpus", "memory_bytes"]))
def test_more_of_a_resource_is_never_slower(cost, resources, chosen, name):
    more = replace(resources, **{name: 2 * getattr(resources, name)})
    before = predict(cost, resources, chosen).scans_per_second
    assert predict(cost, more, chosen).scans_per_second >= before * (1 - 1e-9)


@given(COSTS, MACHINES, st.integers(1, 400))
def test_no_setting_of_a_grid_beats_the_best_by_more_than_a_trifle(cost, resources, most):
    best = predict(cost, resources, best_setting(cost, resources, most_workers=most))
    for workers in {1, 2, 3, most // 2 or 1, most}:
        for requests in (1, 4, 32):
            fixed = Setting(
                workers=min(workers, most), ahead_bytes=int(cost.fetch_bytes), requests=requests
            )
            if fixed.workers * worker_bytes(cost, fixed) <= resources.memory_bytes:
                rival = predict(cost, resources, fixed).scans_per_second
                assert rival <= best.scans_per_second * 1.011
