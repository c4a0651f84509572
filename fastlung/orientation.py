"""Which way an array's axes run in the patient, and turning them to LPS, voxels untouched."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastlung.scan import Grid

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Orientation", "canonical_grid", "orientation_of", "ras_corner", "turned", "turned_back"]


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
