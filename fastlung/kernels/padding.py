"""
Voxels that were never measured: kept out of interpolation, and blank afterwards.

A scanner fills what lies outside its circle with a number. Interpolated with tissue it gives values
that are neither, and a spline rings along the whole edge. So the tissue at the edge is continued
outwards before the volume is resampled, and what comes from outside is blanked after.
"""

import numpy as np
from numba import njit

__all__ = ["blank", "extend"]


@njit(nogil=True, cache=True)
def extend(volume, mark):
    """
    Replace marked voxels by the nearest unmarked one of their row, or else of their column.

    Parameters
    ----------
    volume : ndarray of int16, shape (z, y, x), C-contiguous
        Changed in place. Slices with nothing unmarked stay as they are.
    mark : int
        Value of the voxels that were never measured.
    """
    depth, height, width = volume.shape
    filled = np.empty(height, np.bool_)
    for z in range(depth):
        found = False
        for y in range(height):
            row = volume[z, y]
            first = 0
            while first < width and row[first] == mark:
                first += 1
            filled[y] = first < width
            if first == width:
                continue
            found = True
            row[:first] = row[first]
            x = first + 1
            while x < width:
                if row[x] != mark:
                    x += 1
                    continue
                stop = x
                while stop < width and row[stop] == mark:
                    stop += 1
                middle = stop if stop == width else (x + stop) // 2
                row[x:middle] = row[x - 1]
                if stop < width:
                    row[middle:stop] = row[stop]
                x = stop
        if found:
            _extend_rows(volume[z], filled)


@njit(nogil=True, cache=True)
def _extend_rows(plane, filled):
    """Copy into each unfilled row the nearest filled one."""
    height = filled.shape[0]
    for y in range(height):
        if filled[y]:
            continue
        for distance in range(1, height):
            if y - distance >= 0 and filled[y - distance]:
                plane[y] = plane[y - distance]
                break
            if y + distance < height and filled[y + distance]:
                plane[y] = plane[y + distance]
                break


@njit(nogil=True, cache=True)
def blank(marked, z_index, y_index, x_index, value, out):
    """
    Overwrite output voxels whose nearest input voxel was not measured.

    Parameters
    ----------
    marked : ndarray of bool, shape (z, y, x)
        Input voxels that were not measured.
    z_index : ndarray of int64, shape (z_out,)
        Nearest input slice of each output slice.
    y_index, x_index : ndarray of int64, shape (bands, n_out)
        Nearest input row and column of each output one, for each slice, or once for all of them;
        -1 where it lies outside the slice.
    value : int
        What to write.
    out : ndarray of int16, shape (z_out, y_out, x_out)
        Changed in place.
    """
    for z in range(out.shape[0]):
        source = z_index[z]
        rows = y_index[source % y_index.shape[0]]
        columns = x_index[source % x_index.shape[0]]
        for y in range(out.shape[1]):
            target = out[z, y]
            if rows[y] < 0:
                target[:] = value
                continue
            row = marked[source, rows[y]]
            for x in range(target.shape[0]):
                if columns[x] < 0 or row[columns[x]]:
                    target[x] = value
