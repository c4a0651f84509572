"""
What kind of machine this is: processor, caches, vector instructions, kernel, packages.

Covers facts that a profile carries, none of which names a host, a user or a path. How much of the
machine a run may use is `fastlung.plan.machine`'s.
"""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from fastlung.measure.profile import MachineFacts
from fastlung.plan.machine import probe

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["cores_of", "cpu_order", "package_versions", "probe_hardware"]


CPUS = Path("sys/devices/system/cpu")

#: Instructions that LLVM makes use of in loops like ours, narrowest first.
VECTOR_FLAGS = ("sse4_2", "avx", "fma", "f16c", "avx2", "avx512f", "avx512bw", "avx512_vbmi2",
                "asimd", "neon", "asimdhp", "sve", "sve2")  # fmt: skip

#: Packages whose version bears on the speed.
PACKAGES = ("numpy", "numba", "llvmlite", "scipy", "pydicom", "imagecodecs", "isal", "obstore")

LONGEST = 200

SIZE_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


def probe_hardware(root: Path = Path("/"), ec2_type: str | None = None) -> MachineFacts:
    """
    Probe what kind of machine this is.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` are; another folder in tests.
    ec2_type : str, optional
        Type of EC2 instance, where it is known to be one.
    """
    machine = probe(root)
    usable = cpu_order(root)[: machine.cpus]
    info = _read(root / "proc/cpuinfo")
    return MachineFacts(
        architecture=platform.machine(),
        cpu_model=(_field(info, "model name") or _arm_model(info) or "unknown")[:LONGEST],
        vcpu=machine.cpus,
        cores=cores_of(usable, root),
        caches=_caches(root / CPUS / f"cpu{usable[0]}/cache"),
        simd=_simd(info),
        memory_bytes=machine.memory_limit_bytes,
        kernel=platform.release(),
        ec2_type=ec2_type,
    )


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that bear on the speed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # an optional one
    return found


def cpu_order(root: Path = Path("/")) -> tuple[int, ...]:
    """
    Hardware threads that this process may use, those of one core next to each other.

    So the first two of them are what an instance with two vCPUs has: on most EC2 types the two
    threads of one core.
    """
    allowed = os.sched_getaffinity(0)
    return tuple(sorted(allowed, key=lambda cpu: (min(_siblings(cpu, root)), cpu)))


def cores_of(cpus: Sequence[int], root: Path = Path("/")) -> int:
    """How many cores some hardware threads are on."""
    return len({min(_siblings(cpu, root)) for cpu in cpus})


def _siblings(cpu: int, root: Path) -> set[int]:
    text = _read(root / CPUS / f"cpu{cpu}/topology/thread_siblings_list").strip()
    found = {cpu}
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            found |= set(range(int(first), int(last or first) + 1))
    return found


def _caches(folder: Path) -> dict[str, int]:
    found = {}
    for index in sorted(folder.glob("index*")):
        level, kind = _read(index / "level").strip(), _read(index / "type").strip()
        size = re.fullmatch(r"(\d+)([KMG]?)", _read(index / "size").strip())
        if size and kind != "Instruction":
            name = f"L{level}{'d' if kind == 'Data' else ''}"
            found[name] = int(size[1]) * SIZE_UNITS[size[2]]
    return found


def _simd(info: str) -> list[str]:
    flags = set((_field(info, "flags") or _field(info, "Features")).split())
    return [flag for flag in VECTOR_FLAGS if flag in flags]


def _arm_model(info: str) -> str:
    """ARM kernels name implementer and part instead of a model."""
    implementer, part = _field(info, "CPU implementer"), _field(info, "CPU part")
    return f"implementer {implementer}, part {part}" if implementer else ""


def _field(info: str, name: str) -> str:
    found = re.search(rf"^{name}\s*:\s*(.*)$", info, re.MULTILINE)
    return found[1].strip() if found else ""


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", errors="replace")
    except OSError:
        return ""  # another kernel or architecture
