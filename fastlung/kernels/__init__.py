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

from fastlung.kernels.warm import warm_up

__all__ = ["warm_up"]
