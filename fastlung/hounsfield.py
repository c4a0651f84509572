"""
Stored words of a series to Hounsfield units, without interpolation.

Pure: chooses what the kernels in `fastlung.kernels.hu` are told. `fastlung.pipeline` converts and
resamples in one pass instead; the numbers are the same.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlung.kernels import hu as kernels

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastlung.scan import Grid, RawScan, SliceScale

__all__ = ["DARKEST_HU", "PADDING_HU", "read_as", "scale_arrays", "to_hu", "tutorial_hu"]

#: Hounsfield units given to padding: air, so that it does not count as tissue.
PADDING_HU = -1024
#: No tissue, gas or noise is darker; scanners write such values outside their circle.
DARKEST_HU = -1500.0


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
    scale, lowest_hu = read_as(raw.scale, replace_padding=replace_padding)
    hu = np.empty(raw.stored.shape, np.int16)
    kernels.rescale(raw.stored, scale, lowest_hu, PADDING_HU, hu)
    return hu, raw.grid


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
    hu = np.empty(raw.stored.shape, np.int16)
    replaced = kernels.rescale_as_tutorial(raw.stored, scale_arrays(raw.scale), hu)
    return hu, int(replaced)


def read_as(
    scale: SliceScale, *, replace_padding: bool
) -> tuple[tuple[npt.NDArray[Any], ...], float]:
    """What kernels are told of how to read stored words, and the darkest HU that were measured."""
    arrays = scale_arrays(scale)
    if replace_padding:
        return arrays, DARKEST_HU
    nothing = np.ones_like(arrays[-2]), np.zeros_like(arrays[-1])
    return (*arrays[:-2], *nothing), -np.inf


def scale_arrays(scale: SliceScale) -> tuple[npt.NDArray[Any], ...]:
    """What kernels are told of how to read stored words: the fields of a `SliceScale` in order."""
    return tuple(getattr(scale, field.name) for field in fields(scale))
