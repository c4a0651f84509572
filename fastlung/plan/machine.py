"""
What a run may use of this machine: processors, memory and disk, each the least of its limits.

Covers psutil, affinity, resource limits, control groups of both versions, the process's own
group and every group above it, the network link, and processors that idle. Decides nothing; see
`fastlung.plan.plan`.
"""

from __future__ import annotations

import os
import resource
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from fastlung.plan.ec2 import instance_type, is_amazon

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Disk",
    "IdleClock",
    "Machine",
    "Quota",
    "address_space_bytes",
    "available_memory",
    "probe",
    "probe_disk",
    "quotas",
]


CGROUP_ROOT = Path("sys/fs/cgroup")

#: Version 1 says "no limit" with the largest number of pages; no machine has a quarter of that.
NO_LIMIT_BYTES = 2**61

#: A network card counts in millions of bits a second.
MEGABIT_BYTES = 125_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """
    The part of this machine that a run may use. Holds no host, user or path.

    Attributes
    ----------
    cpus_logical, cpus_physical : int
        Hardware threads and cores.
    cpus_affinity : int
        Hardware threads this process may run on.
    cpu_quota : float or None
        Processors that the control groups allow; None where they set no quota.
    cpus : int
        Whole processors left by all of these; at least one.
    cpus_origin : str
        Which of them that is.
    memory_total_bytes : int
        Memory of the machine.
    memory_limit_bytes : int
        Memory this process and its children may ever hold.
    memory_available_bytes : int
        What of it is free now, caches counted as free.
    memory_origin : str
        What sets the memory limit.
    open_files : int or None
        Files and connections that one process may have open; None where there is no limit.
    link_bytes_per_second : float or None
        Speed of the fastest network link that is up; None where the driver does not say.
    link_origin : str
        Where that is known from, or why it is not.
    instance_type : str or None
        EC2 type; None elsewhere.
    instance_origin : str
        Where that is known from.
    cpu_model : str
        What the processor calls itself; empty where it does not.
    """

    cpus_logical: int
    cpus_physical: int
    cpus_affinity: int
    cpu_quota: float | None
    cpus: int
    cpus_origin: str
    memory_total_bytes: int
    memory_limit_bytes: int
    memory_available_bytes: int
    memory_origin: str
    open_files: int | None = None
    link_bytes_per_second: float | None = None
    link_origin: str = "not looked at"
    instance_type: str | None = None
    instance_origin: str = "not asked"
    cpu_model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBound:
    """One limit on memory: its size, what is free of it, and who set it."""

    limit_bytes: int
    available_bytes: int
    origin: str


def probe(root: Path = Path("/")) -> Machine:
    """
    Look at this machine.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` with the control groups are; another folder in tests.

    Returns
    -------
    Machine
        A snapshot; free memory changes by the second.
    """
    logical = os.cpu_count() or 1
    affinity = len(os.sched_getaffinity(0))
    groups = tuple(_groups(root))
    quotas = [quota for group in groups if (quota := _cpu_quota(group)) is not None]
    quota = min(quotas, default=None)
    cpus = affinity
    cpus_origin = "CPUs of this machine"
    if affinity < logical:
        cpus_origin = "CPUs that this process may run on"
    if quota is not None and quota < affinity:
        # Rounded down: one worker more than the quota gets all of them throttled.
        cpus, cpus_origin = max(1, int(quota)), "CPU quota of the control group"

    bounds = [*_memory_bounds(groups), *_address_space()]
    link, link_origin = _link(root)
    instance, instance_origin = _instance(root)
    return Machine(
        cpus_logical=logical,
        cpus_physical=_cores() or logical,
        cpus_affinity=affinity,
        cpu_quota=quota,
        cpus=cpus,
        cpus_origin=cpus_origin,
        memory_total_bytes=_memory_of_machine()[0],
        memory_limit_bytes=min(bound.limit_bytes for bound in bounds),
        memory_available_bytes=max(0, min(bound.available_bytes for bound in bounds)),
        memory_origin=min(bounds, key=lambda bound: bound.limit_bytes).origin,
        open_files=_open_files(),
        link_bytes_per_second=link,
        link_origin=link_origin,
        instance_type=instance,
        instance_origin=instance_origin,
        cpu_model=_cpu_model(root),
    )


def available_memory(root: Path = Path("/")) -> int:
    """
    Memory that is free now, for this process and its children, in bytes.

    Parameters
    ----------
    root : Path
        As for `probe`; this costs much less.
    """
    return max(0, min(bound.available_bytes for bound in _memory_bounds(tuple(_groups(root)))))


