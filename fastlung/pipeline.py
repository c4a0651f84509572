"""
One scan, start to finish: `process_scan`.

Pure: the same scan and configuration give the same bits, and no file, clock, environment or log
is touched. Reads like the README: Hounsfield units, resample, lung mask, crop, window, figures.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fastlung.errors import SegmenterError
from fastlung.kernels.fused import UNSEEN, count_padding, resample_stored
from fastlung.limits import beyond, limits_in_force
from fastlung.mask import assess_mask, grt123_mask, lung_mask, outside_labels, tutorial_mask
from fastlung.mask.grt123 import OUTSIDE, only_lungs
from fastlung.scan import Crop, Flag, Grid, RawScan, ScanResult
from fastlung.volume.bands import samples_of
from fastlung.volume.hounsfield import (
    DARKEST_HU,
    PADDING_HU,
    hu_percentiles,
    scale_arrays,
    to_hu,
    tutorial_hu,
    windowed,
)
from fastlung.volume.orientation import (
    Box,
    box_of_body,
    box_of_lungs,
    canonical_grid,
    cut_array,
    cut_grid,
    fitted,
    orientation_of,
    ras_corner,
    turned,
    widened,
)
from fastlung.volume.resampling import (
    aligned_targets,
    grid_from_corner,
    in_strips,
    resample_between,
    target_grid,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    import numpy.typing as npt

    from fastlung.config import Config
    from fastlung.volume.bands import Arrays, Positions, Samples

    Stage = Callable[[str], AbstractContextManager[object]]
    Segmenter = Callable[[npt.NDArray[np.int16], Grid], Any]
    Segmented = tuple[npt.NDArray[np.uint8] | None, dict[str, float], tuple[Flag, ...]]

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
    Turn one series into an isotropic volume and a lung mask.

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
    if config.recipe == "grt123":
        return _fitted(_by_grt123(raw, config, stage, segment), config, stage)
    volume, grid, padded = _resampled(raw, config, threads, stage)
    with stage("mask"):
        mask, litres, flags = _segmented(volume, grid, config, segment)
    padding = {"padding_fraction": padded / raw.stored.size}
    result = ScanResult(
        image=volume,
        mask=mask,
        grid=grid,
        window_hu=config.window_hu,
        zero_centre=config.zero_centre,
        standardise=config.standardise,
        figures=padding | hu_percentiles(volume) | litres,
        flags=flags,
    )
    if config.crop != "none":
        with stage("crop"):
            result = _cropped(result, config)
    with stage("normalise"):
        result = replace(result, image=_valued(result.image, config))
    return _fitted(result, config, stage)


def _resampled(
    raw: RawScan, config: Config, threads: int, stage: Stage
) -> tuple[npt.NDArray[np.int16], Grid, int]:
    """
    Hounsfield units on the wanted grid, from true positions in one interpolation, canonical order.

    Also how many stored voxels were padding.
    """
    orientation = orientation_of(raw.grid)
    spacing_mm = [0.0, 0.0, 0.0]
    for axis, wanted in zip(orientation.axes, config.spacing_mm, strict=True):
        spacing_mm[axis] = wanted
    # The tutorial's grid knows no positions: its slices count as equally far apart and in line.
    samples = samples_of(raw.grid, raw if config.align == "centred" else None)
    if config.align == "ras":
        grid = grid_from_corner(raw.grid, spacing_mm, samples.bounds_mm, ras_corner(orientation))
    else:
        grid = target_grid(raw.grid, spacing_mm, align=config.align, bounds_mm=samples.bounds_mm)
    _refuse_absurd(grid)
    targets = aligned_targets(raw.grid, grid)
    if config.antialias:
        samples = samples.smoothed(raw.grid, grid)
    if config.hu_rule == "tutorial":
        with stage("hu"):
            hu, padded = tutorial_hu(raw)
        with stage("resample"):
            volume = resample_between(hu, samples, targets, config.order, threads=threads)
    else:
        with stage("resample"):
            volume, padded = _measured_only(raw, samples, targets, config.order, threads)
    upright = np.ascontiguousarray(turned(volume, orientation))
    return upright, canonical_grid(grid, orientation), padded


def _refuse_absurd(grid: Grid) -> None:
    """Refuse more output than the limits in force allow, before it is allocated."""
    if math.prod(grid.shape) > limits_in_force().output_voxels:
        raise beyond(
            "output_voxels",
            f"the output would have {grid.shape} voxels: ask for a coarser spacing, or look at the "
            "slice positions",
        )


def _measured_only(
    raw: RawScan, samples: Samples, targets_mm: Positions, order: int, threads: int
) -> tuple[npt.NDArray[np.int16], int]:
    """
    Stored words to resampled Hounsfield units, and how many of the words were padding.

    What was never measured is interpolated with nothing, and blank after.
    """
    scale = scale_arrays(raw.scale)
    bands = samples.bands(targets_mm, order)
    nearest = samples.nearest(targets_mm, raw.grid.spacing_mm)
    extents = np.full((*raw.stored.shape[:2], 3), UNSEEN, np.int32)
    out = np.empty([targets.size for targets in targets_mm], np.int16)

    def fill(work: Arrays, rows: int, top: int, bottom: int) -> None:
        resample_stored(
            raw.stored, scale, DARKEST_HU, PADDING_HU, bands, nearest, extents, work,
            rows, top, bottom, out,
        )  # fmt: skip

    in_strips(fill, raw.stored.shape[1:], bands, out.shape, threads)
    spare = np.empty((1, raw.stored.shape[2]), np.float32)
    return out, int(count_padding(raw.stored, scale, DARKEST_HU, extents, spare))


def _segmented(
    volume: npt.NDArray[np.int16], grid: Grid, config: Config, segment: Segmenter | None
) -> Segmented:
    """Mask, litres and flags: our own, or an outside segmenter's."""
    own = _own_mask(volume, grid, config)
    if segment is None or (config.mask_on == "flagged" and not own[2]):
        return own
    return _second_opinion(own, volume, grid, segment)


