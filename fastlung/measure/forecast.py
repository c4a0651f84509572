"""
What a run would do and how long it would take, on this machine or another.

Covers listing, or a table of series in its place, a few headers and arithmetic: no pixel is read
and nothing is written.
"""

from __future__ import annotations

import csv
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fastlung.errors import ConfigError, NothingFoundError
from fastlung.limits import limited
from fastlung.plan.costs import ASSUMED, Routes, recall, route_of
from fastlung.plan.plan import plan_run
from fastlung.plan.sizes import ScanSize, estimate_sizes, output_voxels
from fastlung.sink.contents import SinkContents, check_sink, source_groups
from fastlung.sink.names import load_names_key
from fastlung.source.open import open_source, store_of
from fastlung.storage import open_store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastlung.config import Config, RunOptions
    from fastlung.plan.machine import Machine
    from fastlung.plan.plan import Plan
    from fastlung.source.groups import SourceGroup
    from fastlung.source.open import Source

__all__ = ["TABLE_SUFFIX", "Forecast", "forecast", "read_series_table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """
    What a run would do.

    Attributes
    ----------
    machine : Machine
        What it could use.
    plan : Plan
        How it would be carried out.
    groups, already_done : int
        Source groups to do, and groups that the sink holds already.
    source_bytes : int
        Bytes of what is to do.
    seconds : float or None
        How long it would take; None if nothing is to do.
    """

    machine: Machine
    plan: Plan
    groups: int
    already_done: int
    source_bytes: int
    seconds: float | None


def forecast(
    source: str, sink: str | None, config: Config, options: RunOptions, machine: Machine
) -> Forecast:
    """
    Plan a run.

    Parameters
    ----------
    source : str
        What would be processed.
    sink : str or None
        Where results would go; what it holds already is not done again. None takes all as new, and
        results to go where the source is.
    config : Config
        What would be done to each scan.
    options : RunOptions
        How the run would be carried out.
    machine : Machine
        Where it would run.

    Raises
    ------
    FastlungError
        As `fastlung.run.engine.run` does before it starts.
    """
    places = open_source(source, options.storage)
    with limited(options.limits):
        groups, already_done = _to_do(places, sink, config, options)
        sizes = estimate_sizes(
            groups, config, lambda group: store_of(group, places.store, options.storage)
        )
    routes = Routes(source=route_of(places.store.url), sink=route_of(sink or places.store.url))
    calibration = recall(machine, config, routes) or ASSUMED
    plan = plan_run(sizes, machine, config, options, routes=routes, calibration=calibration)
    rate = plan.scans_per_second
    return Forecast(
        machine=machine,
        plan=plan,
        groups=len(groups),
        already_done=already_done,
        source_bytes=sum(group.size_bytes for group in groups),
        seconds=None if rate is None else len(groups) / rate,
    )


def _to_do(
    places: Source, sink: str | None, config: Config, options: RunOptions
) -> tuple[Sequence[SourceGroup], int]:
    names_key = load_names_key() if config.names == "hash" else b""
    sink_store = None if sink is None else open_store(sink, options.storage)
    if sink_store is not None:
        check_sink(sink_store, config, names_key, options)
    groups = source_groups(
        places,
        sink_store,
        group_by=config.group_by,
        names_key=names_key,
        storage=options.storage,
    )
    if sink_store is None:
        return list(groups), 0
    contents = SinkContents(sink_store, config, options)
    left = [group for group in groups if contents.task(group) is not None]
    return left, contents.already_done


TABLE_SUFFIX = ".csv"

MB = 1_000_000

#: Column -> what it is; the second names are those of the index of NCI's Imaging Data Commons.
OBJECTS = ("objects", "instanceCount")

BYTES = ("bytes",)

MEGABYTES = ("series_size_MB",)

#: Columns that may be there, and what is taken for them: a usual chest CT of this many slices.
ROWS, COLUMNS = "rows", "columns"

USUAL = {ROWS: 512.0, COLUMNS: 512.0, "pixel_spacing_mm": 0.7}

SLICE_SPACING = "slice_spacing_mm"

#: How long a chest is scanned, in millimetres: what slices without a distance are spread over.
USUAL_LENGTH_MM = 320.0

#: No cell is larger, and no series has more slices.
LARGEST = 1e13


def read_series_table(path: str | Path, config: Config) -> tuple[ScanSize, ...]:
    """
    Read a table of series.

    Parameters
    ----------
    path : str or Path
        CSV with a header. ``objects`` (or ``instanceCount``) and ``bytes`` (or ``series_size_MB``)
        must be there; ``rows``, ``columns``, ``pixel_spacing_mm`` and ``slice_spacing_mm`` may.
    config : Config
        Target spacing.

    Returns
    -------
    tuple of ScanSize
        One a row, in order; equal rows share one object.

    Raises
    ------
    ConfigError
        If the file cannot be read, a column is missing, or a cell is no such number.
    NothingFoundError
        If it has no rows.
    """
    known: dict[tuple[float, ...], ScanSize] = {}
    sizes = []
    try:
        with Path(path).open(encoding="utf-8", newline="", errors="replace") as file:
            reader = csv.DictReader(file)
            objects, size, unit = _columns(path, reader.fieldnames or [])
            for number, row in enumerate(reader, start=2):
                where = f"{path}, line {number}"
                cells = (
                    _number(row, objects, where, least=1),
                    _number(row, size, where, least=1) * unit,
                    *(_number(row, name, where, usual) for name, usual in USUAL.items()),
                    _number(row, SLICE_SPACING, where, 0.0),
                )
                if cells not in known:
                    known[cells] = _size(cells, config)
                sizes.append(known[cells])
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise ConfigError(f"{path}: cannot be read ({why}); check the name") from None
    except csv.Error:
        raise ConfigError(f"{path}: expected CSV with a header, this is not CSV") from None
    if not sizes:
        raise NothingFoundError(f"{path}: a table without rows")
    return tuple(sizes)


def _columns(path: str | Path, names: object) -> tuple[str, str, float]:
    """Columns of objects and of bytes, and the unit of the second."""
    found = [str(name) for name in names] if isinstance(names, (list, tuple)) else []
    objects = next((name for name in OBJECTS if name in found), None)
    units = {**dict.fromkeys(BYTES, 1.0), **dict.fromkeys(MEGABYTES, float(MB))}
    size = next((name for name in units if name in found), None)
    if objects is None or size is None:
        raise ConfigError(
            f"{path}: expected the columns objects (or instanceCount) and bytes (or "
            f"series_size_MB), found {', '.join(found)[:200] or 'no header'}"
        )
    return objects, size, units[size]


def _number(
    row: Mapping[str, str | None], name: str, where: str, usual: float | None = None,
    *, least: float = 0.0,
) -> float:  # fmt: skip
    text = row.get(name)
    if usual is not None and not text:
        return usual
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not least <= value <= LARGEST:  # also false for NaN
        raise ConfigError(f"{where}: {name}: expected a number, at least {least:g}, found {text!r}")
    return value


def _size(cells: tuple[float, ...], config: Config) -> ScanSize:
    objects, size_bytes, rows, columns, pixel_mm, slice_mm = cells
    slices = max(1, round(objects))
    shape = (slices, max(1, round(rows)), max(1, round(columns)))
    spacing = (slice_mm or USUAL_LENGTH_MM / slices, pixel_mm or 1.0, pixel_mm or 1.0)
    return ScanSize(
        label=f"series of {slices} slices",
        group_bytes=round(size_bytes),
        acquired_voxels=math.prod(shape),
        output_voxels=output_voxels(shape, spacing, config.target_spacing_mm(shape, spacing)),
        objects=slices,
    )
