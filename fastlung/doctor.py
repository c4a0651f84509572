"""
What fastlung finds on this machine: processors, memory, decoders, caches, identity, a sink.

Every fact has its origin. A run needs nothing of this, and no request may take longer than a few
seconds.
"""

from __future__ import annotations

import os
import platform
import secrets
import threading
import zlib
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import imagecodecs
from botocore.config import Config as ClientConfig

from fastlung.config import Config, StoreOptions
from fastlung.dicom.codecs import CODECS, is_installed
from fastlung.errors import FastlungError
from fastlung.kernels.jit import kernel_place
from fastlung.plan.machine import probe, probe_disk
from fastlung.plan.sizes import ScanSize, output_voxels, scan_bytes
from fastlung.sink.contents import RECORDED_PACKAGES
from fastlung.storage import LocalStore, open_store
from fastlung.text import byte_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastlung.plan.machine import Machine

__all__ = ["Fact", "examine"]

#: Seconds until the request for our AWS identity counts as unanswered.
IDENTITY_SECONDS = 6.0
#: A usual chest: slices, rows, columns, and their distances in millimetres.
USUAL_SHAPE, USUAL_SPACING_MM = (300, 512, 512), (1.25, 0.7, 0.7)
#: Less free space than this stops most runs at once.
LITTLE_SPACE_BYTES = 2 * 10**9
#: A worker may have 64 requests under way, beside its files, pipes and libraries.
FEW_OPEN_FILES = 256

