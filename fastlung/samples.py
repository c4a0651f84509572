"""
Where the voxels of a volume were measured, and what voxels elsewhere are made of.

Gathers the bands of `fastlung.bands` for all three axes and every slice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastlung.bands import Band, axis_band, smoothing_mm

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from fastlung.scan import Grid, RawScan

    Positions = Sequence[npt.NDArray[np.float64]]
    Arrays = tuple[npt.NDArray[Any], ...]

__all__ = ["Samples", "sample_positions", "samples_of"]


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
    smoothing_mm : tuple of float
        Standard deviations along ``(z, y, x)`` of the Gaussian that smooths them before they are
        interpolated, in millimetres; 0 for none.
    """

    positions_mm: Positions
    shifts_mm: npt.NDArray[np.float64]
    breaks: tuple[int, ...] = ()
    smoothing_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def smoothed(self, grid: Grid, new_grid: Grid) -> Samples:
        """The same samples, smoothed along each axis on which `new_grid` is coarser."""
        z, y, x = map(smoothing_mm, grid.spacing_mm, new_grid.spacing_mm)
        return self._replace(smoothing_mm=(z, y, x))

    def bands(self, targets_mm: Positions, order: int) -> Arrays:
        """Start and weights of z, y and x for values at other positions, as kernels take them."""
        (z, y, x), (z_out, y_out, x_out) = self.positions_mm, targets_mm
        sigma_z, sigma_y, sigma_x = self.smoothing_mm
        return (
            *axis_band(z, z_out, order, self.breaks, sigma_z),
            *_plane_bands(y, y_out, order, self.shifts_mm[:, 0], sigma_y),
            *_plane_bands(x, x_out, order, self.shifts_mm[:, 1], sigma_x),
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


def sample_positions(grid: Grid) -> Positions:
    """Positions of the voxel centres along ``(z, y, x)``, each from 0, in millimetres."""
    return tuple(
        np.arange(n, dtype=np.float64) * s for n, s in zip(grid.shape, grid.spacing_mm, strict=True)
    )


def _plane_bands(
    positions_mm: npt.NDArray[np.float64],
    targets_mm: npt.NDArray[np.float64],
    order: int,
    shifts_mm: npt.NDArray[np.float64],
    sigma_mm: float,
) -> Band:
    """Bands of all slices, stacked; a single one where no slice is shifted."""
    distinct = shifts_mm if shifts_mm.any() else shifts_mm[:1]
    bands = [
        axis_band(positions_mm + shift, targets_mm, order, sigma_mm=sigma_mm) for shift in distinct
    ]
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
