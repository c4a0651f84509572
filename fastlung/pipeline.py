"""
One scan, start to finish: `process_scan` does the steps of a recipe, one after the other.

Pure: the same scan and configuration give the same bits, and no file, clock, environment or log
is touched. Stored words stay as they are until a step needs voxels: what is said of them before
(Hounsfield units, clipping) is done row by row while they are resampled, in one pass.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlung.limits import refuse_output
from fastlung.mask import chosen_mask
from fastlung.mask.grt123 import only_lungs
from fastlung.recipe import steps as known
from fastlung.scan import Flag, ScanResult
from fastlung.volume.bands import samples_of
from fastlung.volume.hounsfield import PADDING_HU, windowed
from fastlung.volume.orientation import (
    Box,
    box_above,
    box_of_body,
    box_of_lungs,
    box_of_middle,
    last_voxels,
    multiples,
    next_multiples,
    orientation_of,
    padded,
    reversed_axes,
    widened,
)
from fastlung.volume.resampling import (
    ANY_HU,
    aligned_targets,
    resample_between,
    resample_words,
    target_grid,
    wanted_spacing_mm,
)
from fastlung.volume.under_way import ScanUnderWay

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from fastlung.config import Config
    from fastlung.mask.chosen import Segmenter
    from fastlung.scan import RawScan
    from fastlung.volume.under_way import Stage

__all__ = ["process_scan"]


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
    find_lungs = partial(chosen_mask, segment=segment, always=config.mask_on == "all")
    scan = ScanUnderWay(raw, stage, find_lungs, threads, raw.grid)
    for step in config.steps:
        DONE_BY[type(step)](scan, step)
    image = scan.voxels()
    with stage("normalise"):  # as every record of 0.1.0 has it, also where nothing is to be done
        image = np.ascontiguousarray(image)
    return ScanResult(
        image=image,
        mask=scan.mask,
        grid=scan.grid,
        window_hu=config.window_hu,
        zero_centre=config.zero_centre,
        standardise=config.standardise,
        figures=scan.figures,
        flags=(*scan.content_flags(), *scan.flags),
        crop=scan.crop,
    )


def _orient(scan: ScanUnderWay, step: known.Orient) -> None:
    scan.reversed_axes = reversed_axes(step.axes)


def _read(scan: ScanUnderWay, step: known.Hu) -> None:
    scan.read = step


def _clip(scan: ScanUnderWay, step: known.Clip) -> None:
    if scan.clip_hu is not None:
        scan.voxels()
    scan.clip_hu = (step.low_hu, step.high_hu)


def _resample(scan: ScanUnderWay, step: known.Resample) -> None:
    """Interpolate once, from true positions where the slices are still as they were acquired."""
    orientation = orientation_of(scan.grid)
    true_positions = scan.image is None and step.positions == "true"
    samples = samples_of(scan.grid, scan.raw if true_positions else None)
    wanted = step.spacing_mm or step.shape
    spacing_mm = wanted_spacing_mm(
        scan.grid, samples, orientation.axes, wanted or (), as_shape=step.spacing_mm is None
    )
    grid = target_grid(
        scan.grid, spacing_mm, align=step.align, count=step.count, bounds_mm=samples.bounds_mm,
        last=last_voxels(orientation, scan.reversed_axes),
    )  # fmt: skip
    refuse_output(grid.shape)
    targets = aligned_targets(scan.grid, grid)
    if step.antialias:
        samples = samples.smoothed(scan.grid, grid)
    if scan.image is None and scan.read.rule == "standard":
        with scan.stage("resample"):
            volume, padding = resample_words(
                scan.raw, samples, targets, step.order, clip_hu=scan.clip_hu,
                replace_padding=scan.read.padding == "air", threads=scan.threads,
            )  # fmt: skip
        clipped, scan.clip_hu = scan.clip_hu is not None, None
        scan.found(volume, grid, padding, clipped=clipped)
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


def _mask(scan: ScanUnderWay, step: known.Mask) -> None:
    hu = scan.voxels()
    with scan.stage("mask"):
        scan.mask, figures, flags = scan.find_lungs(hu, scan.grid, step.method, airway=step.airway)
        if step.outside_hu is not None:
            hu[scan.mask == 0] = round(step.outside_hu)
    scan.figures |= figures
    scan.flags += flags


def _lungs_only(scan: ScanUnderWay, step: known.LungsOnly) -> None:
    refuse_output(target_grid(scan.grid, step.spacing_mm, align="corners").shape)
    hu = scan.voxels()
    with scan.stage("resample"):
        result = only_lungs(hu, scan.mask, scan.grid, step)
    scan.image, scan.mask, scan.grid = result.image, result.mask, result.grid
    scan.crop, scan.flags = result.crop, scan.flags + result.flags


def _crop(scan: ScanUnderWay, step: known.Crop) -> None:
    image = scan.voxels()
    with scan.stage("crop"):
        box = _box(scan, step, image)
        if box is None:
            text = f"nothing to crop to: no {step.to} found; this is the whole volume"
            scan.flags += (Flag(name="not_cropped", value=0.0, text=text),)
            return
        scan.cut(widened(box, step.margin_mm, scan.grid, step.margin_voxels))


def _box(scan: ScanUnderWay, step: known.Crop, image: npt.NDArray[Any]) -> Box | None:
    if step.to == "lungs":
        return None if scan.mask is None else box_of_lungs(scan.mask)
    if step.to == "body":
        return box_of_body(image)
    if step.above is not None:
        return box_above(image, step.above)
    size = step.size or multiples(image.shape, step.multiple or (1, 1, 1))
    return box_of_middle(image.shape, size, step.odd, scan.reversed_axes)


def _pad(scan: ScanUnderWay, step: known.Pad) -> None:
    image = scan.voxels()
    wanted = step.size or next_multiples(image.shape, step.multiple or (1, 1, 1))
    z, y, x = map(max, image.shape, wanted)
    refuse_output((z, y, x))
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


def _window(scan: ScanUnderWay, step: known.Window) -> None:
    window_hu, (low, high) = (step.low_hu, step.high_hu), step.to
    if step.dtype == "uint8" or high == 1.0 + low:
        _becomes(scan, lambda hu: windowed(hu, step.dtype, window_hu, -low))
        return
    deviation = (step.high_hu - step.low_hu) / (high - low)
    constants = step.low_hu - low * deviation, deviation
    _becomes(scan, lambda hu: windowed(hu, "float32", window_hu, 0.0, constants))


def _z_score(scan: ScanUnderWay, step: known.ZScore) -> None:
    window_hu, scan.clip_hu = scan.clip_hu or ANY_HU, None
    constants = step.mean_hu, step.sd_hu
    _becomes(scan, lambda hu: windowed(hu, "float32", window_hu, 0.0, constants))


def _dtype(scan: ScanUnderWay, step: known.Dtype) -> None:
    _becomes(scan, lambda hu: windowed(hu, step.dtype, None))


def _becomes(scan: ScanUnderWay, values_of: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> None:
    """Hounsfield units as the numbers asked for."""
    hu = np.ascontiguousarray(scan.voxels())
    with scan.stage("normalise"):
        scan.image = values_of(hu)
    scan.values_of = values_of


#: Step -> what does it.
DONE_BY: dict[type, Callable[[ScanUnderWay, Any], None]] = {
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
