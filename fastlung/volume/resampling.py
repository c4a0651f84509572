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

from fastlung.kernels.resample import LANES, resample_volume, work_arrays
from fastlung.volume.bands import samples_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from fastlung.scan import Grid, RawScan
    from fastlung.volume.bands import Arrays, Positions, Samples

__all__ = [
    "aligned_targets",
    "grid_from_corner",
    "in_strips",
    "resample",
    "resample_between",
    "target_grid",
]


def target_grid(
    grid: Grid,
    spacing_mm: Sequence[float],
    *,
    align: str = "centred",
    bounds_mm: Sequence[Sequence[float]] | None = None,
) -> Grid:
    """
    Lay a grid of another spacing over the same part of the patient.

    Parameters
    ----------
    grid : Grid
        The acquired grid.
    spacing_mm : sequence of float
        Wanted spacing along ``(z, y, x)``, in millimetres.
    align : {"centred", "corners"}
        ``centred``: ``n_out = max(1, round(n_in * s_in / s_out))`` voxels exactly `spacing_mm`
        apart, centred on the acquired extent. ``corners``: as many voxels, first and last centre
        kept, as `scipy.ndimage.zoom` lays them; the spacing is then only near `spacing_mm`.
    bounds_mm : sequence of three pairs of float, or None
        First and last voxel centre to cover along ``(z, y, x)``, in millimetres from the first
        voxel of `grid`; None for those of `grid`.

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
    if align == "corners":
        # The tutorial holds spacings in single precision, which decides halves.
        ratio = (
            np.multiply(grid.shape, np.array(grid.spacing_mm, np.float32).astype(float))
            / spacing_mm
        )
        shape = np.maximum(1, np.round(ratio)).astype(int)
        steps = np.maximum(shape - 1, 1)
        spacing = np.where(shape > 1, (highest - lowest) / steps, grid.spacing_mm)
        first = lowest
    else:
        # To the billionth first: 7 x 1.8 / 0.4 is 31.5, whatever its sum in binary says.
        shape = np.maximum(1, np.round(np.round(extent / spacing_mm, 9))).astype(int)
        spacing = np.array(spacing_mm, dtype=float)
        first = (lowest + highest - (shape - 1) * spacing) / 2
    origin = np.asarray(grid.origin_mm) + np.asarray(grid.direction) @ first[::-1]
    return replace(
        grid,
        shape=tuple(shape.tolist()),
        spacing_mm=tuple(spacing.tolist()),
        origin_mm=tuple(origin.tolist()),
    )


def grid_from_corner(
    grid: Grid,
    spacing_mm: Sequence[float],
    bounds_mm: Sequence[Sequence[float]],
    last: Sequence[bool],
) -> Grid:
    """
    Lay a grid of another spacing from one corner voxel, as MONAI's ``Spacing`` does.

    Parameters
    ----------
    grid : Grid
        The acquired grid.
    spacing_mm : sequence of float
        Wanted spacing along ``(z, y, x)``, in millimetres.
    bounds_mm : sequence of three pairs of float
        First and last voxel centre along ``(z, y, x)``, in millimetres from the first voxel.
    last : sequence of bool
        Whether the last voxel along ``(z, y, x)`` keeps its place, not the first.

    Returns
    -------
    Grid
        ``round((last - first) / spacing) + 1`` voxels exactly `spacing_mm` apart.
    """
    lowest, highest = np.transpose(bounds_mm)
    # To the billionth first, as in `target_grid`.
    steps = np.round(np.round((highest - lowest) / spacing_mm, 9)).astype(int)
    first = np.where(last, highest - steps * spacing_mm, lowest)
    origin = np.asarray(grid.origin_mm) + np.asarray(grid.direction) @ first[::-1]
    z, y, x = (float(spacing) for spacing in spacing_mm)
    return replace(
        grid,
        shape=tuple((steps + 1).tolist()),
        spacing_mm=(z, y, x),
        origin_mm=tuple(origin.tolist()),
    )


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
