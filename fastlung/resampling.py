"""
Where the new voxels lie, and the volume interpolated there.

Lays grids, gathers the bands of `fastlung.bands` for all three axes and every slice, and hands them
to `fastlung.kernels.resample`, strip by strip to one thread or several, so that a volume is
interpolated once. The arithmetic on voxels is the kernels'.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastlung.bands import Band, axis_band
from fastlung.kernels.resample import LANES, resample_volume, work_arrays

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from fastlung.scan import Grid, RawScan

    Positions = Sequence[npt.NDArray[np.float64]]
    Arrays = tuple[npt.NDArray[Any], ...]

__all__ = [
    "Samples",
    "aligned_targets",
    "grid_from_corner",
    "in_strips",
    "resample",
    "resample_between",
    "sample_positions",
    "samples_of",
    "target_grid",
]


class Samples(NamedTuple):
    """
    Where the voxels of a volume were measured.

    Attributes
    ----------
    positions_mm : sequence of three ndarray of float64
        Along ``(z, y, x)`` from the first voxel, ascending.
    shifts_mm : ndarray of float64, shape (z, 2) or (1, 2)
        How far each slice lies along (y, x) from there.
    breaks : tuple of int
        Numbers of slices below which nothing is interpolated.
    """

    positions_mm: Positions
    shifts_mm: npt.NDArray[np.float64]
    breaks: tuple[int, ...] = ()

    def bands(self, targets_mm: Positions, order: int) -> Arrays:
        """Start and weights of z, y and x for values at other positions, as kernels take them."""
        (z, y, x), (z_out, y_out, x_out) = self.positions_mm, targets_mm
        return (
            *axis_band(z, z_out, order, self.breaks),
            *_plane_bands(y, y_out, order, self.shifts_mm[:, 0]),
            *_plane_bands(x, x_out, order, self.shifts_mm[:, 1]),
        )

    def nearest(self, targets_mm: Positions, spacing_mm: Sequence[float]) -> Arrays:
        """
        Which sample lies nearest to each target.

        Parameters
        ----------
        targets_mm : sequence of three ndarray of float64
            Where values are wanted, along ``(z, y, x)``.
        spacing_mm : sequence of float
            Half of it is how far, along y and x, a sample reaches beyond the ends.

        Returns
        -------
        tuple of three ndarray of int64
            Slices, shape (z_out,); rows and columns, shapes (bands, y_out) and (bands, x_out),
            for each slice, or once for all of them: -1 for targets beyond the ends' reach.
        """
        (z, y, x), (z_out, y_out, x_out) = self.positions_mm, targets_mm
        return (
            _nearest_samples(z, z_out, np.zeros(1), np.inf)[0],
            _nearest_samples(y, y_out, self.shifts_mm[:, 0], spacing_mm[1]),
            _nearest_samples(x, x_out, self.shifts_mm[:, 1], spacing_mm[2]),
        )

    @property
    def bounds_mm(self) -> list[tuple[float, float]]:
        """First and last voxel centre along ``(z, y, x)``, displaced slices included."""
        least, most = ([0.0, *edge(axis=0)] for edge in (self.shifts_mm.min, self.shifts_mm.max))
        return [
            (float(x[0] + low), float(x[-1] + high))
            for x, low, high in zip(self.positions_mm, least, most, strict=True)
        ]


def samples_of(grid: Grid, scan: RawScan | None = None) -> Samples:
    """Where the voxels of `grid` lie, or those of a scan whose slices need not be regular."""
    z, y, x = sample_positions(grid)
    straight = np.zeros((1, 2))
    if scan is None:
        return Samples((z, y, x), straight)
    shifts = straight if scan.slice_shifts_mm is None else scan.slice_shifts_mm
    return Samples((scan.slice_positions_mm, y, x), shifts, scan.slice_breaks)


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
    positions_mm: Positions,
    targets_mm: Positions,
    order: int,
    slice_shifts_mm: npt.NDArray[np.float64] | None = None,
    slice_breaks: tuple[int, ...] = (),
    *,
    threads: int = 1,
) -> npt.NDArray[Any]:
    """
    Interpolate a volume at other positions along each of its axes.

    Parameters
    ----------
    volume : ndarray of int16, uint8 or float32, shape (z, y, x), C-contiguous
        Input voxels.
    positions_mm, targets_mm : sequence of three ndarray of float64
        Where the samples are and where values are wanted, along ``(z, y, x)``, ascending.
    order : {0, 1, 3}
        Nearest, linear, cubic spline.
    slice_shifts_mm : ndarray of float64, shape (z, 2), or None
        How far the samples of each slice lie along (y, x) from `positions_mm`.
    slice_breaks : tuple of int
        Numbers of slices below which nothing is interpolated.
    threads : int
        How many share the work; changes no bit.

    Returns
    -------
    ndarray
        Same dtype; integers rounded half to even and saturated.
    """
    shifts = np.zeros((1, 2)) if slice_shifts_mm is None else slice_shifts_mm
    bands = Samples(positions_mm, shifts, slice_breaks).bands(targets_mm, order)
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


def _plane_bands(
    positions_mm: npt.NDArray[np.float64],
    targets_mm: npt.NDArray[np.float64],
    order: int,
    shifts_mm: npt.NDArray[np.float64],
) -> Band:
    """Bands of all slices, stacked; a single one where no slice is shifted."""
    distinct = shifts_mm if shifts_mm.any() else shifts_mm[:1]
    bands = [axis_band(positions_mm + shift, targets_mm, order) for shift in distinct]
    taps = max(band.weights.shape[1] for band in bands)
    latest = max(positions_mm.size - taps, 0)
    start = np.stack([np.minimum(band.start, latest) for band in bands])
    weights = np.zeros((*start.shape, taps), np.float32)
    for band, begin, out in zip(bands, start, weights, strict=True):
        columns = (band.start - begin)[:, None] + np.arange(band.weights.shape[1])
        np.put_along_axis(out, columns, band.weights, axis=1)
    return Band(start, weights)


def _nearest_samples(
    positions_mm: npt.NDArray[np.float64],
    targets_mm: npt.NDArray[np.float64],
    shifts_mm: npt.NDArray[np.float64],
    spacing_mm: float,
) -> npt.NDArray[np.int64]:
    """By slice, the sample nearest to each target; -1 beyond the reach of the ends."""
    relative = targets_mm - shifts_mm[:, None]
    index = np.searchsorted((positions_mm[1:] + positions_mm[:-1]) / 2, relative, side="right")
    # A hair of slack: the outermost targets of a regular grid lie exactly on the reach.
    reach = spacing_mm / 2 * (1 + 1e-9)
    outside = (relative < positions_mm[0] - reach) | (relative > positions_mm[-1] + reach)
    return np.where(outside, -1, index)


def resample(
    volume: npt.NDArray[Any],
    grid: Grid,
    spacing_mm: float | tuple[float, float, float],
    *,
    order: int = 3,
    scan: RawScan | None = None,
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
    out = resample_between(
        np.ascontiguousarray(volume), samples.positions_mm, targets, order,
        samples.shifts_mm, samples.breaks,
    )  # fmt: skip
    return out, new_grid


def sample_positions(grid: Grid) -> Positions:
    """Positions of the voxel centres along ``(z, y, x)``, each from 0, in millimetres."""
    return tuple(
        np.arange(n, dtype=np.float64) * s for n, s in zip(grid.shape, grid.spacing_mm, strict=True)
    )


def aligned_targets(grid: Grid, new_grid: Grid) -> Positions:
    """Voxel centres of `new_grid` along the axes of `grid`, from the first voxel of `grid`."""
    shift = np.asarray(grid.direction).T @ np.subtract(new_grid.origin_mm, grid.origin_mm)
    return tuple(
        offset + np.arange(n) * s
        for offset, n, s in zip(shift[::-1], new_grid.shape, new_grid.spacing_mm, strict=True)
    )
