"""Linear interpolation of bytes, to the bit what `scipy.ndimage.zoom` does with ``order=1``."""

import numpy as np
from numba import njit

__all__ = ["zoom_bytes"]


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
