"""Planes and projections of a volume for its picture."""

import numpy as np
from numba import njit

__all__ = ["brightest_along_y", "grey_levels", "plane_areas"]


@njit(nogil=True, cache=True)
def plane_areas(mask, first, last, of_z, of_y, of_x):
    """
    Count the voxels of some labels in every plane along each axis.

    Parameters
    ----------
    mask : ndarray of uint8, shape (z, y, x), C-contiguous
        Labels.
    first, last : int
        Lowest and highest label that counts.
    of_z, of_y, of_x : ndarray of int64, shapes (z,), (y,), (x,)
        Filled in place.
    """
    of_z[:] = 0
    of_y[:] = 0
    of_x[:] = 0
    span = np.uint8(last - first)
    low = np.uint8(first)
    column = np.zeros(mask.shape[2], np.uint16)
    for z in range(mask.shape[0]):
        column[:] = 0
        for y in range(mask.shape[1]):
            row = mask[z, y]
            here = np.uint16(0)
            for x in range(row.shape[0]):
                counts = np.uint16(np.uint8(row[x] - low) <= span)
                column[x] += counts
                here += counts
            of_z[z] += here
            of_y[y] += here
        for x in range(mask.shape[2]):
            of_x[x] += column[x]


@njit(nogil=True, cache=True)
def brightest_along_y(image, mask, out):
    """
    Maximum-intensity projection of what is labelled, seen from the front.

    Parameters
    ----------
    image : ndarray of int16, float32 or uint8, shape (z, y, x), C-contiguous
        Voxels.
    mask : ndarray of uint8, shape (z, y, x), C-contiguous
        Labels; only voxels with one count.
    out : ndarray of the image's dtype, shape (z, x)
        Raised in place, where a voxel is brighter than what it holds.
    """
    for z in range(image.shape[0]):
        target = out[z]
        for y in range(image.shape[1]):
            row, labels = image[z, y], mask[z, y]
            for x in range(target.shape[0]):
                # Masked stores: 0.003 s for 31 million voxels; with max it took 0.04 s.
                if labels[x] != 0 and row[x] > target[x]:
                    target[x] = row[x]


@njit(nogil=True, cache=True)
def grey_levels(plane, rows, columns, low, high, levels, out):
    """
    A plane at other places, linearly interpolated, as grey levels of a window.

    Parameters
    ----------
    plane : ndarray of float32, shape (rows, columns)
        Values.
    rows, columns : ndarray of float32
        Indices where values are wanted; beyond the ends the edge goes on.
    low, high : float
        Values that become the darkest and the brightest level.
    levels : int
        How many levels there are.
    out : ndarray of uint8, shape (rows.size, columns.size)
        Filled in place: 0 to `levels` - 1.
    """
    height, width = plane.shape
    left = np.empty(columns.shape[0], np.int64)
    part = np.empty(columns.shape[0], np.float32)
    for x in range(columns.shape[0]):
        place = min(max(columns[x], np.float32(0.0)), np.float32(width - 1))
        left[x] = min(np.int64(place), max(width - 2, 0))
        part[x] = place - np.float32(left[x])
    right_step = 1 if width > 1 else 0
    scale = np.float32((levels - 1) / (high - low))
    bottom, top = np.float32(low), np.float32(levels - 1)
    line = np.empty(width, np.float32)
    for y in range(rows.shape[0]):
        place = min(max(rows[y], np.float32(0.0)), np.float32(height - 1))
        up = min(np.int64(place), max(height - 2, 0))
        share = place - np.float32(up)
        above, below = plane[up], plane[min(up + 1, height - 1)]
        for x in range(width):
            line[x] = above[x] + share * (below[x] - above[x])
        for x in range(columns.shape[0]):
            a = line[left[x]]
            value = a + part[x] * (line[left[x] + right_step] - a)
            level = min(max((value - bottom) * scale, np.float32(0.0)), top)
            out[y, x] = np.uint8(np.int32(level + np.float32(0.5)))
