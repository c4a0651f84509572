"""What kind of disk a local folder lies on, and what is free of it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Disk", "probe_disk"]

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
    existing = next(one for one in (folder, *folder.parents) if one.exists())
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
