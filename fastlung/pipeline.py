"""
One scan, start to finish: `process_scan`.

Pure: the same scan and configuration give the same bits, and no file, clock, environment or log
is touched. Reads like the README: Hounsfield units, resample, lung mask, window, figures.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlung.errors import LimitError
from fastlung.kernels import hu as hu_kernels
from fastlung.kernels.intensity import normalise
from fastlung.mask import lung_mask, tutorial_mask
from fastlung.orientation import canonical_grid, orientation_of, turned
from fastlung.quality import hu_percentiles
from fastlung.resampling import (
    aligned_targets,
    resample_between,
    sample_positions,
    target_grid,
)
from fastlung.scan import Flag, Grid, RawScan, ScanResult

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from fastlung.config import Config

    Stage = Callable[[str], AbstractContextManager[object]]

__all__ = ["process_scan", "to_hu"]

#: Hounsfield units given to padding: air, so that it neither rings nor counts as tissue.
PADDING_HU = -1024
#: No tissue, gas or noise is darker; scanners write such values outside their circle.
DARKEST_HU = -1500.0
#: A whole body at 0.5 mm has 3e9 voxels; more is a wrong spacing or two stacks far apart.
LARGEST_VOXELS = 4_000_000_000


def to_hu(raw: RawScan, *, replace_padding: bool = True) -> tuple[npt.NDArray[np.int16], Grid]:
    """
    Convert a series to Hounsfield units, in the frame it was acquired in.

    Parameters
    ----------
    raw : RawScan
        What `read_series` returns.
    replace_padding : bool
        Replace the series' padding value, and anything below -1500 HU, by -1024 HU.

    Returns
    -------
    hu : ndarray of int16, shape (z, y, x)
        Hounsfield units, slices ascending along the slice normal.
    grid : Grid
        The acquired grid, `raw.grid`.

    Notes
    -----
    ``HU = slope * stored + intercept`` for each slice (DICOM PS3.3 C.11.1.1.2) in float32, rounded
    half to even and saturated.
    """
    hu, _ = _standard_hu(raw, replace_padding=replace_padding)
    return hu, raw.grid


def process_scan(raw: RawScan, config: Config, stage: Stage = nullcontext) -> ScanResult:
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

    Returns
    -------
    ScanResult
        Image and mask on one grid in canonical LPS order, figures and flags.

    Raises
    ------
    LimitError
        If the output would have more than 4e9 voxels; nothing large has been allocated by then.
    """
    with stage("hu"):
        hu, padded = _tutorial_hu(raw) if config.hu_rule == "tutorial" else _standard_hu(raw)
    with stage("resample"):
        volume, grid = _resampled(hu, raw, config)
    with stage("mask"):
        mask, litres, flags = _segmented(volume, grid, config.mask)
    with stage("normalise"):
        image = _windowed(volume, config)
    padding = {"padding_fraction": padded / hu.size}
    return ScanResult(
        image=image,
        mask=mask,
        grid=grid,
        window_hu=config.window_hu,
        zero_centre=config.zero_centre,
        figures=padding | hu_percentiles(volume) | litres,
        flags=flags,
    )


def _standard_hu(
    raw: RawScan, *, replace_padding: bool = True
) -> tuple[npt.NDArray[np.int16], int]:
    scale = raw.scale
    out = np.empty(raw.stored.shape, np.int16)
    if replace_padding:
        low, high, darkest = scale.padding_low, scale.padding_high, DARKEST_HU
    else:
        low, high, darkest = (
            np.ones_like(scale.padding_low),
            np.zeros_like(scale.padding_high),
            -np.inf,
        )
    padded = hu_kernels.rescale(
        raw.stored, scale.shift, scale.bits_stored, scale.signed, scale.slope, scale.intercept,
        low, high, darkest, PADDING_HU, out,
    )  # fmt: skip
    return out, int(padded)


def _tutorial_hu(raw: RawScan) -> tuple[npt.NDArray[np.int16], int]:
    scale = raw.scale
    out = np.empty(raw.stored.shape, np.int16)
    replaced = hu_kernels.rescale_as_tutorial(
        raw.stored, scale.shift, scale.bits_stored, scale.signed, scale.slope, scale.intercept, out
    )
    return out, int(replaced)


def _resampled(
    hu: npt.NDArray[np.int16], raw: RawScan, config: Config
) -> tuple[npt.NDArray[np.int16], Grid]:
    """The wanted grid from true slice positions in one interpolation, then canonical order."""
    orientation = orientation_of(raw.grid)
    spacing_mm = [0.0, 0.0, 0.0]
    for axis, wanted in zip(orientation.axes, config.spacing_mm, strict=True):
        spacing_mm[axis] = wanted
    z, y, x = sample_positions(raw.grid)
    # The tutorial's grid knows no positions: its slices count as equally far apart.
    positions = (z if config.align == "corners" else raw.slice_positions_mm), y, x
    extent_mm = [p[-1] + s for p, s in zip(positions, raw.grid.spacing_mm, strict=True)]
    grid = target_grid(raw.grid, spacing_mm, align=config.align, extent_mm=extent_mm)
    if math.prod(grid.shape) > LARGEST_VOXELS:
        raise LimitError(
            f"the output would have {grid.shape} voxels, more than {LARGEST_VOXELS:,}; ask for "
            "a coarser spacing, or look at the slice positions"
        )
    targets = aligned_targets(raw.grid, grid)
    volume = resample_between(hu, positions, targets, config.order)
    upright = np.ascontiguousarray(turned(volume, orientation))
    return upright, canonical_grid(grid, orientation)


def _segmented(
    volume: npt.NDArray[np.int16], grid: Grid, which: str
) -> tuple[npt.NDArray[np.uint8] | None, dict[str, float], tuple[Flag, ...]]:
    """Mask, litres and flags of the mask asked for."""
    if which == "none":
        return None, {}, ()
    if which == "tutorial":
        mask = tutorial_mask(volume)
        return mask, {"litres": int(np.count_nonzero(mask)) * grid.voxel_litres}, ()
    lungs = lung_mask(volume, grid)
    litres = {"litres_right": lungs.litres_right, "litres_left": lungs.litres_left}
    return lungs.mask, litres, lungs.flags


def _windowed(volume: npt.NDArray[np.int16], config: Config) -> npt.NDArray[Any]:
    if config.window_hu is None:
        return volume
    out = np.empty(volume.shape, np.float32)
    normalise(volume, *config.window_hu, config.zero_centre, out)
    return out
