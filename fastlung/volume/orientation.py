"""
Grids turned, cut and fitted: LPS order, the box of body or lungs, a wanted size.

Voxels are moved or left out here, never interpolated.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastlung.kernels.bits import runs_at_most
from fastlung.kernels.labels import label
from fastlung.kernels.runs import complement, difference, select, sizes
from fastlung.scan import Grid

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastlung.kernels.runs import Runs

__all__ = [
    "Box",
    "Orientation",
    "box_of_body",
    "box_of_lungs",
    "canonical_grid",
    "cut_array",
    "cut_grid",
    "fitted",
    "orientation_of",
    "ras_corner",
    "turned",
    "turned_back",
    "widened",
]


class Orientation(NamedTuple):
    """
    How to turn an acquired array so that z runs to the head, y to the back, x to the left.

    Attributes
    ----------
    axes : tuple of int
        Acquired array axis behind each canonical ``(z, y, x)`` axis.
    flips : tuple of bool
        Whether each canonical axis runs against the acquired one.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]


def orientation_of(grid: Grid) -> Orientation:
    """Axes and flips that bring `grid` nearest to LPS; oblique directions stay oblique."""
    direction = np.asarray(grid.direction)  # rows are LPS x, y, z; columns the x, y, z index
    columns = max(
        itertools.permutations(range(3)),
        key=lambda order: sum(abs(direction[axis, order[axis]]) for axis in range(3)),
    )
    z, y, x = ((2 - columns[axis], bool(direction[axis, columns[axis]] < 0)) for axis in (2, 1, 0))
    return Orientation((z[0], y[0], x[0]), (z[1], y[1], x[1]))


def ras_corner(orientation: Orientation) -> tuple[bool, bool, bool]:
    """Whether the voxel that comes first in RAS order is the last along each acquired axis."""
    last = [False, False, False]
    # Of canonical z, y, x the RAS order runs along the first and against the others.
    axes = zip(orientation.axes, orientation.flips, (False, True, True), strict=True)
    for axis, flip, against in axes:
        last[axis] = flip != against
    return last[0], last[1], last[2]


def turned(array: npt.NDArray[Any], orientation: Orientation) -> npt.NDArray[Any]:
    """View of an acquired ``(z, y, x)`` array in canonical order."""
    view = array.transpose(orientation.axes)
    return view[_steps(orientation)]


def turned_back(array: npt.NDArray[Any], orientation: Orientation) -> npt.NDArray[Any]:
    """View of a canonical array in the acquired order; undoes `turned`."""
    return array[_steps(orientation)].transpose(
        [orientation.axes.index(axis) for axis in range(len(orientation.axes))]
    )


def _steps(orientation: Orientation) -> tuple[slice, ...]:
    return tuple(slice(None, None, -1 if flip else 1) for flip in orientation.flips)


def canonical_grid(grid: Grid, orientation: Orientation) -> Grid:
    """
    The grid of an array that was `turned`.

    Parameters
    ----------
    grid : Grid
        Grid of the acquired array.
    orientation : Orientation
        How it was turned.

    Returns
    -------
    Grid
        Same voxels at the same patient points, indexed in canonical order.
    """
    corner = np.zeros(3)
    for axis, flip in zip(orientation.axes, orientation.flips, strict=True):
        corner[axis] = grid.shape[axis] - 1 if flip else 0
    columns = [2 - axis for axis in reversed(orientation.axes)]
    signs = [-1.0 if flip else 1.0 for flip in reversed(orientation.flips)]
    direction = [tuple(row) for row in (np.asarray(grid.direction)[:, columns] * signs).tolist()]
    z, y, x = orientation.axes
    return Grid(
        shape=(grid.shape[z], grid.shape[y], grid.shape[x]),
        spacing_mm=(grid.spacing_mm[z], grid.spacing_mm[y], grid.spacing_mm[x]),
        origin_mm=tuple(grid.to_patient(corner).tolist()),
        direction=(direction[0], direction[1], direction[2]),
    )


#: Half way between lung (-850 HU) and soft tissue (50 HU).
AIR_HU = -400.0

