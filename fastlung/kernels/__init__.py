"""
The hot loops: Numba on plain arrays, importing nothing of fastlung.

Every kernel takes arrays and scalars and fills its last argument, ``out``, or returns new arrays
where their size is only known afterwards. None reads a file, logs, or knows a configuration. All
are ``nogil`` and cached on disk; `warm_up` compiles or loads them once, before workers start.

Modules: `hu` (stored words to Hounsfield units), `resample` (banded operators), `threshold`
(volume to runs), `runs` (labels, sizes and fills on run-length rows), `morphology` (bit rows),
`intensity` (windows and histograms).
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
