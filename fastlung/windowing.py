"""What an image's numbers are: Hounsfield units, or a window of them as fractions or bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastlung.kernels.intensity import normalise, quantise

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["recentred", "windowed"]


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
