"""
How large scans are, by listings and a few headers, and how much memory each needs.

Memory is arithmetic on a size; a plan, a worker's check of a header and the doctor ask the same
function.
"""

from __future__ import annotations

import math
import statistics
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fastlung.errors import LimitError, StoreError
from fastlung.source.read import index_sample

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastlung.config import Config
    from fastlung.dicom import SeriesHeaders
    from fastlung.source.groups import SourceGroup
    from fastlung.storage.base import Store

__all__ = [
    "VOXEL_BYTES",
    "Estimator",
    "ScanSize",
    "computing_bytes",
    "estimate_sizes",
    "output_bytes",
    "output_voxels",
    "scan_bytes",
    "scan_stages",
    "series_size",
]


MB = 1_000_000

#: Private memory of a warm worker: 15 MB when it is forked, up to 60 MB that the allocator keeps
#: from scan to scan, stacks of three threads, and a margin.
RESERVED_BYTES = 120 * MB

#: Scratch memory of the lung masks beside the mask itself, in bytes per output voxel: bit rows
#: and tables of runs. Measured on three real chests and a phantom, each in a new process: 0.3 to
#: 2.2 for the default, at most 1.7 for the tutorial's, for which the step before leaves room.
MASK_SCRATCH_BYTES = {"default": 2.5, "tutorial": 1.0, "grt123": 7.0, "none": 0.0}

#: Scratch memory of a picture: planes as float32, a canvas and its bytes.
PICTURE_BYTES = 12_000_000

#: Bytes of a voxel of the image by `Config.dtype`.
VOXEL_BYTES = {"int16": 2, "float32": 4, "uint8": 1}

#: Scratch memory of finding what to crop to, in bytes per output voxel: tables of runs.
CROP_SCRATCH_BYTES = {"none": 0.0, "body": 1.0, "lungs": 0.5}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanSize:
    """
    What decides how much memory a scan takes.

    Attributes
    ----------
    label : str
        Its source group, in words.
    group_bytes : int
        Bytes of all objects of its source group, as stored.
    acquired_voxels, output_voxels : int
        Voxels before and after resampling.
    objects : int
        Objects of its source group.
    is_scan : bool
        Whether it may be a scan at all; False for a folder in which no CT was found.
    """

    label: str
    group_bytes: int
    acquired_voxels: int
    output_voxels: int
    objects: int = 1
    is_scan: bool = True


def output_voxels(
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    target_mm: tuple[float, float, float],
) -> int:
    """
    Voxels of a scan after resampling, in whole numbers of any size.

    Parameters
    ----------
    shape : tuple of int
        Acquired shape ``(z, y, x)``.
    spacing_mm, target_mm : tuple of float
        Acquired and wanted spacing along ``(z, y, x)``, in millimetres.
    """
    sizes = zip(shape, spacing_mm, target_mm, strict=True)
    return math.prod(max(1, round(count * have / want)) for count, have, want in sizes)


def scan_stages(size: ScanSize, config: Config) -> dict[str, int]:
    """
    Memory that is live at the worst moment of each step of a scan, in bytes.

    Parameters
    ----------
    size : ScanSize
        The scan.
    config : Config
        What is done to it.

    Returns
    -------
    dict of str to int
        Step -> bytes, in order. All of them hold the bytes of this group, those of the next one,
        which are read meanwhile, and the last scan's outputs, which are written meanwhile.
    """
    acquired, out = size.acquired_voxels, size.output_voxels
    written = max(out, math.prod(config.size or ()))  # a fixed size may be larger
    image = VOXEL_BYTES[config.dtype] * written
    mask = 0 if config.mask == "none" else written
    # Steps before a resampling, such as grt123's mask and paint, work in the acquired frame.
    early = bool(config.as_acquired)
    segmented = acquired if early else out
    found = 0 if config.mask == "none" else segmented
    scratch = int(MASK_SCRATCH_BYTES[config.mask] * segmented)
    held = RESERVED_BYTES + 2 * size.group_bytes + image + mask
    stored = 2 * acquired
    # Words become HU row by row while they are resampled; these rules make a volume first.
    hu = 2 * acquired if config.hu_rule == "tutorial" or early else 0
    volume = turned = 2 * out  # and a copy where axes turn
    windowed = 0 if config.dtype == "int16" else image
    # How much a crop takes away is known only once lungs or body are found: as if nothing.
    part = 0 if config.crop == "none" else volume + mask
    search = int(CROP_SCRATCH_BYTES[config.crop] * out)
    fitted = 0 if config.size is None else image + mask
    views = PICTURE_BYTES + (out if config.mask == "none" else 0)
    compressed = 0 if config.format == "npy" else image + mask
    return {
        "hu": held + stored + hu,
        "resample": held + stored + hu + turned + volume,
        "mask": held + stored + hu + volume + found + scratch,
        "crop": held + stored + hu + volume + mask + search + part,
        "normalise": held + stored + hu + volume + mask + part + windowed + fitted,
        "encode": held + image + mask + compressed,
        "picture": held + image + mask + compressed + (0 if config.preview == "none" else views),
    }