UNCOMPRESSED = {
    "1.2.840.10008.1.2": "Implicit VR Little Endian",
    "1.2.840.10008.1.2.1": "Explicit VR Little Endian",
    "1.2.840.10008.1.2.1.99": "Deflated Explicit VR Little Endian",
    "1.2.840.10008.1.2.2": "Explicit VR Big Endian",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """
    One thing that was found.

    Attributes
    ----------
    topic : str
        ``processors``, ``memory``, ``network``, ``decoders``, ``kernels``, ``versions``, ``aws`` or
        ``sink``.
    name : str
        What it is.
    value : str or int or float or None
        What was found; bytes as a number.
    origin : str
        Where it comes from.
    problem : str
        What is wrong and what to do; empty if all is well.
    """

    topic: str
    name: str
    value: str | int | float | None
    origin: str = ""
    problem: str = ""


def examine(sink: str | None = None, storage: StoreOptions | None = None) -> tuple[Fact, ...]:
    """
    Look at everything a run depends on.

    Parameters
    ----------
    sink : str, optional
        A place for results that is to be tried out. An object is written there and removed.
    storage : StoreOptions, optional
        How s3:// is reached.

    Returns
    -------
    tuple of Fact
        In order of their topics.
    """
    machine = probe()
    facts = [*_processors(machine), *_memory(machine), *_network(machine)]
    facts += [*_decoders(), *_kernels(), *_versions(), _aws()]
    return tuple(facts if sink is None else [*facts, *_sink(sink, storage or StoreOptions())])


def _processors(machine: Machine) -> Iterator[Fact]:
    topic = "processors"
    yield Fact(topic=topic, name="model", value=machine.cpu_model or None, origin="/proc/cpuinfo")
    yield Fact(topic=topic, name="usable", value=machine.cpus, origin=machine.cpus_origin)
    yield Fact(topic=topic, name="hardware threads", value=machine.cpus_logical, origin="kernel")
    yield Fact(topic=topic, name="cores", value=machine.cpus_physical, origin="/proc/cpuinfo")
    yield Fact(
        topic=topic, name="allowed by affinity", value=machine.cpus_affinity, origin="scheduler"
    )
    yield Fact(
        topic=topic,
        name="allowed by quota",
        value="no quota" if machine.cpu_quota is None else machine.cpu_quota,
        origin="control groups (cpu.max, cpu.cfs_quota_us)",
    )


def _memory(machine: Machine) -> Iterator[Fact]:
    topic, total = "memory", machine.memory_total_bytes
    yield Fact(topic=topic, name="of this machine, bytes", value=total, origin="/proc/meminfo")
    yield Fact(
        topic=topic,
        name="allowed, bytes",
        value=machine.memory_limit_bytes,
        origin=machine.memory_origin,
    )
    free = machine.memory_available_bytes
    config = Config()
    usual = ScanSize(
        label="",
        group_bytes=2 * USUAL_SHAPE[0] * USUAL_SHAPE[1] * USUAL_SHAPE[2],
        acquired_voxels=USUAL_SHAPE[0] * USUAL_SHAPE[1] * USUAL_SHAPE[2],
        output_voxels=output_voxels(USUAL_SHAPE, USUAL_SPACING_MM, config.spacing_mm),
    )
    need = scan_bytes(usual, config)
    problem = ""
    if free < need:
        problem = (
            f"a usual chest (300 slices of 512 x 512, to 1 mm) needs {byte_size(need)}; free "
            "memory, raise the limit of the container, or ask for a coarser spacing"
        )
    yield Fact(
        topic=topic,
        name="free of it, bytes",
        value=free,
        origin="the least of machine, control groups and resource limits",
        problem=problem,
    )
    yield Fact(
        topic=topic,
        name="one usual chest, bytes",
        value=need,
        origin="arithmetic for 300 slices of 512 x 512 to 1 mm",
    )


def _network(machine: Machine) -> Iterator[Fact]:
    topic, link = "network", machine.link_bytes_per_second
    yield Fact(
        topic=topic,
        name="link, Gbit/s",
        value=None if link is None else link * 8 / 1e9,
        origin=machine.link_origin,
    )
    yield Fact(
        topic=topic,
        name="EC2 instance type",
        value=machine.instance_type,
        origin=machine.instance_origin,
    )
    few = machine.open_files is not None and machine.open_files < FEW_OPEN_FILES
    yield Fact(
        topic=topic,
        name="files and connections a process",
        value="no limit" if machine.open_files is None else machine.open_files,
        origin="resource limit (ulimit -n)",
        problem=f"a worker wants {FEW_OPEN_FILES}; raise it: ulimit -n 1024" if few else "",
    )


def _decoders() -> Iterator[Fact]:
    topic, numpy = "decoders", version("numpy")
    for uid, name in UNCOMPRESSED.items():
        reader = "zlib, NumPy" if "Deflated" in name else "NumPy"
        yield Fact(topic=topic, name=name, value=reader, origin=f"NumPy {numpy}, for {uid}")
    for uid, codec in CODECS.items():
        if codec.family == "rle":
            origin = f"pylibjpeg-rle {version('pylibjpeg-rle')}, for {uid}"
            yield Fact(topic=topic, name=codec.name, value="rle", origin=origin)
            continue
        if codec.family == "deflate":
            origin = f"zlib {zlib.ZLIB_RUNTIME_VERSION}, for {uid}"
            yield Fact(topic=topic, name=codec.name, value="zlib", origin=origin)
            continue
        usable = list(filter(is_installed, codec.decoders))
        yield Fact(
            topic=topic,
            name=codec.name,
            value=", ".join(usable) or None,
            origin=f"imagecodecs {imagecodecs.__version__}, for {uid}",
            problem=""
            if usable
            else "this build of imagecodecs lacks its decoder; reinstall it: "
            "pip install --force-reinstall imagecodecs",
        )


def _kernels() -> Iterator[Fact]:
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        yield Fact(
            topic="kernels",
            name="compiled",
            value="no",
            origin="NUMBA_DISABLE_JIT",
            problem="plain Python is hundreds of times slower; unset NUMBA_DISABLE_JIT",
        )
        return
    place = kernel_place()
    folder = Path(place.folder or os.devnull)
    yield Fact(
        topic="kernels",
        name="cache of compiled kernels",
        value=place.folder or "none, in memory only",
        origin="NUMBA_CACHE_DIR"
        if os.environ.get("NUMBA_CACHE_DIR") == place.folder
        else "beside the package, ~/.cache, or a private temporary folder: what is writable",
        problem=place.note,
    )
    # Numba keeps kernels of a folder of ours in a folder of its name, but beside them in their own.
    found = (*folder.glob("*.nbc"), *folder.glob("kernels_*/*.nbc"))
    yield Fact(
        topic="kernels", name="compiled ahead", value=len(found), origin="files in the cache"
    )


def _versions() -> Iterator[Fact]:
    yield Fact(topic="versions", name="fastlung", value=version("fastlung"))
    yield Fact(topic="versions", name="Python", value=platform.python_version())
    for package in RECORDED_PACKAGES:
        yield Fact(topic="versions", name=package, value=version(package))


def _aws() -> Fact:
    """Our AWS identity; without an answer it is no problem, as local folders need none."""
    answer: list[Fact] = []
    thread = threading.Thread(target=lambda: answer.append(_identity()), daemon=True)
    thread.start()
    thread.join(IDENTITY_SECONDS)
    unanswered = f"no answer within {IDENTITY_SECONDS:g} s"
    return answer[0] if answer else _aws_fact("unknown", unanswered)


def _identity() -> Fact:
    # An unknown profile, an expired token, a firewall: whatever boto3 raises, only its class is
    # reported, because its text could hold an account.
    try:
        session = boto3.Session()
        credentials = session.get_credentials()
    except Exception as error:  # noqa: BLE001
        return _aws_fact("unknown", f"boto3: {type(error).__name__}")
    if credentials is None:
        return _aws_fact("anonymous", "boto3 finds no credentials; public buckets need none")
    region = session.region_name or "no region"
    limits: dict[str, Any] = {"connect_timeout": 2, "read_timeout": 2}
    try:
        client = session.client(
            "sts",
            region_name=session.region_name or "us-east-1",
            config=ClientConfig(retries={"total_max_attempts": 1}, **limits),
        )
        identity = client.get_caller_identity()["Arn"]
    except Exception as error:  # noqa: BLE001
        return _aws_fact(
            "credentials, not confirmed", f"{credentials.method}, {region}; {type(error).__name__}"
        )
    return _aws_fact(identity, f"{credentials.method}, {region}")


def _aws_fact(value: str, origin: str) -> Fact:
    return Fact(topic="aws", name="identity", value=value, origin=origin)


def _sink(url: str, storage: StoreOptions) -> Iterator[Fact]:
    try:
        store = open_store(url, storage)
        if isinstance(store, LocalStore):
            yield from _space(store.root)
            if not store.root.exists():
                yield _new_folder(store.root)
                return
        key = f"fastlung-doctor-{secrets.token_hex(4)}"
        store.put(key, [b"fastlung doctor: may be deleted\n"])
        store.delete(key)
        is_enforced = store.enforces_create()
    except FastlungError as error:
        yield Fact(topic="sink", name=url, value="not usable", problem=str(error))
        return
    yield Fact(topic="sink", name=url, value="writable", origin="wrote an object and removed it")
    yield Fact(
        topic="sink",
        name="conditional create",
        value="enforced" if is_enforced else "ignored",
        origin="created an object twice",
        problem=""
        if is_enforced
        else "two runs at this sink at once would both commit the same scans; run one at a time",
    )


def _existing(path: Path) -> Path:
    """Find the closest folder above that exists."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _space(root: Path) -> Iterator[Fact]:
    disk = probe_disk(root)
    little = disk.free_bytes < LITTLE_SPACE_BYTES
    yield Fact(
        topic="sink",
        name="free, bytes",
        value=disk.free_bytes,
        origin="file system",
        problem="a usual chest takes 130 MB; free some space" if little else "",
    )
    yield Fact(topic="sink", name="disk", value=disk.kind, origin=disk.origin)


def _new_folder(root: Path) -> Fact:
    above = _existing(root)
    usable = above.is_dir() and os.access(above, os.W_OK | os.X_OK)
    return Fact(
        topic="sink",
        name=str(root),
        value="does not exist yet; a run makes it",
        origin=f"permissions of {above}",
        problem="" if usable else f"it cannot be made: {above} is not writable",
    )
