"""
How large the scans of a source are, from a listing and a few headers.

A guess to plan with: the worker that reads a scan checks it again, exactly.
"""

from __future__ import annotations

import statistics
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fastlung.dicom.series import index_files
from fastlung.errors import LimitError, StoreError
from fastlung.limits import check_listing
from fastlung.run.need import ScanSize, output_voxels
from fastlung.source.volumes import HEAD_BYTES, index_volume

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastlung.config import Config
    from fastlung.source.groups import SourceGroup
    from fastlung.storage.base import Store

__all__ = ["Estimator", "estimate_sizes"]

#: Groups of which one header is read: so many with the most bytes, and so many with the most
#: objects. A header costs about a millisecond; smaller groups are taken for like ones.
SAMPLED_EACH_WAY = 50
#: Headers read at once: of a bucket each takes some 60 ms.
READ_AT_ONCE = 16
#: While groups are still being found: headers read of the first ones, and of each that is larger
#: by this factor than all before.
SAMPLED_FIRST = 8
GROWTH = 1.2
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


#: What a group is like whose largest file holds no CT.
NO_SLICE = _SliceSize(frames=0, rows=1, columns=1, pixel_spacing_mm=(1.0, 1.0), thickness_mm=1.0)


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
    estimator = Estimator(config, store_of)
    estimator.look_around(groups)
    return tuple(map(estimator.size, groups))


class Estimator:
    """
    Estimates scans while they are found.

    Parameters
    ----------
    config : Config
        Target spacing.
    store_of : callable
        Where the objects of a group are.
    """

    def __init__(self, config: Config, store_of: Callable[[SourceGroup], Store]) -> None:
        self._config = config
        self._store_of = store_of
        self._looked_at: dict[str, _SliceSize | None] = {}
        self._usual = _usual([])
        self._most_bytes = self._most_objects = 0.0

    def look_around(self, groups: Sequence[SourceGroup]) -> None:
        """Read one header of each of the largest and the longest groups, many at a time."""
        by_bytes = sorted(groups, key=lambda group: group.size_bytes)[-SAMPLED_EACH_WAY:]
        by_count = sorted(groups, key=lambda group: len(group.objects))[-SAMPLED_EACH_WAY:]
        looked_at = {group.id: group for group in (*by_bytes, *by_count)}
        with ThreadPoolExecutor(READ_AT_ONCE, "fastlung-headers") as pool:
            # Each in a copy of this thread's context, in which limits are in force.
            for _ in pool.map(
                lambda each: each[0].run(self.look_at, each[1]),
                [(copy_context(), group) for group in looked_at.values()],
            ):
                pass
        self._most_bytes = max((group.size_bytes for group in groups), default=0)
        self._most_objects = max((len(group.objects) for group in groups), default=0)

    def look_at(self, group: SourceGroup) -> None:
        """Read one header of a group, if it has not been read yet."""
        if group.id not in self._looked_at:
            self._looked_at[group.id] = _sample(self._store_of(group), group)
            found = [one for one in tuple(self._looked_at.values()) if one and one is not NO_SLICE]
            self._usual = _usual(found)

    def estimate(self, group: SourceGroup) -> ScanSize:
        """
        Estimate the scan of a group that was just found.

        Headers are read of the first groups, and of each that is a good deal larger than all
        before: of the first few, and then of about thirty in a hundred thousand.
        """
        larger = group.size_bytes > GROWTH * self._most_bytes
        longer = len(group.objects) > GROWTH * self._most_objects
        if larger or longer or len(self._looked_at) < SAMPLED_FIRST:
            self._most_bytes = max(self._most_bytes, group.size_bytes)
            self._most_objects = max(self._most_objects, len(group.objects))
            self.look_at(group)
        return self.size(group)

    def size(self, group: SourceGroup) -> ScanSize:
        """Estimate a group from its own header, or else as a usual one of those looked at."""
        one = self._looked_at.get(group.id) or self._usual
        if one is NO_SLICE:  # its largest file is no CT; another one may be
            return replace(_size(group, self._usual, self._config), is_scan=False)
        return _size(group, one, self._config)


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
    if not index.series and not index.broken:
        return NO_SLICE
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
        objects=max(1, len(group.objects)),
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
