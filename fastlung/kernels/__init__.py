"""
The hot loops: Numba on plain arrays, importing nothing of fastlung.

Every kernel takes arrays and scalars and fills its last argument, ``out``, or returns new arrays
where their size is only known afterwards. None reads a file, logs, or knows a configuration. All
are ``nogil`` and cached on disk; `warm_up` compiles or loads them once, before workers start.

Nouns: a *row* is a line of voxels along x; *runs* are a mask as run-length rows; *bits* are a mask
as words of 64 voxels; *labels* number its components; a *band* is what an output sample is made
of. `hu`, `resample` and `fused` make volumes, `intensity` windows and counts them, `morphology`
and `overlap` work on masks, `picture` on planes and slices.
"""

__all__ = ["warm_up"]


def warm_up() -> None:
    """
    Make every kernel ready in this process.

    The first call on a machine compiles for about 40 s and writes Numba's cache; later ones load
    it in about a second. Only one process at a time should: several compiling into one cache is
    reported unsafe (numba #4807), and each would pay for it again.
    """
    # Not before: what asks about the place of kernels, and needs none, loads no Numba.
    from fastlung.kernels import warm  # noqa: PLC0415

    warm.warm_up()