def _second_opinion(
    own: Segmented, volume: npt.NDArray[np.int16], grid: Grid, segment: Segmenter
) -> Segmented:
    mask, figures, flags = own
    try:
        labels = outside_labels(segment, volume, grid)
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
    trust = assess_mask(volume, grid, labels)
    why = ", ".join(flag.name for flag in flags)
    text = "the mask is an outside segmenter's" + (f"; ours was flagged {why}" if why else "")
    replaced = Flag(name="mask_replaced", value=float(len(flags)), text=text)
    return labels, figures | dict(trust.figures), (replaced, *trust.flags)


def _own_mask(volume: npt.NDArray[np.int16], grid: Grid, config: Config) -> Segmented:
    if config.mask == "none":
        return None, {}, ()
    if config.mask == "tutorial":
        mask = tutorial_mask(volume)
        return mask, {"litres": int(np.count_nonzero(mask)) * grid.voxel_litres}, ()
    if config.mask == "grt123":
        lungs = grt123_mask(volume, grid)
    else:
        lungs = lung_mask(volume, grid, label_airway=config.airway)
    litres = {"litres_right": lungs.litres_right, "litres_left": lungs.litres_left}
    return lungs.mask, litres | dict(lungs.figures), lungs.flags


def _by_grt123(raw: RawScan, config: Config, stage: Stage, segment: Segmenter | None) -> ScanResult:
    """Mask and window in the acquired frame, everything but the lungs grey, then interpolate."""
    with stage("hu"):
        hu, acquired = to_hu(raw, replace_padding=False)
        orientation = orientation_of(acquired)
        hu = np.ascontiguousarray(turned(hu, orientation))
    grid = canonical_grid(acquired, orientation)
    _refuse_absurd(target_grid(grid, config.spacing_mm, align="corners"))
    with stage("mask"):
        mask, litres, flags = _segmented(hu, grid, config, segment)
    with stage("resample"):
        result = only_lungs(hu, mask, grid, config)
    return replace(result, figures=hu_percentiles(hu) | litres, flags=(*flags, *result.flags))


def _valued(hu: npt.NDArray[np.int16], config: Config) -> npt.NDArray[Any]:
    """Hounsfield units as the numbers asked for."""
    return windowed(hu, config.dtype, config.window_hu, config.zero_centre, config.standardise)


def _fitted(result: ScanResult, config: Config, stage: Stage) -> ScanResult:
    """The middle of a result in the size asked for, if one was, and around it what is outside."""
    size = config.size
    if size is None:
        return result
    if config.recipe == "grt123":
        fill = float(OUTSIDE)
    elif config.standardise is not None:
        fill = 0.0  # their mean, as TorchIO's padding does
    else:
        fill = float(_valued(np.full((1, 1, 1), PADDING_HU, np.int16), config)[0, 0, 0])
    with stage("crop"):
        image, offset = fitted(result.image, size, fill)
    whole = result.crop or Crop(offset=(0, 0, 0), full_shape=result.grid.shape)
    z, y, x = np.add(whole.offset, offset).tolist()
    box = Box(offset, (offset[0] + size[0], offset[1] + size[1], offset[2] + size[2]))
    return replace(
        result,
        image=image,
        mask=None if result.mask is None else fitted(result.mask, size, 0)[0],
        grid=cut_grid(result.grid, box),
        crop=Crop(offset=(z, y, x), full_shape=whole.full_shape),
    )


def _cropped(whole: ScanResult, config: Config) -> ScanResult:
    """The part of a result, still in HU, that is asked for; the whole where there is none."""
    if config.crop == "lungs" and whole.mask is not None:
        box = box_of_lungs(whole.mask)
    else:
        box = box_of_body(whole.image)
    if box is None:
        flag = Flag(
            name="not_cropped",
            value=0.0,
            text=f"nothing to crop to: no {config.crop} found; this is the whole volume",
        )
        return replace(whole, flags=(*whole.flags, flag))
    box = widened(box, config.margin_mm, whole.grid)
    return replace(
        whole,
        image=cut_array(whole.image, box),
        mask=None if whole.mask is None else cut_array(whole.mask, box),
        grid=cut_grid(whole.grid, box),
        crop=Crop(offset=box.first, full_shape=whole.grid.shape),
    )
