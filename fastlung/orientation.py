"""Which way an array's axes run in the patient, and turning them to LPS, voxels untouched."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastlung.scan import Grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

__all__ = [
    "Orientation",
    "canonical_grid",
    "in_order",
    "last_voxels",
    "orientation_of",
    "reversed_axes",
    "turned",
    "turned_back",
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


def reversed_axes(axes: str) -> tuple[bool, bool, bool]:
    """Which of our ``(z, y, x)`` axes run against those of an orientation such as ``RAS``."""
    return "I" in axes, "A" in axes, "R" in axes


def last_voxels(orientation: Orientation, reversed_axes: Sequence[bool]) -> list[bool]:
    """Whether the voxel that comes first, some canonical axes reversed, is last as acquired."""
    last = [False, False, False]
    for axis, flip, against in zip(orientation.axes, orientation.flips, reversed_axes, strict=True):
        last[axis] = flip != against
    return last


def in_order(array: npt.NDArray[Any], axes: str) -> npt.NDArray[Any]:
    """View of a canonical ``(z, y, x)`` array whose axes run as an orientation such as ``RAS``."""
    ends = ("SI", "PA", "LR")
    order = [next(i for i, pair in enumerate(ends) if letter in pair) for letter in axes]
    steps = [slice(None, None, -1 if against else 1) for against in reversed_axes(axes)]
    return array[tuple(steps)].transpose(order)


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
