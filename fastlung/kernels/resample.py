"""
Separable resampling: three banded matrices, ``out = Wz . Wy . Wx . volume``.

Interpolation on any rectilinear grid, regular or not, is one linear operator an axis. Each comes
as a band: output sample ``o`` is the weighted sum of the `taps` input samples from ``start[o]``.
`taps` is a multiple of four, so that four multiply-adds share one load and store of the sum and
the number of compiled signatures stays small. The bands in the plane may differ from slice to
slice, which is all that a tilted gantry takes. Building bands is `fastlung.resampling`'s work.

The volume is cut into strips of 32 output rows. Within a strip each slice is converted, passed
along y, turned on its side in a tile and passed along x (so that both passes run over contiguous
memory), and kept in a ring of as many slices as the z band has taps. All of it stays in the
second-level cache: 180 x 512 x 512 to 324 x 348 x 348 with 16 taps takes 0.09 s on one core of
which y is 0.016, x 0.034 and z 0.021 s. Tried and lost: x as dense blocks of 16 outputs without
turning the tile (0.15 s: a load, add and store for every four taps), gathers along x, and whole
slices instead of strips (the ring falls out of cache).
"""

import numpy as np
from numba import njit

__all__ = ["LANES", "resample_floats", "resample_integers"]

#: Rows of a strip, and the width of the tile of the x pass.
LANES = 32


@njit(nogil=True, cache=True, fastmath={"contract"})
def _along_rows(source, start, weights, out):
    """Weighted sums of whole rows: ``out[o] = sum_t weights[o, t] * source[start[o] + t]``."""
    width = out.shape[1]
    for o in range(weights.shape[0]):
        first = start[o]
        row = out[o]
        for t in range(0, weights.shape[1], 4):
            w0, w1, w2, w3 = weights[o, t], weights[o, t + 1], weights[o, t + 2], weights[o, t + 3]
            a, b = source[first + t], source[first + t + 1]
            c, d = source[first + t + 2], source[first + t + 3]
            if t == 0:
                for x in range(width):
                    row[x] = w0 * a[x] + w1 * b[x] + w2 * c[x] + w3 * d[x]
            else:
                for x in range(width):
                    row[x] += w0 * a[x] + w1 * b[x] + w2 * c[x] + w3 * d[x]


@njit(nogil=True, cache=True, fastmath={"contract"})
def _along_tile(source, start, weights, out):
    """`_along_rows` for tiles: a width known to the compiler stays in registers."""
    for o in range(weights.shape[0]):
        first = start[o]
        row = out[o]
        for t in range(0, weights.shape[1], 4):
            w0, w1, w2, w3 = weights[o, t], weights[o, t + 1], weights[o, t + 2], weights[o, t + 3]
            a, b = source[first + t], source[first + t + 1]
            c, d = source[first + t + 2], source[first + t + 3]
            if t == 0:
                for x in range(LANES):
                    row[x] = w0 * a[x] + w1 * b[x] + w2 * c[x] + w3 * d[x]
            else:
                for x in range(LANES):
                    row[x] += w0 * a[x] + w1 * b[x] + w2 * c[x] + w3 * d[x]


@njit(nogil=True, cache=True)
def _turn(source, out):
    """Transpose between rows and tiles; the smaller shape counts."""
    for j in range(min(source.shape[1], out.shape[0])):
        for i in range(min(source.shape[0], out.shape[1])):
            out[j, i] = source[i, j]


@njit(nogil=True, cache=True, fastmath={"contract"})
def _slice_strip(plane, y_start, y_weights, x_start, x_weights, rows, turned, tile, tile_out, out):
    """Resample one strip of one slice in its plane into ``out``, shape (strip rows, x_out)."""
    first = y_start.min()
    last = min(y_start.max() + y_weights.shape[1], plane.shape[0])
    for y in range(first, last):
        source = plane[y]
        row = rows[y - first]
        for x in range(source.shape[0]):
            row[x] = source[x]
    count = y_start.shape[0]
    _along_rows(rows, y_start - first, y_weights, turned[:count])
    _turn(turned, tile)
    _along_tile(tile, x_start, x_weights, tile_out)
    _turn(tile_out, out)


