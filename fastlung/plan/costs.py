"""
What a scan of a given size costs: assumed at first, then measured, then remembered.

Covers processor seconds, bytes, requests and memory as `fastlung.plan.model` takes them, and the
file that keeps measurements from run to run.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from fastlung.plan.model import ScanCost, mean_cost
from fastlung.plan.sizes import VOXEL_BYTES, computing_bytes, output_bytes
from fastlung.storage.cache import cache_folder
from fastlung.storage.s3.read import parts_of, turns_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from fastlung.config import Config
    from fastlung.plan.machine import Machine
    from fastlung.plan.model import Route
    from fastlung.plan.sizes import ScanSize

__all__ = [
    "ASSUMED",
    "LOCAL",
    "Calibration",
    "Routes",
    "forget_all",
    "machine_kind",
    "recall",
    "remember",
    "route_of",
    "scan_cost",
    "store_requests",
    "usual_cost",
]


#: Processor seconds of a voxel, acquired and output voxels together: 0.45 s for a chest of 47
#: million that become 39 million, decoding, resampling, mask and encoding to npy included, on an
#: AMD EPYC. Compressed pixels take more; only a measurement says how much.
SECONDS_PER_VOXEL = 5e-9

#: What compressing adds, for each output voxel of image and mask: 0.12 s for 31 million.
DEFLATE_SECONDS_PER_VOXEL = 4e-9

#: Bytes of a compressed volume for each one before: 37 MB of 62 MB for a noisy chest.
DEFLATED = 0.6

#: Processor seconds of the client for each byte. Over TLS 159 MB took 0.22 s; from the page cache
#: a fifth of that, and writing a file costs what reading it does.
CLIENT_SECONDS_PER_BYTE: dict[Route, float] = {"network": 1.4e-9, "disk": 0.3e-9}

#: Objects that writing a scan takes: name claimed, image, mask, metadata, outcome and record.
STORE_OBJECTS = 6

#: Those of them that the next scan waits for: all files together. Names and records go beside them.
STORE_TURNS = 1

#: Requests around the parts of an object: one begins, one ends.
AROUND_PARTS = 2

#: What an S3 bucket in the same region is assumed to be like until it was measured: seconds to the
#: first byte, and bytes a second of one connection after it.
FIRST_BYTE_SECONDS = 0.05

CONNECTION_BYTES_PER_SECOND = 60e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """
    Over what bytes are read and written.

    Attributes
    ----------
    source, sink : str
        ``network`` or ``disk``.
    """

    source: Route
    sink: Route


LOCAL = Routes(source="disk", sink="disk")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """
    How a machine and a source differ from what is assumed.

    Attributes
    ----------
    cpu : float
        Processor seconds measured for each one assumed.
    requests : float
        Seconds that a request took for each one assumed.
    stored : float
        Bytes written for each one assumed.
    network_bytes_per_second : float or None
        What the network was found to carry, both ways together; None where it never bound.
    scans : int
        Scans that this was measured on; 0 where it is assumed.
    """

    cpu: float = 1.0
    requests: float = 1.0
    stored: float = 1.0
    network_bytes_per_second: float | None = None
    scans: int = 0

    @property
    def origin(self) -> str:
        """Where the numbers come from, for a sentence."""
        return f"measured on {self.scans:,} scans" if self.scans else "assumed, not measured yet"


ASSUMED = Calibration()


def route_of(url: str) -> Route:
    """Whether the bytes of a source or sink cross a network."""
    return "network" if url.startswith("s3://") else "disk"


def scan_cost(
    size: ScanSize, config: Config, routes: Routes = LOCAL, calibration: Calibration = ASSUMED
) -> ScanCost:
    """
    Work out what a scan costs.

    Parameters
    ----------
    size : ScanSize
        The scan.
    config : Config
        What is done to it.
    routes : Routes
        Over what its bytes come and go.
    calibration : Calibration
        What has been measured.

    Returns
    -------
    ScanCost
        All of it, its memory without what is read ahead.
    """
    written = output_bytes(size, config)
    compute = SECONDS_PER_VOXEL * (size.acquired_voxels + size.output_voxels)
    if config.format != "npy":
        compute += DEFLATE_SECONDS_PER_VOXEL * size.output_voxels
        written = int(DEFLATED * written)
    stored = calibration.stored * written
    largest = int(_image_share(config) * stored)
    fetch_cpu = CLIENT_SECONDS_PER_BYTE[routes.source] * size.group_bytes
    store_cpu = CLIENT_SECONDS_PER_BYTE[routes.sink] * stored
    return ScanCost(
        compute_cpu_seconds=calibration.cpu * compute,
        fetch_cpu_seconds=calibration.cpu * fetch_cpu,
        store_cpu_seconds=calibration.cpu * store_cpu,
        fetch_bytes=size.group_bytes,
        store_bytes=stored,
        fetch_requests=size.objects,
        store_turns=_store_turns(largest),
        store_at_once=_store_at_once(stored, largest),
        first_byte_seconds=calibration.requests * FIRST_BYTE_SECONDS,
        connection_bytes_per_second=CONNECTION_BYTES_PER_SECOND / calibration.requests,
        memory_bytes=computing_bytes(size, config),
        source=routes.source,
        sink=routes.sink,
    )


def store_requests(stored_bytes: float, config: Config) -> int:
    """Count the requests that writing a scan of so many bytes takes, parts and all."""
    image = int(_image_share(config) * stored_bytes)
    parts = [parts_of(size_bytes) for size_bytes in (image, int(stored_bytes) - image)]
    return STORE_OBJECTS + sum(number - 1 + AROUND_PARTS for number in parts if number > 1)


def usual_cost(
    sizes: Iterable[ScanSize],
    config: Config,
    routes: Routes = LOCAL,
    calibration: Calibration = ASSUMED,
) -> ScanCost:
    """
    Average what scans cost: in a long run rates depend on means only.

    Parameters
    ----------
    sizes : iterable of ScanSize
        At least one. Two hundred thousand are no trouble where many are alike.
    config, routes, calibration
        As for `scan_cost`.

    Returns
    -------
    ScanCost
        Means; of memory the mean over time, in which large scans count for longer.
    """
    alike = Counter(replace(size, label="") for size in sizes)
    costs = [scan_cost(size, config, routes, calibration) for size in alike]
    return mean_cost(costs, list(alike.values()))


def _image_share(config: Config) -> float:
    """Part of what is written that is the image, the largest file."""
    image = VOXEL_BYTES[config.dtype]
    return 1.0 if config.mask == "none" else image / (image + 1)


def _store_turns(largest_bytes: int) -> int:
    """Requests one after another, where so many bytes are the largest file."""
    around = AROUND_PARTS if parts_of(largest_bytes) > 1 else 0
    return STORE_TURNS + around + turns_of(largest_bytes) - 1


def _store_at_once(stored_bytes: float, largest_bytes: int) -> float:
    """How many connections' speed all bytes have together; the largest file ends last."""
    each = parts_of(largest_bytes) / turns_of(largest_bytes)
    return each * max(1.0, stored_bytes / largest_bytes) if largest_bytes else 1.0


