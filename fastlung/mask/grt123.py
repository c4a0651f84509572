"""
The mask of grt123, the winner of the Kaggle Data Science Bowl 2017, voxel for voxel.

Written from the description of F. Liao et al., IEEE TNNLS 30 (2019), and of their published
pre-processing; constants are theirs. It is made for slices as acquired. Dark regions of each slice
that are neither small nor stretched; of these, in 3-D, what has the volume of lungs and comes near
the middle; holes filled; the two lungs told apart by erosion; of each, in each slice, the largest
regions and what lies in their hulls.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlung.kernels import morphology
from fastlung.kernels.bits import runs_at_most
from fastlung.kernels.labels import label, label_slices, share
from fastlung.kernels.picture import eccentricities, slice_hulls, smoothed_below
from fastlung.kernels.resample import zoom_bytes
from fastlung.kernels.runs import (
    Runs,
    complement,
    difference,
    moments,
    on_plane_border,
    paint,
    select,
    sizes,
    slice_sizes,
    union,
)
from fastlung.scan import Crop, Flag, LungMask, ScanResult
from fastlung.volume.orientation import (
    Box,
    box_of_lungs,
    canonical_grid,
    cut_grid,
    orientation_of,
    turned,
    turned_back,
)
from fastlung.volume.resampling import target_grid

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastlung.recipe.steps import LungsOnly
    from fastlung.scan import Grid

__all__ = ["OUTSIDE", "grt123_mask", "octahedron", "only_lungs"]


#: Lung is darker than this after smoothing, in HU.
THRESHOLD_HU = -600.0

#: Smoothing: standard deviation in voxels; two neighbours on each side count.
SIGMA_VOXELS = 1.0

#: Side of the corner patch whose being constant means that the slice is a circle, in voxels.
PATCH_VOXELS = 10

#: Regions of a slice must be larger, and less stretched.
REGION_MM2, ECCENTRICITY = 30.0, 0.99

#: Plausible volume of what is lung, in litres.
LUNG_LITRES = (0.68, 7.5)

#: Averaged over slices in which a component has this area, its distance from the middle of the
#: slice must be less than this.
SLICE_MM2, MIDDLE_MM = 6000.0, 62.0

#: Slices cleared at the head, more at each try, until something is lung.
CUT_SLICES = 2

#: Erosions until two cores part, the larger less than so many times the smaller.
EROSIONS, CORE_RATIO = 22, 4.8

#: Part of a slice's area that its largest regions must cover to be kept.
COVERED = 0.95


def grt123_mask(hu: npt.NDArray[np.int16], grid: Grid) -> LungMask:
    """
    Segment the lungs as grt123 did, with their known weaknesses.

    Parameters
    ----------
    hu : ndarray of int16, shape (z, y, x)
        Hounsfield units; padding need not be replaced.
    grid : Grid
        Where the voxels lie; made for slices as acquired, at least 10 x 10 voxels each.

    Returns
    -------
    LungMask
        Labels 1 right, 2 left; where erosion did not part them, 1 for both, flagged
        ``not_parted``. Empty and flagged ``no_lung`` where nothing was lung: less than 0.68 L, or
        lungs that the field of view cuts.

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
    # They held spacings in single precision.
    z_mm, y_mm, x_mm = np.array(upright.spacing_mm, np.float32).astype(float).tolist()
    spacing_mm = (z_mm, y_mm, x_mm)
    both = _filled(_lungs_of(_dark_regions(volume, spacing_mm), spacing_mm))
    lungs = tuple(_filled_slices(lung) for lung in _parted(both, spacing_mm))
    mask = np.zeros(volume.shape, np.uint8)
    for side, lung in enumerate(lungs, start=1):
        paint(lung, np.full(lung.starts.size, side, np.uint8), mask)
    litres_right, litres_left = (int(slice_sizes(lung).sum()) * grid.voxel_litres for lung in lungs)
    return LungMask(
        mask=np.ascontiguousarray(turned_back(mask, orientation)),
        litres_right=litres_right,
        litres_left=litres_left,
        flags=_flags(litres_right, litres_left),
    )


def octahedron(radius: int) -> npt.NDArray[np.int64]:
    """
    What so many dilations with the six neighbours add up to, as `morphology.ball` describes it.

    Parameters
    ----------
    radius : int
        Dilations.

    Returns
    -------
    ndarray of int64, shape (rows, 3)
        ``dz`` (ascending from 0), ``dy`` and the reach along x, in voxels.
    """
    return np.array(
        [
            (dz, dy, radius - dz - abs(dy))
            for dz in range(radius + 1)
            for dy in range(dz - radius, radius - dz + 1)
        ],
        np.int64,
    )


