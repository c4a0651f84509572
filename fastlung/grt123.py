"""
The image of grt123, the winner of the Kaggle Data Science Bowl 2017: bytes of the lungs only.

In the acquired frame a window becomes bytes; all that lies outside the lungs' dilated hulls is
painted over with the grey of water, and so is bone between lung and hull; then it is interpolated
linearly, bytes as they are, and cut to the lungs. Constants are those of their published
pre-processing (github.com/lfz/DSB2017, preprocessing/full_prep.py); `fastlung.mask.grt123` is their
mask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastlung.cropping import Box, box_of_lungs, cut_grid
from fastlung.kernels import morphology
from fastlung.kernels.planes import slice_hulls
from fastlung.kernels.runs import difference, paint, select, slice_sizes, union
from fastlung.kernels.threshold import runs_at_most
from fastlung.kernels.zoom import zoom_bytes
from fastlung.mask.grt123 import octahedron
from fastlung.resampling import target_grid
from fastlung.scan import Crop, Flag, ScanResult

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastlung.kernels.runs import Runs
    from fastlung.recipe.steps import LungsOnly
    from fastlung.scan import Grid

__all__ = ["only_lungs"]

#: Grey of everything outside, 0 HU in their window; brighter than `BONE`, 282 HU, is bone.
OUTSIDE, BONE = 170, 210
#: A slice's hull counts unless it is larger than so many times the lung in it.
HULL_RATIO = 2
#: Dilations of the hulls, in acquired voxels along every axis, thick slices or not.
DILATIONS = 10


def only_lungs(
    hu: npt.NDArray[np.int16], mask: npt.NDArray[np.uint8] | None, grid: Grid, step: LungsOnly
) -> ScanResult:
    """
    Window, paint over, interpolate and cut a scan.

    Parameters
    ----------
    hu : ndarray of int16, shape (z, y, x)
        Hounsfield units in the acquired frame, in canonical order.
    mask : ndarray of uint8, shape (z, y, x), or None
        1 one lung, 2 the other. Without one, or where it is empty, nothing is painted over or cut.
    grid : Grid
        Where their voxels lie.
    step : LungsOnly
        Window, spacing, and whether and with what margin to cut.

    Returns
    -------
    ScanResult
        Bytes; the mask's nearest labels; without figures. At the far end of each axis the margin is
        twice as wide, as theirs is.
    """
    grey = _bytes(hu, (step.low_hu, step.high_hu))
    empty = mask is None or not mask.any()
    if mask is not None and not empty:
        _paint_over(grey, mask)
    whole = target_grid(grid, step.spacing_mm, align="corners")
    box = Box((0, 0, 0), whole.shape)
    flags: tuple[Flag, ...] = ()
    if step.crop and mask is not None:
        found = box_of_lungs(mask)
        if found is None:
            text = "nothing to crop to: no lungs found; this is the whole volume"
            flags = (Flag(name="not_cropped", value=0.0, text=text),)
        else:
            box = _target_box(found, grid, whole, step)
    at = [
        np.arange(first, stop) * ((have - 1) / max(want - 1, 1))
        for first, stop, have, want in zip(
            box.first, box.stop, grid.shape, whole.shape, strict=True
        )
    ]
    image = np.empty([indices.size for indices in at], np.uint8)
    zoom_bytes(grey, *at, image)
    return ScanResult(
        image=image,
        mask=None if mask is None else mask[np.ix_(*(np.rint(i).astype(np.intp) for i in at))],
        grid=cut_grid(whole, box),
        flags=flags,
        crop=None
        if box.stop == whole.shape and not any(box.first)
        else Crop(offset=box.first, full_shape=whole.shape),
    )


def _bytes(hu: npt.NDArray[np.int16], window_hu: tuple[float, float]) -> npt.NDArray[np.uint8]:
    """The window as 0 to 255, cut off, not rounded."""
    low, high = window_hu
    values = np.arange(-32768, 32768)
    table = (np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    # A table of all 65,536 values: 0.04 s for 32 million voxels, where the formula takes 0.4 s.
    grey: npt.NDArray[np.uint8] = np.roll(table, 32768)[hu.view(np.uint16)]
    return grey


def _paint_over(grey: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> None:
    """Grey outside the dilated hulls of the lungs; bone between hull and lung grey too."""
    up_to = [runs_at_most(mask, label) for label in range(3)]
    lungs = [difference(up_to[label], up_to[label - 1]) for label in (1, 2)]
    hulls = union(*(morphology.dilate(_hulls(lung), octahedron(DILATIONS)) for lung in lungs))
    kept = np.zeros(mask.shape, np.uint8)
    paint(hulls, np.ones(hulls.starts.size, np.uint8), kept)
    grey[kept == 0] = OUTSIDE
    # Outside is no bone, and in the lungs bone may stay.
    grey[(grey > BONE) & (mask == 0)] = OUTSIDE


def _hulls(lung: Runs) -> Runs:
    """Hull of a lung in each slice, or the lung itself where the hull is much larger."""
    hulls = slice_hulls(lung)
    much_larger = slice_sizes(hulls) > HULL_RATIO * slice_sizes(lung)
    height = lung.shape[1]
    use_lung, use_hull = (
        np.repeat(np.repeat(chosen, height), np.diff(runs.offsets))
        for chosen, runs in ((much_larger, lung), (~much_larger, hulls))
    )
    return union(select(lung, use_lung), select(hulls, use_hull))


def _target_box(found: Box, grid: Grid, whole: Grid, step: LungsOnly) -> Box:
    """The lungs' box in target voxels, one margin wider below and two above."""
    first, stop = [], []
    spacings = np.array(grid.spacing_mm, np.float32).astype(float)  # as they held them
    axes = zip(found.first, found.stop, spacings, step.spacing_mm, whole.shape, strict=True)
    for low, high, have, want, size in axes:
        margin = round(step.margin_mm / want)
        first.append(max(0, int(low * have / want) - margin))
        stop.append(min(size, int((high - 1) * have / want) + 2 * margin))
    return Box((first[0], first[1], first[2]), (stop[0], stop[1], stop[2]))
