"""
Masks as run-length rows, and what can be asked of them without touching a voxel.

A chest has about a hundred voxels to a run, so labelling, measuring and filling on runs cost a
few per cent of what they cost on voxels. Connected components are in `fastlung.kernels.labels`.
"""

from typing import NamedTuple

import numpy as np

from fastlung.kernels.jit import njit

__all__ = [
    "Runs",
    "complement",
    "cropped",
    "difference",
    "magnified",
    "means",
    "moments",
    "on_plane_border",
    "paint",
    "paint_coarse",
    "placed",
    "select",
    "sizes",
    "slice_sizes",
    "union",
    "within",
]


class Runs(NamedTuple):
    """
    A binary ``(z, y, x)`` volume as half-open runs along x.

    Attributes
    ----------
    shape : tuple of int
        Shape ``(z, y, x)`` of the volume; x at most 65535.
    offsets : ndarray of int64, shape (z * y + 1,)
        The runs of row ``z * y_count + y`` are ``offsets[row]:offsets[row + 1]``.
    starts, stops : ndarray of uint16, shape (runs,)
        First voxel of each run, and the one after its last; ascending and apart within a row.
    """

    shape: tuple[int, int, int]
    offsets: np.ndarray
    starts: np.ndarray
    stops: np.ndarray


def complement(runs: Runs) -> Runs:
    """Runs of every voxel that is not in `runs`."""
    offsets = np.empty_like(runs.offsets)
    starts, stops = _complement(runs.shape[2], runs.offsets, runs.starts, runs.stops, offsets)
    return Runs(runs.shape, offsets, starts, stops)


def select(runs: Runs, keep: np.ndarray) -> Runs:
    """
    Only some of the runs.

    Parameters
    ----------
    runs : Runs
        Where to choose from.
    keep : ndarray of bool, shape (runs,)
        Which runs stay.
    """
    offsets = np.empty_like(runs.offsets)
    count = int(np.count_nonzero(keep))
    starts, stops = np.empty(count, np.uint16), np.empty(count, np.uint16)
    _select(runs.offsets, runs.starts, runs.stops, keep, offsets, starts, stops)
    return Runs(runs.shape, offsets, starts, stops)


def within(runs: Runs, left: int, right: int) -> Runs:
    """Runs of the voxels whose x index is at least `left` and less than `right`."""
    starts = np.clip(runs.starts, left, max(left, right)).astype(np.uint16)
    stops = np.clip(runs.stops, left, max(left, right)).astype(np.uint16)
    return select(Runs(runs.shape, runs.offsets, starts, stops), starts < stops)


def union(first: Runs, second: Runs) -> Runs:
    """Runs of the voxels in either of two masks of one shape; touching runs become one."""
    offsets = np.empty_like(first.offsets)
    starts, stops = _union(
        first.offsets, first.starts, first.stops,
        second.offsets, second.starts, second.stops, offsets,
    )  # fmt: skip
    return Runs(first.shape, offsets, starts, stops)


def difference(first: Runs, second: Runs) -> Runs:
    """Runs of the voxels in the first of two masks of one shape and not in the second."""
    offsets = np.empty_like(first.offsets)
    starts, stops = _difference(
        first.offsets, first.starts, first.stops,
        second.offsets, second.starts, second.stops, offsets,
    )  # fmt: skip
    return Runs(first.shape, offsets, starts, stops)


def sizes(runs: Runs, labels: np.ndarray, count: int) -> np.ndarray:
    """
    Voxels of each label.

    Parameters
    ----------
    runs : Runs
        The labelled mask.
    labels : ndarray of int32, shape (runs,)
        Label of each run, 1 to `count`; 0 is counted nowhere.
    count : int
        Highest label.

    Returns
    -------
    ndarray of int64, shape (count + 1,)
        Voxels by label; entry 0 is 0.
    """
    lengths = runs.stops.astype(np.int64) - runs.starts
    totals = np.bincount(labels, weights=lengths, minlength=count + 1).astype(np.int64)
    totals[0] = 0
    return totals


