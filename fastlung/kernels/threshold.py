"""A volume to the run-length rows of its dark (or bright) voxels."""

import numpy as np
from numba import njit

from fastlung.kernels.runs import Runs

__all__ = ["runs_at_most"]


def runs_at_most(volume: np.ndarray, threshold: float) -> Runs:
    """
    Run-length rows of the voxels at or below a threshold.

    Parameters
    ----------
    volume : ndarray of int16, float32 or uint8, shape (z, y, x), C-contiguous
        Voxels, such as Hounsfield units.
    threshold : float
        In the units of `volume`. NaN voxels never belong.

    Returns
    -------
    Runs
        Half-open runs ``[start, stop)`` along x, row by row.
    """
    offsets = np.empty(volume.shape[0] * volume.shape[1] + 1, np.int64)
    starts, stops = _extract(volume, float(threshold), offsets)
    return Runs(volume.shape, offsets, starts, stops)


@njit(nogil=True, cache=True)
def _extract(volume, threshold, offsets):
    """Fill `offsets` and return starts and stops; buffers double when a noisy volume needs it."""
    depth, height, width = volume.shape
    room = depth * height * 4 + width
    starts = np.empty(room, np.uint16)
    stops = np.empty(room, np.uint16)
    count = 0
    for z in range(depth):
        for y in range(height):
            offsets[z * height + y] = count
            if count + width >= room:
                room = 2 * room + width
                longer = np.empty(room, np.uint16)
                longer[:count] = starts[:count]
                starts = longer
                longer = np.empty(room, np.uint16)
                longer[:count] = stops[:count]
                stops = longer
            row = volume[z, y]
            inside = False
            for x in range(width):
                below = row[x] <= threshold
                if below != inside:
                    if below:
                        starts[count] = x
                    else:
                        stops[count] = x
                        count += 1
                    inside = below
            if inside:
                stops[count] = width
                count += 1
    offsets[depth * height] = count
    return starts[:count].copy(), stops[:count].copy()
