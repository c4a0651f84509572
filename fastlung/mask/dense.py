"""
Dense regions within the lungs: masses and consolidation that a threshold takes for the wall.

What tells them from the liver is that the same lung goes on above and below them. What tells them
from heart, aorta and hilum is that lung lies between them and the middle of the chest; or, where a
mass has grown onto the mediastinum, that it reaches further than those do. Only what is thicker
than vessels. Chests without such a region stay as they were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import ndimage

from fastlung.kernels import morphology
from fastlung.kernels.bits import runs_at_most
from fastlung.kernels.runs import magnified, paint_coarse

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastlung.kernels.runs import Runs
    from fastlung.scan import Grid

__all__ = ["Coarse", "box_of", "coarse_of", "dense_regions", "fine_of", "runs_of"]

#: Looked for on a grid this coarse, in millimetres; at 4 mm a chest takes two milliseconds.
COARSE_MM = 4.0
#: Lung of this length, in millimetres, on the way from the middle of the chest to a piece of tissue
#: says that the piece is no part of the mediastinum.
BETWEEN_MM = 12.0
#: Looked at along that way.
STEPS = 32
#: What hangs on the mediastinum is looked for behind the middle, where there is no heart, and no
#: nearer than this to the plane between the lungs, in millimetres.
OFF_CENTRE_MM = 30.0
#: It is a mass if its thick part reaches further than this part of the way to the middle of its
#: lung: hila and tortuous aortas reach 0.58 to 0.67, masses 0.84 and 1.09;
REACH = 0.75
#: if this part of its surface is lung: an aorta has 0.3, masses 0.58 and 0.76;
LUNG_SURFACE = 0.5
#: and if this part of it has lung before it: hila have 0.04 at most, masses 0.18 and 0.20.
BETWEEN_PART = 0.1
#: Cut from the mediastinum, or from the wall, where a ball of this radius cannot enter, in
#: millimetres: as the lung's surface would run.
SURFACE_MM = 32.0
#: Thinner regions are vessels, in millimetres of radius.
THICK_MM = 9.0
#: The region is given back this much around its thick part, within the same bounds.
RIM_MM = 8.0
#: Regions on the wall are grown by up to this towards it, in millimetres: columns of air above and
#: below them end where the wall leans.
WALL_MM = 12.0
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


def box_of(chosen: npt.NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """Around all that is chosen, of which there is something."""
    # `ndimage.find_objects` takes ten times as long.
    planes = [np.asarray(chosen.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    z, y, x = (
        slice(int(filled.argmax()), filled.size - int(filled[::-1].argmax())) for filled in planes
    )
    return z, y, x


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
    if not ((coarse.sides == RIGHT).any() and (coarse.sides == LEFT).any()):
        return regions
    around = box_of(coarse.sides > 0)
    # Wider than what tissue is eroded by: beyond the box counts as tissue.
    margins = [int(THICK_MM / step) + 1 for step in coarse.spacing_mm]
    box = tuple(
        slice(max(0, side.start - margin), side.stop + margin)
        for side, margin in zip(around, margins, strict=True)
    )
    lungs = coarse._replace(dark=coarse.dark[box], sides=coarse.sides[box])
    for side, found in _found(lungs).items():
        if coarse.litres(found) >= SMALLEST_LITRES:
            regions[box][found] = side
    return regions


def _found(coarse: Coarse) -> dict[int, npt.NDArray[np.bool_]]:
    """Dense regions of each side."""
    airs = {side: coarse.dark & (coarse.sides == side) for side in (RIGHT, LEFT)}
    if not all(air.any() for air in airs.values()):
        return {}
    middle = _Middle(airs[RIGHT], airs[LEFT], coarse.spacing_mm)
    regions = {}
    for side, air in airs.items():
        tissue, _ = _thick(_enclosed(air) & ~coarse.dark, coarse)
        if not tissue.any():
            continue
        hidden = tissue & (middle.lung_between_mm(tissue, air) > BETWEEN_MM)
        apart, _ = _thick(hidden, coarse)
        masses = _masses(tissue & middle.behind, hidden, middle, coarse)
        if masses.any():
            masses &= _closed(air, coarse)
        regions[side] = _to_wall(apart, air, middle, coarse) | masses
    return regions


def _closed(air: npt.NDArray[np.bool_], coarse: Coarse) -> npt.NDArray[np.bool_]:
    """A lung as if it had no bites: what a large ball from outside cannot enter."""
    return _painted(morphology.close(runs_of(air), morphology.ball(SURFACE_MM, coarse.spacing_mm)))


def _to_wall(
    apart: npt.NDArray[np.bool_], air: npt.NDArray[np.bool_], middle: _Middle, coarse: Coarse
) -> npt.NDArray[np.bool_]:
    """Regions grown to where the lung's surface would be; nothing has air beyond the wall."""
    if not apart.any():
        return apart
    grown = _painted(morphology.dilate(runs_of(apart), morphology.ball(WALL_MM, coarse.spacing_mm)))
    grown &= _closed(air | apart, coarse) & ~coarse.dark
    return apart | (grown & (middle.lung_between_mm(grown, air) > BETWEEN_MM))


