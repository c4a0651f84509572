"""
Separable resampling: three banded matrices, ``out = Wz . Wy . Wx . volume``.

Interpolation on any rectilinear grid, regular or not, is one linear operator an axis. Each comes
as a band: output sample ``o`` is the weighted sum of the `taps` input samples from ``start[o]``.
`taps` is a multiple of four, so that few loops serve every band and the number of compiled
signatures stays small. The bands in the plane may differ from slice to slice, which is all that a
tilted gantry takes. Building bands is `fastlung.volume.bands`' work.

The output is made in strips of up to 32 rows. Within a strip each slice is converted to float32
rows, passed along y, turned on its side in a tile and passed along x (so that both passes run over
contiguous memory), and kept in a ring of slices that the z pass reads. All of it stays in the
second-level cache. Strips know nothing of one another: how they are shared out changes no bit.

Seconds for 180 x 512 x 512 to 324 x 348 x 348 with 16 taps on one core: 0.060, of which loading is
0.009, y 0.010, x 0.017 with both turns, z 0.017. What brought it down from 0.095, and what did not:

- All 16 taps of a band summed in registers; sums of four added to memory cost 0.015 more.
- The tile is one flat array whose rows are `LANES` apart, a number the compiler knows. As a
  two-dimensional array every tap had its own pointer, spilt and reloaded, and x took 0.022, not
  0.006. The same for y, in panels of 32 columns, lost: copying into panels costs 0.02.
- Buffers start at cache lines: 0.003. Rows are an odd number of lines apart, because 32 rows that
  are 2 KiB apart fall into two sets of the first-level cache: 0.003.
- The ring is kept row by row, and as many output slices as it serves are made of a row while it
  lies in the first-level cache. Slice by slice z took 0.021 and waited for the second level.
- x as dense blocks of 16 outputs without turning: 0.038 for x; gathers along x: more.
"""

import numpy as np

from fastlung.kernels.jit import njit

__all__ = ["LANES", "resample_volume", "work_arrays", "zoom_bytes"]


#: Most rows of a strip, and the width of the tile of the x pass.
LANES = 32

#: Slices that the ring holds beyond those that one output slice is made of.
AHEAD = 8

#: float32 values of a cache line.
LINE = 16


