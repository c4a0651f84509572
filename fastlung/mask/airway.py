"""
The trachea and main bronchi, followed downwards from slice to slice.

A threshold cannot tell airway from lung: both are air, and at 1 mm the walls between them leak.
Their shape can. In the plane the trachea is one compact dark region of a few square centimetres
that hardly changes over many slices; it ends where it splits, and each bronchus ends where the
region it runs into is suddenly much larger, which is lung.

What is followed is the air eroded by 2 mm in the plane. Without that the lung beside the trachea
leaks into it slice after slice: on two of three real chests the way ended 5 to 8 cm too high.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastlung.kernels import morphology
from fastlung.kernels.labels import label_slices
from fastlung.kernels.overlap import overlaps
from fastlung.kernels.runs import moments, select, sizes, slice_sizes, within

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastlung.kernels.runs import Runs
    from fastlung.scan import Grid

__all__ = ["find_airway"]

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
    below : dict of int to list of int
        Regions of the next slice toward the feet that touch each region.
    """

    z: npt.NDArray[np.float64]
    x_mm: npt.NDArray[np.float64]
    area_mm2: npt.NDArray[np.float64]
    below: dict[int, list[int]]


def find_airway(air: Runs, grid: Grid, middle_mm: float) -> Runs:
    """
    The lumen of the trachea and the main bronchi.

    Parameters
    ----------
    air : Runs
        Dark voxels inside the body.
    grid : Grid
        Canonical grid, z toward the head.
    middle_mm : float
        Where the middle of the body lies along x, in millimetres from the first voxel.

    Returns
    -------
    Runs
        Nothing if no trachea was found.
    """
    left, right = ((middle_mm + side) / grid.spacing_mm[2] for side in (-BRONCHI_MM, BRONCHI_MM))
    central = within(air, max(0, round(left)), max(0, round(right)))
    disc = morphology.ball(LEAK_MM, grid.spacing_mm)
    disc = disc[disc[:, 0] == 0]
    core = morphology.erode(central, disc)
    labels, count = label_slices(core, 4)
    area_mm2 = _round_areas(core, labels, count, grid)
    # Smaller ones are no branch: of some thousands on a noisy scan a few hundred are left.
    large = area_mm2[labels] > BRANCH_AREA_MM2[0]
    core, labels = select(core, large), labels[large]
    regions = _regions(core, labels, area_mm2, grid)
    air_mm2 = slice_sizes(air) * (grid.spacing_mm[1] * grid.spacing_mm[2])
    chosen = _choose(regions, grid, middle_mm, air_mm2)
    return morphology.dilate(select(core, chosen[labels]), disc)


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
    below: dict[int, list[int]] = {}
    for lower, upper in overlaps(core, labels)[0].tolist():
        below.setdefault(upper, []).append(lower)
    return _Regions(centre[:, 0], centre[:, 2] * grid.spacing_mm[2], area_mm2, below)


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
    if not lungs.size:
        return chosen
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
            region
            for region in regions.below.get(trunk[-1], ())
            if regions.area_mm2[region] > 0.4 * area
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
        for following in regions.below.get(region, ()):
            next_area = regions.area_mm2[following]
            if chosen[following] or next_area > min(GROWTH * area + GROWTH_MM2, high):
                continue
            if next_area > low and regions.z[following] >= lowest:
                chosen[following] = True
                front.append(following)