class _Middle:
    """The middle between the lungs, in the plane, and how things lie to it."""

    def __init__(
        self,
        right: npt.NDArray[np.bool_],
        left: npt.NDArray[np.bool_],
        spacing_mm: tuple[float, float, float],
    ) -> None:
        centres = np.array([_centre(right), _centre(left)]) * spacing_mm[1:]
        self.y_mm, self.x_mm = centres.mean(axis=0)
        self.half_mm = float(abs(centres[1, 1] - centres[0, 1])) / 2
        self.spacing_mm = spacing_mm
        aside_mm = np.abs(np.arange(right.shape[2]) * spacing_mm[2] - self.x_mm)
        back_mm = np.arange(right.shape[1]) * spacing_mm[1] - self.y_mm
        self.aside_mm = aside_mm
        self.behind = (aside_mm > OFF_CENTRE_MM) & (back_mm > 0.0)[:, None]

    def lung_between_mm(
        self, tissue: npt.NDArray[np.bool_], air: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.float32]:
        """Length of lung on the straight way in the plane to each piece of tissue; 0 elsewhere."""
        z, y, x = np.nonzero(tissue)
        from_y, from_x = self.y_mm / self.spacing_mm[1], self.x_mm / self.spacing_mm[2]
        met = np.zeros(z.size, np.int32)
        for step in range(STEPS):
            part = (step + 0.5) / STEPS
            at_y = np.rint(from_y + part * (y - from_y)).astype(np.intp)
            at_x = np.rint(from_x + part * (x - from_x)).astype(np.intp)
            met += air[z, at_y, at_x]
        way_mm = np.hypot(y * self.spacing_mm[1] - self.y_mm, x * self.spacing_mm[2] - self.x_mm)
        length_mm = np.zeros(tissue.shape, np.float32)
        length_mm[z, y, x] = met / STEPS * way_mm
        return length_mm


def _centre(air: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Mean index along y and x."""
    seen = air.sum(axis=0)
    along_y, along_x = seen.sum(axis=1), seen.sum(axis=0)
    return np.array(
        [np.average(np.arange(along.size), weights=along) for along in (along_y, along_x)]
    )


def _enclosed(air: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """What has air both above and below it."""
    # Slice by slice: `logical_or.accumulate` takes ten times as long.
    below, above = np.empty_like(air), np.zeros(air.shape[1:], np.bool_)
    seen = above.copy()
    for z in range(air.shape[0]):
        seen |= air[z]
        below[z] = seen
    for z in range(air.shape[0] - 1, -1, -1):
        above |= air[z]
        below[z] &= above
    return below


def _thick(
    tissue: npt.NDArray[np.bool_], coarse: Coarse
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Tissue that is thicker than vessels, with its rim; and its core."""
    core = morphology.erode(runs_of(tissue), morphology.ball(THICK_MM, coarse.spacing_mm))
    if not core.starts.size:
        return np.zeros_like(tissue), np.zeros_like(tissue)
    grown = morphology.dilate(core, morphology.ball(THICK_MM + RIM_MM, coarse.spacing_mm))
    return tissue & _painted(grown), _painted(core)


def _masses(
    tissue: npt.NDArray[np.bool_],
    hidden: npt.NDArray[np.bool_],
    middle: _Middle,
    coarse: Coarse,
) -> npt.NDArray[np.bool_]:
    """What hangs on the mediastinum and is a mass."""
    thick, core = _thick(tissue, coarse)
    found = np.zeros_like(thick)
    if not thick.any():
        return found
    labels, count = ndimage.label(thick)
    for number in range(1, count + 1):
        part = labels == number
        columns = (part & core).any(axis=(0, 1))
        reach = middle.aside_mm[columns].max(initial=0.0) / middle.half_mm
        if (
            reach > REACH
            and hidden[part].mean() > BETWEEN_PART
            and _lung_surface(part, coarse) > LUNG_SURFACE
        ):
            found |= part
    return found


def _lung_surface(part: npt.NDArray[np.bool_], coarse: Coarse) -> float:
    """Part of the surface beyond which there is air."""
    lung = whole = 0.0
    for axis in range(3):
        area = float(np.prod(coarse.spacing_mm)) / coarse.spacing_mm[axis]
        for step in (-1, 1):
            beside = np.roll(part, step, axis) & ~part
            whole += area * np.count_nonzero(beside)
            lung += area * np.count_nonzero(beside & coarse.dark)
    return float(lung / whole)


def fine_of(region: npt.NDArray[np.bool_], coarse: Coarse, grid: Grid) -> Runs:
    """The region on the grid that was sampled, its corners rounded off."""
    blocks = magnified(runs_of(region), coarse.steps, grid.shape)
    rounding = morphology.ball(ROUNDING_MM, grid.spacing_mm)
    return morphology.dilate(morphology.erode(blocks, rounding), rounding)


def _painted(runs: Runs) -> npt.NDArray[np.bool_]:
    return paint_coarse(runs, np.ones(runs.starts.size, np.uint8), (1, 1, 1)) > 0


def runs_of(chosen: npt.NDArray[np.bool_]) -> Runs:
    """Run-length rows of a mask."""
    return runs_at_most(np.ascontiguousarray(~chosen).view(np.uint8), 0)