def _dark_regions(volume: npt.NDArray[np.int16], spacing_mm: tuple[float, float, float]) -> Runs:
    """Regions of each slice that are dark, large enough and not a line."""
    corner = volume[:, :PATCH_VOXELS, :PATCH_VOXELS]
    circle = (corner == corner[:, :1, :1]).all(axis=(1, 2))
    weights = np.exp(-0.5 / SIGMA_VOXELS**2 * np.arange(-2, 3) ** 2)
    weights = (weights / weights.sum())[2:]
    light = np.empty(volume.shape, np.uint8)
    smoothed_below(volume, weights, THRESHOLD_HU, circle, light)
    dark = runs_at_most(light, 0)
    labels, count = label_slices(dark, 8)
    area_mm2 = sizes(dark, labels, count) * spacing_mm[1] * spacing_mm[2]
    keep = (area_mm2 > REGION_MM2) & (eccentricities(dark, labels, count) < ECCENTRICITY)
    return select(dark, keep[labels])


def _lungs_of(dark: Runs, spacing_mm: tuple[float, float, float]) -> Runs:
    """What has the volume and the place of lungs; slices at the head cleared until there is any."""
    row = np.repeat(np.arange(dark.offsets.size - 1), np.diff(dark.offsets))
    slice_of = row // dark.shape[1]
    for cut in range(0, dark.shape[0], CUT_SLICES):
        kept = select(dark, slice_of < dark.shape[0] - cut)
        lungs = _plausible(kept, spacing_mm, dark.shape[0] - 1 - cut)
        if lungs.starts.size:
            return lungs if cut == 0 else _with_head(lungs, dark, slice_of, cut)
    return select(dark, np.zeros(dark.starts.size, np.bool_))