@dataclass(frozen=True, slots=True)
class Quota:
    """
    Processors that a control group allows.

    Attributes
    ----------
    cpus : float
        How many at once.
    group : Path
        Its folder.
    """

    cpus: float
    group: Path

    def used_seconds(self) -> float:
        """Processor seconds that everything in the group has used."""
        for line in _read(self.group / "cpu.stat").splitlines():
            name, _, value = line.partition(" ")
            if name == "usage_usec" and value.isdecimal():
                return int(value) / 1e6
        used = _read(self.group / "cpuacct.usage").strip()  # version 1
        return int(used) / 1e9 if used.isdecimal() else 0.0


def quotas(root: Path = Path("/")) -> list[Quota]:
    """
    Find the processor quotas of all control groups above this process.

    Parameters
    ----------
    root : Path
        As for `probe`.
    """
    found = ((group, _cpu_quota(group)) for group in _groups(root))
    return [Quota(cpus, group) for group, cpus in found if cpus is not None]


def _memory_of_machine() -> tuple[int, int]:
    """Bytes in all, and bytes that may be taken now."""
    try:
        memory = psutil.virtual_memory()
    except OSError:  # no /proc; the kernel is asked directly, and knows nothing of what it caches
        page_bytes = os.sysconf("SC_PAGE_SIZE")
        return page_bytes * os.sysconf("SC_PHYS_PAGES"), page_bytes * os.sysconf("SC_AVPHYS_PAGES")
    return memory.total, memory.available


def _cores() -> int | None:
    with suppress(OSError):
        found: int | None = psutil.cpu_count(logical=False)
        return found
    return None


def address_space_bytes() -> int | None:
    """Address space that this process has taken; None where there is no /proc to say so."""
    with suppress(OSError, psutil.Error):
        taken: int = psutil.Process().memory_info().vms
        return taken
    return None


def _memory_bounds(groups: tuple[Path, ...]) -> list[MemoryBound]:
    total_bytes, available_bytes = _memory_of_machine()
    return [
        MemoryBound(
            limit_bytes=total_bytes,
            available_bytes=available_bytes,
            origin="memory of this machine",
        ),
        *(bound for group in groups if (bound := _memory_bound(group)) is not None),
    ]


def _groups(root: Path) -> Iterator[Path]:
    """
    Folders of the control groups above this process, in every hierarchy, as far as visible.

    A container often sees the path that its group has outside, while the folder that is mounted
    inside is already the group itself: what does not exist is passed over, the top is always
    looked at.
    """
    mount = root / CGROUP_ROOT
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0":
            tops = [mount, mount / "unified"]  # version 2, alone or beside version 1
        elif {"memory", "cpu"} & set(controllers.split(",")):
            tops = [mount / controllers, *(mount / name for name in controllers.split(","))]
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for top in tops:
            for depth in range(len(parts), -1, -1):
                yield top.joinpath(*parts[:depth])


def _cpu_quota(group: Path) -> float | None:
    quota, _, period = _read(group / "cpu.max").strip().partition(" ")
    if not quota:
        quota = _read(group / "cpu.cfs_quota_us").strip()
        period = _read(group / "cpu.cfs_period_us").strip()
    if quota.isdecimal() and period.isdecimal() and int(period) > 0:  # not "max", not "-1"
        return int(quota) / int(period)
    return None


