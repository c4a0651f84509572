"""
The field of view: which voxels of each row were measured, and what touches its edge.

Scanners reconstruct a circle and fill the corners with a number, which fastlung makes -1024 HU.
Row by row that is a stretch at either end, so two numbers a row say where the field lies.
"""

import numpy as np
from numba import njit

from fastlung.kernels.runs import Runs, select

__all__ = ["field_of_view", "in_field", "on_field_edge"]

#: Voxels looked at together.
_STEP = 32


def field_of_view(volume: np.ndarray, blank_hu: float) -> np.ndarray:
    """
    First and last measured voxel of each row.

    Parameters
    ----------
    volume : ndarray of int16 or float32, shape (z, y, x), C-contiguous
        Hounsfield units.
    blank_hu : float
        What lies at either end of a row and is not above this was not measured, in Hounsfield
        units. Air of less than that only makes the field a little smaller, within air.

    Returns
    -------
    ndarray of uint16, shape (z * y, 2)
        First voxel of the field, and the one after its last; both 0 for an empty row.
    """
    field = np.empty((volume.shape[0] * volume.shape[1], 2), np.uint16)
    # In the type of the voxels: compared as float64 it takes three times as long.
    blank = volume.dtype.type(blank_hu)
    _find_field(volume.reshape(-1, volume.shape[2]), blank, field)
    return field


def in_field(runs: Runs, field: np.ndarray) -> Runs:
    """Runs of the voxels that lie in the field; `field` is what `field_of_view` returns."""
    per_run = np.repeat(field, np.diff(runs.offsets), axis=0)
    starts = np.maximum(runs.starts, per_run[:, 0])
    stops = np.minimum(runs.stops, per_run[:, 1])
    return select(Runs(runs.shape, runs.offsets, starts, stops), starts < stops)


def on_field_edge(runs: Runs, field: np.ndarray) -> np.ndarray:
    """
    Which runs touch the edge of the field in their plane, or that of the array.

    Parameters
    ----------
    runs : Runs
        Within the field.
    field : ndarray of uint16, shape (z * y, 2)
        What `field_of_view` returns.

    Returns
    -------
    ndarray of bool, shape (runs,)
    """
    depth, height = runs.shape[:2]
    empty = np.ones((depth, height + 2), np.bool_)
    empty[:, 1:-1] = (field[:, 0] == field[:, 1]).reshape(depth, height)
    beside = (empty[:, :-2] | empty[:, 2:]).reshape(-1)
    edge = np.zeros(runs.starts.size, np.bool_)
    _find_edges(runs.offsets, runs.starts, runs.stops, field, beside, edge)
    return edge


@njit(nogil=True, cache=True)
def _measured(row, first, stop, blank_hu):
    """Whether any voxel of a stretch was measured; looks at all, which vectorises."""
    found = False
    for x in range(first, stop):
        found |= row[x] > blank_hu
    return found


@njit(nogil=True, cache=True)
def _find_field(rows, blank_hu, field):
    width = rows.shape[1]
    for number in range(rows.shape[0]):
        row = rows[number]
        first = 0
        while first + _STEP <= width and not _measured(row, first, first + _STEP, blank_hu):
            first += _STEP
        while first < width and row[first] <= blank_hu:
            first += 1
        last = width
        while last - _STEP >= first and not _measured(row, last - _STEP, last, blank_hu):
            last -= _STEP
        while last > first and row[last - 1] <= blank_hu:
            last -= 1
        field[number, 0] = first if first < last else 0
        field[number, 1] = last if first < last else 0


@njit(nogil=True, cache=True)
def _find_edges(offsets, starts, stops, field, beside, edge):
    for row in range(offsets.shape[0] - 1):
        for run in range(offsets[row], offsets[row + 1]):
            edge[run] = beside[row] or starts[run] == field[row, 0] or stops[run] == field[row, 1]
