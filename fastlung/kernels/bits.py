"""
Masks as bits: volume to words of 64 voxels, words to runs.

Some operations on words have an instruction in processors and no name in Numba. In plain Python
(``NUMBA_DISABLE_JIT=1``) they are what stands in the functions; compiled, they are one instruction
each, of whatever vector width the processor has.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from fastlung.kernels.jit import njit
from fastlung.kernels.runs import Runs

__all__ = [
    "bits_at_most",
    "bits_of_runs",
    "bits_set",
    "dark_bits",
    "lowest_bit",
    "runs_at_most",
    "runs_of_bits",
]


def lowest_bit(word):
    """Position of the lowest set bit of a word, which must not be 0."""
    word = int(word)
    return (word & -word).bit_length() - 1


def bits_set(word):
    """How many bits of a word are set."""
    return int(word).bit_count()


def dark_bits(row, x, threshold):
    """
    Which of 64 voxels are at or below a threshold.

    Parameters
    ----------
    row : ndarray of int16, shape (width,), C-contiguous
        Voxels.
    x : int
        The first one; ``x + 64 <= width`` is not checked.
    threshold : int
        In int16.

    Returns
    -------
    int
        Bit `i` is set where voxel ``x + i`` is dark.
    """
    return sum(1 << bit for bit in range(64) if row[x + bit] <= threshold)


# Numba matches the names of arguments, used or not.
@intrinsic
def _ctpop(_context, word):  # noqa: ARG001
    return types.int64(types.uint64), lambda _, builder, __, bits: builder.ctpop(*bits)


@intrinsic
def _cttz(_context, word):  # noqa: ARG001
    undefined_for_0 = ir.Constant(ir.IntType(1), 1)
    return types.int64(types.uint64), lambda _, builder, __, bits: builder.cttz(
        *bits, undefined_for_0
    )


@intrinsic
def _compare_64(_context, row, x, threshold):  # noqa: ARG001
    def build(context, builder, signature, arguments):
        array, first, limit = arguments
        view = context.make_array(signature.args[0])(context, builder, array)
        lanes = ir.VectorType(ir.IntType(16), 64)
        start = builder.gep(view.data, [first])
        voxels = builder.load(builder.bitcast(start, lanes.as_pointer()), align=2)
        nothing = ir.Constant(lanes, ir.Undefined)
        lane = builder.insert_element(nothing, limit, ir.Constant(ir.IntType(32), 0))
        all_first = ir.Constant(ir.VectorType(ir.IntType(32), 64), [0] * 64)
        limits = builder.shuffle_vector(lane, nothing, all_first)
        return builder.bitcast(builder.icmp_signed("<=", voxels, limits), ir.IntType(64))

    return types.uint64(row, types.int64, types.int16), build


@overload(bits_set, inline="always")
def _compiled_bits_set(word):  # noqa: ARG001 -- Numba compares the names
    return lambda word: _ctpop(word)  # noqa: PLW0108 -- an overload must be a Python function


@overload(lowest_bit, inline="always")
def _compiled_lowest_bit(word):  # noqa: ARG001
    return lambda word: _cttz(word)  # noqa: PLW0108


@overload(dark_bits, inline="always")
def _compiled_dark_bits(row, x, threshold):  # noqa: ARG001
    return lambda row, x, threshold: _compare_64(row, x, threshold)  # noqa: PLW0108


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
    bit, top = np.uint64(1), np.uint64(63)
    for row in range(words.shape[0]):
        offsets[row] = count >> 1
        if count + width + 2 >= edges.shape[0]:
            longer = np.empty(2 * edges.shape[0] + 2 * width, np.uint16)
            longer[:count] = edges[:count]
            edges = longer
        carry = np.uint64(0)
        for word in range(words.shape[1]):
            bits = words[row, word]
            changes = bits ^ ((bits << bit) | carry)
            carry = bits >> top
            while changes != np.uint64(0):
                edges[count] = word * 64 + lowest_bit(changes)
                changes &= changes - bit
                count += 1
        edges[count] = width  # counts only where a run is open
        count += count & 1
    offsets[words.shape[0]] = count >> 1
    return edges[0:count:2].copy(), edges[1:count:2].copy()


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

    Notes
    -----
    By way of bit rows, in which sixty-four equal voxels are passed over at once: 0.010 s for 39
    million voxels, where comparing voxel by voxel took 0.05 s.
    """
    return runs_of_bits(volume.shape, bits_at_most(volume, threshold))
