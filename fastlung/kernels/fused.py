"""
Stored words to resampled Hounsfield units, without a volume in between.

Each row is converted when the first pass of a strip needs it, and rounded to what an int16 volume
would hold, so that the result is bit for bit that of `hu.rescale`, continued tissue,
`resample.resample_volume` and blanking done one after the other. For 180 x 512 x 512 that saves
writing and reading back 94 MB, and where a scanner's circle is padded three more passes.

A row is converted once for each strip that needs it, 1.3 times on average. What was found about it,
its `extent`, is kept in an int32 array of shape (z, y, 3): voxels that were never measured (-1
until the row was looked at), the first measured one, and one past the last. Threads may write the
same numbers there twice.
"""

import numpy as np

from fastlung.kernels.hu import blank_row, blank_scattered, extend_row, rescale_row, slice_rule
from fastlung.kernels.jit import njit
from fastlung.kernels.resample import (
    pass_plane,
    round_row,
    rows_needed,
    served_together,
    weigh_rows,
)

__all__ = ["UNSEEN", "count_padding", "resample_stored"]

#: Marks voxels that were never measured, until they have been resampled; no HU is that low.
MARK = -32768
#: What `extents` is filled with before the first strip.
UNSEEN = -1


@njit(nogil=True, cache=True)
def _load_rows(stored, z, first, last, scale, lowest_hu, clip_hu, extents, lines):
    """Hounsfield units of some rows of a slice, tissue continued over what was never measured."""
    rule = slice_rule(scale, z)
    width = stored.shape[2]
    low, high = np.float32(clip_hu[0]), np.float32(clip_hu[1])
    for y in range(first, last):
        line = lines[y - first, :width]
        unmeasured = rescale_row(stored[z, y], rule, lowest_hu, MARK, line)
        begin, stop = 0, width
        if 0 < unmeasured < width:
            begin, stop = extend_row(line, np.float32(MARK))
        elif unmeasured == width:
            begin = width
            _borrow_row(stored, z, y, rule, lowest_hu, extents, line)
        extents[z, y, 0], extents[z, y, 1], extents[z, y, 2] = unmeasured, begin, stop
        if low > np.float32(MARK) or high < np.float32(-MARK - 1):
            for x in range(width):
                line[x] = min(max(line[x], low), high)


@njit(nogil=True, cache=True)
def _borrow_row(stored, z, y, rule, lowest_hu, extents, line):
    """
    The nearest row of a slice in which something was measured; of two as near the one before.

    A slice without any stays marked.
    """
    height, width = stored.shape[1:]
    for distance in range(1, height):
        for other in (y - distance, y + distance):
            if other < 0 or other >= height or extents[z, other, 0] == width:
                continue
            if rescale_row(stored[z, other], rule, lowest_hu, MARK, line) < width:
                extend_row(line, np.float32(MARK))
                return
            extents[z, other, 0], extents[z, other, 1] = width, width
    line[:] = np.float32(MARK)


@njit(nogil=True, cache=True)
def _blank_rows(
    stored, scale, lowest_hu, clip_hu, extents, nearest, slices, rows, fill_hu, spare, out
):
    """Overwrite voxels of some output slices and rows whose nearest input was not measured."""
    nearest_z, nearest_y, nearest_x = nearest
    width = stored.shape[2]
    line = spare[0, :width]
    for z in range(slices[0], slices[1]):
        source = nearest_z[z]
        lines = nearest_y[source % nearest_y.shape[0]]
        columns = nearest_x[source % nearest_x.shape[0]]
        for y in range(rows[0], rows[1]):
            row = lines[y]
            if row < 0:
                out[z, y, :] = fill_hu
                continue
            if extents[source, row, 0] == UNSEEN:  # rounding may disagree about which is nearer
                _load_rows(stored, source, row, row + 1, scale, lowest_hu, clip_hu, extents, spare)
            first, stop = extents[source, row, 1], extents[source, row, 2]
            blank_row(first, stop, columns, fill_hu, out[z, y])
            if first < stop and extents[source, row, 0] > width - (stop - first):
                rule = slice_rule(scale, source)
                rescale_row(stored[source, row], rule, lowest_hu, MARK, line)
                blank_scattered(line, np.float32(MARK), columns, fill_hu, out[z, y])


