"""
The hot loops: Numba on plain arrays, importing nothing of fastlung.

Every kernel takes arrays and scalars and fills its last argument, ``out``, or returns new arrays
where their size is only known afterwards. None reads a file, logs, or knows a configuration. All
are ``nogil`` and cached on disk; `warm_up` compiles or loads them once, before workers start.

Modules: `hu` (stored words to Hounsfield units), `resample` (banded operators), `threshold`
(volume to runs), `runs` (labels, sizes and fills on run-length rows), `morphology` (bit rows),
`intensity` (windows and histograms).
"""

from fastlung.kernels.warm import warm_up

__all__ = ["warm_up"]
