"""What an outside segmenter says of a scan, checked before it is believed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastlung.errors import SegmenterError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from fastlung.scan import Grid

    Segmenter = Callable[[npt.NDArray[np.int16], Grid], Any]

__all__ = ["outside_labels"]

#: Background, right lung, left lung, airway.
LABELS = (0, 1, 2, 3)


def outside_labels(
    segment: Segmenter, hu: npt.NDArray[np.int16], grid: Grid
) -> npt.NDArray[np.uint8]:
    """
    Ask an outside segmenter, and check its answer.

    Parameters
    ----------
    segment : callable
        From Hounsfield units (int16, shape (z, y, x), not to be written to) and their `Grid` to
        labels of the same shape: 0 background, 1 right lung, 2 left lung, 3 airway.
    hu : ndarray of int16, shape (z, y, x)
        Hounsfield units.
    grid : Grid
        Where the voxels lie, in canonical order.

    Returns
    -------
    ndarray of uint8, shape (z, y, x)
        The labels, C-contiguous.

    Raises
    ------
    SegmenterError
        If they have another shape, are no whole numbers, or are others than those.
    """
    view = hu.view()
    view.flags.writeable = False
    labels = np.asarray(segment(view, grid))
    if labels.shape != hu.shape:
        raise SegmenterError(f"its labels have shape {labels.shape}, the scan has {hu.shape}")
    if labels.dtype.kind not in "biuf":
        raise SegmenterError(f"its labels are {labels.dtype}, not whole numbers")
    whole = np.zeros(hu.shape, np.uint8)
    for label in LABELS[1:]:
        whole[labels == label] = label
    if (labels != whole).any():
        raise SegmenterError(
            f"it gave labels other than 0 to 3 (0 background, 1 right lung, 2 left lung, 3 airway)"
            f" in {np.count_nonzero(labels != whole):,} voxels"
        )
    return whole
