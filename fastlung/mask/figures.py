"""
Figures of a mask that owe nothing to the evidence it was made from.

A mask made from thresholds agrees with them, so comparing the two shows only other people's faults.
These look at the mask's own shape, and at the voxels in it: gas where no lung can be, pieces apart,
holes within, a trachea that never forks, edges that are rough. All on a grid of some millimetres.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from fastlung.kernels.labels import label_slices
from fastlung.kernels.runs import paint_coarse, sizes
from fastlung.kernels.smooth import mean_at_most
from fastlung.mask.dense import box_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastlung.kernels.runs import Runs
    from fastlung.mask.airway import Levels
    from fastlung.mask.dense import Coarse
    from fastlung.scan import Grid

__all__ = ["gas_litres", "roughness", "separate_litres", "unforked", "void_litres"]

#: Gas is looked for on a grid of so many millimetres, as means over three of its steps: a stomach
#: or a trachea holds such cubes, a bronchus does not.
GAS_MM = 3.0
#: Part of the way from the airway's air to lung up to which a mean is gas.
GAS = 0.25
#: Gas nearer than this to the middle of the body is the airway's or the gullet's, in millimetres.
CENTRAL_MM = 25.0
#: Lung goes on below gas if it does under more than this of it: it may be emphysema or a bulla.
BELOW = 0.2
#: A means' rim and the edge of the gas, in steps of that grid.
EDGE_STEPS = 3
#: Smaller cores are noise, or emphysema at a sloping base, in litres.
SMALLEST_LITRES = 0.0015
#: A branch of an airway has this cross-section at least, in square millimetres.
BRANCH_MM2 = 30.0
#: Two branches are seen side by side over at least this, in millimetres, where the trachea forks.
FORK_MM = 10.0
#: Branches are a few millimetres wide: on coarser grids the fork is not judged, in millimetres.
FORK_GRID_MM = 3.0
#: Lungs reach at least this far below their tips where the fork must be in the scan.
BELOW_TIPS_MM = 120.0


def gas_litres(
    volume: npt.NDArray[Any], lungs: Runs, grid: Grid, levels: Levels, middle_mm: float
) -> float:
    """
    Gas in a mask where no lung can be: in the middle, or with no lung below it, in litres.

    Parameters
    ----------
    volume : ndarray of int16 or float32, shape (z, y, x)
        Hounsfield units.
    lungs : Runs
        Both lungs.
    grid : Grid
        Canonical grid.
    levels : Levels
        How dark airway and lung are.
    middle_mm : float
        Middle of the body along x, in millimetres from the first voxel.
    """
    z, y, x = (max(1, round(GAS_MM / step)) for step in grid.spacing_mm)
    inside: npt.NDArray[np.bool_] = (
        paint_coarse(lungs, np.ones(lungs.starts.size, np.uint8), (z, y, x)) > 0
    )
    if not inside.any():
        return 0.0
    box = box_of(inside)
    sampled = np.ascontiguousarray(volume[::z, ::y, ::x][box])
    inside = inside[box]
    dark = (mean_at_most(sampled, (1, 1, 1), levels.between(GAS)) == 0) & inside
    labels, count = ndimage.label(dark)
    voxels = np.bincount(labels.ravel(), minlength=count + 1)
    left_mm = box[2].start * x * grid.spacing_mm[2]
    found = 0
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        if voxels[number] * z * y * x * grid.voxel_litres < SMALLEST_LITRES:
            continue
        part = labels[place] == number
        columns = np.asarray(part.any(axis=0))
        # Its own edge is below it, too.
        deeper = slice(0, max(0, place[0].start - EDGE_STEPS))
        below = np.asarray(inside[deeper, place[1], place[2]].any(axis=0))
        centre = place[2].start + np.average(np.arange(columns.shape[1]), weights=columns.sum(0))
        central = abs(left_mm + centre * x * grid.spacing_mm[2] - middle_mm) < CENTRAL_MM
        if central or below[columns].mean() < BELOW:
            found += int(voxels[number])
    return found * z * y * x * grid.voxel_litres


def separate_litres(coarse: Coarse) -> float:
    """Pieces of either lung that do not hang on its largest one, in litres."""
    apart = 0.0
    for side in (1, 2):
        lung = coarse.sides == side
        if not lung.any():
            continue
        box = box_of(lung)
        labels, count = ndimage.label(lung[box], np.ones((3, 3, 3)))
        if count > 1:
            voxels = np.bincount(labels.ravel())[1:]
            apart += float(voxels.sum() - voxels.max()) * coarse.litres(np.ones(1, np.bool_))
    return apart


def void_litres(coarse: Coarse, lumen: Runs) -> float:
    """What either lung encloses and does not hold, airway apart, in litres."""
    airway = paint_coarse(lumen, np.ones(lumen.starts.size, np.uint8), coarse.steps) > 0
    found = 0.0
    for side in (1, 2):
        lung = coarse.sides == side
        if not lung.any():
            continue
        box = box_of(lung)
        # Labels take a sixth of the time of `binary_fill_holes`.
        labels, count = ndimage.label(np.pad(~lung[box], 1, constant_values=True))
        labels = labels[1:-1, 1:-1, 1:-1]
        found += coarse.litres((labels > 1) & ~airway[box]) if count > 1 else 0.0
    return found


def unforked(airway: Runs, coarse: Coarse, grid: Grid) -> float:
    """
    1 where the fork of the trachea must be in the scan and was not found, 0 where it was.

    In between, how much of 10 mm of two branches side by side is missing. 0 on coarse grids, too.
    """
    filled = np.flatnonzero((coarse.sides > 0).any(axis=(1, 2)))
    reach_mm = (filled[-1] - filled[0]) * coarse.spacing_mm[0] if filled.size else 0.0
    if reach_mm < BELOW_TIPS_MM or max(grid.spacing_mm) > FORK_GRID_MM:
        return 0.0
    labels, count = label_slices(airway, 4)
    if not count:
        return 1.0
    area_mm2 = sizes(airway, labels, count) * (grid.spacing_mm[1] * grid.spacing_mm[2])
    row = np.repeat(np.arange(airway.offsets.size - 1), np.diff(airway.offsets))
    slice_of = np.zeros(count + 1, np.int64)
    slice_of[labels] = row // airway.shape[1]
    branches = np.bincount(slice_of[1:][area_mm2[1:] > BRANCH_MM2], minlength=airway.shape[0])
    forked_mm = np.count_nonzero(branches > 1) * grid.spacing_mm[0]
    return float(max(0.0, 1.0 - forked_mm / FORK_MM))


def roughness(coarse: Coarse) -> float:
    """Surface of the lungs by that of two balls of their volumes, which is 1; lungs have 2 to 3."""
    surface = ideal = 0.0
    for side in (1, 2):
        lung = coarse.sides == side
        if not lung.any():
            continue
        lung = np.pad(lung[box_of(lung)], 1)
        for axis, step in enumerate(coarse.spacing_mm):
            faces = np.count_nonzero(np.diff(lung.view(np.int8), axis=axis))
            surface += faces * float(np.prod(coarse.spacing_mm)) / step
        volume_mm3 = coarse.litres(lung) * 1e6
        ideal += 4.0 * np.pi * (3.0 * volume_mm3 / (4.0 * np.pi)) ** (2.0 / 3.0)
    return float(surface / ideal) if ideal else 0.0
