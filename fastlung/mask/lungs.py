"""
The lung masks: the default one, the tutorial's, and an outside segmenter's answer.

The air of the lungs, as `fastlung.mask.evidence` sorts it, is told apart into right and left; dense
regions between parts of one lung are taken in; vessels and small nodules on the wall are closed
in, lung by lung, so that no closing bridges the mediastinum. The result is judged as anybody's
would be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastlung.errors import SegmenterError
from fastlung.kernels import morphology
from fastlung.kernels.bits import runs_at_most
from fastlung.kernels.labels import fill_holes, label, label_slices, on_volume_border
from fastlung.kernels.overlap import boxes
from fastlung.kernels.runs import (
    complement,
    cropped,
    difference,
    magnified,
    on_plane_border,
    paint,
    paint_coarse,
    placed,
    select,
    sizes,
    slice_sizes,
    union,
)
from fastlung.mask.dense import coarse_of, dense_regions, fine_of, runs_of
from fastlung.mask.evidence import gather
from fastlung.mask.sides import split_sides
from fastlung.mask.trust import judge
from fastlung.scan import LungMask
from fastlung.volume.orientation import canonical_grid, orientation_of, turned, turned_back

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from fastlung.kernels.runs import Runs
    from fastlung.mask.dense import Coarse
    from fastlung.mask.evidence import Evidence
    from fastlung.scan import Grid

    Segmenter = Callable[[npt.NDArray[np.int16], Grid], Any]

__all__ = ["lung_mask", "outside_labels", "tutorial_mask"]


#: Vessels and wall nodules up to twice this are closed in, in millimetres.
CLOSING_MM = 5.0
#: A way out of tissue narrower than this is a pleural tag, and what lies behind it is lung's; the
#: heart's is centimetres wide, in millimetres.
TAG_MM = 8.0
#: Looked for on a grid this coarse, in millimetres.
TAGS_ON_MM = 2.0
#: Lung thinner than this is the edge between two slices, at the bottom of a recess, in millimetres.
SLIVER_MM = 4.0
#: Holes in a slice of a lung up to this are vessels; larger ones may be the heart.
VESSEL_MM2 = 150.0

RIGHT, LEFT, AIRWAY = 1, 2, 3


def lung_mask(
    hu: npt.NDArray[Any], grid: Grid, *, label_airway: bool = False, dark: Runs | None = None
) -> LungMask:
    """
    Segment the lungs and tell right from left.

    Parameters
    ----------
    hu : ndarray of int16 or float32, shape (z, y, x)
        Hounsfield units, padding already replaced by air.
    grid : Grid
        Where the voxels lie; any orientation. Made for 0.7 to 2 mm isotropic voxels.
    label_airway : bool
        Whether trachea and main bronchi are label 3 instead of background.
    dark : Runs, optional
        Voxels of `hu` at or below -400 HU, where they are known already and `grid` is canonical
        (z to the head, y to the back, x to the left); passed over for other orientations.

    Returns
    -------
    LungMask
        Labels 0 background, 1 right, 2 left in patient space; litres; flags; confidence. Never
        raises on odd anatomy: without lungs the mask is empty and flagged ``no_lung``.

    Raises
    ------
    ValueError
        If `hu` and `grid` differ in shape.
    """
    if hu.shape != grid.shape:
        raise ValueError(f"volume has shape {hu.shape}, its grid {grid.shape}")
    orientation = orientation_of(grid)
    volume = np.ascontiguousarray(turned(hu, orientation))
    upright = canonical_grid(grid, orientation)
    evidence = gather(volume, upright, dark if upright == grid else None)
    lungs = _find_lungs(evidence)
    parts = (*lungs, evidence.airway) if label_airway else lungs
    mask = np.zeros(volume.shape, np.uint8)
    for number, part in zip((RIGHT, LEFT, AIRWAY), parts, strict=False):
        paint(part, np.full(part.starts.size, number, np.uint8), mask)
    litres_right, litres_left = (int(slice_sizes(lung).sum()) * grid.voxel_litres for lung in lungs)
    trust = judge(evidence, *lungs)
    return LungMask(
        mask=np.ascontiguousarray(turned_back(mask, orientation)),
        litres_right=litres_right,
        litres_left=litres_left,
        flags=trust.flags,
        confidence=trust.confidence,
        figures=trust.figures,
    )


def _find_lungs(evidence: Evidence) -> tuple[Runs, Runs]:
    """Right and left lung, finished."""
    grid = evidence.grid
    right, left = split_sides(evidence.lungs, evidence.pieces, grid, evidence.middle_mm)
    coarse = coarse_of(evidence.dark, right, left, grid)
    dense = dense_regions(coarse)
    right, left = (
        _closed(_with_dense(lung, dense == side, coarse, grid), grid)
        for side, lung in ((RIGHT, right), (LEFT, left))
    )
    return difference(right, union(left, evidence.lumen)), difference(left, evidence.lumen)


def _with_dense(lung: Runs, region: npt.NDArray[np.bool_], coarse: Coarse, grid: Grid) -> Runs:
    return union(lung, fine_of(region, coarse, grid)) if region.any() else lung


def _closed(lung: Runs, grid: Grid) -> Runs:
    """One lung with its vessels, small wall nodules and enclosed tissue."""
    if not lung.starts.size:
        return lung
    # Within its box: what is outside a lung fills the volume, and costs accordingly.
    low, high = boxes(lung, np.ones(lung.starts.size, np.int32), 1)[1]
    margin = np.ceil((CLOSING_MM + TAG_MM) / np.array(grid.spacing_mm)).astype(int)
    first = tuple(np.maximum(low - margin, 0).tolist())
    last = tuple(np.minimum(high + margin, lung.shape).tolist())
    part = _filled(cropped(lung, first, last), grid)
    sliver = morphology.ball(SLIVER_MM / 2, grid.spacing_mm)
    opened = morphology.dilate(morphology.erode(part, sliver), sliver)
    return placed(opened, first, lung.shape)


def _filled(lung: Runs, grid: Grid) -> Runs:
    outside = complement(morphology.close(lung, morphology.ball(CLOSING_MM, grid.spacing_mm)))
    outside = _open_outside(outside, grid)
    labels, count = label_slices(outside, 4)
    area = sizes(outside, labels, count) * (grid.spacing_mm[1] * grid.spacing_mm[2])
    hole = ~on_plane_border(outside, labels, count) & (area < VESSEL_MM2)
    # Holes in slices close the way out of what is larger elsewhere, such as a mass with a tag.
    return fill_holes(complement(select(outside, ~hole[labels])))


def _open_outside(outside: Runs, grid: Grid) -> Runs:
    """What is outside a lung and can be reached through ways that are no pleural tags."""
    # On every other millimetre: on all of them it takes four times as long.
    z, y, x = (max(1, round(TAGS_ON_MM / step)) for step in grid.spacing_mm)
    spacing_mm = z * grid.spacing_mm[0], y * grid.spacing_mm[1], x * grid.spacing_mm[2]
    painted = paint_coarse(outside, np.ones(outside.starts.size, np.uint8), (z, y, x)) > 0
    wide = morphology.erode(runs_of(painted), morphology.ball(TAG_MM / 2, spacing_mm))
    labels, count = label(wide, 6)
    open_ = on_volume_border(wide, labels, count)
    if not open_[1:].all():
        enclosed = magnified(select(wide, ~open_[labels]), (z, y, x), outside.shape)
        tag = morphology.ball(TAG_MM / 2, grid.spacing_mm)
        outside = difference(outside, morphology.dilate(enclosed, tag))
    labels, count = label(outside, 6)
    return select(outside, on_volume_border(outside, labels, count)[labels])


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
    for found in LABELS[1:]:
        whole[labels == found] = found
    if (labels != whole).any():
        raise SegmenterError(
            f"it gave labels other than 0 to 3 (0 background, 1 right lung, 2 left lung, 3 airway)"
            f" in {np.count_nonzero(labels != whole):,} voxels"
        )
    return whole


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
