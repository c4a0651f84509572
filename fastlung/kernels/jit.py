"""Numba's `njit`, with the cache in a place that can be written, or none."""

from typing import Any

import numba
from numba.core.caching import NullCache

from fastlung.kernels.place import kernel_place

__all__ = ["keep_in_memory", "njit"]

_kernels: list[Any] = []


def njit(*, cache: bool, **options: Any) -> Any:
    """
    Compile a function at its first call.

    Parameters
    ----------
    cache : bool
        Whether the compiled function is kept for the next process, where there is a place.
    **options
        As Numba has them.
    """
    place = kernel_place()
    if cache and not place.is_numbas and place.folder:
        numba.config.CACHE_DIR = place.folder

    def compiled(function: Any) -> Any:
        kernel = numba.njit(cache=cache and bool(place.folder), **options)(function)
        _kernels.append(kernel)
        return kernel

    return compiled


def keep_in_memory() -> None:
    """Write no compiled kernel from now on: the place for them is full, or gone."""
    for kernel in _kernels:
        if hasattr(kernel, "_cache"):  # a plain function has none, under NUMBA_DISABLE_JIT
            kernel._cache = NullCache()  # noqa: SLF001 - Numba has no other way
