"""
Masks as rows of bits, sixty-four voxels to a word: the form between a volume and its runs.

Voxel x of a row is bit ``x % 64`` of word ``x // 64``; bits past the end of the row are 0.
"""

import numpy as np
from numba import njit

from fastlung.kernels.runs import Runs
from fastlung.kernels.words import dark_bits, lowest_bit

__all__ = ["bits_at_most", "bits_of_runs", "runs_of_bits"]

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
    if volume.dtype == np.int16 and -32768 <= threshold <= 32767:
        _compare_integers(rows, np.int16(np.floor(threshold)), words)
    else:
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
def _compare_integers(rows, threshold, words):
    """Compare 64 voxels at once: 2.8 ms for 31 million where `_compare` takes 3.6."""
    width = rows.shape[1]
    whole, rest = width // 64, width % 64
    for number in range(rows.shape[0]):
        row = rows[number]
        for word in range(whole):
            words[number, word] = dark_bits(row, word * 64, threshold)
        if rest and whole:
            # The last 64 voxels, of which the word before has some.
            last = dark_bits(row, width - 64, threshold)
            words[number, whole] = np.uint64(last) >> np.uint64(64 - rest)
        elif rest:
            bits = np.uint64(0)
            for x in range(width):
                bits |= np.uint64(row[x] <= threshold) << np.uint64(x)
            words[number, 0] = bits


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
    # Starts and stops in turn, so that the loop need not know which comes next.
    edges = np.empty(words.shape[0] * 8 + 2 * width + 2, np.uint16)
    count = 0
    one, top = np.uint64(1), np.uint64(63)
    for row in range(words.shape[0]):
        offsets[row] = count >> 1
        if count + width + 2 >= edges.shape[0]:
            longer = np.empty(2 * edges.shape[0] + 2 * width, np.uint16)
            longer[:count] = edges[:count]
            edges = longer
        carry = np.uint64(0)
        for word in range(words.shape[1]):
            bits = words[row, word]
            changes = bits ^ ((bits << one) | carry)
            carry = bits >> top
            while changes != np.uint64(0):
                edges[count] = word * 64 + lowest_bit(changes)
                changes &= changes - one
                count += 1
        edges[count] = width  # counts only where a run is open
        count += count & 1
    offsets[words.shape[0]] = count >> 1
    return edges[0:count:2].copy(), edges[1:count:2].copy()