def work_arrays(
    plane_shape: tuple[int, ...], bands: tuple[np.ndarray, ...], width_out: int, rows: int
) -> tuple[np.ndarray, ...]:
    """
    Work space of one thread: float32 arrays that start at cache lines.

    Parameters
    ----------
    plane_shape : tuple of int
        Rows and columns of an input slice.
    bands : tuple of six arrays
        Start and weights of z, y and x, as `resample_volume` takes them.
    width_out : int
        Columns of an output slice.
    rows : int
        Rows of a strip, at most `LANES`.

    Returns
    -------
    tuple of ndarray of float32
        Input rows, shape (tallest strip, pitch); rows after y, shape (LANES, pitch); tiles before
        and after x; the ring, shape (LANES, slots, pitch of the output); one output row; one
        input row. Zeroed: what lies past a short input stays zero, as do its weights.
    """
    _, z_weights, y_start, y_weights, _, x_weights = bands
    heads = range(0, y_start.shape[1], rows)
    strips = (y_start[:, head : head + rows] for head in heads)
    tallest = max(int((s.max(axis=1) - s.min(axis=1)).max()) for s in strips) + y_weights.shape[2]
    width = _whole_tiles(max(plane_shape[1], x_weights.shape[2]))
    width_out = _whole_tiles(width_out)
    shapes = (
        (tallest, width + LINE),
        (LANES, width + LINE),
        (width * LANES,),
        (width_out * LANES,),
        (LANES, z_weights.shape[1] + AHEAD, width_out),
        (width_out,),
        (1, width),
    )
    sizes = [-(-int(np.prod(shape)) // LINE) * LINE for shape in shapes]
    block = np.zeros(sum(sizes) + LINE, np.float32)
    first = (-block.ctypes.data // block.itemsize) % LINE
    ends = first + np.cumsum(sizes)
    return tuple(
        block[end - size : end - size + int(np.prod(shape))].reshape(shape)
        for shape, size, end in zip(shapes, sizes, ends, strict=True)
    )


def _whole_tiles(count: int) -> int:
    return -(-count // LANES) * LANES


@njit(nogil=True, cache=True, fastmath={"contract"})
def weigh_rows(source, first, weights, out):
    """
    Weighted sum of rows: ``out = sum_t weights[t] * source[(first + t) % rows]``.

    Parameters
    ----------
    source : ndarray of float32, shape (rows, at least out.size)
        Rows; after the last comes the first again.
    first : int
        Row of the first weight, below `rows`.
    weights : ndarray of float32, shape (taps,)
        A multiple of four of them.
    out : ndarray of float32, shape (width,)
        Filled in place.
    """
    rows = source.shape[0]
    width = out.shape[0]
    t = 0
    if weights.shape[0] == 16:
        # Sixteen rows at once stay in registers. The order of the sum is that of the loop below.
        a, b, c, d = _four_from(first, rows)
        e, f, g, h = _four_from(first + 4, rows)
        i, j, k, m = _four_from(first + 8, rows)
        n, o, p, q = _four_from(first + 12, rows)
        w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
        w4, w5, w6, w7 = weights[4], weights[5], weights[6], weights[7]
        w8, w9, w10, w11 = weights[8], weights[9], weights[10], weights[11]
        w12, w13, w14, w15 = weights[12], weights[13], weights[14], weights[15]
        for x in range(width):
            total = w0 * source[a, x] + w1 * source[b, x] + w2 * source[c, x] + w3 * source[d, x]
            total += w4 * source[e, x] + w5 * source[f, x] + w6 * source[g, x] + w7 * source[h, x]
            total += w8 * source[i, x] + w9 * source[j, x] + w10 * source[k, x] + w11 * source[m, x]
            total += (
                w12 * source[n, x] + w13 * source[o, x] + w14 * source[p, x] + w15 * source[q, x]
            )
            out[x] = total
        t = 16
    while t < weights.shape[0]:
        a, b, c, d = _four_from(first + t, rows)
        w0, w1, w2, w3 = weights[t], weights[t + 1], weights[t + 2], weights[t + 3]
        if t == 0:
            for x in range(width):
                out[x] = (
                    w0 * source[a, x] + w1 * source[b, x] + w2 * source[c, x] + w3 * source[d, x]
                )
        else:
            for x in range(width):
                out[x] += (
                    w0 * source[a, x] + w1 * source[b, x] + w2 * source[c, x] + w3 * source[d, x]
                )
        t += 4


@njit(nogil=True, cache=True)
def _four_from(first, rows):
    """Four row numbers on a ring; no division, sixteen of which cost more than the sums."""
    a = first if first < rows else first - rows
    b = a + 1 if a + 1 < rows else 0
    c = b + 1 if b + 1 < rows else 0
    d = c + 1 if c + 1 < rows else 0
    return a, b, c, d


@njit(nogil=True, cache=True, fastmath={"contract"})
def _weigh_tile(source, start, weights, out):
    """`weigh_rows` for every row of a flat tile, whose rows are `LANES` long."""
    for o in range(weights.shape[0]):
        row = out[o * LANES : (o + 1) * LANES]
        t = 0
        if weights.shape[1] == 16:
            part = source[start[o] * LANES : (start[o] + 16) * LANES]
            w = weights[o]
            w0, w1, w2, w3, w4, w5, w6, w7 = w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]
            w8, w9, w10, w11 = w[8], w[9], w[10], w[11]
            w12, w13, w14, w15 = w[12], w[13], w[14], w[15]
            for x in range(LANES):
                a, b, c, d = part[x], part[x + 32], part[x + 64], part[x + 96]
                total = w0 * a + w1 * b + w2 * c + w3 * d
                a, b, c, d = part[x + 128], part[x + 160], part[x + 192], part[x + 224]
                total += w4 * a + w5 * b + w6 * c + w7 * d
                a, b, c, d = part[x + 256], part[x + 288], part[x + 320], part[x + 352]
                total += w8 * a + w9 * b + w10 * c + w11 * d
                a, b, c, d = part[x + 384], part[x + 416], part[x + 448], part[x + 480]
                total += w12 * a + w13 * b + w14 * c + w15 * d
                row[x] = total
            t = 16
        while t < weights.shape[1]:
            part = source[(start[o] + t) * LANES : (start[o] + t + 4) * LANES]
            w0, w1, w2, w3 = weights[o, t], weights[o, t + 1], weights[o, t + 2], weights[o, t + 3]
            for x in range(LANES):
                a, b, c, d = part[x], part[x + 32], part[x + 64], part[x + 96]
                total = w0 * a + w1 * b + w2 * c + w3 * d
                row[x] = total if t == 0 else row[x] + total
            t += 4


@njit(nogil=True, cache=True)
def _turn_to_tile(rows, tile):
    """`LANES` rows to a flat tile, whose rows are their columns."""
    pitch = rows.shape[1]
    flat = rows.reshape(-1)
    for x in range(tile.shape[0] // LANES):
        lanes = tile[x * LANES : (x + 1) * LANES]
        column = flat[x:]
        for y in range(LANES):
            lanes[y] = column[y * pitch]


@njit(nogil=True, cache=True)
def _turn_to_rows(tile, pitch, out):
    """A flat tile to rows that are `pitch` apart in a flat array; undoes `_turn_to_tile`."""
    block = LANES * LANES
    for part in range(tile.shape[0] // block):
        square = tile[part * block : (part + 1) * block]
        for y in range(LANES):
            first = y * pitch + part * LANES
            row = out[first : first + LANES]
            column = square[y:]
            for x in range(LANES):
                row[x] = column[x * LANES]


@njit(nogil=True, cache=True)
def rows_needed(y_start, taps, height):
    """First input row that a strip is made of, and one past its last."""
    return y_start.min(), min(y_start.max() + taps, height)


@njit(nogil=True, cache=True)
def served_together(z_start, z):
    """One past the last output slice that the ring can serve together with slice `z`."""
    stop = z + 1
    while stop < z_start.shape[0] and z_start[stop] - z_start[z] <= AHEAD:
        stop += 1
    return stop


@njit(nogil=True, cache=True, fastmath={"contract"})
def pass_plane(first, y_start, y_weights, x_start, x_weights, slot, work):
    """
    Resample the strip of one slice in its plane, from the input rows of `work` into its ring.

    Parameters
    ----------
    first : int
        Input row that the first row of `work` is.
    y_start, y_weights : ndarray, shape (strip rows,) and (strip rows, taps)
        Band of the strip.
    x_start, x_weights : ndarray, shape (x_out,) and (x_out, taps)
        Band along x.
    slot : int
        Place in the ring.
    work : tuple of ndarray
        Of `work_arrays`.
    """
    rows, turned, tile, tile_out, ring, _, _ = work
    for o in range(y_start.shape[0]):
        weigh_rows(rows, y_start[o] - first, y_weights[o], turned[o])
    _turn_to_tile(turned, tile)
    _weigh_tile(tile, x_start, x_weights, tile_out)
    _, slots, pitch = ring.shape
    _turn_to_rows(tile_out, slots * pitch, ring.reshape(-1)[slot * pitch :])


@njit(nogil=True, cache=True)
def round_row(total, low, high, out):
    """Round half to even and saturate the first values of `total` into a row of integers."""
    lowest, highest = np.float32(low), np.float32(high)
    for x in range(out.shape[0]):
        out[x] = np.int32(min(max(np.rint(total[x]), lowest), highest))


@njit(nogil=True, cache=True)
def resample_volume(volume, bands, low, high, work, rows, top, bottom, out):
    """
    Apply three bands to some rows of a volume.

    Parameters
    ----------
    volume : ndarray of int16, uint8 or float32, shape (z, y, x), C-contiguous
        Input voxels.
    bands : tuple of six ndarray
        ``z_start`` int64, shape (z_out,), never decreasing; ``z_weights`` float32, shape
        (z_out, taps); then for y and for x ``start`` int64, shape (bands, n_out), and ``weights``
        float32, shape (bands, n_out, taps), for each slice, or once for all of them. `taps` is a
        multiple of four and may exceed the input (with zero weights).
    low, high : float
        Limits of an integer dtype, to which sums are rounded half to even and saturated. Where
        `low` is not below `high` the sums are kept as they are.
    work : tuple of ndarray
        Of `work_arrays`.
    rows : int
        Rows of a strip, at most `LANES`.
    top, bottom : int
        First output row to fill, and one past the last.
    out : ndarray, shape (z_out, y_out, x_out)
        Filled in place; same dtype as `volume`.
    """
    z_start, z_weights, y_start, y_weights, x_start, x_weights = bands
    taps, y_taps = z_weights.shape[1], y_weights.shape[2]
    lines, _, _, _, ring, total, _ = work
    slots = ring.shape[1]
    for head in range(top, bottom, rows):
        end = min(head + rows, bottom)
        ring[:] = 0.0
        following = z_start[0]
        z = 0
        while z < out.shape[0]:
            stop = served_together(z_start, z)
            while following < min(z_start[stop - 1] + taps, volume.shape[0]):
                y_band, x_band = following % y_start.shape[0], following % x_start.shape[0]
                strip = y_start[y_band, head:end]
                first, last = rows_needed(strip, y_taps, volume.shape[1])
                for y in range(first, last):
                    source, line = volume[following, y], lines[y - first]
                    for x in range(source.shape[0]):
                        line[x] = source[x]
                pass_plane(
                    first, strip, y_weights[y_band, head:end],
                    x_start[x_band], x_weights[x_band], following % slots, work,
                )  # fmt: skip
                following += 1
            for y in range(head, end):
                for k in range(z, stop):
                    weigh_rows(ring[y - head], z_start[k] % slots, z_weights[k], total)
                    target = out[k, y]
                    if low < high:
                        round_row(total, low, high, target)
                    else:
                        for x in range(target.shape[0]):
                            target[x] = total[x]
            z = stop


@njit(nogil=True, cache=True)
def zoom_bytes(volume, z_at, y_at, x_at, out):
    """
    Interpolate a volume of bytes linearly along its three axes.

    Parameters
    ----------
    volume : ndarray of uint8, shape (z, y, x), C-contiguous
        Samples.
    z_at, y_at, x_at : ndarray of float64
        Indices where values are wanted; beyond the ends the edge goes on.
    out : ndarray of uint8, shape (z_at.size, y_at.size, x_at.size)
        Filled in place: sums in float64, halves rounded up.

    Notes
    -----
    Eight products in SciPy's order, so that halves round as they do there. Where all eight samples
    are equal, which most are once everything but the lungs is one grey, they are the answer.
    """
    z_end, y_end, x_end = volume.shape[0] - 1, volume.shape[1] - 1, volume.shape[2] - 1
    x_low = np.floor(x_at).astype(np.int64)
    # A weight is what the other leaves of 1, as in SciPy: halves then round as they do there.
    x_near = 1.0 - (x_at - x_low)
    for i in range(z_at.shape[0]):
        z = np.int64(np.floor(z_at[i]))
        z_near = 1.0 - (z_at[i] - z)
        planes = volume[min(max(z, 0), z_end)], volume[min(max(z + 1, 0), z_end)]
        for j in range(y_at.shape[0]):
            y = np.int64(np.floor(y_at[j]))
            y_near = 1.0 - (y_at[j] - y)
            near, far = min(max(y, 0), y_end), min(max(y + 1, 0), y_end)
            rows = planes[0][near], planes[0][far], planes[1][near], planes[1][far]
            sides = (
                (z_near, y_near),
                (z_near, 1.0 - y_near),
                (1.0 - z_near, y_near),
                (1.0 - z_near, 1.0 - y_near),
            )
            target = out[i, j]
            for k in range(x_at.shape[0]):
                left = min(max(x_low[k], 0), x_end)
                right = min(max(x_low[k] + 1, 0), x_end)
                value = rows[0][left]
                same = True
                for n in range(4):
                    same &= rows[n][left] == value
                    same &= rows[n][right] == value
                if same:
                    target[k] = value
                    continue
                total = 0.0
                for n in range(4):
                    total += rows[n][left] * sides[n][0] * sides[n][1] * x_near[k]
                    total += rows[n][right] * sides[n][0] * sides[n][1] * (1.0 - x_near[k])
                target[k] = np.uint8(min(total + 0.5, 255.0))
