"""
Stored words of a series to Hounsfield units, and which voxels were never measured.

Pure: chooses what the kernels in `fastlung.kernels.hu` are told. No interpolation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastlung.kernels import hu as kernels

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastlung.scan import Grid, RawScan

__all__ = ["PADDING_HU", "UNMEASURED", "marked_hu", "to_hu", "tutorial_hu"]

#: Hounsfield units given to padding: air, so that it does not count as tissue.
PADDING_HU = -1024
#: No tissue, gas or noise is darker; scanners write such values outside their circle.
DARKEST_HU = -1500.0
#: Marks voxels that were never measured, until they have been resampled; no HU is that low.
UNMEASURED = -32768


def to_hu(raw: RawScan, *, replace_padding: bool = True) -> tuple[npt.NDArray[np.int16], Grid]:
    """
    Convert a series to Hounsfield units, in the frame it was acquired in.

    Parameters
    ----------
    raw : RawScan
        What `read_series` returns.
    replace_padding : bool
        Replace the series' padding value, and anything below -1500 HU, by -1024 HU.

    Returns
    -------
    hu : ndarray of int16, shape (z, y, x)
        Hounsfield units, slices ascending along the slice normal.
    grid : Grid
        The acquired grid, `raw.grid`.

    Notes
    -----
    ``HU = slope * stored + intercept`` for each slice (DICOM PS3.3 C.11.1.1.2) in float32, rounded
    half to even and saturated.
    """
    if replace_padding:
        hu, _ = _rescaled(raw, PADDING_HU)
        return hu, raw.grid
    scale = raw.scale
    hu = np.empty(raw.stored.shape, np.int16)
    nothing = np.ones_like(scale.padding_low), np.zeros_like(scale.padding_high)
    kernels.rescale(
        raw.stored, scale.shift, scale.bits_stored, scale.signed, scale.slope, scale.intercept,
        *nothing, -np.inf, PADDING_HU, hu,
    )  # fmt: skip
    return hu, raw.grid


def marked_hu(raw: RawScan) -> tuple[npt.NDArray[np.int16], int]:
    """
    Convert a series to Hounsfield units, marking what was never measured.

    Returns
    -------
    hu : ndarray of int16, shape (z, y, x)
        Hounsfield units; padding is `UNMEASURED`.
    count : int
        Voxels marked.
    """
    return _rescaled(raw, UNMEASURED)


def tutorial_hu(raw: RawScan) -> tuple[npt.NDArray[np.int16], int]:
    """
    Convert a series as the DSB 2017 tutorial does.

    Returns
    -------
    hu : ndarray of int16, shape (z, y, x)
        Truncated Hounsfield units; stored -2000 counts as stored 0.
    count : int
        Voxels that were -2000.
    """
    scale = raw.scale
    hu = np.empty(raw.stored.shape, np.int16)
    replaced = kernels.rescale_as_tutorial(
        raw.stored, scale.shift, scale.bits_stored, scale.signed, scale.slope, scale.intercept, hu
    )
    return hu, int(replaced)


def _rescaled(raw: RawScan, padding: int) -> tuple[npt.NDArray[np.int16], int]:
    scale = raw.scale
    hu = np.empty(raw.stored.shape, np.int16)
    padded = kernels.rescale(
        raw.stored, scale.shift, scale.bits_stored, scale.signed, scale.slope, scale.intercept,
        scale.padding_low, scale.padding_high, DARKEST_HU, padding, hu,
    )  # fmt: skip
    return hu, int(padded)
