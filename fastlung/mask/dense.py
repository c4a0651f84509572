"""
Dense regions within the lungs: masses and consolidation that a threshold takes for the wall.

What tells them from heart, aorta and liver is that the same lung goes on above and below them. Only
behind the middle of the lungs, where there is no heart, and away from the spine and the aorta; and
only what is thicker than the vessels of a hilum. Chests without such a region stay as they were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastlung.kernels import morphology
from fastlung.kernels.bits import runs_at_most
from fastlung.kernels.runs import magnified, paint_coarse

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastlung.kernels.runs import Runs
    from fastlung.scan import Grid

__all__ = ["Coarse", "coarse_of", "dense_regions", "fine_of"]

#: Looked for on a grid this coarse, in millimetres; at 4 mm a chest takes two milliseconds.
COARSE_MM = 4.0
#: Nearer to the plane between the lungs lie spine, aorta and the roots of the lungs.
OFF_CENTRE_MM = 35.0
#: Thinner regions are vessels, in millimetres of radius.
THICK_MM = 9.0
#: The region is given back this much around its thick part, within the same bounds.
RIM_MM = 8.0
#: Smaller regions are left alone; healthy chests have none.
SMALLEST_LITRES = 0.005
#: Corners of the coarse grid are rounded off with this radius, in millimetres.
ROUNDING_MM = 4.0

RIGHT, LEFT = 1, 2


class Coarse(NamedTuple):
    """
    Every so many voxels of a chest.

    Attributes
    ----------
    steps : tuple of int
        Every how many voxels along ``(z, y, x)``.
    spacing_mm : tuple of float
        Distance of those along ``(z, y, x)``, in millimetres.
    dark : ndarray of bool, shape (z, y, x)
        Air.
    sides : ndarray of uint8, shape (z, y, x)
        1 right lung, 2 left lung, 0 elsewhere.
    """

    steps: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    dark: npt.NDArray[np.bool_]
    sides: npt.NDArray[np.uint8]

    def litres(self, chosen: npt.NDArray[np.bool_]) -> float:
        """Volume of some of the voxels, in litres."""
        return float(np.count_nonzero(chosen)) * float(np.prod(self.spacing_mm)) * 1e-6


def coarse_of(dark: Runs, right: Runs, left: Runs, grid: Grid) -> Coarse:
    """Sample air and lungs of a canonical grid."""
    z, y, x = (max(1, round(COARSE_MM / spacing)) for spacing in grid.spacing_mm)
    air, right_part, left_part = (
        paint_coarse(part, np.ones(part.starts.size, np.uint8), (z, y, x))
        for part in (dark, right, left)
    )
    spacing_mm = z * grid.spacing_mm[0], y * grid.spacing_mm[1], x * grid.spacing_mm[2]
    sides = (RIGHT * right_part + LEFT * left_part).astype(np.uint8)
    return Coarse((z, y, x), spacing_mm, air > 0, sides)


def dense_regions(coarse: Coarse) -> npt.NDArray[np.uint8]:
    """
    Tissue of each lung that its own air encloses from above and below.

    Parameters
    ----------
    coarse : Coarse
        Air and lungs; only the air of the lungs counts.

    Returns
    -------
    ndarray of uint8, shape ``coarse.sides.shape``
        1 of the right lung, 2 of the left lung, 0 elsewhere. All 0 where there is less than 5 mL,
        or no second lung to tell the middle from.
    """
    regions = np.zeros_like(coarse.sides)
    height = np.arange(regions.shape[0], dtype=np.int32)[:, None, None]
    lungs = np.where(coarse.dark, coarse.sides, 0)
    airs = [lungs == side for side in (RIGHT, LEFT)]
    columns = [np.flatnonzero(air.any(axis=(0, 1))) for air in airs]
    if not (columns[0].size and columns[1].size):
        return regions
    middle = (columns[0][0] + columns[1][-1]) / 2
    aside = np.abs(np.arange(lungs.shape[2]) - middle) * coarse.spacing_mm[2] > OFF_CENTRE_MM
    rows = np.count_nonzero(lungs, axis=(0, 2))
    behind = np.arange(rows.size) > np.average(np.arange(rows.size), weights=rows)
    for side, air in zip((RIGHT, LEFT), airs, strict=True):
        lowest = np.where(air, height, height.size).min(axis=0)
        highest = np.where(air, height, -1).max(axis=0)
        regions[(lowest < height) & (height < highest)] = side
    regions[coarse.dark | ~behind[:, None] | ~aside] = 0
    tissue = _runs(regions > 0)
    thick = morphology.erode(tissue, morphology.ball(THICK_MM, coarse.spacing_mm))
    grown = morphology.dilate(thick, morphology.ball(THICK_MM + RIM_MM, coarse.spacing_mm))
    regions *= paint_coarse(grown, np.ones(grown.starts.size, np.uint8), (1, 1, 1))
    if coarse.litres(regions > 0) < SMALLEST_LITRES:
        regions[:] = 0
    return regions


def fine_of(region: npt.NDArray[np.bool_], coarse: Coarse, grid: Grid) -> Runs:
    """The region on the grid that was sampled, its corners rounded off."""
    blocks = magnified(_runs(region), coarse.steps, grid.shape)
    rounding = morphology.ball(ROUNDING_MM, grid.spacing_mm)
    return morphology.dilate(morphology.erode(blocks, rounding), rounding)


def _runs(chosen: npt.NDArray[np.bool_]) -> Runs:
    return runs_at_most(np.ascontiguousarray(~chosen).view(np.uint8), 0)
