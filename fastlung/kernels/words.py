"""
Operations on 64-bit words for which processors have an instruction and Numba has no name.

In plain Python (``NUMBA_DISABLE_JIT=1``) they are what stands in the functions; compiled, they are
one instruction each, of whatever vector width the processor has.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

__all__ = ["bits_set", "dark_bits", "lowest_bit"]


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