def _memory_bound(group: Path) -> MemoryBound | None:
    limit, used, origin = "memory.max", "memory.current", "control group (memory.max)"
    if not (group / limit).exists():
        limit, used = "memory.limit_in_bytes", "memory.usage_in_bytes"
        origin = "control group (memory.limit_in_bytes)"
    limit_text, used_text = _read(group / limit).strip(), _read(group / used).strip()
    if not limit_text.isdecimal() or int(limit_text) >= NO_LIMIT_BYTES:
        return None
    # File pages that were not used lately count as used, and are reclaimed on demand.
    reclaimable = 0
    for line in _read(group / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file") and value.isdecimal():
            reclaimable = int(value)
    used_bytes = int(used_text) - reclaimable if used_text.isdecimal() else 0
    limit_bytes = int(limit_text)
    return MemoryBound(
        limit_bytes=limit_bytes, available_bytes=limit_bytes - max(0, used_bytes), origin=origin
    )


def _address_space() -> list[MemoryBound]:
    limit, _hard = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return []
    return [
        MemoryBound(
            limit_bytes=limit,
            available_bytes=limit - (address_space_bytes() or 0),
            origin="resource limit (ulimit -v)",
        )
    ]


def _cpu_model(root: Path) -> str:
    for line in _read(root / "proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return " ".join(value.split())
    return ""  # ARM processors name numbers only


def _open_files() -> int | None:
    limit, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if limit == resource.RLIM_INFINITY else limit


def _link(root: Path) -> tuple[float | None, str]:
    """Speed of the fastest link that is up; bridges and tunnels have no device of their own."""
    folder = root / "sys/class/net"
    speeds = {}
    for card in sorted(folder.iterdir()) if folder.is_dir() else ():
        megabits = _read(card / "speed").strip()
        up = _read(card / "operstate").strip() in ("up", "unknown")
        # A virtual card often says -1, or more than any card has.
        if (card / "device").exists() and up and megabits.isdecimal() and int(megabits):
            speeds[card.name] = int(megabits)
    if not speeds:
        return None, "no network driver says how fast its link is"
    name = max(speeds, key=lambda name: speeds[name])
    return speeds[name] * MEGABIT_BYTES, f"link speed of {name}"


def _instance(root: Path) -> tuple[str | None, str]:
    if not is_amazon(root):
        return None, "the firmware names another maker than Amazon"
    found = instance_type(root)
    return found, "instance metadata service" if found else "the metadata service did not answer"


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", errors="replace")
    except OSError:
        return ""  # another kernel, another hierarchy, or not for us to see


#: File systems that are another machine's, or memory; on all others the device says what it is.
REMOTE = ("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "lustre", "beegfs", "gpfs", "ceph", "9p")

IN_MEMORY = ("tmpfs", "ramfs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """
    What a local folder lies on.

    Attributes
    ----------
    free_bytes : int
        What an ordinary user may still write.
    kind : str
        ``solid state``, ``spinning``, ``memory``, ``network`` or ``unknown``.
    origin : str
        What says so.
    """

    free_bytes: int
    kind: str
    origin: str


def probe_disk(folder: Path, root: Path = Path("/")) -> Disk:
    """
    Look at the disk below a folder, which need not exist yet.

    Parameters
    ----------
    folder : Path
        Any local path.
    root : Path
        Where ``proc`` and ``sys`` are; another folder in tests.
    """
    folder = folder.absolute()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    device = existing.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    kind, origin = _kind(number, root)
    return Disk(free_bytes=shutil.disk_usage(existing).free, kind=kind, origin=origin)


def _kind(number: str, root: Path) -> tuple[str, str]:
    system = _file_system(number, root)
    if system in IN_MEMORY:
        return "memory", f"file system {system}"
    if system in REMOTE:
        return "network", f"file system {system}"
    block = root / "sys/dev/block" / number
    for queue in (block / "queue", block.resolve().parent / "queue"):  # a partition has none
        try:
            rotational = (queue / "rotational").read_text("ascii").strip()
        except OSError:
            continue
        return ("spinning" if rotational == "1" else "solid state"), "the kernel (rotational)"
    return "unknown", f"file system {system or 'unknown'}, which says nothing of its disk"


def _file_system(number: str, root: Path) -> str:
    """Type of the file system of a device; its fields are those of proc(5), mountinfo."""
    try:
        lines = (root / "proc/self/mountinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        mount, _, rest = line.partition(" - ")
        if mount.split()[2:3] == [number]:
            return rest.split(" ", 1)[0]
    return ""


class IdleClock:
    """
    Counts idle processor seconds, of those that this process and its children may use.

    Seconds that workers used do not say it: on a shared machine other programs may use the rest.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` are mounted.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._quotas = quotas(root)
        self._before = self._look()
        self._seconds = 0.0

    def __call__(self) -> float:
        """Seconds since this was made; at most what the tightest quota leaves."""
        now = self._look()
        self._seconds += max(0.0, min(b - a for a, b in zip(self._before, now, strict=True)))
        self._before = now
        return self._seconds

    def _look(self) -> tuple[float, ...]:
        """Sums that grow by a second for each second of an idle processor, one for each bound."""
        own = os.sched_getaffinity(0)
        try:
            each = psutil.cpu_times(percpu=True)
        except OSError:
            each = []  # no /proc: none is known to be idle
        idle = sum(
            times.idle + getattr(times, "iowait", 0.0)
            for number, times in enumerate(each)
            if number in own
        )
        now = time.monotonic()
        return idle, *(quota.cpus * now - quota.used_seconds() for quota in self._quotas)
