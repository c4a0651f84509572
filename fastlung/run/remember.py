"""
What was measured in earlier runs, kept in the user's cache folder.

One small JSON file, one entry for each kind of machine, configuration and pair of routes. Whatever
is wrong with it, a run goes on without; nothing in it names a host, a user, a path or a bucket.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastlung.run.calibration import Calibration
from fastlung.storage.cache import cache_folder

if TYPE_CHECKING:
    from pathlib import Path

    from fastlung.config import Config
    from fastlung.run.calibration import Routes
    from fastlung.run.machine import Machine

__all__ = ["forget_all", "machine_kind", "recall", "remember"]

#: Of the file's layout and of what `fastlung.run.calibration` assumes: a calibration is a ratio to
#: that, and means nothing once it changes.
VERSION = 2
#: Entries kept; the one used longest ago goes first.
MOST_ENTRIES = 100
#: What is beyond a factor of this was no measurement.
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
