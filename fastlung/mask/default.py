"""
The default lung mask.

Step by step: dark voxels; outside air removed slice by slice from the border of the plane, so that
neither a table, nor a cropped field, nor an open mouth hides it; trachea and main bronchi followed
downwards and removed; gas too dark to be lung dropped; right and left told apart; vessels and
small nodules on the wall closed in, lung by lung, so that no closing bridges the mediastinum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastlung.kernels import morphology
from fastlung.kernels.labels import fill_holes, label, label_slices
from fastlung.kernels.runs import (
    complement,
    difference,
    means,
    moments,
    on_plane_border,
    paint,
    select,
    sizes,
    slice_sizes,
    union,
)
from fastlung.kernels.threshold import runs_at_most
from fastlung.mask.airway import find_airway
from fastlung.mask.sides import split_sides
from fastlung.orientation import canonical_grid, orientation_of, turned, turned_back
from fastlung.scan import Flag, Grid, LungMask

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastlung.kernels.runs import Runs

__all__ = ["lung_mask"]

#: Half way between lung (-850 HU) and soft tissue (50 HU).
AIR_HU = -400.0
#: Smaller dark components are dropped; a lobe cut off by consolidation is larger.
PIECE_LITRES = 0.02
#: Gas in the bowel averages below, lungs with severe emphysema above.
GAS_HU = -940.0
#: Thickness of the airway's wall that is removed with it, in millimetres.
WALL_MM = 1.5
#: Vessels and wall nodules up to twice this are closed in, in millimetres.
CLOSING_MM = 5.0
#: Holes in a slice of a lung up to this are vessels; larger ones may be the heart.
VESSEL_MM2 = 150.0
#: Plausible volume of both lungs together, in litres.
PLAUSIBLE_LITRES = (1.0, 9.0)
#: A lung smaller than this part of the other is flagged as missing.
MISSING_PART = 0.1
#: Lung area in the first or last slice from which the lungs count as cut off.
CUT_MM2 = 400.0


def lung_mask(hu: npt.NDArray[Any], grid: Grid) -> LungMask:
    """
    Segment the lungs and tell right from left.

    Parameters
    ----------
    hu : ndarray of int16 or float32, shape (z, y, x)
        Hounsfield units, padding already replaced by air.
    grid : Grid
        Where the voxels lie; any orientation. Made for 0.7 to 2 mm isotropic voxels.

    Returns
    -------
    LungMask
        Labels 0 background, 1 right, 2 left in patient space; litres; flags. Never raises on odd
        anatomy: without lungs the mask is empty and flagged ``no_lung``.

    Raises
    ------
    ValueError
        If `hu` and `grid` differ in shape.
    """
    if hu.shape != grid.shape:
        raise ValueError(f"volume has shape {hu.shape}, its grid {grid.shape}")
    orientation = orientation_of(grid)
    volume = np.ascontiguousarray(turned(hu, orientation))
    upright = canonical_grid(grid, orientation)
    lungs = _find_lungs(volume, upright)
    mask = np.zeros(volume.shape, np.uint8)
    for side, lung in enumerate(lungs, start=1):
        paint(lung, np.full(lung.starts.size, side, np.uint8), mask)
    area_right, area_left = (slice_sizes(lung) for lung in lungs)
    litres_right = int(area_right.sum()) * grid.voxel_litres
    litres_left = int(area_left.sum()) * grid.voxel_litres
    return LungMask(
        mask=np.ascontiguousarray(turned_back(mask, orientation)),
        litres_right=litres_right,
        litres_left=litres_left,
        flags=_flags(litres_right, litres_left, area_right + area_left, upright),
    )


def _find_lungs(volume: npt.NDArray[Any], grid: Grid) -> tuple[Runs, Runs]:
    """Right and left lung of a canonical volume, finished."""
    dark = runs_at_most(volume, AIR_HU)
    air = _inner_air(dark)
    middle_mm = _middle_mm(complement(dark), grid)
    airway = find_airway(air, grid, middle_mm)
    lumen = morphology.dilate(airway, morphology.ball(WALL_MM, grid.spacing_mm))
    pieces = _lung_pieces(difference(air, lumen), volume, grid)
    right, left = split_sides(pieces, grid, middle_mm)
    right, left = (_closed(lung, grid) for lung in (right, left))
    return difference(right, union(left, lumen)), difference(left, lumen)


def _inner_air(dark: Runs) -> Runs:
    """Dark voxels not connected to the border of their own slice."""
    labels, count = label_slices(dark, 4)
    return select(dark, ~on_plane_border(dark, labels, count)[labels])


def _middle_mm(solid: Runs, grid: Grid) -> float:
    """Middle of the body along x, in millimetres from the first voxel."""
    everything = np.ones(solid.starts.size, np.int32)
    if not everything.size:
        return solid.shape[2] / 2 * grid.spacing_mm[2]
    return float(moments(solid, everything, 1)[1, 2]) * grid.spacing_mm[2]


def _lung_pieces(air: Runs, volume: npt.NDArray[Any], grid: Grid) -> Runs:
    """The components that are lung: large enough, and not as dark as bowel gas."""
    labels, count = label(air, 6)
    litres = sizes(air, labels, count) * grid.voxel_litres
    lung = (litres > PIECE_LITRES) & (means(air, volume, labels, count) > GAS_HU)
    return select(air, lung[labels])


def _closed(lung: Runs, grid: Grid) -> Runs:
    """One lung with its vessels, small wall nodules and enclosed tissue."""
    filled = fill_holes(morphology.close(lung, morphology.ball(CLOSING_MM, grid.spacing_mm)))
    outside = complement(filled)
    labels, count = label_slices(outside, 4)
    area = sizes(outside, labels, count) * (grid.spacing_mm[1] * grid.spacing_mm[2])
    hole = ~on_plane_border(outside, labels, count) & (area < VESSEL_MM2)
    return union(filled, select(outside, hole[labels]))


def _flags(
    litres_right: float, litres_left: float, area: npt.NDArray[np.int64], grid: Grid
) -> tuple[Flag, ...]:
    """What should make a user look; `area` is in voxels by slice."""
    flags = []
    both = litres_right + litres_left
    low, high = PLAUSIBLE_LITRES
    if both == 0.0:
        text = "no lung found; look at the image: is it a chest, and are its HU right?"
        return (Flag(name="no_lung", value=0.0, text=text),)
    smaller = min(litres_right, litres_left) / max(litres_right, litres_left)
    if smaller < MISSING_PART:
        text = "one lung is missing or far smaller; collapsed, absent, or not split from the other"
        flags.append(Flag(name="one_lung", value=smaller, text=text))
    if not low <= both <= high:
        text = f"lungs of {both:.2f} L are outside {low:g} to {high:g} L; look at the mask"
        flags.append(Flag(name="implausible_volume", value=both, text=text))
    cut_mm2 = float(max(area[0], area[-1])) * grid.spacing_mm[1] * grid.spacing_mm[2]
    if cut_mm2 > CUT_MM2:
        text = f"{cut_mm2 / 100:.0f} cm2 of lung in the first or last slice; the scan may cut it"
        flags.append(Flag(name="touches_fov", value=cut_mm2, text=text))
    return tuple(flags)
