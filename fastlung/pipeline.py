"""
One scan, start to finish: `process_scan` does the steps of a recipe, one after the other.

Pure: the same scan and configuration give the same bits, and no file, clock, environment or log
is touched. Stored words stay as they are until a step needs voxels: what is said of them before
(Hounsfield units, clipping) is done row by row while they are resampled, in one pass.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlung.cropping import (
    Box,
    box_above,
    box_of_body,
    box_of_lungs,
    box_of_middle,
    cut_array,
    cut_grid,
    padded,
    widened,
)
from fastlung.grt123 import only_lungs
from fastlung.hounsfield import PADDING_HU, read_as, to_hu, tutorial_hu
from fastlung.kernels.fused import UNSEEN, count_padding, resample_stored
from fastlung.limits import beyond, limits_in_force
from fastlung.mask import chosen_mask
from fastlung.orientation import (
    canonical_grid,
    last_voxels,
    orientation_of,
    reversed_axes,
    turned,
)
from fastlung.quality import hu_percentiles
from fastlung.recipe import steps as known
from fastlung.resampling import aligned_targets, in_strips, resample_between, target_grid
from fastlung.samples import samples_of
from fastlung.scan import Crop, Flag, Grid, RawScan, ScanResult
from fastlung.windowing import windowed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from fastlung.config import Config
    from fastlung.samples import Arrays, Positions, Samples

    Stage = Callable[[str], AbstractContextManager[object]]
    Segmenter = Callable[[npt.NDArray[np.int16], Grid], Any]

__all__ = ["process_scan"]

#: Bounds that clip nothing.
ANY_HU = (-32768.0, 32767.0)


def process_scan(
    raw: RawScan,
    config: Config,
    stage: Stage = nullcontext,
    *,
    segment: Segmenter | None = None,
    threads: int = 1,
) -> ScanResult:
    """
    Turn one series into a volume and, where the recipe has that step, a lung mask.

    Parameters
    ----------
    raw : RawScan
        What `read_series` returns.
    config : Config
        What to do; `fastlung.build_config` makes one.
    stage : callable
        Called with the name of each step, returns a context entered around it. For timing;
        nothing depends on it.
    segment : callable, optional
        Asked for labels where our own mask is flagged, or always if `config.mask_on` says so: from
        Hounsfield units (int16, shape (z, y, x)) and their `Grid` to 0 background, 1 right lung,
        2 left lung, 3 airway. Where it fails the mask stays our own, flagged
        ``mask_command_failed``.
    threads : int
        How many share the work on this scan; changes no bit. Scans side by side in processes make
        better use of as many cores.

    Returns
    -------
    ScanResult
        Image and mask on one grid in canonical LPS order, figures and flags.

    Raises
    ------
    LimitError
        If the output would have more voxels than the limits in force allow; nothing of its size
        has been allocated by then.
    """
    scan = _Scan(raw, stage, segment, config.mask_on == "all", threads, raw.grid)
    for step in config.steps:
        DONE_BY[type(step)](scan, step)
    return ScanResult(
        image=np.ascontiguousarray(scan.voxels()),
        mask=scan.mask,
        grid=scan.grid,
        window_hu=config.window_hu,
        zero_centre=config.zero_centre,
        standardise=config.standardise,
        figures=scan.figures,
        flags=scan.flags,
        crop=scan.crop,
    )


@dataclass(slots=True)
class _Scan:
    """
    One scan between two steps.

    `image` is None as long as nothing has been done to the stored words; it is upright from then
    on. `clip_hu` is still to be done.
    """

    raw: RawScan
    stage: Stage
    segment: Segmenter | None
    always_segment: bool
    threads: int
    grid: Grid
    read: known.Hu = field(default_factory=known.Hu)
    clip_hu: tuple[float, float] | None = None
    image: npt.NDArray[Any] | None = None
    mask: npt.NDArray[np.uint8] | None = None
    reversed_axes: tuple[bool, bool, bool] = (False, False, False)
    values_of: Callable[[npt.NDArray[np.int16]], npt.NDArray[Any]] = np.asarray
    figures: dict[str, float] = field(default_factory=dict)
    flags: tuple[Flag, ...] = ()
    crop: Crop | None = None

    def voxels(self) -> npt.NDArray[Any]:
        """The image as it is by now; from here on there is one."""
        if self.image is None:
            with self.stage("hu"):
                hu, count = self.words_as_hu()
            self.found(hu, self.raw.grid, count)
        if self.clip_hu is not None:
            low, high = np.rint(self.clip_hu)
            self.image = np.clip(self.image, np.int16(low), np.int16(high))
            self.clip_hu = None
        return self.image  # type: ignore[return-value]

    def words_as_hu(self) -> tuple[npt.NDArray[np.int16], int]:
        """Stored words as Hounsfield units, as acquired, and how many of them were padding."""
        if self.read.rule == "tutorial":
            return tutorial_hu(self.raw)
        return to_hu(self.raw, replace_padding=self.read.padding == "air")[0], 0

    def found(self, acquired: npt.NDArray[np.int16], grid: Grid, padding: int) -> None:
        """Take Hounsfield units in the acquired order for the image, turned upright."""
        orientation = orientation_of(grid)
        self.image = np.ascontiguousarray(turned(acquired, orientation))
        self.grid = canonical_grid(grid, orientation)
        if self.read.padding == "air":
            self.figures["padding_fraction"] = padding / self.raw.stored.size
        self.figures |= hu_percentiles(self.image)

    def cut(self, box: Box) -> None:
        """Keep a part."""
        self.image = cut_array(self.voxels(), box)
        if self.mask is not None:
            self.mask = cut_array(self.mask, box)
        self.moved(box)

    def moved(self, box: Box) -> None:
        """Note that image and mask are a part now, or where voxels were added more than all."""
        whole = self.crop or Crop(offset=(0, 0, 0), full_shape=self.grid.shape)
        z, y, x = np.add(whole.offset, box.first).tolist()
        self.crop = Crop(offset=(z, y, x), full_shape=whole.full_shape)
        self.grid = cut_grid(self.grid, box)


def _orient(scan: _Scan, step: known.Orient) -> None:
    scan.reversed_axes = reversed_axes(step.axes)


def _read(scan: _Scan, step: known.Hu) -> None:
    scan.read = step


def _clip(scan: _Scan, step: known.Clip) -> None:
    if scan.clip_hu is not None:
        scan.voxels()
    scan.clip_hu = (step.low_hu, step.high_hu)


def _resample(scan: _Scan, step: known.Resample) -> None:
    """Interpolate once, from true positions where the slices are still as they were acquired."""
    orientation = orientation_of(scan.grid)
    # The tutorial's grid knows no positions: its slices count as equally far apart and in line.
    true_positions = scan.image is None and step.align != "corners"
    samples = samples_of(scan.grid, scan.raw if true_positions else None)
    grid = target_grid(
        scan.grid, _spacing_mm(step, samples, scan.grid, orientation.axes), align=step.align,
        count=step.count, bounds_mm=samples.bounds_mm,
        last=last_voxels(orientation, scan.reversed_axes),
    )  # fmt: skip
    _refuse_absurd(grid.shape)
    targets = aligned_targets(scan.grid, grid)
    if step.antialias:
        samples = samples.smoothed(scan.grid, grid)
    if scan.image is None and scan.read.rule == "standard":
        with scan.stage("resample"):
            volume, padding = _resampled_words(scan, samples, targets, step.order)
        scan.clip_hu = None
        scan.found(volume, grid, padding)
        return
    acquired = scan.image is None and scan.clip_hu is None
    hu, padding = scan.words_as_hu() if acquired else (scan.voxels(), 0)
    with scan.stage("resample"):
        volume = resample_between(hu, samples, targets, step.order, threads=scan.threads)
        if scan.mask is not None:
            scan.mask = resample_between(scan.mask, samples, targets, 0, threads=scan.threads)
    if acquired:
        scan.found(volume, grid, padding)
    else:
        scan.image, scan.grid = volume, grid


def _spacing_mm(
    step: known.Resample, samples: Samples, grid: Grid, axes: Sequence[int]
) -> list[float]:
    """Spacing wanted along the axes of `grid`; a shape is wanted by the spacing that gives it."""
    spacing_mm = list(grid.spacing_mm)
    for axis, wanted in zip(axes, step.spacing_mm or step.shape or (), strict=True):
        if wanted == "keep":
            continue
        low, high = samples.bounds_mm[axis]
        extent = high - low + grid.spacing_mm[axis]
        spacing_mm[axis] = extent / wanted if step.spacing_mm is None else wanted
    return spacing_mm


def _refuse_absurd(shape: Sequence[int]) -> None:
    """Refuse more output than the limits in force allow, before it is allocated."""
    if math.prod(shape) > limits_in_force().output_voxels:
        raise beyond(
            "output_voxels",
            f"the output would have {tuple(shape)} voxels: ask for a coarser spacing, or look at "
            "the slice positions",
        )


def _resampled_words(
    scan: _Scan, samples: Samples, targets_mm: Positions, order: int
) -> tuple[npt.NDArray[np.int16], int]:
    """
    Stored words to resampled Hounsfield units, and how many of the words were padding.

    What was never measured is interpolated with nothing, and blank after, if it is told apart.
    """
    stored = scan.raw.stored
    scale, darkest_hu = read_as(scan.raw.scale, replace_padding=scan.read.padding == "air")
    low, high = scan.clip_hu or ANY_HU
    blank_hu = round(min(max(PADDING_HU, low), high))
    bands = samples.bands(targets_mm, order)
    nearest = samples.nearest(targets_mm, scan.raw.grid.spacing_mm)
    extents = np.full((*stored.shape[:2], 3), UNSEEN, np.int32)
    out = np.empty([targets.size for targets in targets_mm], np.int16)

    def fill(work: Arrays, rows: int, top: int, bottom: int) -> None:
        resample_stored(
            stored, scale, darkest_hu, blank_hu, (low, high), bands, nearest, extents, work,
            rows, top, bottom, out,
        )  # fmt: skip

    in_strips(fill, stored.shape[1:], bands, out.shape, scan.threads)
    spare = np.empty((1, stored.shape[2]), np.float32)
    return out, int(count_padding(stored, scale, darkest_hu, extents, spare))


def _mask(scan: _Scan, step: known.Mask) -> None:
    hu = scan.voxels()
    with scan.stage("mask"):
        scan.mask, figures, flags = chosen_mask(
            hu, scan.grid, step.method, airway=step.airway, segment=scan.segment,
            always=scan.always_segment,
        )  # fmt: skip
        if step.outside_hu is not None:
            hu[scan.mask == 0] = round(step.outside_hu)
    scan.figures |= figures
    scan.flags += flags


def _lungs_only(scan: _Scan, step: known.LungsOnly) -> None:
    _refuse_absurd(target_grid(scan.grid, step.spacing_mm, align="corners").shape)
    hu = scan.voxels()
    with scan.stage("resample"):
        result = only_lungs(hu, scan.mask, scan.grid, step)
    scan.image, scan.mask, scan.grid = result.image, result.mask, result.grid
    scan.crop, scan.flags = result.crop, scan.flags + result.flags


def _crop(scan: _Scan, step: known.Crop) -> None:
    image = scan.voxels()
    with scan.stage("crop"):
        box = _box(scan, step, image)
        if box is None:
            text = f"nothing to crop to: no {step.to} found; this is the whole volume"
            scan.flags += (Flag(name="not_cropped", value=0.0, text=text),)
            return
        scan.cut(widened(box, step.margin_mm, scan.grid, step.margin_voxels))


def _box(scan: _Scan, step: known.Crop, image: npt.NDArray[Any]) -> Box | None:
    if step.to == "lungs":
        return None if scan.mask is None else box_of_lungs(scan.mask)
    if step.to == "body":
        return box_of_body(image)
    if step.above is not None:
        return box_above(image, step.above)
    size = step.size or _multiples(image.shape, step.multiple or (1, 1, 1))
    return box_of_middle(image.shape, size, step.odd, scan.reversed_axes)


def _multiples(shape: Sequence[int], step: Sequence[int]) -> list[int]:
    """The largest multiples that a shape holds; an axis shorter than one as it is."""
    return [n // m * m or n for n, m in zip(shape, step, strict=True)]


def _pad(scan: _Scan, step: known.Pad) -> None:
    image = scan.voxels()
    wanted = step.size or [
        -(-n // m) * m for n, m in zip(image.shape, step.multiple or (), strict=True)
    ]
    z, y, x = map(max, image.shape, wanted)
    _refuse_absurd((z, y, x))
    with scan.stage("crop"):
        if step.value == "air":
            air = np.full((1, 1, 1), PADDING_HU, np.int16)
            value = float(scan.values_of(air)[0, 0, 0])
        else:
            value = float(image.min() if step.value == "minimum" else step.value)
        scan.image, box = padded(image, (z, y, x), value, step.odd, scan.reversed_axes)
        if scan.mask is not None:
            scan.mask, _ = padded(scan.mask, (z, y, x), 0, step.odd, scan.reversed_axes)
    scan.moved(box)


def _window(scan: _Scan, step: known.Window) -> None:
    window_hu, (low, high) = (step.low_hu, step.high_hu), step.to
    if step.dtype == "uint8" or high == 1.0 + low:
        _becomes(scan, lambda hu: windowed(hu, step.dtype, window_hu, -low))
        return
    deviation = (step.high_hu - step.low_hu) / (high - low)
    constants = step.low_hu - low * deviation, deviation
    _becomes(scan, lambda hu: windowed(hu, "float32", window_hu, 0.0, constants))


def _z_score(scan: _Scan, step: known.ZScore) -> None:
    window_hu, scan.clip_hu = scan.clip_hu or ANY_HU, None
    constants = step.mean_hu, step.sd_hu
    _becomes(scan, lambda hu: windowed(hu, "float32", window_hu, 0.0, constants))


def _dtype(scan: _Scan, step: known.Dtype) -> None:
    _becomes(scan, lambda hu: windowed(hu, step.dtype, None))


def _becomes(scan: _Scan, values_of: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> None:
    """Hounsfield units as the numbers asked for."""
    hu = np.ascontiguousarray(scan.voxels())
    with scan.stage("normalise"):
        scan.image = values_of(hu)
    scan.values_of = values_of


#: Step -> what does it.
DONE_BY: dict[type, Callable[[_Scan, Any], None]] = {
    known.Orient: _orient,
    known.Hu: _read,
    known.Clip: _clip,
    known.Resample: _resample,
    known.Mask: _mask,
    known.LungsOnly: _lungs_only,
    known.Crop: _crop,
    known.Pad: _pad,
    known.Window: _window,
    known.ZScore: _z_score,
    known.Dtype: _dtype,
}