def _plausible(dark: Runs, spacing_mm: tuple[float, float, float], last: int) -> Runs:
    """Components that no edge of the volume owns, of lungs' volume, near the middle."""
    labels, count = label(dark, 6)
    _, height, width = dark.shape
    points = [
        (z, y, x) for z in (0, last) for y in (0, height - 1) for x in (0, width // 2, width - 1)
    ]
    outside = np.zeros(count + 1, np.bool_)
    outside[_labels_at(dark, labels, points)] = True
    litres = sizes(dark, labels, count) * np.prod(spacing_mm) * 1e-6
    keep = ~outside & (litres >= LUNG_LITRES[0]) & (litres <= LUNG_LITRES[1])
    keep[0] = False
    for number in np.flatnonzero(keep):
        keep[number] = _off_middle_mm(select(dark, labels == number), spacing_mm) < MIDDLE_MM
    return select(dark, keep[labels])


def _labels_at(
    runs: Runs, labels: npt.NDArray[np.int32], points: list[tuple[int, int, int]]
) -> list[int]:
    """Label of single voxels, 0 for those in no run."""
    found = []
    for z, y, x in points:
        row = z * runs.shape[1] + y
        here = slice(runs.offsets[row], runs.offsets[row + 1])
        inside = (runs.starts[here] <= x) & (x < runs.stops[here])
        found.append(int(labels[here][inside].sum()))
    return found


def _off_middle_mm(runs: Runs, spacing_mm: tuple[float, float, float]) -> float:
    """Mean over slices with enough area of the least distance from the middle; else infinite."""
    depth, height, width = runs.shape
    z, y = np.divmod(np.repeat(np.arange(depth * height), np.diff(runs.offsets)), height)
    first, last = runs.starts.astype(np.float64), runs.stops.astype(np.float64) - 1
    middle = (width - 1) / 2
    # The middle lies on a voxel, or between the two that are tried.
    nearest = [
        np.abs(np.clip(side, first, last) - middle) for side in (middle // 1, -(-middle // 1))
    ]
    x_mm = np.minimum(*nearest) * spacing_mm[2]
    y_mm = (y - (height - 1) / 2) * spacing_mm[1]
    least = np.full(depth, np.inf)
    np.minimum.at(least, z, np.hypot(y_mm, x_mm))
    large = slice_sizes(runs) * spacing_mm[1] * spacing_mm[2] > SLICE_MM2
    return float(least[large].mean()) if large.any() else np.inf


def _with_head(lungs: Runs, dark: Runs, slice_of: npt.NDArray[Any], cut: int) -> Runs:
    """Lungs grown back into the slices that were cleared, as far as they reach."""
    head = select(dark, slice_of >= dark.shape[0] - cut)
    reached = morphology.dilate(lungs, octahedron(cut))
    grown = difference(union(lungs, head), complement(reached))
    labels, count = label(grown, 6)
    firsts, lung_count = label(lungs, 6)
    keep = np.zeros(count + 1, np.bool_)
    _, begin = np.unique(firsts, return_index=True)
    row = np.repeat(np.arange(lungs.offsets.size - 1), np.diff(lungs.offsets))[begin]
    z, y = np.divmod(row, lungs.shape[1])
    corners = list(zip(z.tolist(), y.tolist(), lungs.starts[begin].tolist(), strict=True))
    keep[_labels_at(grown, labels, corners[:lung_count])] = True
    return select(grown, keep[labels])


def _filled(runs: Runs) -> Runs:
    """All that the corners of the volume do not reach."""
    outside = complement(runs)
    labels, count = label(outside, 26)
    depth, height, width = runs.shape
    corners = [(z, y, x) for z in (0, depth - 1) for y in (0, height - 1) for x in (0, width - 1)]
    reached = np.zeros(count + 1, np.bool_)
    reached[_labels_at(outside, labels, corners)] = True
    return complement(select(outside, reached[labels]))


def _parted(both: Runs, spacing_mm: tuple[float, float, float]) -> tuple[Runs, Runs]:
    """Right and left lung, cut half way between the cores that erosion parts; or all, nothing."""
    core = both
    for _ in range(EROSIONS):
        labels, count = label(core, 18)
        voxels = sizes(core, labels, count)[1:]
        if count > 1:
            # Ties as a stable sort has them: the component that comes first.
            first, second = (1 + int(i) for i in np.argsort(-voxels, kind="stable")[:2])
            if voxels[first - 1] / voxels[second - 1] < CORE_RATIO:
                return _shared(both, core, labels, (first, second), spacing_mm)
        core = _eroded(core)
    return both, select(both, np.zeros(both.starts.size, np.bool_))


def _eroded(runs: Runs) -> Runs:
    """One erosion with the six neighbours; beyond the volume is no lung."""
    depth, height, width = runs.shape
    inside = np.zeros((depth, height), np.bool_)
    inside[1:-1, 1:-1] = width > 2  # noqa: PLR2004 - both ends are border
    rows = inside.reshape(-1)
    interior = Runs(
        runs.shape,
        np.concatenate(([0], np.cumsum(rows))),
        np.full(rows.sum(), 1, np.uint16),
        np.full(rows.sum(), width - 1, np.uint16),
    )
    return difference(morphology.erode(runs, octahedron(1)), complement(interior))


def _shared(
    both: Runs,
    core: Runs,
    labels: npt.NDArray[np.int32],
    pair: tuple[int, int],
    spacing_mm: tuple[float, float, float],
) -> tuple[Runs, Runs]:
    volume = np.zeros(both.shape, np.uint8)
    paint(both, np.full(both.starts.size, 3, np.uint8), volume)
    values = np.zeros(labels.size, np.uint8)
    x = moments(core, labels, int(labels.max()))[:, 2]
    right, left = sorted(pair, key=lambda number: float(x[number]))
    values[labels == right] = 1
    values[labels == left] = 2
    paint(core, values, volume)
    # Everything the cores have lost on the way is undecided, also what was a core's neighbour.
    share(volume, spacing_mm)
    right_or_nothing = runs_at_most(volume, 1)
    right_lung = difference(right_or_nothing, runs_at_most(volume, 0))
    return _main_part(right_lung), _main_part(complement(right_or_nothing))


def _main_part(lung: Runs) -> Runs:
    """In each slice what lies in the hulls of its largest regions; of that the largest piece."""
    labels, count = label_slices(lung, 8)
    row = np.repeat(np.arange(lung.offsets.size - 1), np.diff(lung.offsets))
    slice_of = np.zeros(count + 1, np.int64)
    slice_of[labels] = row // lung.shape[1]
    rank = _ranks(sizes(lung, labels, count), slice_of)
    nothing = select(lung, np.zeros(labels.size, np.bool_))
    hulls = [slice_hulls(select(lung, rank[labels] == r)) for r in range(int(rank.max()) + 1)]
    kept = difference(lung, complement(reduce(union, hulls, nothing)))
    labels, count = label(kept, 26)
    return select(kept, labels == 1 + sizes(kept, labels, count)[1:].argmax())


def _ranks(voxels: npt.NDArray[np.int64], slice_of: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Rank by size of each label in its slice, -1 where larger ones already cover enough of it."""
    rank = np.full(voxels.size, -1, np.int64)
    order = 1 + np.lexsort((-voxels[1:], slice_of[1:]))
    _, begin = np.unique(slice_of[order], return_index=True)
    for start, stop in zip(begin, [*begin[1:], order.size], strict=True):
        here = order[start:stop]
        before = np.cumsum(voxels[here]) - voxels[here]
        keep = before < voxels[here].sum() * COVERED
        rank[here[keep]] = np.arange(np.count_nonzero(keep))
    return rank


def _filled_slices(runs: Runs) -> Runs:
    """Holes of each slice filled; a hole is not reached across corners either."""
    outside = complement(runs)
    labels, count = label_slices(outside, 8)
    return union(runs, select(outside, ~on_plane_border(outside, labels, count)[labels]))


def _flags(litres_right: float, litres_left: float) -> tuple[Flag, ...]:
    if litres_right + litres_left == 0.0:
        text = "nothing has the volume and place of lungs; they may be cut, or below 0.68 L"
        return (Flag(name="no_lung", value=0.0, text=text),)
    if litres_left == 0.0:
        text = f"{EROSIONS} erosions did not part the lungs; both have label 1"
        return (Flag(name="not_parted", value=float(EROSIONS), text=text),)
    return ()


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
