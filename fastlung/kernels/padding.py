"""
Voxels that were never measured: kept out of interpolation, and blank afterwards.

A scanner fills what lies outside its circle with a number. Interpolated with tissue it gives values
that are neither, and a spline rings along the whole edge. So the tissue at the edge is continued
outwards before rows are resampled, and what comes from outside is blanked after.
"""

from numba import njit

__all__ = ["blank_row", "blank_scattered", "extend_row"]


@njit(nogil=True, cache=True)
def extend_row(row, mark):
    """
    Replace marked voxels of a row by the nearest unmarked one, the right of two as near.

    Parameters
    ----------
    row : ndarray of float32, shape (x,)
        Changed in place; must hold something unmarked.
    mark : float
        Value of the voxels that were never measured.

    Returns
    -------
    first, stop : int
        First unmarked voxel, and one past the last.
    """
    width = row.shape[0]
    first = 0
    while row[first] == mark:
        first += 1
    stop = width
    while row[stop - 1] == mark:
        stop -= 1
    row[:first] = row[first]
    row[stop:] = row[stop - 1]
    x = first + 1
    while x < stop:
        if row[x] != mark:
            x += 1
            continue
        begin = x
        while row[x] == mark:
            x += 1
        middle = (begin + x) // 2
        row[begin:middle] = row[begin - 1]
        row[middle:x] = row[x]
    return first, stop


@njit(nogil=True, cache=True)
def blank_row(first, stop, columns, value, out):
    """
    Overwrite what comes from outside the measured part of a row.

    Parameters
    ----------
    first, stop : int
        First measured voxel of the input row, and one past the last.
    columns : ndarray of int64, shape (x_out,)
        Nearest input column of each output one, ascending; -1 at either end where it lies outside
        the slice.
    value : int
        What to write.
    out : ndarray of int16, shape (x_out,)
        Changed in place.
    """
    begin, end = 0, out.shape[0]
    while begin < end and columns[begin] < first:
        out[begin] = value
        begin += 1
    while end > begin and (columns[end - 1] >= stop or columns[end - 1] < 0):
        end -= 1
        out[end] = value


@njit(nogil=True, cache=True)
def blank_scattered(row, mark, columns, value, out):
    """Overwrite what comes from marked voxels anywhere in a row; parameters as in `blank_row`."""
    for x in range(out.shape[0]):
        if columns[x] >= 0 and row[columns[x]] == mark:
            out[x] = value
