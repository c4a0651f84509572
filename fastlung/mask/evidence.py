"""
What a chest shows before a mask of it is made, or judged: its air, sorted by what it belongs to.

Dark voxels; outside air removed slice by slice from the edge of the field of view, so that neither
a table, nor a cropped field, nor an open mouth hides it; lungs that the field cuts in the plane
taken back; trachea and main bronchi followed downwards; gas too dark to be lung, and the flat
inside of a table, dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlung.kernels import morphology
from fastlung.kernels.bits import runs_at_most
from fastlung.kernels.intensity import noise_hu
from fastlung.kernels.labels import label, label_slices
from fastlung.kernels.overlap import boxes, field_of_view, in_field, on_field_edge, overlaps
from fastlung.kernels.runs import complement, difference, means, moments, select, sizes
from fastlung.mask.airway import find_airway
from fastlung.mask.foreign import without_gas

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastlung.kernels.runs import Runs
    from fastlung.mask.airway import Levels
    from fastlung.scan import Grid

__all__ = ["AIR_HU", "Evidence", "gather"]

#: Half way between lung (-850 HU) and soft tissue (50 HU).
AIR_HU = -400.0
#: What was never measured, such as the corners around a circular field of view.
BLANK_HU = -1024.0
#: Smaller dark components are dropped; a lobe cut off by consolidation is larger.
PIECE_LITRES = 0.02
#: Gas in the bowel averages below, lungs with severe emphysema above.
GAS_HU = -940.0
#: Pieces up to this are judged by what lies this deep inside: between thick slices a bubble of gas
#: is mostly edge (20 mL between 8 mm slices: -863 HU whole, -957 HU inside).
SMALL_LITRES, INSIDE_MM = 0.5, 2.0
#: Pieces of this size as dark as gas, together twice that, are a phantom's if nothing else is lung.
DARK_LITRES = 0.5
#: Flatter than this, height by width, and wider than this is no lung but the inside of a table.
FLAT, WIDE_MM = 0.25, 200.0
#: Regions of a slice from which lung is followed beyond the field of view, in square millimetres.
REGION_MM2 = 300.0
#: Lung goes on in the next slice where the regions share this part of the larger one: one lung of
#: two joined ones has half, outside air around a pocket in a blanket far less.
SHARED_PART = 0.3
#: Thickness of the airway's wall that is removed with it, in millimetres.
WALL_MM = 1.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """
    The air of a chest.

    Attributes
    ----------
    volume : ndarray of int16 or float32, shape (z, y, x)
        Hounsfield units.
    grid : Grid
        Canonical grid.
    field : ndarray of uint16, shape (z * y, 2)
        Measured voxels of each row, as `field_of_view` returns.
    dark : Runs
        All air in the field of view.
    airway, lumen : Runs
        Trachea and main bronchi; the same with their wall.
    levels : Levels
        How dark airway and lung are.
    lungs : Runs
        Air of the lungs, without airway.
    pieces : ndarray of int32, shape (runs of `lungs`,)
        Which connected component each run of `lungs` belongs to.
    middle_mm : float
        Middle of the body along x, in millimetres from the first voxel.
    noise_hu : float
        Noise of solid tissue, in Hounsfield units.
    """

    volume: npt.NDArray[Any]
    grid: Grid
    field: npt.NDArray[np.uint16]
    dark: Runs
    airway: Runs
    lumen: Runs
    levels: Levels
    lungs: Runs
    pieces: npt.NDArray[np.int32]
    middle_mm: float
    noise_hu: float


def gather(volume: npt.NDArray[Any], grid: Grid, dark: Runs | None = None) -> Evidence:
    """
    Sort the air of a canonical volume.

    Parameters
    ----------
    volume : ndarray of int16 or float32, shape (z, y, x), C-contiguous
        Hounsfield units.
    grid : Grid
        Canonical grid.
    dark : Runs, optional
        Voxels at or below `AIR_HU`, where they are known already.
    """
    if dark is None:
        dark = runs_at_most(volume, AIR_HU)
    solid = complement(dark)
    middle_mm = _middle_mm(solid, grid)
    field = field_of_view(volume, BLANK_HU)
    dark = in_field(dark, field)
    air = _inner_air(dark, volume, grid, field)
    airway, levels = find_airway(air, volume, grid, middle_mm)
    lumen = morphology.dilate(airway, morphology.ball(WALL_MM, grid.spacing_mm))
    lungs = without_gas(_lung_pieces(difference(air, lumen), volume, grid), volume, grid, levels)
    pieces, _ = label(lungs, 6)
    return Evidence(
        volume=volume,
        grid=grid,
        field=field,
        dark=dark,
        airway=airway,
        lumen=lumen,
        levels=levels,
        lungs=lungs,
        pieces=pieces,
        middle_mm=middle_mm,
        noise_hu=noise_hu(volume, solid),
    )


def _middle_mm(solid: Runs, grid: Grid) -> float:
    """Middle of the body along x, in millimetres from the first voxel."""
    everything = np.ones(solid.starts.size, np.int32)
    if not everything.size:
        return solid.shape[2] / 2 * grid.spacing_mm[2]
    return float(moments(solid, everything, 1)[1, 2]) * grid.spacing_mm[2]


def _inner_air(
    dark: Runs, volume: npt.NDArray[Any], grid: Grid, field: npt.NDArray[np.uint16]
) -> Runs:
    """Dark voxels not connected to the edge of the field in their own slice, and lung that is."""
    labels, count = label_slices(dark, 4)
    inner = np.ones(count + 1, np.bool_)
    inner[labels[on_field_edge(dark, field)]] = False
    area_mm2 = sizes(dark, labels, count) * (grid.spacing_mm[1] * grid.spacing_mm[2])
    large = area_mm2 > REGION_MM2
    chosen = large[labels]
    regions, numbers = select(dark, chosen), labels[chosen]
    inner |= _continued(regions, numbers, inner, volume)
    return select(dark, inner[labels])


def _continued(
    regions: Runs,
    numbers: npt.NDArray[np.int32],
    inner: npt.NDArray[np.bool_],
    volume: npt.NDArray[Any],
) -> npt.NDArray[np.bool_]:
    """By region: whether lung inside the field in one slice goes on there, cut by its edge."""
    pairs, shared = overlaps(regions, numbers)
    area = sizes(regions, numbers, inner.size - 1)
    pairs = pairs[shared > SHARED_PART * area[pairs].max(axis=1)]
    lung, air = inner.copy(), np.zeros_like(inner)
    while True:  # each round goes one slice further
        open_ = lung[pairs[:, 0]] != lung[pairs[:, 1]]
        reached = np.zeros_like(inner)
        reached[pairs[open_]] = True
        reached &= ~(lung | air)
        if not reached.any():
            return lung & ~inner
        chosen = reached[numbers]
        hu = means(_middles(select(regions, chosen)), volume, numbers[chosen], inner.size - 1)
        # Outside air is darker than any lung. Without this a blanket that closes a ring around
        # air in one slice would make lung of all of it.
        with np.errstate(invalid="ignore"):
            lung |= reached & (hu > GAS_HU)
        air |= reached & ~lung


def _middles(runs: Runs) -> Runs:
    """The middle half of each run: air under a blanket is -1000 HU there, and -890 HU at large."""
    quarter = (runs.stops - runs.starts) // 4
    return runs._replace(starts=runs.starts + quarter, stops=runs.stops - quarter)


def _as_dark_as_air(
    litres: npt.NDArray[np.float64], hu: npt.NDArray[np.float64], possible: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Where nothing large is as light as lung, but a litre is as dark: the lungs of phantoms."""
    large = possible & (litres > DARK_LITRES)
    if litres[large].sum() < 2 * DARK_LITRES or (large & (hu > GAS_HU)).any():
        large[:] = False
    return large


def _lung_pieces(air: Runs, volume: npt.NDArray[Any], grid: Grid) -> Runs:
    """The components that may be lung: large enough, not as dark as bowel gas, not flat."""
    labels, count = label(air, 6)
    litres = sizes(air, labels, count) * grid.voxel_litres
    lung = litres > PIECE_LITRES
    pieces, numbers = select(air, lung[labels]), labels[lung[labels]]
    box = boxes(pieces, numbers, count)
    high_mm, wide_mm = ((box[:, 1, a] - box[:, 0, a]) * grid.spacing_mm[a] for a in (1, 2))
    lung &= ~((wide_mm > WIDE_MM) & (high_mm < FLAT * wide_mm))
    hu = means(pieces, volume, numbers, count)
    lung &= ~(hu <= GAS_HU) | _as_dark_as_air(litres, hu, lung)
    for number in np.flatnonzero(lung & (litres < SMALL_LITRES)).tolist():
        piece = select(pieces, numbers == number)
        inside = morphology.erode(piece, morphology.ball(INSIDE_MM, grid.spacing_mm))
        hu = means(inside, volume, np.ones(inside.starts.size, np.int32), 1)[1]
        lung[number] = not hu <= GAS_HU
    return select(pieces, lung[numbers])
