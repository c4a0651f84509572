"""Windows and histograms of finished volumes."""

import numpy as np
from numba import njit

__all__ = ["histogram", "normalise", "quantise"]


@njit(nogil=True, cache=True)
def normalise(volume, low, high, zero_centre, out):
    """
    Map a window of Hounsfield units to [0, 1], clip, and subtract a constant.

    Parameters
    ----------
    volume : ndarray of int16 or float32, shape (z, y, x), C-contiguous
        Hounsfield units.
    low, high : float
        Hounsfield units that become 0 and 1.
    zero_centre : float
        Subtracted afterwards. A constant of the data set, never the mean of one image.
    out : ndarray of float32, shape (z, y, x)
        Filled in place.
    """
    source = volume.reshape(-1)
    target = out.reshape(-1)
    scale = np.float32(1.0 / (high - low))
    bottom = np.float32(low)
    centre = np.float32(zero_centre)
    for i in range(source.shape[0]):
        value = (np.float32(source[i]) - bottom) * scale
        target[i] = min(max(value, np.float32(0.0)), np.float32(1.0)) - centre


@njit(nogil=True, cache=True)
def quantise(volume, low, high, out):
    """
    Map a window of Hounsfield units to 0 to 255, rounded to the nearest and clipped.

    Parameters
    ----------
    volume : ndarray of int16, shape (z, y, x), C-contiguous
        Hounsfield units.
    low, high : float
        Hounsfield units that become 0 and 255.
    out : ndarray of uint8, shape (z, y, x)
        Filled in place.
    """
    source = volume.reshape(-1)
    target = out.reshape(-1)
    scale = np.float32(255.0 / (high - low))
    bottom = np.float32(low)
    for i in range(source.shape[0]):
        value = (np.float32(source[i]) - bottom) * scale
        # Adding a half and cutting off rounds what is not negative, and vectorises.
        clipped = min(max(value, np.float32(0.0)), np.float32(255.0))
        target[i] = np.uint8(np.int32(clipped + np.float32(0.5)))


@njit(nogil=True, cache=True)
def histogram(volume, out):
    """
    Count every value of an int16 volume.

    Parameters
    ----------
    volume : ndarray of int16, any shape, C-contiguous
        Hounsfield units.
    out : ndarray of int64, shape (65536,)
        Filled in place; index is the value plus 32768.
    """
    out[:] = 0
    flat = volume.reshape(-1)
    # Neighbours are often equal, and counting into one bin twice in a row waits for its own store:
    # four tables in turn take 0.015 s for 31 million voxels of a chest, one table 0.021 s.
    tables = np.zeros((4, 65536), np.int64)
    whole = flat.shape[0] // 4 * 4
    for i in range(0, whole, 4):
        tables[0, np.int64(flat[i]) + 32768] += 1
        tables[1, np.int64(flat[i + 1]) + 32768] += 1
        tables[2, np.int64(flat[i + 2]) + 32768] += 1
        tables[3, np.int64(flat[i + 3]) + 32768] += 1
    for i in range(whole, flat.shape[0]):
        tables[0, np.int64(flat[i]) + 32768] += 1
    out += tables[0] + tables[1] + tables[2] + tables[3]
