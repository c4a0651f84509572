"""
Where the new voxels lie, and the volume interpolated there.

Lays grids, and hands the bands of `fastlung.volume.bands` to `fastlung.kernels.resample`, strip by
strip to one thread or several, so that a volume is interpolated once. The arithmetic on voxels is
the kernels'.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlung.kernels.fused import UNSEEN, count_padding, resample_stored
from fastlung.kernels.resample import LANES, resample_volume, work_arrays
from fastlung.volume.bands import samples_of
from fastlung.volume.hounsfield import PADDING_HU, read_as

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from fastlung.scan import Grid, RawScan
    from fastlung.volume.bands import Arrays, Positions, Samples

__all__ = [
    "ANY_HU",
    "aligned_targets",
    "in_strips",
    "resample",
    "resample_between",
    "resample_words",
    "target_grid",
    "wanted_spacing_mm",
]

#: Bounds that clip nothing.
ANY_HU = (-32768.0, 32767.0)


def target_grid(
    grid: Grid,
    spacing_mm: Sequence[float],
    *,
    align: str = "centred",
    count: str = "round",
    bounds_mm: Sequence[Sequence[float]] | None = None,
    last: Sequence[bool] = (False, False, False),
) -> Grid:
    """
    Lay a grid of another spacing over the same part of the patient.

    Parameters
    ----------
    grid : Grid
        The acquired grid.
    spacing_mm : sequence of float
        Wanted spacing along ``(z, y, x)``, in millimetres.
    align : {"centred", "first", "extent", "corners"}
        ``centred``: ``n_out = max(1, round(n_in * s_in / s_out))`` voxels exactly `spacing_mm`
        apart, centred on the acquired extent. ``first``: exactly `spacing_mm` apart, from one
        corner voxel, as MONAI's ``Spacing`` does. ``extent``: as many as ``centred``, edge to edge
        with the acquired ones, as ``interpolate`` of PyTorch lays them. ``corners``: as many
        voxels, first and last centre kept, as `scipy.ndimage.zoom` lays them; in these two the
        spacing is only near `spacing_mm`.
    count : {"round", "floor", "monai"}
        How the number of voxels becomes whole. ``monai``: with ``first``, ``round(steps + 1)``,
        not ``round(steps) + 1``; the two differ on ties, which go to even numbers.
    bounds_mm : sequence of three pairs of float, or None
        First and last voxel centre to cover along ``(z, y, x)``, in millimetres from the first
        voxel of `grid`; None for those of `grid`.
    last : sequence of bool
        Whether with ``first`` the last voxel along ``(z, y, x)`` keeps its place.

    Returns
    -------
    Grid
        Same direction, other shape, spacing and origin.
    """
    if bounds_mm is None:
        lowest, highest = np.zeros(3), np.multiply(np.subtract(grid.shape, 1), grid.spacing_mm)
    else:
        lowest, highest = np.transpose(bounds_mm)
    extent = highest - lowest + grid.spacing_mm
    whole = np.floor if count == "floor" else np.round
    spacing = np.array(spacing_mm, dtype=float)
    # To the billionth first: 7 x 1.8 / 0.4 is 31.5, whatever its sum in binary says.
    if align == "corners":
        # The tutorial holds spacings in single precision, which decides halves.
        ratio = (
            np.multiply(grid.shape, np.array(grid.spacing_mm, np.float32).astype(float))
            / spacing_mm
        )
        shape = np.maximum(1, whole(ratio)).astype(int)
        steps = np.maximum(shape - 1, 1)
        spacing = np.where(shape > 1, (highest - lowest) / steps, grid.spacing_mm)
        first = lowest
    elif align == "first":
        steps = np.round((highest - lowest) / spacing, 9)
        shape = (whole(steps + 1) if count == "monai" else whole(steps) + 1).astype(int)
        first = np.where(last, highest - (shape - 1) * spacing, lowest)
    else:
        shape = np.maximum(1, whole(np.round(extent / spacing, 9))).astype(int)
        if align == "extent":
            spacing = extent / shape
        first = (lowest + highest - (shape - 1) * spacing) / 2
    origin = np.asarray(grid.origin_mm) + np.asarray(grid.direction) @ first[::-1]
    return replace(
        grid,
        shape=tuple(shape.tolist()),
        spacing_mm=tuple(spacing.tolist()),
        origin_mm=tuple(origin.tolist()),
    )


def wanted_spacing_mm(
    grid: Grid,
    samples: Samples,
    axes: Sequence[int],
    wanted: Sequence[float | str],
    *,
    as_shape: bool = False,
) -> list[float]:
    """
    Spacing wanted along the axes of a grid.

    Parameters
    ----------
    grid : Grid
        The acquired grid.
    samples : Samples
        Where its voxels are.
    axes : sequence of int
        Its axis behind each canonical ``(z, y, x)`` axis.
    wanted : sequence of float or "keep"
        Along canonical axes, in millimetres.
    as_shape : bool
        Voxels in place of millimetres: the spacing at which so many fill the extent.

    Returns
    -------
    list of float
        In millimetres.
    """
    spacing_mm = list(grid.spacing_mm)
    for axis, value in zip(axes, wanted, strict=True):
        if isinstance(value, str):
            continue
        low, high = samples.bounds_mm[axis]
        extent = high - low + grid.spacing_mm[axis]
        spacing_mm[axis] = extent / value if as_shape else value
    return spacing_mm


def resample_between(
    volume: npt.NDArray[Any],
    samples: Samples,
    targets_mm: Positions,
    order: int,
    *,
    threads: int = 1,
) -> npt.NDArray[Any]:
    """
    Interpolate a volume at other positions along each of its axes.

    Parameters
    ----------
    volume : ndarray of int16, uint8 or float32, shape (z, y, x), C-contiguous
        Input voxels.
    samples : Samples
        Where they are.
    targets_mm : sequence of three ndarray of float64
        Where values are wanted, along ``(z, y, x)``, ascending.
    order : {0, 1, 3}
        Nearest, linear, cubic spline.
    threads : int
        How many share the work; changes no bit.

    Returns
    -------
    ndarray
        Same dtype; integers rounded half to even and saturated.
    """
    bands = samples.bands(targets_mm, order)
    out = np.empty([targets.size for targets in targets_mm], volume.dtype)
    low = high = 0.0  # floats are neither rounded nor bounded
    if volume.dtype != np.float32:
        low, high = float(np.iinfo(volume.dtype).min), float(np.iinfo(volume.dtype).max)

    def fill(work: Arrays, rows: int, top: int, bottom: int) -> None:
        resample_volume(volume, bands, low, high, work, rows, top, bottom, out)

    in_strips(fill, volume.shape[1:], bands, out.shape, threads)
    return out


def resample_words(
    raw: RawScan,
    samples: Samples,
    targets_mm: Positions,
    order: int,
    *,
    replace_padding: bool = True,
    clip_hu: tuple[float, float] | None = None,
    threads: int = 1,
) -> tuple[npt.NDArray[np.int16], int]:
    """
    Interpolate stored words as Hounsfield units, in one pass.

    Parameters
    ----------
    raw : RawScan
        The series.
    samples, targets_mm, order, threads
        As in `resample_between`.
    replace_padding : bool
        What was never measured is mixed with nothing, and is -1024 HU after.
    clip_hu : tuple of float or None
        Bounds to which Hounsfield units are clipped before they are interpolated.

    Returns
    -------
    hu : ndarray of int16
        Rounded half to even and saturated.
    count : int
        How many of the words were never measured.
    """
    stored = raw.stored
    scale, darkest_hu = read_as(raw.scale, replace_padding=replace_padding)
    low, high = clip_hu or ANY_HU
    blank_hu = round(min(max(PADDING_HU, low), high))
    bands = samples.bands(targets_mm, order)
    nearest = samples.nearest(targets_mm, raw.grid.spacing_mm)
    extents = np.full((*stored.shape[:2], 3), UNSEEN, np.int32)
    out = np.empty([targets.size for targets in targets_mm], np.int16)

    def fill(work: Arrays, rows: int, top: int, bottom: int) -> None:
        resample_stored(
            stored, scale, darkest_hu, blank_hu, (low, high), bands, nearest, extents, work,
            rows, top, bottom, out,
        )  # fmt: skip

    in_strips(fill, stored.shape[1:], bands, out.shape, threads)
    spare = np.empty((1, stored.shape[2]), np.float32)
    return out, int(count_padding(stored, scale, darkest_hu, extents, spare))


def in_strips(
    fill: Callable[[Arrays, int, int, int], None],
    plane_shape: tuple[int, ...],
    bands: Arrays,
    shape: tuple[int, ...],
    threads: int,
) -> None:
    """
    Share out the rows of an output volume, in strips of equal height, among threads.

    Parameters
    ----------
    fill : callable
        Given work space, the rows of a strip, and the first output row to fill and one past the
        last. Must release the GIL for threads to be of use.
    plane_shape : tuple of int
        Rows and columns of an input slice.
    bands : tuple of six ndarray
        Of `Samples.bands`.
    shape : tuple of int
        Shape ``(z, y, x)`` of the output.
    threads : int
        How many threads; 1 starts none.
    """
    strips = threads * -(-shape[1] // (threads * LANES))
    rows = -(-shape[1] // strips)
    share = rows * (strips // threads)

    def part(top: int) -> None:
        work = work_arrays(plane_shape, bands, shape[2], rows)
        fill(work, rows, top, min(top + share, shape[1]))

    if threads == 1:
        part(0)
        return
    with ThreadPoolExecutor(threads, "fastlung-strips") as pool:
        list(pool.map(part, range(0, shape[1], share)))


def resample(
    volume: npt.NDArray[Any],
    grid: Grid,
    spacing_mm: float | tuple[float, float, float],
    *,
    order: int = 3,
    scan: RawScan | None = None,
    antialias: bool = False,
) -> tuple[npt.NDArray[Any], Grid]:
    """
    Resample a volume to another spacing, keeping its frame and dtype.

    Parameters
    ----------
    volume : ndarray of int16, uint8 or float32, shape (z, y, x)
        Voxels of a grid.
    grid : Grid
        Where they lie, if they are regular.
    spacing_mm : float or tuple of float
        Wanted spacing, one number or ``(z, y, x)``, in millimetres.
    order : {0, 1, 3}
        Nearest, linear, cubic spline.
    scan : RawScan or None
        The series they come from: says where its slices truly lie, with gaps, uneven steps or a
        tilted gantry. Beyond a displaced slice its edge repeats; `process_scan` blanks that.
    antialias : bool
        Smooth along each axis on which voxels become fewer, so that what is too fine for them is
        averaged and not folded into something else; see `fastlung.volume.bands.smoothing_mm`.

    Returns
    -------
    volume : ndarray
        Same dtype; integers rounded half to even and saturated.
    grid : Grid
        ``max(1, round(n * s_in / s_out))`` voxels an axis, exactly `spacing_mm` apart, centred on
        the input's extent.

    Raises
    ------
    ValueError
        If volume and grid differ in shape, or the order or dtype is not one of those above.
    """
    if volume.shape != grid.shape:
        raise ValueError(f"volume has shape {volume.shape}, its grid {grid.shape}")
    if order not in (0, 1, 3):
        raise ValueError(f"order is 0, 1 or 3, not {order}")
    if volume.dtype not in (np.int16, np.uint8, np.float32):
        raise ValueError(f"volume is int16, uint8 or float32, not {volume.dtype}")
    spacing = (spacing_mm,) * 3 if isinstance(spacing_mm, (int, float)) else spacing_mm
    samples = samples_of(grid, scan)
    new_grid = target_grid(grid, spacing, bounds_mm=samples.bounds_mm)
    targets = aligned_targets(grid, new_grid)
    if antialias:
        samples = samples.smoothed(grid, new_grid)
    return resample_between(np.ascontiguousarray(volume), samples, targets, order), new_grid


def aligned_targets(grid: Grid, new_grid: Grid) -> Positions:
    """Voxel centres of `new_grid` along the axes of `grid`, from the first voxel of `grid`."""
    shift = np.asarray(grid.direction).T @ np.subtract(new_grid.origin_mm, grid.origin_mm)
    return tuple(
        offset + np.arange(n) * s
        for offset, n, s in zip(shift[::-1], new_grid.shape, new_grid.spacing_mm, strict=True)
    )
