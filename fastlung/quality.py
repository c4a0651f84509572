"""Figures of a finished scan: Hounsfield percentiles, litres, how much was padding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastlung.kernels.intensity import histogram

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["hu_percentiles"]

PERCENTILES = (0.5, 50.0, 99.5)


def hu_percentiles(volume: npt.NDArray[np.int16]) -> dict[str, float]:
    """
    Hounsfield units below which some of the voxels lie.

    Parameters
    ----------
    volume : ndarray of int16, any shape, C-contiguous
        Hounsfield units.

    Returns
    -------
    dict of str to float
        ``hu_p0_5``, ``hu_p50``, ``hu_p99_5``: the smallest value that at least that percentage of
        the voxels does not exceed.
    """
    counts: npt.NDArray[Any] = np.empty(65536, np.int64)
    histogram(volume, counts)
    below = np.cumsum(counts)
    wanted = np.ceil(np.array(PERCENTILES) / 100 * volume.size).astype(np.int64)
    values = np.searchsorted(below, np.maximum(wanted, 1)) - 32768
    names = (f"hu_p{p:g}".replace(".", "_") for p in PERCENTILES)
    return {name: float(value) for name, value in zip(names, values, strict=True)}