def scan_bytes(size: ScanSize, config: Config) -> int:
    """Memory that a worker needs for a scan, in bytes: the worst of `scan_stages`."""
    return max(scan_stages(size, config).values())


def computing_bytes(size: ScanSize, config: Config) -> int:
    """Memory that a worker needs for a scan, without what it reads ahead, in bytes."""
    return scan_bytes(size, config) - size.group_bytes


def output_bytes(size: ScanSize, config: Config) -> int:
    """Bytes of a scan's image and mask before they are compressed."""
    mask = 0 if config.mask == "none" else size.output_voxels
    return VOXEL_BYTES[config.dtype] * size.output_voxels + mask


def series_size(group: SourceGroup, series: SeriesHeaders, config: Config) -> ScanSize | None:
    """
    Size of a series by its own headers.

    Parameters
    ----------
    group : SourceGroup
        Its source group.
    series : SeriesHeaders
        The series.
    config : Config
        Target spacing.

    Returns
    -------
    ScanSize or None
        None where the grid cannot be known.
    """
    grid = series.grid
    if grid is None:
        return None
    # Gaps count: the output covers the whole extent, whatever the usual spacing.
    extent_mm = float(series.slice_positions_mm[-1]) + grid.spacing_mm[0]
    shifts_mm = np.zeros((1, 2)) if series.slice_shifts_mm is None else series.slice_shifts_mm
    longer_y, longer_x = np.ptp(shifts_mm, axis=0) / grid.shape[1:]  # as a sheared volume is
    spacing = (
        extent_mm / grid.shape[0],
        grid.spacing_mm[1] + float(longer_y),
        grid.spacing_mm[2] + float(longer_x),
    )
    return ScanSize(
        label=group.label,
        group_bytes=group.size_bytes,
        acquired_voxels=math.prod(grid.shape),
        output_voxels=output_voxels(
            grid.shape, spacing, config.target_spacing_mm(grid.shape, spacing)
        ),
    )


#: Groups of which one header is read: so many with the most bytes, and so many with the most
#: objects. A header costs about a millisecond; smaller groups are taken to be alike.
SAMPLED_EACH_WAY = 50

#: Headers read at once: of a bucket each takes some 60 ms.
READ_AT_ONCE = 16

#: While the listing goes on: headers are read of so many first groups, and of each that is larger
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
    """Pixels and spacing of a slice, and how many such a file or volume holds."""

    frames: int
    rows: int
    columns: int
    pixel_spacing_mm: tuple[float, float]
    thickness_mm: float
    slices: int = 0


#: Of a group whose largest file holds no CT.
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
    estimator.read_headers(groups)
    return tuple(map(estimator.size, groups))


