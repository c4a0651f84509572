"""
The trachea and main bronchi, followed downwards from slice to slice.

A threshold cannot tell airway from lung: both are air, and at 1 mm the walls between them leak.
Their shape can. In the plane the trachea is one compact dark region of a few square centimetres
that hardly changes over many slices; it ends where it splits, and each bronchus ends where the
region it runs into is suddenly much larger, which is lung.

It is followed twice. First as air eroded by 2 mm in the plane, so that the lung beside the trachea
does not leak into it; that shows how dark this scanner draws air, and how dark the lungs are. Then
as what is nearer to the first than to the second over a few millimetres: lungs are not in that at
all, and what ended where a wall is thinner than a slice goes on. Either alone ends too early.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastlung.kernels import morphology
from fastlung.kernels.bits import runs_at_most
from fastlung.kernels.labels import label, label_slices
from fastlung.kernels.overlap import boxes, overlap, overlaps
from fastlung.kernels.runs import (
    complement,
    difference,
    means,
    moments,
    placed,
    select,
    sizes,
    slice_sizes,
    union,
    within,
)
from fastlung.kernels.smooth import mean_at_most

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastlung.kernels.runs import Runs
    from fastlung.scan import Grid

    Voxel = tuple[int, int, int]

__all__ = ["Levels", "find_airway"]

#: What the air of an airway and of lungs is taken for until it is measured.
AIRWAY_HU, LUNG_HU = -1000.0, -850.0
#: Means are taken over this far along z, y and x: half a bronchus, so that erosion is not needed.
MEAN_MM = (1.0, 2.0, 2.0)
#: Part of the way from the airway's air to lung up to which a mean belongs to the airway; and up
#: to which a cross-section that was followed does.
NEARER, LIGHTEST = 0.45, 0.65
#: Stretches of less than this that are as light as lung are small bronchi, in litres.
LIGHT_LITRES = 0.001
#: So are those around which, from and to so far away in millimetres, less than this is air.
AROUND_STRETCH_MM, AMID_LUNG = (1.0, 4.0), 0.3
#: Every so many runs are enough for a median.
SAMPLED = 16
#: Bronchi are looked for this far below and above the tips of the lungs and around the trachea.
BELOW_MM, ABOVE_MM, AROUND_MM = 190.0, 40.0, 50.0

#: Air is eroded by this in the plane before it is followed, in millimetres: walls of bronchi that
#: are thinner than a voxel leak through holes of about twice that.
LEAK_MM = 2.0
#: A trachea's cross-section; adults have 150 to 500 mm2, and it widens where it splits.
TRACHEA_AREA_MM2 = (40.0, 900.0)
#: A main bronchus is at most half of the largest trachea; narrower branches than this are lung's.
BRANCH_AREA_MM2 = (30.0, 450.0)
#: How far from the middle of the body the trachea may lie, in millimetres.
OFF_CENTRE_MM = 45.0
#: How far from there the main bronchi reach, and how far below the end of the trachea.
BRONCHI_MM, BRONCHI_DEPTH_MM = 70.0, 60.0
#: A trachea is followed at least this far; the tips of the lungs and gas in the gullet are not.
SHORTEST_MM = 30.0
#: Air in a slice from which it shows lungs, in square millimetres; sinuses have half of that.
LUNGS_MM2 = 3000.0
#: The trachea begins no further than this below the tips of the lungs, and ends where there are
#: lungs. Between heart and diaphragm lung may look like it, in the skull sinuses do.
BELOW_TIPS_MM = 60.0
#: Where the scan cuts the lungs off above, it cuts the trachea too, which may be short then.
CUT_TIPS_MM, CUT_SHORTEST_MM = 5.0, 10.0
#: Slice to slice a branch may grow by this factor and this much before it counts as lung.
GROWTH, GROWTH_MM2 = 1.5, 40.0


class _Regions(NamedTuple):
    """
    Compact air of each slice, and what lies on what.

    Attributes
    ----------
    z, x_mm : ndarray of float64, shape (regions + 1,)
        Slice index, and centre along x in millimetres; entry 0 means nothing.
    area_mm2 : ndarray of float64, shape (regions + 1,)
        Cross-section, with the rim that erosion took given back as if it were round.
    lower : ndarray of int64, shape (pairs,)
        Regions that touch one of the slice above, sorted by that one.
    offsets : ndarray of int64, shape (regions + 2,)
        Those below region n are ``lower[offsets[n]:offsets[n + 1]]``.
    """

    z: npt.NDArray[np.float64]
    x_mm: npt.NDArray[np.float64]
    area_mm2: npt.NDArray[np.float64]
    lower: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]

    def below(self, region: int) -> list[int]:
        """Regions of the next slice toward the feet that touch it."""
        found: list[int] = self.lower[self.offsets[region] : self.offsets[region + 1]].tolist()
        return found


def find_airway(
    air: Runs, volume: npt.NDArray[Any], grid: Grid, middle_mm: float
) -> tuple[Runs, Levels]:
    """
    The lumen of the trachea and the main bronchi.

    Parameters
    ----------
    air : Runs
        Dark voxels inside the body.
    volume : ndarray of int16 or float32, shape (z, y, x), C-contiguous
        Hounsfield units.
    grid : Grid
        Canonical grid, z toward the head.
    middle_mm : float
        Where the middle of the body lies along x, in millimetres from the first voxel.

    Returns
    -------
    airway : Runs
        Nothing if no trachea was found.
    levels : Levels
        How dark airway and lung are.
    """
    left, right = ((middle_mm + side) / grid.spacing_mm[2] for side in (-BRONCHI_MM, BRONCHI_MM))
    central = within(air, max(0, round(left)), max(0, round(right)))
    disc = morphology.ball(LEAK_MM, grid.spacing_mm)
    disc = disc[disc[:, 0] == 0]
    air_mm2 = slice_sizes(air) * (grid.spacing_mm[1] * grid.spacing_mm[2])
    lungs = np.flatnonzero(air_mm2 > LUNGS_MM2)
    if not lungs.size or not central.starts.size:
        return select(air, np.zeros(air.starts.size, np.bool_)), Levels(AIRWAY_HU, LUNG_HU)
    follow = partial(_followed, grid=grid, middle_mm=middle_mm, air_mm2=air_mm2)
    first = follow(morphology.erode(central, disc))
    levels = _levels(first, air, volume, middle_mm / grid.spacing_mm[2])
    first = _without_lung(first, air, volume, grid, levels)
    second = follow(_hollow(central, first, volume, grid, levels, int(lungs[-1])))
    return morphology.dilate(union(first, second), disc), levels


class Levels(NamedTuple):
    """
    How dark this scanner draws the air of an airway, and how dark the lungs are.

    Attributes
    ----------
    airway, lung : float
        Hounsfield units.
    """

    airway: float
    lung: float

    def between(self, part: float) -> float:
        """Part of the way from airway to lung."""
        return self.airway + part * (self.lung - self.airway)


def _levels(airway: Runs, air: Runs, volume: npt.NDArray[Any], middle: float) -> Levels:
    """Medians; of the lungs that of the darker one, because emphysema is not in both alike."""
    inside = _sampled(airway, volume, 1)
    sides = within(air, 0, round(middle)), within(air, round(middle), air.shape[2])
    lungs = [np.median(hu) for hu in (_sampled(side, volume, SAMPLED) for side in sides) if hu.size]
    return Levels(
        float(np.median(inside)) if inside.size else AIRWAY_HU,
        float(min(lungs, default=LUNG_HU)),
    )


def _sampled(runs: Runs, volume: npt.NDArray[Any], step: int) -> npt.NDArray[Any]:
    """Values of every so many of the runs, in their middles."""
    row = np.repeat(np.arange(runs.offsets.size - 1), np.diff(runs.offsets))[::step]
    middle = (runs.starts[::step].astype(np.intp) + runs.stops[::step]) // 2
    values: npt.NDArray[Any] = volume.reshape(-1, volume.shape[2])[row, middle]
    return values


def _without_lung(
    chosen: Runs, air: Runs, volume: npt.NDArray[Any], grid: Grid, levels: Levels
) -> Runs:
    """Without stretches as light as lung and amid lung: what was followed was lung there."""
    labels, count = label_slices(chosen, 4)
    light = (means(chosen, volume, labels, count) > levels.between(LIGHTEST))[labels]
    stretches = select(chosen, light)
    labels, count = label(stretches, 6)
    litres = sizes(stretches, labels, count) * grid.voxel_litres
    near, far = (morphology.ball(LEAK_MM + away, grid.spacing_mm) for away in AROUND_STRETCH_MM)
    lung = np.zeros(count + 1, np.bool_)
    for number in np.flatnonzero(litres > LIGHT_LITRES).tolist():
        stretch = select(stretches, labels == number)
        # Slices of 8 mm blur a bronchus with the tissue around it, which is as light.
        ring = difference(morphology.dilate(stretch, far), morphology.dilate(stretch, near))
        lung[number] = overlap(ring, air) > AMID_LUNG * slice_sizes(ring).sum()
    return difference(chosen, select(stretches, lung[labels]))


def _hollow(
    central: Runs, first: Runs, volume: npt.NDArray[Any], grid: Grid, levels: Levels, tips: int
) -> Runs:
    """Where the mean over a few millimetres is nearer to the airway's air than to lung."""
    reach = [round(mm / step) for mm, step in zip(MEAN_MM, grid.spacing_mm, strict=True)]
    low, high = _box_of_bronchi(central, first, grid, tips)
    part = volume[tuple(slice(*ends) for ends in zip(low, high, strict=True))]
    dark = runs_at_most(
        mean_at_most(part, (reach[0], reach[1], reach[2]), levels.between(NEARER)), 0
    )
    return difference(placed(dark, low, central.shape), complement(central))