#: Of the file's layout and of what `fastlung.plan.costs` assumes: a calibration is a ratio to
#: that, and means nothing once it changes.
VERSION = 2

#: Entries kept; the one used longest ago is dropped first.
MOST_ENTRIES = 100

#: A ratio beyond this factor was no measurement.
FAR = 1000.0


def recall(machine: Machine, config: Config, routes: Routes) -> Calibration | None:
    """
    Look up what was measured on such a machine, for such a run.

    Parameters
    ----------
    machine : Machine
        Where the run is.
    config : Config
        What is done to a scan.
    routes : Routes
        Over what bytes come and go.

    Returns
    -------
    Calibration or None
        None if nothing is known, or the file cannot be read or understood.
    """
    return _calibration(_entries().get(_key(machine, config, routes)))


def remember(machine: Machine, config: Config, routes: Routes, calibration: Calibration) -> None:
    """
    Keep what was measured, for the next run.

    Two runs that end at once may lose one of the two entries, never the file. A folder that
    cannot be written to is no error: the next run measures again.

    Parameters
    ----------
    machine, config, routes
        As for `recall`.
    calibration : Calibration
        What was measured.
    """
    entries = _entries()
    key = _key(machine, config, routes)
    entries.pop(key, None)
    entries[key] = asdict(calibration)
    kept = dict(list(entries.items())[-MOST_ENTRIES:])
    text = json.dumps({"version": VERSION, "calibrations": kept}, indent=1)
    path = _path()
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.write_text(text + "\n", "utf-8")
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def forget_all() -> None:
    """Remove everything that was kept."""
    with suppress(OSError):
        _path().unlink(missing_ok=True)


def machine_kind(machine: Machine) -> str:
    """Name machines that are alike: an EC2 type, or a processor, and how many CPUs are usable."""
    name = machine.instance_type or machine.cpu_model or "unknown"
    return f"{name}, {machine.cpus} of {machine.cpus_logical} CPUs"


def _key(machine: Machine, config: Config, routes: Routes) -> str:
    # The endpoint of a store is left out: it may be a secret, and a new one is soon measured.
    words = [machine_kind(machine), config.preset, config.digest, routes.source, routes.sink]
    return hashlib.sha256("|".join(words).encode()).hexdigest()[:16]


def _path() -> Path:
    return cache_folder() / "calibration.json"


def _entries() -> dict[str, Any]:
    try:
        found = json.loads(_path().read_text("utf-8"))
        if found["version"] != VERSION:
            return {}
        return dict(found["calibrations"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, RecursionError):
        return {}  # none yet, damaged, or another version's


def _calibration(fields: Any) -> Calibration | None:
    """Make an entry of what was read; None for anything that no run has measured."""
    try:
        found = Calibration(**fields)
        ratios = [found.cpu, found.requests, found.stored]
        network = found.network_bytes_per_second
        plausible = all(1 / FAR < ratio < FAR for ratio in ratios) and found.scans > 0
        if plausible and (network is None or (network > 0 and math.isfinite(network))):
            return found
    except TypeError:
        pass
    return None
