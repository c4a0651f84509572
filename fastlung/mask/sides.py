"""Right lung from left lung, also where they touch in front of the heart or behind it."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import distance_transform_edt

from fastlung.kernels import morphology
from fastlung.kernels.bits import runs_at_most
from fastlung.kernels.labels import label
from fastlung.kernels.overlap import boxes
from fastlung.kernels.runs import (
    Runs,
    complement,
    difference,
    magnified,
    moments,
    paint_coarse,
    select,
    sizes,
    union,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastlung.scan import Grid

__all__ = ["split_sides"]

#: A component is one lung, not both, if a second one has at least this part of its volume.
SECOND_PART = 0.15
#: Radii by which joined lungs are eroded until they part, in millimetres.
EROSIONS_MM = (1.0, 2.0, 3.0, 4.5, 6.0, 8.0, 11.0)
#: Voxels are assigned to the nearer core on a grid this coarse, in millimetres.
COARSE_MM = 4.0

RIGHT, LEFT = 1, 2


def split_sides(
    pieces: Runs, labels: npt.NDArray[np.int32], grid: Grid, middle_mm: float
) -> tuple[Runs, Runs]:
    """
    Share the pieces of lung between right and left.

    Parameters
    ----------
    pieces : Runs
        All lung, in a canonical grid (x grows to the patient's left).
    labels : ndarray of int32, shape (runs,)
        Connected component of each run.
    grid : Grid
        That grid.
    middle_mm : float
        Where the middle of the body lies along x, in millimetres from the first voxel.

    Returns
    -------
    right, left : Runs
        Every piece in one of them. Touching lungs are cut half way between the cores that erosion
        parts, or at the middle of the body where it parts none; a single lung stays whole.
    """
    count = int(labels.max(initial=0))
    cores = _two_largest(pieces, labels, count, grid)
    if cores is None:
        return _cut(pieces, grid, middle_mm)
    x = moments(pieces, labels, count)[:, 2]
    middle = (x[cores[0]] + x[cores[1]]) / 2
    on_right = x[labels] < middle
    return select(pieces, on_right), select(pieces, ~on_right)


def _two_largest(
    pieces: Runs, labels: npt.NDArray[np.int32], count: int, grid: Grid
) -> tuple[int, int] | None:
    """Labels of the two largest components, right one first, if both may be a lung."""
    if count <= 1:
        return None
    voxels = sizes(pieces, labels, count)
    second, first = (int(i) for i in np.argsort(voxels, kind="stable")[-2:])
    if voxels[second] < SECOND_PART * voxels[first]:
        return None
    # Lungs lie side by side; two parts of one lung mostly above or behind one another.
    centres = moments(pieces, labels, count)[:, :3] * grid.spacing_mm
    z, y, x = centres[second] - centres[first]
    if abs(x) < max(abs(y), abs(z)):
        return None
    return (second, first) if x < 0 else (first, second)


def _cut(pieces: Runs, grid: Grid, middle_mm: float) -> tuple[Runs, Runs]:
    """Erode until two cores part, then give every voxel to the nearer core."""
    for radius_mm in EROSIONS_MM:
        core = morphology.erode(pieces, morphology.ball(radius_mm, grid.spacing_mm))
        labels, count = label(core, 6)
        pair = _two_largest(core, labels, count, grid)
        if pair is not None:
            return _nearer(pieces, core, labels, pair, grid)
    return _by_middle(pieces, middle_mm / grid.spacing_mm[2], grid)


def _nearer(
    pieces: Runs, core: Runs, labels: npt.NDArray[np.int32], pair: tuple[int, int], grid: Grid
) -> tuple[Runs, Runs]:
    values = np.zeros(labels.size, np.uint8)
    values[labels == pair[0]] = RIGHT
    values[labels == pair[1]] = LEFT
    z, y, x = (max(1, round(COARSE_MM / s)) for s in grid.spacing_mm)
    seeds = paint_coarse(core, values, (z, y, x))
    everything = paint_coarse(pieces, np.ones(pieces.starts.size, np.uint8), (z, y, x))
    # Only around the lungs: half of the volume, and half of the time.
    box = _box(everything)
    nearest = distance_transform_edt(
        seeds[box] == 0,
        sampling=np.multiply((z, y, x), grid.spacing_mm),
        return_distances=False,
        return_indices=True,
    )
    sides = np.full_like(seeds, LEFT)
    sides[box] = seeds[box][tuple(nearest)]
    right_side = magnified(runs_at_most(sides, RIGHT), (z, y, x), core.shape)
    return difference(pieces, complement(right_side)), difference(pieces, right_side)


def _box(coarse: npt.NDArray[np.uint8]) -> tuple[slice, ...]:
    """Around all that is set, one voxel wider: what lies between the painted voxels counts too."""
    ranges = []
    for axis in range(3):
        filled = np.flatnonzero(coarse.any(axis=tuple({0, 1, 2} - {axis})))
        ranges.append(slice(max(0, int(filled[0]) - 1), int(filled[-1]) + 2))
    return tuple(ranges)


def _by_middle(pieces: Runs, middle_voxel: float, grid: Grid) -> tuple[Runs, Runs]:
    """
    Each piece whole on one side, unless much of it lies on both: that is cut at the middle.

    Two lungs are wider than they are deep, one is not, wherever the middle is thought to be.
    """
    labels, count = label(pieces, 6)
    rows, width = pieces.offsets.size - 1, round(middle_voxel)
    half = Runs(
        pieces.shape,
        np.arange(rows + 1),
        np.zeros(rows, np.uint16),
        np.full(rows, width, np.uint16),
    )
    on_right: list[Runs] = []
    on_left: list[Runs] = []
    for piece in (select(pieces, labels == number) for number in range(1, count + 1)):
        sides = difference(piece, complement(half)), difference(piece, half)
        small, large = sorted(_voxels(side) for side in sides)
        first, last = boxes(piece, np.ones(piece.starts.size, np.int32), 1)[1]
        _, deep_mm, wide_mm = (last - first) * grid.spacing_mm
        if small < SECOND_PART * large or wide_mm < deep_mm:
            whole = on_right if _voxels(sides[0]) == large else on_left
            whole.append(piece)
        else:
            on_right.append(sides[0])
            on_left.append(sides[1])
    nothing = select(pieces, np.zeros(labels.size, np.bool_))
    return reduce(union, on_right, nothing), reduce(union, on_left, nothing)


def _voxels(runs: Runs) -> int:
    return int(runs.stops.sum(dtype=np.int64) - runs.starts.sum(dtype=np.int64))
