"""
How large the scans of a source are, from a listing and a few headers.

A guess to plan with: the worker that reads a scan checks it again, exactly.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastlung.errors import LimitError, StoreError
from fastlung.io.dicom.series import index_files
from fastlung.io.volumes import HEAD_BYTES, index_volume
from fastlung.limits import check_listing
from fastlung.run.plan import ScanSize, output_voxels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastlung.config import Config
    from fastlung.io.objects import Store
    from fastlung.io.source import SourceGroup

__all__ = ["estimate_sizes"]

#: Groups of which one header is read: so many with the most bytes, and so many with the most
#: objects. A header costs about a millisecond; smaller groups are taken for like ones.
SAMPLED_EACH_WAY = 50
#: Slice thickness assumed where a header has none, in millimetres: thick, to be safe.
UNKNOWN_THICKNESS_MM = 5.0
#: No scan is longer, whatever thickness times slices says; slices often overlap. In millimetres.
LONGEST_SCAN_MM = 2000.0
#: How far compressed CT inflates: noise does not compress.
INFLATION = 2
COMPRESSED_SUFFIXES = (".zip", ".gz", ".tgz", ".zraw")


@dataclass(frozen=True, slots=True, kw_only=True)
class _SliceSize:
    """One slice: its pixels, and where they lie; how many such a file or volume holds."""

    frames: int
    rows: int
    columns: int
    pixel_spacing_mm: tuple[float, float]
    thickness_mm: float
    slices: int = 0


def estimate_sizes(
    groups: Sequence[SourceGroup], config: Config, store_of: Callable[[SourceGroup], Store]
) -> tuple[ScanSize, ...]:
    """
    Estimate the scan in each source group, as if its objects were the slices of one series.

    Parameters
    ----------
    groups : sequence of SourceGroup
        What is to be estimated.
    config : Config
        Target spacing.
    store_of : callable
        Where the objects of a group are.

    Returns
    -------
    tuple of ScanSize
        One for each group, in order.
    """
    by_bytes = sorted(groups, key=lambda group: group.size_bytes)[-SAMPLED_EACH_WAY:]
    by_count = sorted(groups, key=lambda group: len(group.objects))[-SAMPLED_EACH_WAY:]
    sampled = {group.id: _sample(store_of(group), group) for group in (*by_bytes, *by_count)}
    usual = _usual([one for one in sampled.values() if one is not None])
    return tuple(_size(group, sampled.get(group.id) or usual, config) for group in groups)


def _sample(source: Store, group: SourceGroup) -> _SliceSize | None:
    """Header of a volume, or of the largest object: a slice, where there is one."""
    if not group.objects or group.kind == "archive":
        return None
    if group.kind == "volume":
        return _sample_volume(source, group)
    largest = max(group.objects, key=lambda info: (info.size_bytes, info.key))
    try:
        check_listing([largest.size_bytes])  # its worker will say so; here only headers are read
        index = index_files(
            {largest.key: largest.size_bytes},
            lambda key, count: source.get(key, first_bytes=count),
        )
    except (StoreError, LimitError):
        return None
    frames = sum(len(series.headers) for series in index.series)
    for series in index.series:
        for header in series.headers:
            thickness = header.acquisition.get("SliceThickness")
            return _SliceSize(
                frames=frames,
                rows=header.rows,
                columns=header.columns,
                pixel_spacing_mm=header.pixel_spacing_mm,
                thickness_mm=thickness if isinstance(thickness, float) else UNKNOWN_THICKNESS_MM,
            )
    return None


def _sample_volume(source: Store, group: SourceGroup) -> _SliceSize | None:
    try:
        heads = {info.key: source.get(info.key, first_bytes=HEAD_BYTES) for info in group.objects}
    except StoreError:
        return None
    for series in index_volume(heads).series:
        if series.grid is not None:
            slices, rows, columns = series.grid.shape
            thickness, *pixel_spacing = series.grid.spacing_mm
            return _SliceSize(
                frames=1,
                rows=rows,
                columns=columns,
                pixel_spacing_mm=(pixel_spacing[0], pixel_spacing[1]),
                thickness_mm=thickness,
                slices=slices,
            )
    return None


def _usual(found: Sequence[_SliceSize]) -> _SliceSize:
    if not found:
        return _SliceSize(
            frames=1,
            rows=512,
            columns=512,
            pixel_spacing_mm=(1.0, 1.0),
            thickness_mm=UNKNOWN_THICKNESS_MM,
        )
    return _SliceSize(
        frames=statistics.median_high([one.frames for one in found]),
        rows=statistics.median_high([one.rows for one in found]),
        columns=statistics.median_high([one.columns for one in found]),
        pixel_spacing_mm=(
            statistics.median_high([one.pixel_spacing_mm[0] for one in found]),
            statistics.median_high([one.pixel_spacing_mm[1] for one in found]),
        ),
        thickness_mm=statistics.median_high([one.thickness_mm for one in found]),
    )


def _size(group: SourceGroup, one: _SliceSize, config: Config) -> ScanSize:
    slices = one.slices or _slices(group, one)
    spacing = (min(one.thickness_mm, LONGEST_SCAN_MM / slices), *one.pixel_spacing_mm)
    shape = (slices, one.rows, one.columns)
    return ScanSize(
        label=group.label,
        group_bytes=group.size_bytes if group.kind == "files" else _inflated_bytes(group),
        acquired_voxels=slices * one.rows * one.columns,
        output_voxels=output_voxels(shape, spacing, config.spacing_mm),
    )


def _slices(group: SourceGroup, one: _SliceSize) -> int:
    """One an object; as many as the bytes of an archive or volume make."""
    if group.kind == "files":
        return max(1, len(group.objects)) * one.frames
    return max(1, _inflated_bytes(group) // (2 * one.rows * one.columns))


def _inflated_bytes(group: SourceGroup) -> int:
    """Bytes of a packed group and of what it inflates to, both in memory at once."""
    packed = any(info.key.lower().endswith(COMPRESSED_SUFFIXES) for info in group.objects)
    return group.size_bytes * (1 + INFLATION) if packed else group.size_bytes
