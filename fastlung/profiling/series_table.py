"""
A table of series that somebody else made: how many objects and bytes each has, as CSV.

Covers reading the table; it stands for a listing where the source is far away, such as the index
of a public archive. No object is opened or listed.
"""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

from fastlung.errors import ConfigError, NothingFoundError
from fastlung.plan.sizes import ScanSize, output_voxels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastlung.config import Config

__all__ = ["TABLE_SUFFIX", "read_series_table"]

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
        output_voxels=output_voxels(shape, spacing, config.spacing_mm),
        objects=slices,
    )
