"""
How much memory a scan needs at its worst moment: pure arithmetic on its size.

A plan, a worker's check of a header and the doctor ask the same function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastlung.config import Config

__all__ = [
    "VOXEL_BYTES",
    "ScanSize",
    "computing_bytes",
    "output_bytes",
    "output_voxels",
    "scan_bytes",
    "scan_stages",
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
        Label of its source group.
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
    # grt123's recipe finds its mask, and paints, in the acquired frame.
    segmented = acquired if config.recipe == "grt123" else out
    found = 0 if config.mask == "none" else segmented
    scratch = int(MASK_SCRATCH_BYTES[config.mask] * segmented)
    held = RESERVED_BYTES + 2 * size.group_bytes + image + mask
    stored = 2 * acquired
    # Words become HU row by row while they are resampled; these rules make a volume first.
    hu = 2 * acquired if config.hu_rule == "tutorial" or config.recipe == "grt123" else 0
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