def moments(runs: Runs, labels: np.ndarray, count: int) -> np.ndarray:
    """
    Centre of mass and extent of each label.

    Returns
    -------
    ndarray of float64, shape (count + 1, 5)
        By label: mean z, y and x index, then lowest and highest z index. Rows of labels
        without voxels are NaN.
    """
    out = np.empty((count + 1, 5))
    _moments(runs.shape[1], runs.offsets, runs.starts, runs.stops, labels, out)
    return out


def means(runs: Runs, volume: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """
    Mean value of a volume under each label.

    Parameters
    ----------
    volume : ndarray of int16 or float32, shape ``runs.shape``, C-contiguous
        Voxels, such as Hounsfield units.

    Returns
    -------
    ndarray of float64, shape (count + 1,)
        By label; NaN where a label has no voxels.
    """
    totals = np.zeros(count + 1)
    rows = volume.reshape(-1, volume.shape[2])
    _sums(runs.offsets, runs.starts, runs.stops, labels, rows, totals)
    voxels = sizes(runs, labels, count)
    average = np.full(count + 1, np.nan)
    np.divide(totals, voxels, out=average, where=voxels > 0)
    return average


def on_plane_border(runs: Runs, labels: np.ndarray, count: int) -> np.ndarray:
    """
    Which labels touch the border of their slice, in the plane.

    Returns
    -------
    ndarray of bool, shape (count + 1,)
        By label; entry 0 is False.
    """
    touches = np.zeros(count + 1, np.bool_)
    height, width = runs.shape[1:]
    y = np.repeat(np.arange(runs.offsets.size - 1) % height, np.diff(runs.offsets))
    border = (y == 0) | (y == height - 1) | (runs.starts == 0) | (runs.stops == width)
    touches[labels[border]] = True
    touches[0] = False
    return touches


def slice_sizes(runs: Runs) -> np.ndarray:
    """
    Voxels of each slice.

    Returns
    -------
    ndarray of int64, shape (z,)
        By slice.
    """
    before = np.concatenate(([0], np.cumsum(runs.stops.astype(np.int64) - runs.starts)))
    return np.diff(before[runs.offsets[:: runs.shape[1]]])


def paint_coarse(runs: Runs, values: np.ndarray, steps: tuple[int, int, int]) -> np.ndarray:
    """
    Paint only every so many voxels, as if `paint` and then a slice with steps.

    Parameters
    ----------
    runs : Runs
        Which voxels.
    values : ndarray of uint8, shape (runs,)
        What to write.
    steps : tuple of int
        Every how many voxels along ``(z, y, x)``.

    Returns
    -------
    ndarray of uint8
        What ``volume[::steps[0], ::steps[1], ::steps[2]]`` would be.
    """
    out = np.zeros([-(-n // step) for n, step in zip(runs.shape, steps, strict=True)], np.uint8)
    _paint_coarse(runs.shape[1], runs.offsets, runs.starts, runs.stops, values, *steps, out)
    return out


def cropped(runs: Runs, first: tuple[int, int, int], last: tuple[int, int, int]) -> Runs:
    """
    The mask within a box that holds all of it.

    Parameters
    ----------
    runs : Runs
        The mask.
    first, last : tuple of int
        First voxel ``(z, y, x)`` of the box, and the one after its last.
    """
    rows = np.arange(first[0], last[0])[:, None] * runs.shape[1] + np.arange(first[1], last[1])
    counts = np.diff(runs.offsets)[rows.reshape(-1)]
    z, y, x = (int(end - start) for start, end in zip(first, last, strict=True))
    offsets = np.concatenate(([0], np.cumsum(counts)))
    left = np.uint16(first[2])
    return Runs((z, y, x), offsets, runs.starts - left, runs.stops - left)


def placed(runs: Runs, first: tuple[int, int, int], shape: tuple[int, int, int]) -> Runs:
    """
    Undo `cropped`: the runs of a part of a volume, in the whole of it.

    Parameters
    ----------
    runs : Runs
        The part.
    first : tuple of int
        Its first voxel ``(z, y, x)`` in the whole.
    shape : tuple of int
        Shape of the whole.
    """
    counts = np.zeros(shape[:2], np.int64)
    rows = tuple(slice(a, a + n) for a, n in zip(first, runs.shape[:2], strict=False))
    counts[rows] = np.diff(runs.offsets).reshape(runs.shape[:2])
    offsets = np.concatenate(([0], np.cumsum(counts)))
    left = np.uint16(first[2])
    return Runs(shape, offsets, runs.starts + left, runs.stops + left)


def magnified(runs: Runs, steps: tuple[int, int, int], shape: tuple[int, int, int]) -> Runs:
    """
    Every voxel of a coarse mask as a block of voxels.

    Parameters
    ----------
    runs : Runs
        The coarse mask.
    steps : tuple of int
        Size of a block along ``(z, y, x)``.
    shape : tuple of int
        Shape of the result, cut from the blocks.
    """
    rows = (
        np.arange(shape[0])[:, None] // steps[0] * runs.shape[1] + np.arange(shape[1]) // steps[1]
    )
    rows = rows.reshape(-1)
    counts = np.diff(runs.offsets)[rows]
    offsets = np.concatenate(([0], np.cumsum(counts)))
    chosen = np.repeat(runs.offsets[rows] - offsets[:-1], counts) + np.arange(offsets[-1])
    edge = np.int64(shape[2])
    starts = np.minimum(runs.starts[chosen].astype(np.int64) * steps[2], edge)
    stops = np.minimum(runs.stops[chosen].astype(np.int64) * steps[2], edge)
    return Runs(shape, offsets, starts.astype(np.uint16), stops.astype(np.uint16))


def paint(runs: Runs, values: np.ndarray, out: np.ndarray) -> None:
    """
    Write a value into the voxels of each run.

    Parameters
    ----------
    runs : Runs
        Which voxels.
    values : ndarray of uint8, shape (runs,)
        What to write; runs with 0 are left as they are.
    out : ndarray of uint8, shape ``runs.shape``, C-contiguous
        Written in place.
    """
    _paint(runs.offsets, runs.starts, runs.stops, values, out.reshape(-1, out.shape[2]))


@njit(nogil=True, cache=True)
def _complement(width, offsets, starts, stops, out_offsets):
    rows = offsets.shape[0] - 1
    out_starts = np.empty(starts.shape[0] + rows, np.uint16)
    out_stops = np.empty(starts.shape[0] + rows, np.uint16)
    count = 0
    for row in range(rows):
        out_offsets[row] = count
        free = 0
        for run in range(offsets[row], offsets[row + 1]):
            if starts[run] > free:
                out_starts[count] = free
                out_stops[count] = starts[run]
                count += 1
            free = stops[run]
        if free < width:
            out_starts[count] = free
            out_stops[count] = width
            count += 1
    out_offsets[rows] = count
    return out_starts[:count].copy(), out_stops[:count].copy()


@njit(nogil=True, cache=True)
def _union(a_offsets, a_starts, a_stops, b_offsets, b_starts, b_stops, out_offsets):
    rows = a_offsets.shape[0] - 1
    out_starts = np.empty(a_starts.shape[0] + b_starts.shape[0], np.uint16)
    out_stops = np.empty(a_starts.shape[0] + b_starts.shape[0], np.uint16)
    count = 0
    for row in range(rows):
        out_offsets[row] = count
        a, a_end = a_offsets[row], a_offsets[row + 1]
        b, b_end = b_offsets[row], b_offsets[row + 1]
        while a < a_end or b < b_end:
            if b >= b_end or (a < a_end and a_starts[a] <= b_starts[b]):
                start, stop = a_starts[a], a_stops[a]
                a += 1
            else:
                start, stop = b_starts[b], b_stops[b]
                b += 1
            if count > out_offsets[row] and start <= out_stops[count - 1]:
                out_stops[count - 1] = max(out_stops[count - 1], stop)
            else:
                out_starts[count] = start
                out_stops[count] = stop
                count += 1
    out_offsets[rows] = count
    return out_starts[:count].copy(), out_stops[:count].copy()


@njit(nogil=True, cache=True)
def _select(offsets, starts, stops, keep, out_offsets, out_starts, out_stops):
    count = 0
    for row in range(offsets.shape[0] - 1):
        out_offsets[row] = count
        for run in range(offsets[row], offsets[row + 1]):
            if keep[run]:
                out_starts[count] = starts[run]
                out_stops[count] = stops[run]
                count += 1
    out_offsets[offsets.shape[0] - 1] = count


@njit(nogil=True, cache=True)
def _difference(a_offsets, a_starts, a_stops, b_offsets, b_starts, b_stops, out_offsets):
    rows = a_offsets.shape[0] - 1
    out_starts = np.empty(a_starts.shape[0] + b_starts.shape[0], np.uint16)
    out_stops = np.empty(a_starts.shape[0] + b_starts.shape[0], np.uint16)
    count = 0
    for row in range(rows):
        out_offsets[row] = count
        b, b_end = b_offsets[row], b_offsets[row + 1]
        for a in range(a_offsets[row], a_offsets[row + 1]):
            free = a_starts[a]
            while b < b_end and b_stops[b] <= free:
                b += 1
            while b < b_end and b_starts[b] < a_stops[a]:
                if b_starts[b] > free:
                    out_starts[count] = free
                    out_stops[count] = b_starts[b]
                    count += 1
                free = b_stops[b]
                if free >= a_stops[a]:
                    break
                b += 1
            if free < a_stops[a]:
                out_starts[count] = free
                out_stops[count] = a_stops[a]
                count += 1
    out_offsets[rows] = count
    return out_starts[:count].copy(), out_stops[:count].copy()


@njit(nogil=True, cache=True)
def _moments(height, offsets, starts, stops, labels, out):
    out[:] = 0.0
    voxels = np.zeros(out.shape[0], np.float64)
    for row in range(offsets.shape[0] - 1):
        z, y = divmod(row, height)
        for run in range(offsets[row], offsets[row + 1]):
            label = labels[run]
            length = np.float64(stops[run]) - np.float64(starts[run])
            if voxels[label] == 0.0:
                out[label, 3] = z
            out[label, 4] = z
            voxels[label] += length
            out[label, 0] += z * length
            out[label, 1] += y * length
            out[label, 2] += length * 0.5 * (np.float64(starts[run]) + np.float64(stops[run]) - 1.0)
    for label in range(out.shape[0]):
        if voxels[label] > 0.0:
            out[label, :3] /= voxels[label]
        else:
            out[label, :] = np.nan


@njit(nogil=True, cache=True)
def _sums(offsets, starts, stops, labels, rows, out):
    for row in range(offsets.shape[0] - 1):
        for run in range(offsets[row], offsets[row + 1]):
            total = 0.0
            for x in range(starts[run], stops[run]):
                total += rows[row, x]
            out[labels[run]] += total


@njit(nogil=True, cache=True)
def _paint_coarse(height, offsets, starts, stops, values, step_z, step_y, step_x, out):
    for z in range(out.shape[0]):
        for y in range(out.shape[1]):
            row = z * step_z * height + y * step_y
            for run in range(offsets[row], offsets[row + 1]):
                first = (starts[run] + step_x - 1) // step_x
                last = (stops[run] + step_x - 1) // step_x
                for x in range(first, last):
                    out[z, y, x] = values[run]


@njit(nogil=True, cache=True)
def _paint(offsets, starts, stops, values, out):
    for row in range(offsets.shape[0] - 1):
        target = out[row]
        for run in range(offsets[row], offsets[row + 1]):
            if values[run] != 0:
                target[starts[run] : stops[run]] = values[run]
