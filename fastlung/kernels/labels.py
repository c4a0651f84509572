"""
Connected components of run-length rows, by union-find on runs.

Labels are numbered by the first voxel of each component in array order, as scikit-image's and
SciPy's are.
"""

import numpy as np
from numba import njit

from fastlung.kernels.runs import Runs, complement, select, union

__all__ = ["fill_holes", "label", "label_slices", "on_volume_border"]

#: Neighbouring rows already seen, as (dz, dy, reach): two runs touch if they overlap after one of
#: them has grown by `reach` voxels at both ends.
_ROWS_3D = {
    6: np.array([[0, -1, 0], [-1, 0, 0]]),
    18: np.array([[0, -1, 1], [-1, 0, 1], [-1, -1, 0], [-1, 1, 0]]),
    26: np.array([[0, -1, 1], [-1, -1, 1], [-1, 0, 1], [-1, 1, 1]]),
}
_ROWS_2D = {4: np.array([[0, -1, 0]]), 8: np.array([[0, -1, 1]])}


def label(runs: Runs, connectivity: int) -> tuple[np.ndarray, int]:
    """
    Connected components in three dimensions.

    Parameters
    ----------
    runs : Runs
        The mask.
    connectivity : {6, 18, 26}
        Neighbours a voxel has.

    Returns
    -------
    labels : ndarray of int32, shape (runs,)
        Component of each run, from 1.
    count : int
        How many there are.
    """
    labels, count = _label(
        runs.shape[1], runs.offsets, runs.starts, runs.stops, _ROWS_3D[connectivity]
    )
    return labels, count


def label_slices(runs: Runs, connectivity: int) -> tuple[np.ndarray, int]:
    """
    Connected components within each slice; no component spans two.

    Parameters and returns as `label`, with `connectivity` 4 or 8. Labels ascend with z.
    """
    labels, count = _label(
        runs.shape[1], runs.offsets, runs.starts, runs.stops, _ROWS_2D[connectivity]
    )
    return labels, count


def fill_holes(runs: Runs, connectivity: int = 6) -> Runs:
    """
    Add what the mask encloses in three dimensions.

    Parameters
    ----------
    runs : Runs
        The mask.
    connectivity : {6, 18, 26}
        Neighbours of a background voxel: a hole is background not connected to the border.
    """
    outside = complement(runs)
    labels, count = label(outside, connectivity)
    open_ = on_volume_border(outside, labels, count)
    return union(runs, select(outside, ~open_[labels]))


def on_volume_border(runs: Runs, labels: np.ndarray, count: int) -> np.ndarray:
    """Which labels touch the border of the volume; ndarray of bool, shape (count + 1,)."""
    depth, height, width = runs.shape
    row = np.repeat(np.arange(runs.offsets.size - 1), np.diff(runs.offsets))
    z, y = np.divmod(row, height)
    border = (z == 0) | (z == depth - 1) | (y == 0) | (y == height - 1)
    border |= (runs.starts == 0) | (runs.stops == width)
    touches = np.zeros(count + 1, np.bool_)
    touches[labels[border]] = True
    return touches


@njit(nogil=True, cache=True)
def _root(parent, run):
    while parent[run] != run:
        parent[run] = parent[parent[run]]
        run = parent[run]
    return run


@njit(nogil=True, cache=True)
def _label(height, offsets, starts, stops, neighbour_rows):
    """Union-find over the runs; the lower run is always the root, so numbering follows it."""
    count = starts.shape[0]
    parent = np.arange(count).astype(np.int32)
    rows = offsets.shape[0] - 1
    for row in range(rows):
        if offsets[row] == offsets[row + 1]:
            continue
        z, y = divmod(row, height)
        for n in range(neighbour_rows.shape[0]):
            other_z, other_y = z + neighbour_rows[n, 0], y + neighbour_rows[n, 1]
            if other_z < 0 or other_y < 0 or other_y >= height:
                continue
            reach = neighbour_rows[n, 2]
            other = other_z * height + other_y
            here, there = offsets[row], offsets[other]
            while here < offsets[row + 1] and there < offsets[other + 1]:
                touching = (
                    starts[here] < stops[there] + reach and starts[there] < stops[here] + reach
                )
                # Neighbours mostly belong together already.
                if touching and parent[here] != parent[there]:
                    first, second = _root(parent, here), _root(parent, there)
                    if first < second:
                        parent[second] = first
                    else:
                        parent[first] = second
                if stops[here] < stops[there]:
                    here += 1
                else:
                    there += 1
    labels = np.empty(count, np.int32)
    found = 0
    for run in range(count):
        root = _root(parent, run)
        if root == run:
            found += 1
            labels[run] = found
        else:
            labels[run] = labels[root]
    return labels, found