@njit(nogil=True, cache=True)
def _buffers(plane_shape, y_start, y_weights, x_weights, z_taps, width_out):
    """Zeroed work space of one strip; rows past a short input stay zero, as do their weights."""
    y_taps = y_weights.shape[2]
    tallest = 0
    for plane in range(y_start.shape[0]):
        for first in range(0, y_start.shape[1], LANES):
            strip = y_start[plane, first : first + LANES]
            tallest = max(tallest, strip.max() - strip.min() + y_taps)
    width = max(plane_shape[1], x_weights.shape[2])
    rows = np.zeros((tallest, width), np.float32)
    turned = np.zeros((LANES, width), np.float32)
    tile = np.zeros((width, LANES), np.float32)
    tile_out = np.zeros((width_out, LANES), np.float32)
    ring = np.zeros((z_taps, LANES, width_out), np.float32)
    return rows, turned, tile, tile_out, ring


@njit(nogil=True, cache=True, fastmath={"contract"})
def _weigh(ring, first, weights, row, out):
    """One output row of the z pass: the band over the ring's slices."""
    size = ring.shape[0]
    for t in range(0, weights.shape[0], 4):
        w0, w1, w2, w3 = weights[t], weights[t + 1], weights[t + 2], weights[t + 3]
        a, b = ring[(first + t) % size, row], ring[(first + t + 1) % size, row]
        c, d = ring[(first + t + 2) % size, row], ring[(first + t + 3) % size, row]
        if t == 0:
            for x in range(out.shape[0]):
                out[x] = w0 * a[x] + w1 * b[x] + w2 * c[x] + w3 * d[x]
        else:
            for x in range(out.shape[0]):
                out[x] += w0 * a[x] + w1 * b[x] + w2 * c[x] + w3 * d[x]


@njit(nogil=True, cache=True)
def resample_integers(
    volume, z_start, z_weights, y_start, y_weights, x_start, x_weights, low, high, out
):
    """
    Apply three bands to a volume of integers, rounding half to even and saturating.

    Parameters
    ----------
    volume : ndarray of int16, uint16 or uint8, shape (z, y, x), C-contiguous
        Input voxels.
    z_start : ndarray of int64, shape (z_out,)
        First input slice of each output slice; must not decrease.
    z_weights : ndarray of float32, shape (z_out, taps)
        Weights; `taps` is a multiple of four and may exceed the input (with zero weights).
    y_start, x_start : ndarray of int64, shape (bands, n_out)
        First input sample of each output sample, for each slice, or once for all of them.
    y_weights, x_weights : ndarray of float32, shape (bands, n_out, taps)
        Weights.
    low, high : float
        Limits of the output's dtype.
    out : ndarray, shape (z_out, y_out, x_out)
        Filled in place; same dtype as `volume`.
    """
    taps = z_weights.shape[1]
    depth, height, width = out.shape
    rows, turned, tile, tile_out, ring = _buffers(
        volume.shape[1:], y_start, y_weights, x_weights, taps, width
    )
    total = np.zeros(width, np.float32)
    lowest, highest = np.float32(low), np.float32(high)
    for top in range(0, height, LANES):
        bottom = min(top + LANES, height)
        ring[:] = 0.0
        following = z_start[0]
        for z in range(depth):
            while following < min(z_start[z] + taps, volume.shape[0]):
                y_band, x_band = following % y_start.shape[0], following % x_start.shape[0]
                _slice_strip(
                    volume[following], y_start[y_band, top:bottom], y_weights[y_band, top:bottom],
                    x_start[x_band], x_weights[x_band], rows, turned, tile, tile_out,
                    ring[following % taps],
                )  # fmt: skip
                following += 1
            for y in range(top, bottom):
                _weigh(ring, z_start[z], z_weights[z], y - top, total)
                target = out[z, y]
                for x in range(width):
                    target[x] = np.int32(min(max(np.rint(total[x]), lowest), highest))


@njit(nogil=True, cache=True)
def resample_floats(volume, z_start, z_weights, y_start, y_weights, x_start, x_weights, out):
    """Apply three bands to a float32 volume; parameters as in `resample_integers`."""
    taps = z_weights.shape[1]
    depth, height, width = out.shape
    rows, turned, tile, tile_out, ring = _buffers(
        volume.shape[1:], y_start, y_weights, x_weights, taps, width
    )
    for top in range(0, height, LANES):
        bottom = min(top + LANES, height)
        ring[:] = 0.0
        following = z_start[0]
        for z in range(depth):
            while following < min(z_start[z] + taps, volume.shape[0]):
                y_band, x_band = following % y_start.shape[0], following % x_start.shape[0]
                _slice_strip(
                    volume[following], y_start[y_band, top:bottom], y_weights[y_band, top:bottom],
                    x_start[x_band], x_weights[x_band], rows, turned, tile, tile_out,
                    ring[following % taps],
                )  # fmt: skip
                following += 1
            for y in range(top, bottom):
                _weigh(ring, z_start[z], z_weights[z], y - top, out[z, y])
