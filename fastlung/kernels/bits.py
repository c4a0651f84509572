"""
Masks as rows of bits, sixty-four voxels to a word: the form between a volume and its runs.

Voxel x of a row is bit ``x % 64`` of word ``x // 64``; bits past the end of the row are 0.
"""

import numpy as np
from numba import njit

from fastlung.kernels.runs import Runs

__all__ = ["bits_at_most", "bits_of_runs", "runs_of_bits"]

#: Position of the single set bit of a word, by the top six bits of its product with `_DE_BRUIJN`.
_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
_BIT_OF = np.zeros(64, np.int64)
for _bit in range(64):
    _BIT_OF[((1 << _bit) * int(_DE_BRUIJN) & (2**64 - 1)) >> 58] = _bit

#: Multiplying eight bytes of 0 or 1 by this gathers them into the top byte.
_GATHER = np.uint64(0x0102040810204080)


def bits_at_most(volume: np.ndarray, threshold: float) -> np.ndarray:
    """
    Bit rows of the voxels at or below a threshold.

    Parameters
    ----------
    volume : ndarray of int16, float32 or uint8, shape (z, y, x), C-contiguous
        Voxels, such as Hounsfield units.
    threshold : float
        In the units of `volume`. NaN voxels never belong.

    Returns
    -------
    ndarray of uint64, shape (z * y, words)
        One row of bits for each row of voxels.
    """
    rows = volume.reshape(-1, volume.shape[2])
    words = np.empty((rows.shape[0], (volume.shape[2] + 63) // 64), np.uint64)
    _compare(rows, float(threshold), words)
    return words


def bits_of_runs(runs: Runs) -> np.ndarray:
    """Bit rows of a mask; ndarray of uint64, shape (z * y, words)."""
    words = np.zeros((runs.offsets.size - 1, (runs.shape[2] + 63) // 64), np.uint64)
    _set_bits(runs.offsets, runs.starts, runs.stops, words)
    return words


def runs_of_bits(shape: tuple[int, int, int], words: np.ndarray) -> Runs:
    """
    Run-length rows of bit rows.

    Parameters
    ----------
    shape : tuple of int
        Shape ``(z, y, x)`` of the mask.
    words : ndarray of uint64, shape (z * y, words)
        Its bit rows.
    """
    offsets = np.empty(words.shape[0] + 1, np.int64)
    starts, stops = _find_runs(words, shape[2], offsets)
    return Runs(shape, offsets, starts, stops)


@njit(nogil=True, cache=True)
def _compare(rows, threshold, words):
    """Compare into a row of bytes, which vectorises, then gather eight bytes a multiplication."""
    width = rows.shape[1]
    flags = np.zeros(words.shape[1] * 64, np.uint8)
    eights = flags.view(np.uint64)
    for number in range(rows.shape[0]):
        row = rows[number]
        for x in range(width):
            flags[x] = row[x] <= threshold
        for word in range(words.shape[1]):
            bits = np.uint64(0)
            for byte in range(8):
                gathered = (eights[word * 8 + byte] * _GATHER) >> np.uint64(56)
                bits |= gathered << np.uint64(8 * byte)
            words[number, word] = bits


@njit(nogil=True, cache=True)
def _set_bits(offsets, starts, stops, words):
    ones = np.uint64(0xFFFFFFFFFFFFFFFF)
    for row in range(words.shape[0]):
        for run in range(offsets[row], offsets[row + 1]):
            first, last = np.int64(starts[run]), np.int64(stops[run]) - 1
            for word in range(first >> 6, (last >> 6) + 1):
                bits = ones
                if word == first >> 6:
                    bits &= ones << np.uint64(first & 63)
                if word == last >> 6:
                    bits &= ones >> np.uint64(63 - (last & 63))
                words[row, word] |= bits


@njit(nogil=True, cache=True)
def _find_runs(words, width, offsets):
    """Runs of set bits: a run starts or stops wherever a bit differs from the one before it."""
    starts = np.empty(words.shape[0] * 4 + width, np.uint16)
    stops = np.empty(starts.shape[0], np.uint16)
    count = 0
    for row in range(words.shape[0]):
        offsets[row] = count
        if count + width >= starts.shape[0]:
            longer = np.empty(2 * starts.shape[0] + width, np.uint16)
            longer[:count] = starts[:count]
            starts = longer
            longer = np.empty(starts.shape[0], np.uint16)
            longer[:count] = stops[:count]
            stops = longer
        carry = np.uint64(0)
        inside = False
        for word in range(words.shape[1]):
            bits = words[row, word]
            edges = bits ^ ((bits << np.uint64(1)) | carry)
            carry = bits >> np.uint64(63)
            while edges != np.uint64(0):
                lowest = edges & (~edges + np.uint64(1))
                x = word * 64 + _BIT_OF[np.int64((lowest * _DE_BRUIJN) >> np.uint64(58))]
                edges ^= lowest
                if inside:
                    stops[count] = x
                    count += 1
                else:
                    starts[count] = x
                inside = not inside
        if inside:
            stops[count] = width
            count += 1
    offsets[words.shape[0]] = count
    return starts[:count].copy(), stops[:count].copy()