class Estimator:
    """
    Estimates scans while they are listed.

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
        self._sampled: dict[str, _SliceSize | None] = {}
        self._usual = _usual([])
        self._most_bytes = self._most_objects = 0.0

    def read_headers(self, groups: Sequence[SourceGroup]) -> None:
        """Read one header of each of the largest and the longest groups, many at a time."""
        by_bytes = sorted(groups, key=lambda group: group.size_bytes)[-SAMPLED_EACH_WAY:]
        by_count = sorted(groups, key=lambda group: len(group.objects))[-SAMPLED_EACH_WAY:]
        sampled = {group.id: group for group in (*by_bytes, *by_count)}
        with ThreadPoolExecutor(READ_AT_ONCE, "fastlung-headers") as pool:
            # Each in a copy of this thread's context, in which limits are in force.
            for _ in pool.map(
                lambda each: each[0].run(self.read_header, each[1]),
                [(copy_context(), group) for group in sampled.values()],
            ):
                pass
        self._most_bytes = max((group.size_bytes for group in groups), default=0)
        self._most_objects = max((len(group.objects) for group in groups), default=0)

    def read_header(self, group: SourceGroup) -> None:
        """Read one header of a group, if it has not been read yet."""
        if group.id not in self._sampled:
            self._sampled[group.id] = _sample(group, self._store_of(group))
            found = [
                size for size in tuple(self._sampled.values()) if size and size is not NO_SLICE
            ]
            self._usual = _usual(found)

    def estimate(self, group: SourceGroup) -> ScanSize:
        """
        Estimate the scan of a group that was just found.

        Headers are read of the first groups, and of each that is a good deal larger than all
        before: of the first few, and then of about thirty in a hundred thousand.
        """
        larger = group.size_bytes > GROWTH * self._most_bytes
        longer = len(group.objects) > GROWTH * self._most_objects
        if larger or longer or len(self._sampled) < SAMPLED_FIRST:
            self._most_bytes = max(self._most_bytes, group.size_bytes)
            self._most_objects = max(self._most_objects, len(group.objects))
            self.read_header(group)
        return self.size(group)

    def size(self, group: SourceGroup) -> ScanSize:
        """Estimate a group from its own header, or else as the usual one of those sampled."""
        size = self._sampled.get(group.id) or self._usual
        if size is NO_SLICE:  # its largest file is no CT; another one may be
            return replace(_size(group, self._usual, self._config), is_scan=False)
        return _size(group, size, self._config)


def _sample(group: SourceGroup, store: Store) -> _SliceSize | None:
    """What the header of one file says; None where there is none that can be read."""
    try:
        index = index_sample(group, store)
    except (StoreError, LimitError):  # its worker reports it; here only headers are read
        return None
    if index is None:
        return None
    if not index.series and not index.broken and group.kind == "files":
        return NO_SLICE
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
        if series.grid is not None:  # a volume: it has no slices
            slices, rows, columns = series.grid.shape
            thickness_mm, *pixel_spacing = series.grid.spacing_mm
            return _SliceSize(
                frames=1,
                rows=rows,
                columns=columns,
                pixel_spacing_mm=(pixel_spacing[0], pixel_spacing[1]),
                thickness_mm=thickness_mm,
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
        frames=statistics.median_high([size.frames for size in found]),
        rows=statistics.median_high([size.rows for size in found]),
        columns=statistics.median_high([size.columns for size in found]),
        pixel_spacing_mm=(
            statistics.median_high([size.pixel_spacing_mm[0] for size in found]),
            statistics.median_high([size.pixel_spacing_mm[1] for size in found]),
        ),
        thickness_mm=statistics.median_high([size.thickness_mm for size in found]),
    )


def _size(group: SourceGroup, size: _SliceSize, config: Config) -> ScanSize:
    slices = size.slices or _slices(group, size)
    spacing = (min(size.thickness_mm, LONGEST_SCAN_MM / slices), *size.pixel_spacing_mm)
    shape = (slices, size.rows, size.columns)
    return ScanSize(
        label=group.label,
        group_bytes=group.size_bytes if group.kind == "files" else _inflated_bytes(group),
        acquired_voxels=slices * size.rows * size.columns,
        output_voxels=output_voxels(shape, spacing, config.target_spacing_mm(shape, spacing)),
        objects=max(1, len(group.objects)),
    )


def _slices(group: SourceGroup, size: _SliceSize) -> int:
    """One per object; as many as the bytes of an archive or volume make."""
    if group.kind == "files":
        return max(1, len(group.objects)) * size.frames
    return max(1, _inflated_bytes(group) // (2 * size.rows * size.columns))


def _inflated_bytes(group: SourceGroup) -> int:
    """Bytes of a packed group and of what it inflates to, both in memory at once."""
    packed = any(info.key.lower().endswith(COMPRESSED_SUFFIXES) for info in group.objects)
    return group.size_bytes * (1 + INFLATION) if packed else group.size_bytes
