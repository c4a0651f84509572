"""The mask of the Kaggle DSB 2017 "Full Preprocessing Tutorial", voxel for voxel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastlung.kernels.bits import runs_at_most
from fastlung.kernels.labels import label, label_slices
from fastlung.kernels.runs import complement, paint, select, sizes

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastlung.kernels.runs import Runs

__all__ = ["tutorial_mask"]

THRESHOLD_HU = -320.0


def tutorial_mask(hu: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """
    Segment air inside the body as the tutorial does, with its known weaknesses.

    Parameters
    ----------
    hu : ndarray of int16, shape (z, y, x)
        Resampled Hounsfield units.

    Returns
    -------
    ndarray of uint8, shape (z, y, x)
        1 in the lungs and, where connected, the trachea; 0 elsewhere.

    Notes
    -----
    Dark voxels (at most -320 HU) connected to voxel ``[0, 0, 0]`` are outside air. In each slice
    all but the largest solid region becomes lung, which fills vessels and nodules. The largest
    connected region (26 neighbours) of what is left is the mask. Where one corner does not reach
    all outside air, or the lungs are not joined by the trachea, the result is wrong, as the
    tutorial's is: `lung_mask` is the better mask.
    """
    dark = runs_at_most(hu, THRESHOLD_HU)
    if hu[0, 0, 0] <= THRESHOLD_HU:
        labels, _ = label(dark, 26)
        dark = select(dark, labels != labels[0])
    solid = complement(dark)
    labels, count = label_slices(solid, 8)
    lung = complement(select(solid, _largest_in_slice(solid, labels, count)[labels]))
    labels, count = label(lung, 26)
    mask = np.zeros(hu.shape, np.uint8)
    if count:
        largest = 1 + sizes(lung, labels, count)[1:].argmax()
        paint(lung, (labels == largest).astype(np.uint8), mask)
    return mask


def _largest_in_slice(solid: Runs, labels: npt.NDArray[np.int32], count: int) -> Any:
    """By label of `label_slices`: whether it is the largest of its slice, the first of equals."""
    row = np.repeat(np.arange(solid.offsets.size - 1), np.diff(solid.offsets))
    slice_of = np.zeros(count + 1, np.int64)
    slice_of[labels] = row // solid.shape[1]
    largest = np.zeros(count + 1, np.bool_)
    if count:
        # Labels ascend with z, so those of a slice stand together.
        begin = 1 + np.flatnonzero(np.diff(slice_of[1:], prepend=-1))
        voxels = sizes(solid, labels, count)
        most = np.repeat(np.maximum.reduceat(voxels, begin), np.diff(begin, append=count + 1))
        candidates = 1 + np.flatnonzero(voxels[1:] == most)
        _, first = np.unique(slice_of[candidates], return_index=True)
        largest[candidates[first]] = True
    return largest