def _box_of_bronchi(central: Runs, first: Runs, grid: Grid, tips: int) -> tuple[Voxel, Voxel]:
    """First voxel and one past the last of where the trachea splits and the bronchi end."""
    below, above, around = (
        round(mm / step)
        for mm, step in zip(
            (BELOW_MM, ABOVE_MM, AROUND_MM),
            grid.spacing_mm[:1] * 2 + grid.spacing_mm[1:2],
            strict=True,
        )
    )
    found = first if first.starts.size else central
    (_, y0, _), (_, y1, _) = boxes(found, np.ones(found.starts.size, np.int32), 1)[1].tolist()
    depth, height, _ = central.shape
    if not first.starts.size:
        above, around = depth, height
    left, right = int(central.starts.min()), int(central.stops.max())
    low = max(0, tips - below), max(0, y0 - around), left
    return low, (min(depth, tips + above), min(height, y1 + around), right)


def _followed(core: Runs, grid: Grid, middle_mm: float, air_mm2: npt.NDArray[np.float64]) -> Runs:
    """Of compact air, what the trachea and the bronchi are made of."""
    labels, count = label_slices(core, 4)
    area_mm2 = _round_areas(core, labels, count, grid)
    # Smaller ones are no branch: of some thousands on a noisy scan a few hundred are left.
    large = area_mm2[labels] > BRANCH_AREA_MM2[0]
    core, labels = select(core, large), labels[large]
    chosen = _choose(_regions(core, labels, area_mm2, grid), grid, middle_mm, air_mm2)
    return select(core, chosen[labels])


