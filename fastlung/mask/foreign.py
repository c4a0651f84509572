"""
Gas that is no lung's: what lies apart from the lungs, or hangs on them by a neck.

Stomach and bowel touch the lungs through a diaphragm that is thinner than a slice, nose and sinuses
through the airway, the gap over the couch through nothing. Air eroded by a few millimetres falls
apart where a neck is; of each part it is asked how dark it is, what lies around it, and whether the
lungs go on below it. What may be lung stays: a bulla, a cavity, a lobe behind a collapse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from fastlung.kernels import morphology
from fastlung.kernels.labels import label
from fastlung.kernels.overlap import boxes, overlap
from fastlung.kernels.runs import (
    difference,
    magnified,
    means,
    moments,
    paint_coarse,
    select,
    sizes,
    slice_sizes,
    union,
)
from fastlung.kernels.smooth import mean_at_most
from fastlung.mask.dense import box_of, runs_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastlung.kernels.runs import Runs
    from fastlung.mask.airway import Levels
    from fastlung.scan import Grid

__all__ = ["without_gas"]

#: Air is parted where it is narrower than twice this, in millimetres; lungs of seven chests stayed
#: in one piece each, the stomach came off.
NECK_MM = 3.0
#: Looked for on a grid this coarse, in millimetres.
NECKS_ON_MM = 2.0
#: Parts with at least this of the largest are the lungs themselves.
LUNG_PART = 0.15
#: Smaller cores are left where they are, and smaller pieces dropped, in litres: a lobe cut off by
#: consolidation is larger.
SMALLEST_LITRES, PIECE_LITRES = 0.0005, 0.02
#: What is cut off reaches this much beyond the neck: the edge between two slices, in millimetres.
EDGE_MM = 1.5
#: Part of the way from the airway's air to lung up to which a part is gas.
GAS = 0.5
#: What lies around a part is looked at from and to this far beyond it, in millimetres.
AROUND_MM = (2.0, 8.0)
#: Parts with less lung around them than this lie apart from the lungs; bullae have a half.
APART, AMID = 0.05, 0.5
#: Gas with less lung around it than this is not in the lung, wherever it is.
BESIDE = 0.25
#: Lung goes on below a part if it does under more than this of it.
BELOW = 0.2
#: Bubbles are looked for on a grid of so many millimetres as means over three of its steps, as dark
#: as this part of the way from the airway's air to lung; smaller ones are left, in litres; and what
#: is taken off reaches this far beyond such means, in millimetres.
BUBBLE_MM, BUBBLE, BUBBLE_LITRES, BUBBLE_RIM_MM = 3.0, 0.25, 0.004, 4.5
#: Lungs that are no lighter than this above gas cannot be told from it, in Hounsfield units.
TELLING_HU = 30.0
#: Steps of that grid by which a bubble is grown through what is nearer to gas than to lung.
SPREAD = 4
#: Columns are looked at on a grid this coarse, in millimetres.
COARSE_MM, EDGE_STEPS = 4.0, 2
NOWHERE = 1 << 30


def without_gas(pieces: Runs, volume: npt.NDArray[Any], grid: Grid, levels: Levels) -> Runs:
    """
    Take off what is no lung.

    Parameters
    ----------
    pieces : Runs
        Air that may be lung.
    volume : ndarray of int16 or float32, shape (z, y, x), C-contiguous
        Hounsfield units.
    grid : Grid
        Canonical grid.
    levels : Levels
        How dark airway and lung are.
    """
    darkest_hu = levels.between(GAS)
    pieces = _without_bubbles(_cut_necks(pieces, volume, grid, darkest_hu), volume, grid, levels)
    labels, count = label(pieces, 6)
    voxels = sizes(pieces, labels, count)
    lung = _lungs_among(pieces, labels, voxels)
    apart = np.flatnonzero(~lung & (voxels * grid.voxel_litres > PIECE_LITRES))
    if apart.size:
        lungs = _Lungs(select(pieces, lung[labels]), grid)
        for number in apart.tolist():
            part = select(pieces, labels == number)
            hu = _inner_hu(part, volume, grid)
            lung[number] = not lungs.is_foreign(part, 0.0, dark=hu <= darkest_hu)
    return select(pieces, lung[labels])


def _lungs_among(
    pieces: Runs, labels: npt.NDArray[np.int32], voxels: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """The large pieces that lie beside the largest one, neither behind nor above it."""
    large: npt.NDArray[np.bool_] = voxels > LUNG_PART * voxels.max(initial=0)
    if np.count_nonzero(large) > 1:
        first, last = boxes(pieces, labels, voxels.size - 1)[voxels.argmax()]
        for number in np.flatnonzero(large).tolist():
            z, y = moments(pieces, labels, voxels.size - 1)[number, :2]
            large[number] = first[0] <= z < last[0] and first[1] <= y < last[1]
    return large


def _without_bubbles(pieces: Runs, volume: npt.NDArray[Any], grid: Grid, levels: Levels) -> Runs:
    """Without gas that a diaphragm thinner than a slice parts from the lung, if at all."""
    z, y, x = (max(1, round(BUBBLE_MM / step)) for step in grid.spacing_mm)
    inside = paint_coarse(pieces, np.ones(pieces.starts.size, np.uint8), (z, y, x)) > 0
    if not inside.any() or levels.lung - levels.airway < TELLING_HU:
        return pieces
    box = box_of(inside)
    sampled = np.ascontiguousarray(volume[::z, ::y, ::x][box])
    dark = np.zeros(inside.shape, np.bool_)
    dark[box] = (mean_at_most(sampled, (1, 1, 1), levels.between(BUBBLE)) == 0) & inside[box]
    labels, count = ndimage.label(dark)
    litres = np.bincount(labels.ravel(), minlength=count + 1) * (z * y * x * grid.voxel_litres)
    litres[0] = 0.0
    gas = litres > BUBBLE_LITRES
    if not gas.any():
        return pieces
    lungs = _Lungs(pieces, grid)
    near = np.zeros(inside.shape, np.bool_)
    near[box] = (sampled <= levels.between(GAS)) & inside[box]
    found = np.zeros(inside.shape, np.bool_)
    for number in np.flatnonzero(gas).tolist():
        # Means near its edge hold wall; voxels that are nearer to gas than to lung are its own.
        bubble = ndimage.binary_dilation(labels == number, iterations=SPREAD, mask=near)
        if lungs.is_foreign(_fine(bubble, (z, y, x), pieces.shape), BUBBLE_MM, dark=True):
            found |= bubble
    rim = morphology.ball(BUBBLE_RIM_MM, grid.spacing_mm)
    return difference(pieces, morphology.dilate(_fine(found, (z, y, x), pieces.shape), rim))


def _fine(
    chosen: npt.NDArray[np.bool_], steps: tuple[int, int, int], shape: tuple[int, int, int]
) -> Runs:
    return magnified(runs_of(chosen), steps, shape)


def _cut_necks(pieces: Runs, volume: npt.NDArray[Any], grid: Grid, darkest_hu: float) -> Runs:
    """Without the gas that hangs on the lungs by a neck."""
    # On every other millimetre: on all of them it takes four times as long.
    steps = tuple(max(1, round(NECKS_ON_MM / step)) for step in grid.spacing_mm)
    z, y, x = steps
    spacing_mm = z * grid.spacing_mm[0], y * grid.spacing_mm[1], x * grid.spacing_mm[2]
    painted = paint_coarse(pieces, np.ones(pieces.starts.size, np.uint8), (z, y, x)) > 0
    core = morphology.erode(runs_of(painted), morphology.ball(NECK_MM, spacing_mm))
    labels, count = label(core, 6)
    voxels = sizes(core, labels, count)
    lung = _lungs_among(core, labels, voxels)
    small = voxels * (z * y * x * grid.voxel_litres) <= SMALLEST_LITRES
    candidates = np.flatnonzero(~lung & ~small)
    if not candidates.size:
        return pieces
    whole = magnified(select(core, lung[labels]), (z, y, x), pieces.shape)
    lungs = _Lungs(whole, grid)
    gas = None
    for number in candidates.tolist():
        part = magnified(select(core, labels == number), (z, y, x), pieces.shape)
        hu = means(part, volume, np.ones(part.starts.size, np.int32), 1)[1]
        if hu <= darkest_hu and lungs.is_foreign(part, NECK_MM, dark=True):
            gas = part if gas is None else union(gas, part)
    if gas is None:
        return pieces
    neck = morphology.ball(NECK_MM, grid.spacing_mm)
    grown = morphology.dilate(gas, morphology.ball(NECK_MM + EDGE_MM, grid.spacing_mm))
    return difference(pieces, difference(grown, morphology.dilate(whole, neck)))


def _inner_hu(part: Runs, volume: npt.NDArray[Any], grid: Grid) -> float:
    """Mean inside a part; between thick slices a bubble of gas is mostly edge."""
    inside = morphology.erode(part, morphology.ball(NECK_MM, grid.spacing_mm))
    if int(slice_sizes(inside).sum()) * grid.voxel_litres < SMALLEST_LITRES:
        inside = part
    return float(means(inside, volume, np.ones(inside.starts.size, np.int32), 1)[1])


class _Lungs:
    """The lungs, and how other air lies to them."""

    def __init__(self, air: Runs, grid: Grid) -> None:
        self.air, self.grid = air, grid
        self.first, self.last = boxes(air, np.ones(air.starts.size, np.int32), 1)[1]
        z, y, x = (max(1, round(COARSE_MM / step)) for step in grid.spacing_mm)
        self.steps = z, y, x
        self.lowest = _lowest(paint_coarse(air, np.ones(air.starts.size, np.uint8), self.steps))

    def is_foreign(self, part: Runs, eroded_mm: float, *, dark: bool) -> bool:
        """Whether air beside the lungs is none of theirs."""
        near, far = (morphology.ball(eroded_mm + away, self.grid.spacing_mm) for away in AROUND_MM)
        ring = difference(morphology.dilate(part, far), morphology.dilate(part, near))
        around = overlap(ring, self.air) / max(1, int(slice_sizes(ring).sum()))
        z, y, x = moments(part, np.ones(part.starts.size, np.int32), 1)[1, :3]
        _, first_y, first_x = self.first
        last_z, last_y, last_x = self.last
        if around < APART and (z > last_z or not first_y < y < last_y or not first_x < x < last_x):
            return True
        if not dark or around > AMID:
            return False
        return around < BESIDE or not self._go_on_below(part)

    def _go_on_below(self, part: Runs) -> bool:
        lowest = _lowest(paint_coarse(part, np.ones(part.starts.size, np.uint8), self.steps))
        columns = lowest < NOWHERE
        if not columns.any():
            return True
        # A bubble's own edge lies below what was found of it.
        return bool(np.mean(self.lowest[columns] + EDGE_STEPS < lowest[columns]) > BELOW)


def _lowest(painted: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Of each column the lowest slice that is set."""
    return np.where(painted.any(axis=0), painted.argmax(axis=0), NOWHERE)
