"""
Values of a volume: stored words to Hounsfield units, and those to what a model wants.

Pure: chooses what the kernels in `fastlung.kernels.hu` and `fastlung.kernels.intensity` are told.
`fastlung.pipeline` converts and resamples in one pass instead; the numbers are the same.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlung.kernels import hu as kernels
from fastlung.kernels.intensity import histogram, normalise, quantise

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastlung.scan import Grid, RawScan, SliceScale

__all__ = [
    "DARKEST_HU",
    "PADDING_HU",
    "hu_histogram",
    "hu_percentiles",
    "read_as",
    "recentred",
    "scale_arrays",
    "to_hu",
    "tutorial_hu",
    "windowed",
]


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


def windowed(
    hu: npt.NDArray[Any],
    dtype: str,
    window_hu: tuple[float, float] | None,
    zero_centre: float = 0.0,
    standardise: tuple[float, float] | None = None,
) -> npt.NDArray[Any]:
    """
    Turn Hounsfield units into the numbers asked for.

    Parameters
    ----------
    hu : ndarray of int16 or float32, shape (z, y, x), C-contiguous
        Hounsfield units.
    dtype : str
        ``int16`` or ``float32`` without a window, ``float32`` or ``uint8`` (of int16) with one.
    window_hu : tuple of float or None
        Hounsfield units that become 0 and 1, or 0 and 255; None for none.
    zero_centre : float
        Subtracted from fractions afterwards.
    standardise : tuple of float or None
        Mean and standard deviation, in Hounsfield units; what is clipped to the window becomes
        ``(HU - mean) / sd``.

    Returns
    -------
    ndarray
        Of `dtype`; `hu` itself where nothing is to be done.
    """
    if window_hu is None:
        return hu.astype(dtype, copy=False)
    out = np.empty(hu.shape, dtype)
    if out.dtype == np.uint8:
        quantise(hu, *window_hu, out)
    else:
        normalise(hu, *window_hu, zero_centre, out)
    if standardise is not None:
        (low, high), (mean, deviation) = window_hu, standardise
        out *= np.float32((high - low) / deviation)
        out += np.float32((low - mean) / deviation)
    return out


def recentred(
    image: npt.NDArray[Any], zero_centre: float, wanted_zero_centre: float
) -> npt.NDArray[np.float32]:
    """
    Fractions of the window that an image was written with, less another constant.

    Parameters
    ----------
    image : ndarray of float32 or uint8, shape (z, y, x)
        Fractions less `zero_centre`, or 255ths, of a window.
    zero_centre, wanted_zero_centre : float
        Constant that was subtracted, and the one to subtract.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        `image` itself where nothing is to be done.
    """
    if image.dtype == np.uint8:
        return image * np.float32(1 / 255) - np.float32(wanted_zero_centre)
    if zero_centre == wanted_zero_centre:
        return image
    return image + np.float32(zero_centre - wanted_zero_centre)


PERCENTILES = (0.5, 50.0, 99.5)


def hu_histogram(volume: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
    """
    Count the voxels of each value.

    Parameters
    ----------
    volume : ndarray of int16, any shape, C-contiguous
        Hounsfield units.

    Returns
    -------
    ndarray of int64, shape (65536,)
        Voxels of -32768, -32767, ... HU.
    """
    counts: npt.NDArray[np.int64] = np.empty(65536, np.int64)
    histogram(volume, counts)
    return counts


def hu_percentiles(counts: npt.NDArray[np.int64]) -> dict[str, float]:
    """
    Hounsfield units below which some of the voxels lie.

    Parameters
    ----------
    counts : ndarray of int64, shape (65536,)
        As `hu_histogram` gives.

    Returns
    -------
    dict of str to float
        ``hu_p0_5``, ``hu_p50``, ``hu_p99_5``: the smallest value that at least that percentage of
        the voxels does not exceed.
    """
    below = np.cumsum(counts)
    wanted = np.ceil(np.array(PERCENTILES) / 100 * below[-1]).astype(np.int64)
    values = np.searchsorted(below, np.maximum(wanted, 1)) - 32768
    names = (f"hu_p{p:g}".replace(".", "_") for p in PERCENTILES)
    return {name: float(value) for name, value in zip(names, values, strict=True)}
