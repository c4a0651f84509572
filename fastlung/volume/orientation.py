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
    from collections.abc import Sequence

    import numpy.typing as npt

    from fastlung.kernels.runs import Runs

__all__ = [
    "Box",
    "Orientation",
    "box_above",
    "box_of_body",
    "box_of_lungs",
    "box_of_middle",
    "canonical_grid",
    "cut_array",
    "cut_grid",
    "in_order",
    "last_voxels",
    "multiples",
    "next_multiples",
    "orientation_of",
    "packed",
    "padded",
    "reversed_axes",
    "turned",
    "turned_back",
    "widened",
]


#: Side of what is copied at once where axes change places, in voxels.
TILE = 8


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


def packed(view: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """
    A C-contiguous copy of a view whose axes run in another order.

    Tile by tile of 8 x 8 along the axes that are fastest there and here, so that cache lines are
    used whole: 0.20 s for 256 x 384 x 384 float32 turned to (x, y, z), 0.65 s in one go.
    """
    out = np.empty(view.shape, view.dtype)
    steps = np.where(np.array(view.shape) > 1, np.abs(view.strides), np.inf)
    fast, last = int(np.argmin(steps)), view.ndim - 1
    if fast == last:
        return np.ascontiguousarray(view)
    tile: list[slice] = [slice(None)] * view.ndim
    for i, j in itertools.product(
        range(0, view.shape[fast], TILE), range(0, view.shape[last], TILE)
    ):
        tile[fast], tile[last] = slice(i, i + TILE), slice(j, j + TILE)
        out[tuple(tile)] = view[tuple(tile)]
    return out


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


def widened(box: Box, margin_mm: float, grid: Grid, margin_voxels: int = 0) -> Box:
    """The box with at least that much more on every side, as far as the volume reaches."""
    margin = [int(np.ceil(margin_mm / step)) + margin_voxels for step in grid.spacing_mm]
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


def box_above(image: npt.NDArray[Any], value: float) -> Box | None:
    """Smallest box around all voxels above a value; None without any."""
    found: npt.NDArray[np.bool_] = image > value
    flat: npt.NDArray[np.bool_] = np.any(found, axis=0)
    axes = (np.any(found, axis=(1, 2)), np.any(flat, axis=1), np.any(flat, axis=0))
    if not flat.any():
        return None
    ends = [(int(axis.argmax()), int(axis.size - axis[::-1].argmax())) for axis in axes]
    (z, z_stop), (y, y_stop), (x, x_stop) = ends
    return Box((z, y, x), (z_stop, y_stop, x_stop))


def box_of_middle(
    shape: Sequence[int], size: Sequence[int], odd: str, reversed_axes: Sequence[bool]
) -> Box:
    """
    Middle of a volume.

    Parameters
    ----------
    shape, size : sequence of int
        Voxels that there are and that are wanted, along ``(z, y, x)``; a shorter axis stays.
    odd : {"before", "after", "monai"}
        Whether of an odd number of voxels to cut the larger part goes from the beginning, or the
        smaller; ``monai`` begins at ``shape // 2 - size // 2``.
    reversed_axes : sequence of bool
        Axes whose beginning, in the author's order, is our end.
    """
    first, stop = [], []
    for have, want, turned in zip(shape, size, reversed_axes, strict=True):
        kept = min(have, want)
        cut = have - kept
        begin = have // 2 - kept // 2 if odd == "monai" else halved(cut, odd)
        if turned:
            begin = cut - begin
        first.append(begin)
        stop.append(begin + kept)
    return Box((first[0], first[1], first[2]), (stop[0], stop[1], stop[2]))


def multiples(shape: Sequence[int], unit: Sequence[int]) -> list[int]:
    """The largest multiples that a shape holds; an axis shorter than one as it is."""
    return [have // step * step or have for have, step in zip(shape, unit, strict=True)]


def next_multiples(shape: Sequence[int], unit: Sequence[int]) -> list[int]:
    """The smallest multiples that hold a shape."""
    return [-(-have // step) * step for have, step in zip(shape, unit, strict=True)]


def halved(count: int, odd: str) -> int:
    """How many of some voxels go to the beginning."""
    return -(-count // 2) if odd == "before" else count // 2


def padded(
    array: npt.NDArray[Any],
    shape: tuple[int, int, int],
    fill: float,
    odd: str,
    reversed_axes: Sequence[bool],
) -> tuple[npt.NDArray[Any], Box]:
    """
    Put an array in the middle of a larger one.

    Parameters
    ----------
    array : ndarray, shape (z, y, x)
        Any voxels.
    shape : tuple of int
        Wanted shape, nowhere less.
    fill : float
        Value of what is added.
    odd, reversed_axes
        As in `box_of_middle`.

    Returns
    -------
    array : ndarray
        Of `shape`.
    box : Box
        What it is, in voxels of the smaller one; its first voxel has indices of 0 or less.
    """
    before = []
    for have, want, turned in zip(array.shape, shape, reversed_axes, strict=True):
        more = halved(want - have, odd)
        before.append(want - have - more if turned else more)
    out = np.full(shape, fill, array.dtype)
    inside = tuple(slice(b, b + n) for b, n in zip(before, array.shape, strict=True))
    out[inside] = array
    z, y, x = before
    return out, Box((-z, -y, -x), (shape[0] - z, shape[1] - y, shape[2] - x))