#: Labels of a mask up to this are lung; 3 is airway, which reaches to the top of the scan.
RIGHT_AND_LEFT = 2


class Box(NamedTuple):
    """
    Part of a volume, in voxels.

    Attributes
    ----------
    first, stop : tuple of int
        Index ``(z, y, x)`` of its first voxel, and one past its last.
    """

    first: tuple[int, int, int]
    stop: tuple[int, int, int]


def box_of_lungs(mask: npt.NDArray[np.uint8]) -> Box | None:
    """Smallest box around labels 1 and 2 of a C-contiguous ``(z, y, x)`` mask; None without any."""
    return _box(difference(runs_at_most(mask, RIGHT_AND_LEFT), runs_at_most(mask, 0)))


def box_of_body(hu: npt.NDArray[np.int16]) -> Box | None:
    """
    Smallest box around the largest solid thing in a volume, which leaves out table and blankets.

    Parameters
    ----------
    hu : ndarray of int16, shape (z, y, x), C-contiguous
        Hounsfield units.

    Returns
    -------
    Box or None
        None where there is nothing but air.
    """
    solid = complement(runs_at_most(hu, AIR_HU))
    labels, count = label(solid, 6)
    largest = int(sizes(solid, labels, count).argmax())
    return _box(select(solid, labels == largest))


def _box(runs: Runs) -> Box | None:
    if not runs.starts.size:
        return None
    z, y = np.divmod(np.flatnonzero(np.diff(runs.offsets)), runs.shape[1])
    first = int(z.min()), int(y.min()), int(runs.starts.min())
    return Box(first, (int(z.max()) + 1, int(y.max()) + 1, int(runs.stops.max())))


def widened(box: Box, margin_mm: float, grid: Grid) -> Box:
    """The box with at least `margin_mm` more on every side, as far as the volume reaches."""
    margin = [int(np.ceil(margin_mm / spacing)) for spacing in grid.spacing_mm]
    z, y, x = (max(0, first - more) for first, more in zip(box.first, margin, strict=True))
    ends = zip(box.stop, margin, grid.shape, strict=True)
    z_stop, y_stop, x_stop = (min(end, stop + more) for stop, more, end in ends)
    return Box((z, y, x), (z_stop, y_stop, x_stop))


def cut_array(array: npt.NDArray[Any], box: Box) -> npt.NDArray[Any]:
    """A C-contiguous copy of the part of a ``(z, y, x)`` array in a box."""
    return np.ascontiguousarray(array[tuple(map(slice, box.first, box.stop))])


def cut_grid(grid: Grid, box: Box) -> Grid:
    """The grid of the part in a box: the same voxels at the same patient points."""
    z, y, x = np.subtract(box.stop, box.first).tolist()
    right, back, up = grid.to_patient(box.first).tolist()
    return replace(grid, shape=(z, y, x), origin_mm=(right, back, up))


def fitted(
    array: npt.NDArray[Any], shape: tuple[int, int, int], fill: float
) -> tuple[npt.NDArray[Any], tuple[int, int, int]]:
    """
    Crop or pad an array to a shape, around its middle.

    Parameters
    ----------
    array : ndarray, shape (z, y, x)
        Any voxels.
    shape : tuple of int
        Wanted shape.
    fill : float
        Value of what is added.

    Returns
    -------
    array : ndarray
        Of `shape`. An odd voxel is cut or added at the beginning, as TorchIO's ``CropOrPad`` does.
    offset : tuple of int
        Index ``(z, y, x)`` in `array` of its first voxel; negative where it was padded.
    """
    out = np.full(shape, fill, array.dtype)
    into, part, offset = [], [], []
    for have, want in zip(array.shape, shape, strict=True):
        before = -(-abs(want - have) // 2)
        kept = min(have, want)
        start, begin = (before, 0) if want > have else (0, before)
        into.append(slice(start, start + kept))
        part.append(slice(begin, begin + kept))
        offset.append(begin - start)
    out[tuple(into)] = array[tuple(part)]
    return out, (offset[0], offset[1], offset[2])
