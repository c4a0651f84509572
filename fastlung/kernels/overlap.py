"""
Where masks made of runs lie: boxes, what two share, and the measured field of view.

Scanners reconstruct a circle and fill the corners with a number, which fastlung makes -1024 HU.
Row by row the field is a stretch, so two numbers a row say where it lies.
"""

import numpy as np

from fastlung.kernels.jit import njit
from fastlung.kernels.runs import Runs, select

__all__ = ["boxes", "field_of_view", "in_field", "on_field_edge", "overlap", "overlaps"]


def boxes(runs: Runs, labels: np.ndarray, count: int) -> np.ndarray:
    """
    Smallest box around each label.

    Returns
    -------
    ndarray of int64, shape (count + 1, 2, 3)
        By label: first ``(z, y, x)``, and one past the last; all 0 where a label has no voxels.
    """
    out = np.zeros((count + 1, 2, 3), np.int64)
    _find_boxes(runs.shape[1], runs.offsets, runs.starts, runs.stops, labels, out)
    return out


def overlap(first: Runs, second: Runs) -> int:
    """Voxels that two masks of one shape have in common."""
    return int(
        _overlap(
            first.offsets, first.starts, first.stops, second.offsets, second.starts, second.stops
        )
    )


def overlaps(runs: Runs, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Which labels lie on one another from slice to slice, and on how many voxels.

    Parameters
    ----------
    runs : Runs
        The mask.
    labels : ndarray of int32, shape (runs,)
        Labels of its slices; runs with 0 are passed over.

    Returns
    -------
    pairs : ndarray of int64, shape (pairs, 2)
        Label in the lower slice, label in the slice above; each pair once.
    voxels : ndarray of int64, shape (pairs,)
        Voxels of either that lie straight above or below one of the other.
    """
    below, above, shared = _overlaps(runs.shape[1], runs.offsets, runs.starts, runs.stops, labels)
    # As one number a pair: sorting pairs takes eight times as long.
    base = np.int64(labels.max(initial=0)) + 1
    pairs, number = np.unique(below * base + above, return_inverse=True)
    voxels = np.bincount(number, weights=shared, minlength=pairs.size).astype(np.int64)
    return np.stack(np.divmod(pairs, base), axis=1), voxels


@njit(nogil=True, cache=True)
def _find_boxes(height, offsets, starts, stops, labels, out):
    for row in range(offsets.shape[0] - 1):
        z, y = divmod(row, height)
        for run in range(offsets[row], offsets[row + 1]):
            low, high = out[labels[run], 0], out[labels[run], 1]
            if high[2] == 0:
                low[0], low[1], low[2] = z, y, starts[run]
            low[1], low[2] = min(low[1], y), min(low[2], np.int64(starts[run]))
            high[0] = z + 1
            high[1], high[2] = max(high[1], y + 1), max(high[2], np.int64(stops[run]))


@njit(nogil=True, cache=True)
def _overlap(a_offsets, a_starts, a_stops, b_offsets, b_starts, b_stops):
    total = 0
    for row in range(a_offsets.shape[0] - 1):
        a, b = a_offsets[row], b_offsets[row]
        while a < a_offsets[row + 1] and b < b_offsets[row + 1]:
            shared = np.int64(min(a_stops[a], b_stops[b])) - np.int64(max(a_starts[a], b_starts[b]))
            total += max(shared, 0)
            if a_stops[a] < b_stops[b]:
                a += 1
            else:
                b += 1
    return total


@njit(nogil=True, cache=True)
def _overlaps(height, offsets, starts, stops, labels):
    size = 2 * starts.shape[0] + 1
    below, above = np.empty(size, np.int64), np.empty(size, np.int64)
    shared = np.empty(size, np.float64)
    count = 0
    for row in range(height, offsets.shape[0] - 1):
        here, there = offsets[row], offsets[row - height]
        while here < offsets[row + 1] and there < offsets[row - height + 1]:
            length = np.int64(min(stops[here], stops[there])) - np.int64(
                max(starts[here], starts[there])
            )
            if length > 0 and labels[here] != 0 and labels[there] != 0:
                last = count - 1
                # Neighbouring runs mostly repeat the pair before.
                if count > 0 and below[last] == labels[there] and above[last] == labels[here]:
                    shared[last] += length
                else:
                    below[count], above[count] = labels[there], labels[here]
                    shared[count] = length
                    count += 1
            if stops[here] < stops[there]:
                here += 1
            else:
                there += 1
    return below[:count].copy(), above[:count].copy(), shared[:count].copy()


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