def _round_areas(
    core: Runs, labels: npt.NDArray[np.int32], count: int, grid: Grid
) -> npt.NDArray[np.float64]:
    """Cross-section of each region before it was eroded, if it was round."""
    eroded = sizes(core, labels, count) * (grid.spacing_mm[1] * grid.spacing_mm[2])
    area: npt.NDArray[np.float64] = np.pi * (np.sqrt(eroded / np.pi) + LEAK_MM) ** 2
    area[eroded == 0] = 0.0
    return area


def _regions(
    core: Runs,
    labels: npt.NDArray[np.int32],
    area_mm2: npt.NDArray[np.float64],
    grid: Grid,
) -> _Regions:
    centre = moments(core, labels, area_mm2.size - 1)
    lower, upper = overlaps(core, labels)[0].T
    order = np.argsort(upper, kind="stable")
    offsets = np.searchsorted(upper[order], np.arange(area_mm2.size + 1))
    x_mm = centre[:, 2] * grid.spacing_mm[2]
    return _Regions(centre[:, 0], x_mm, area_mm2, lower[order], offsets)


def _choose(
    regions: _Regions, grid: Grid, middle_mm: float, air_mm2: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """By region, whether it is airway; `air_mm2` is all air inside the body by slice."""
    chosen = np.zeros(regions.area_mm2.size, np.bool_)
    visited = chosen.copy()
    low, high = TRACHEA_AREA_MM2
    with np.errstate(invalid="ignore"):  # regions that are too small have no centre
        central = np.abs(regions.x_mm - middle_mm) < OFF_CENTRE_MM
    lungs = np.flatnonzero(air_mm2 > LUNGS_MM2)
    cut = lungs[-1] == air_mm2.size - 1
    below_mm, shortest_mm = (CUT_TIPS_MM, CUT_SHORTEST_MM) if cut else (BELOW_TIPS_MM, SHORTEST_MM)
    highest = lungs[-1] - below_mm / grid.spacing_mm[0]
    candidates = np.flatnonzero(central & (regions.area_mm2 > low) & (regions.area_mm2 < high))
    # From the head down: the trachea is followed from its highest region.
    for seed in candidates[np.argsort(-regions.z[candidates], kind="stable")].tolist():
        if visited[seed]:
            continue
        trunk = _trunk(seed, regions)
        visited[trunk] = True
        top, bottom = regions.z[trunk[0]], regions.z[trunk[-1]]
        length_mm = (top - bottom) * grid.spacing_mm[0]
        # The first such one wins: deeper ones are vessels of air within the lung.
        if length_mm > shortest_mm and bottom <= lungs[-1] and top >= highest:
            chosen[trunk] = True
            lowest = bottom - BRONCHI_DEPTH_MM / grid.spacing_mm[0]
            _mark_branches(trunk[-1], regions, lowest, chosen)
            break
    return chosen


def _trunk(seed: int, regions: _Regions) -> list[int]:
    """Downwards from `seed` while the way is one region of about the same size."""
    trunk = [seed]
    while True:
        area = regions.area_mm2[trunk[-1]]
        following = [
            region for region in regions.below(trunk[-1]) if regions.area_mm2[region] > 0.4 * area
        ]
        if len(following) != 1:
            return trunk
        next_area = regions.area_mm2[following[0]]
        if next_area > min(GROWTH * area + GROWTH_MM2, TRACHEA_AREA_MM2[1]):
            return trunk
        trunk.append(following[0])


def _mark_branches(
    start: int, regions: _Regions, lowest: float, chosen: npt.NDArray[np.bool_]
) -> None:
    """Mark what continues below `start` as long as no branch suddenly grows into lung."""
    low, high = BRANCH_AREA_MM2
    front = [start]
    while front:
        region = front.pop()
        area = regions.area_mm2[region]
        for following in regions.below(region):
            next_area = regions.area_mm2[following]
            if chosen[following] or next_area > min(GROWTH * area + GROWTH_MM2, high):
                continue
            if next_area > low and regions.z[following] >= lowest:
                chosen[following] = True
                front.append(following)