@njit(nogil=True, cache=True)
def resample_stored(
    stored, scale, lowest_hu, fill_hu, clip_hu, bands, nearest, extents, work, rows, top, bottom,
    out,
):  # fmt: skip
    """
    Resample stored words as Hounsfield units, what was never measured mixed with nothing.

    Parameters
    ----------
    stored : ndarray of uint16, shape (z, y, x), C-contiguous
        Words as stored.
    scale : tuple of seven ndarray
        How to read them, as in `fastlung.kernels.hu`.
    lowest_hu : float
        Anything below was never measured either.
    fill_hu : int
        Hounsfield units of output voxels whose nearest input voxel was not measured.
    clip_hu : pair of float
        Bounds to which Hounsfield units are clipped before they are interpolated; -32768 and 32767
        for none.
    bands, work, rows, top, bottom
        As in `fastlung.kernels.resample.resample_volume`.
    nearest : tuple of three ndarray of int64
        Nearest input slice of each output slice, shape (z_out,); nearest input row and column of
        each output one, shapes (bands, y_out) and (bands, x_out), for each slice, or once for all
        of them, -1 where that lies outside the slice.
    extents : ndarray of int32, shape (z, y, 3)
        Filled in for every row that is looked at; `UNSEEN` before the first call for a scan.
    out : ndarray of int16, shape (z_out, y_out, x_out)
        Rows from `top` to `bottom` are filled in.
    """
    z_start, z_weights, y_start, y_weights, x_start, x_weights = bands
    taps, y_taps = z_weights.shape[1], y_weights.shape[2]
    lines, _, _, _, ring, total, spare = work
    slots = ring.shape[1]
    for head in range(top, bottom, rows):
        end = min(head + rows, bottom)
        ring[:] = 0.0
        following = z_start[0]
        z = 0
        while z < out.shape[0]:
            stop = served_together(z_start, z)
            while following < min(z_start[stop - 1] + taps, stored.shape[0]):
                y_band, x_band = following % y_start.shape[0], following % x_start.shape[0]
                strip = y_start[y_band, head:end]
                first, last = rows_needed(strip, y_taps, stored.shape[1])
                _load_rows(
                    stored, following, first, last, scale, lowest_hu, clip_hu, extents, lines
                )
                pass_plane(
                    first, strip, y_weights[y_band, head:end],
                    x_start[x_band], x_weights[x_band], following % slots, work,
                )  # fmt: skip
                following += 1
            for y in range(head, end):
                for k in range(z, stop):
                    weigh_rows(ring[y - head], z_start[k] % slots, z_weights[k], total)
                    round_row(total, -32768.0, 32767.0, out[k, y])
            _blank_rows(
                stored, scale, lowest_hu, clip_hu, extents, nearest, (z, stop), (head, end),
                fill_hu, spare, out,
            )  # fmt: skip
            z = stop


@njit(nogil=True, cache=True)
def count_padding(stored, scale, lowest_hu, extents, spare):
    """
    How many voxels were never measured, after all strips.

    Rows that no strip needed, because the output is coarse, are looked at now. Parameters as in
    `resample_stored`; `spare` is work space for a row, shape (1, at least x).
    """
    total = 0
    line = spare[0, : stored.shape[2]]
    for z in range(stored.shape[0]):
        rule = slice_rule(scale, z)
        for y in range(stored.shape[1]):
            if extents[z, y, 0] == UNSEEN:
                total += rescale_row(stored[z, y], rule, lowest_hu, MARK, line)
            else:
                total += extents[z, y, 0]
    return total
