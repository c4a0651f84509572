"""The least of all limits counts, in every layout of control groups."""

import os
import resource
from types import SimpleNamespace

import psutil
import pytest

from fastlung.plan import ec2
from fastlung.plan.machine import probe, probe_disk

GB = 10**9


@pytest.fixture(autouse=True)
def large_machine(monkeypatch):
    memory = SimpleNamespace(total=64 * GB, available=48 * GB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(12)))
    monkeypatch.setattr(
        resource, "getrlimit", lambda _which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    )


@pytest.fixture
def tree(tmp_path):
    def make(own, files):
        for name, text in {"proc/self/cgroup": own, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return make


def test_without_control_groups_the_machine_counts(tmp_path):
    machine = probe(tmp_path)
    assert (machine.cpus, machine.cpus_logical, machine.cpu_quota) == (12, 16, None)
    assert machine.cpus_origin == "CPUs that this process may run on"
    assert machine.memory_limit_bytes == 64 * GB
    assert machine.memory_available_bytes == 48 * GB
    assert machine.memory_origin == "memory of this machine"


def test_the_tightest_group_above_the_process_counts(tree):
    # Version 2: the process's own group is unlimited, the slice above it is not.
    top = "sys/fs/cgroup/batch.slice"
    root = tree(
        "0::/batch.slice/job.scope\n",
        {
            f"{top}/job.scope/memory.max": "max\n",
            f"{top}/job.scope/memory.current": f"{GB}\n",
            f"{top}/job.scope/cpu.max": "800000 100000\n",
            f"{top}/memory.max": f"{8 * GB}\n",
            f"{top}/memory.current": f"{5 * GB}\n",
            f"{top}/memory.stat": f"anon 1\ninactive_file {2 * GB}\nactive_file 7\n",
            f"{top}/cpu.max": "350000 100000\n",
        },
    )
    machine = probe(root)
    assert machine.memory_limit_bytes == 8 * GB
    assert machine.memory_available_bytes == 5 * GB  # 8 - (5 used - 2 cache)
    assert machine.memory_origin == "control group (memory.max)"
    assert (machine.cpu_quota, machine.cpus) == (3.5, 3)
    assert machine.cpus_origin == "CPU quota of the control group"


def test_a_container_that_sees_the_outer_path_still_finds_its_limit(tree):
    root = tree(
        "0::/../../docker/abc\n",
        {"sys/fs/cgroup/memory.max": f"{4 * GB}\n", "sys/fs/cgroup/cpu.max": "max 100000\n"},
    )
    machine = probe(root)
    assert machine.memory_limit_bytes == machine.memory_available_bytes == 4 * GB
    assert (machine.cpu_quota, machine.cpus) == (None, 12)


def test_version_one_with_its_own_words_for_no_limit(tree):
    own = "4:memory:/a/b\n2:cpu,cpuacct:/a\n9:name=systemd:/\n0::/\n"
    memory = "sys/fs/cgroup/memory"
    cpu = "sys/fs/cgroup/cpu,cpuacct/a"
    root = tree(
        own,
        {
            f"{memory}/memory.limit_in_bytes": "9223372036854771712\n",
            f"{memory}/a/memory.limit_in_bytes": f"{6 * GB}\n",
            f"{memory}/a/memory.usage_in_bytes": f"{GB}\n",
            f"{memory}/a/b/memory.limit_in_bytes": "9223372036854771712\n",
            f"{cpu}/cpu.cfs_quota_us": "50000\n",
            f"{cpu}/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
    )
    machine = probe(root)
    assert machine.memory_limit_bytes == 6 * GB
    assert machine.memory_available_bytes == 5 * GB
    assert machine.memory_origin == "control group (memory.limit_in_bytes)"
    assert (machine.cpu_quota, machine.cpus) == (0.5, 1)


def test_a_group_that_is_over_its_limit_leaves_nothing_not_less(tree):
    root = tree(
        "0::/\n",
        {"sys/fs/cgroup/memory.max": f"{GB}", "sys/fs/cgroup/memory.current": f"{2 * GB}"},
    )
    assert probe(root).memory_available_bytes == 0


def test_address_space_limit_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (20 * GB, 20 * GB))
    machine = probe(tmp_path)
    assert machine.memory_limit_bytes == 20 * GB
    assert 0 < machine.memory_available_bytes < 20 * GB
    assert machine.memory_origin == "resource limit (ulimit -v)"


@pytest.mark.parametrize("text", ["", "garbage\n", "0::\n", ":::\n", "0::/\n\0"])
def test_odd_files_are_no_limits(tree, text):
    root = tree(text, {"sys/fs/cgroup/memory.max": "?", "sys/fs/cgroup/cpu.max": "1 0"})
    machine = probe(root)
    assert (machine.cpus, machine.memory_limit_bytes) == (12, 64 * GB)


def link(name, speed, *, state="up", device=True):
    files = {f"sys/class/net/{name}/speed": speed, f"sys/class/net/{name}/operstate": state}
    return files | ({f"sys/class/net/{name}/device/vendor": "0x1"} if device else {})


def test_the_fastest_link_that_is_up_counts(tree):
    root = tree(
        "",
        link("eth0", "1000\n")
        | link("eth1", "25000\n")
        | link("eth2", "100000\n", state="down")
        | link("docker0", "400000\n", device=False)
        | link("lo", "", device=False),
    )
    machine = probe(root)
    assert machine.link_bytes_per_second == 25e9 / 8
    assert machine.link_origin == "link speed of eth1"


@pytest.mark.parametrize("speed", ["-1\n", "0\n", "", "fast\n"])
def test_a_virtual_card_that_knows_no_speed_leaves_it_unknown(tree, speed):
    machine = probe(tree("", link("eth0", speed)))
    assert machine.link_bytes_per_second is None
    assert "no network driver says" in machine.link_origin


def test_elsewhere_than_at_amazon_nobody_is_asked(tree, monkeypatch):
    monkeypatch.setattr(ec2, "metadata", lambda *_: pytest.fail("asked"))
    machine = probe(tree("", {"sys/class/dmi/id/sys_vendor": "QEMU\n"}))
    assert machine.instance_type is None
    assert "another maker" in machine.instance_origin


@pytest.mark.parametrize(
    ("rotational", "system", "kind"),
    [
        ("0", "ext4", "solid state"),
        ("1", "xfs", "spinning"),
        (None, "nfs4", "network"),
        (None, "tmpfs", "memory"),
        (None, "overlay", "unknown"),
    ],
)
def test_what_a_folder_lies_on(tree, tmp_path, rotational, system, kind):
    device = tmp_path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    files = {"proc/self/mountinfo": f"22 1 {number} / /data rw - {system} /dev/x rw\n"}
    if rotational is not None:
        files[f"sys/dev/block/{number}/queue/rotational"] = rotational
    disk = probe_disk(tmp_path / "not" / "there", tree("", files))
    assert disk.kind == kind
    assert disk.free_bytes > 0


def test_a_partition_takes_after_its_disk(tree, tmp_path):
    device = tmp_path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    root = tree("", {"sys/devices/disk/queue/rotational": "1", "sys/devices/disk/part/size": "9"})
    (root / "sys/dev/block").mkdir(parents=True)
    (root / "sys/dev/block" / number).symlink_to(root / "sys/devices/disk/part")
    assert probe_disk(tmp_path, root).kind == "spinning"
