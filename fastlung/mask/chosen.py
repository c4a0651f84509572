"""The mask that was asked for: one of ours, or where that is flagged an outside segmenter's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastlung.errors import SegmenterError
from fastlung.mask.grt123 import grt123_mask
from fastlung.mask.lungs import lung_mask, outside_labels, tutorial_mask
from fastlung.mask.trust import assess_mask
from fastlung.scan import Flag

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from fastlung.scan import Grid

    Segmenter = Callable[[npt.NDArray[np.int16], Grid], Any]
    Segmented = tuple[npt.NDArray[np.uint8], dict[str, float], tuple[Flag, ...]]

__all__ = ["chosen_mask"]


def chosen_mask(
    hu: npt.NDArray[np.int16],
    grid: Grid,
    method: str,
    *,
    airway: bool = False,
    segment: Segmenter | None = None,
    always: bool = False,
) -> Segmented:
    """
    Segment the lungs.

    Parameters
    ----------
    hu : ndarray of int16, shape (z, y, x)
        Hounsfield units.
    grid : Grid
        Where the voxels lie.
    method : {"default", "tutorial", "grt123"}
        Which of ours.
    airway : bool
        Airway as label 3 of the default mask.
    segment : callable, optional
        An outside segmenter, asked where ours is flagged.
    always : bool
        Ask it in any case.

    Returns
    -------
    mask : ndarray of uint8, shape (z, y, x)
        Labels.
    figures : dict of str to float
        Litres, and what confidence was made from.
    flags : tuple of Flag
        Reasons to look twice.
    """
    own = _own_mask(hu, grid, method, airway=airway)
    if segment is None or not (always or own[2]):
        return own
    return _second_opinion(own, hu, grid, segment)


def _own_mask(hu: npt.NDArray[np.int16], grid: Grid, method: str, *, airway: bool) -> Segmented:
    if method == "tutorial":
        mask = tutorial_mask(hu)
        return mask, {"litres": int(np.count_nonzero(mask)) * grid.voxel_litres}, ()
    lungs = (
        grt123_mask(hu, grid) if method == "grt123" else lung_mask(hu, grid, label_airway=airway)
    )
    litres = {"litres_right": lungs.litres_right, "litres_left": lungs.litres_left}
    return lungs.mask, litres | dict(lungs.figures), lungs.flags


def _second_opinion(
    own: Segmented, hu: npt.NDArray[np.int16], grid: Grid, segment: Segmenter
) -> Segmented:
    mask, figures, flags = own
    try:
        labels = outside_labels(segment, hu, grid)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - the user's own function may raise anything
        # Words of ours only: another's may quote what they like.
        ours = isinstance(error, SegmenterError)
        cause = str(error) if ours else f"it raised {type(error).__name__}"
        text = f"the outside segmenter gave no mask: {cause}; this mask is our own"
        return mask, figures, (*flags, Flag(name="mask_command_failed", value=1.0, text=text))
    figures = {
        f"litres_{side}": int(np.count_nonzero(labels == label)) * grid.voxel_litres
        for label, side in ((1, "right"), (2, "left"))
    }
    trust = assess_mask(hu, grid, labels)
    why = ", ".join(flag.name for flag in flags)
    text = "the mask is an outside segmenter's" + (f"; ours was flagged {why}" if why else "")
    replaced = Flag(name="mask_replaced", value=float(len(flags)), text=text)
    return labels, figures | dict(trust.figures), (replaced, *trust.flags)
