"""What nobody used of the processors that a run may have."""

import os
from types import SimpleNamespace

import psutil
import pytest

from fastlung.plan import machine as idle_module
from fastlung.plan.machine import IdleClock


@pytest.fixture
def system(monkeypatch):
    """Two own processors of three, whose idle seconds a test sets, and a clock."""
    now = SimpleNamespace(seconds=100.0, idle=[50.0, 60.0, 70.0], iowait=0.0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2})
    monkeypatch.setattr(
        psutil,
        "cpu_times",
        lambda **_: [SimpleNamespace(idle=seconds, iowait=now.iowait) for seconds in now.idle],
    )
    monkeypatch.setattr(idle_module.time, "monotonic", lambda: now.seconds)
    return now


def test_own_processors_count_and_waiting_for_a_disk_is_idle(system, tmp_path):
    clock = IdleClock(tmp_path)
    system.idle, system.iowait = [51.0, 99.0, 70.5], 0.25
    assert clock() == pytest.approx(2.0)
    system.idle = [52.0, 99.0, 70.5]
    assert clock() == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("quota", "stat", "before", "after"),
    [
        ({"cpu.max": "50000 100000"}, "cpu.stat", "usage_usec 1000000\n", "usage_usec 4000000\n"),
        (
            {"cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000"},
            "cpuacct.usage",
            "1000000000\n",
            "4000000000\n",
        ),
    ],
)
def test_a_quota_leaves_no_more_than_its_own(system, tmp_path, quota, stat, before, after):
    name = "0::/a" if stat == "cpu.stat" else "3:cpu,cpuacct:/a"
    group = tmp_path / "sys/fs/cgroup" / ("a" if stat == "cpu.stat" else "cpu,cpuacct/a")
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(name + "\n")
    for file, text in {**quota, stat: before}.items():
        (group / file).write_text(text)
    clock = IdleClock(tmp_path)
    # Ten seconds: the host idles all the time, of half a processor three seconds were used.
    system.seconds, system.idle = 110.0, [60.0, 60.0, 80.0]
    (group / stat).write_text(after)
    assert clock() == pytest.approx(2.0)
