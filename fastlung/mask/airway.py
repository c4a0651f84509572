"""
The trachea and main bronchi, followed downwards from slice to slice.

A threshold cannot tell airway from lung: both are air, and at 1 mm the walls between them leak.
Their shape can. In the plane the trachea is one compact dark region of a few square centimetres
that hardly changes over many slices; it ends where it splits, and each bronchus ends where the
region it runs into is suddenly much larger, which is lung.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastlung.kernels.runs import contacts, moments, sizes

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastlung.kernels.runs import Runs
    from fastlung.scan import Grid

__all__ = ["Regions", "find_airway"]

#: A trachea's cross-section; adults have 150 to 500 mm2, and it widens where it splits.
TRACHEA_AREA_MM2 = (40.0, 900.0)
#: How far from the middle of the body the trachea may lie, in millimetres.
OFF_CENTRE_MM = 45.0
#: A trachea is followed at least this far; the tips of the lungs and gas in the gullet are not.
SHORTEST_MM = 30.0
#: Slice to slice a branch may grow by this factor and this much before it counts as lung.
GROWTH, GROWTH_MM2 = 1.8, 60.0


class Regions(NamedTuple):
    """
    Dark regions of each slice, and which lie on which.

    Attributes
    ----------
    z, x_mm : ndarray of float64, shape (regions + 1,)
        Slice index, and centre along x in millimetres; entry 0 means nothing.
    area_mm2 : ndarray of float64, shape (regions + 1,)
        Cross-section.
    below : list of list of int
        Regions of the next slice toward the feet that touch each region.
    """

    z: npt.NDArray[np.float64]
    x_mm: npt.NDArray[np.float64]
    area_mm2: npt.NDArray[np.float64]
    below: list[list[int]]


def find_airway(
    air: Runs, slice_labels: npt.NDArray[np.int32], count: int, grid: Grid, middle_mm: float
) -> npt.NDArray[np.bool_]:
    """
    Regions that belong to the trachea and main bronchi.

    Parameters
    ----------
    air : Runs
        Dark voxels inside the body.
    slice_labels : ndarray of int32, shape (runs,)
        Their regions within each slice, 0 for those to pass over.
    count : int
        Highest region.
    grid : Grid
        Canonical grid, z toward the head.
    middle_mm : float
        Where the middle of the body lies along x, in millimetres from the first voxel.

    Returns
    -------
    ndarray of bool, shape (count + 1,)
        By region; all False if no trachea was found.
    """
    regions = _regions(air, slice_labels, count, grid)
    chosen = np.zeros(count + 1, np.bool_)
    central = np.abs(regions.x_mm - middle_mm) < OFF_CENTRE_MM
    low, high = TRACHEA_AREA_MM2
    candidates = np.flatnonzero(central & (regions.area_mm2 > low) & (regions.area_mm2 < high))
    best_length = SHORTEST_MM
    visited = np.zeros(count + 1, np.bool_)
    # From the head down: the trachea is followed from its highest region.
    for seed in candidates[np.argsort(-regions.z[candidates], kind="stable")]:
        if visited[seed]:
            continue
        trunk = _follow_trunk(int(seed), regions, high)
        visited[trunk] = True
        length = (regions.z[trunk[0]] - regions.z[trunk[-1]]) * grid.spacing_mm[0]
        # The first long one wins: deeper ones are vessels of air within the lung or bowel.
        if length > best_length:
            chosen[trunk] = True
            _follow_branches(trunk[-1], regions, chosen)
            break
    return chosen


def _regions(air: Runs, slice_labels: npt.NDArray[np.int32], count: int, grid: Grid) -> Regions:
    centre = moments(air, slice_labels, count)
    area = sizes(air, slice_labels, count) * (grid.spacing_mm[1] * grid.spacing_mm[2])
    below: list[list[int]] = [[] for _ in range(count + 1)]
    for lower, upper in contacts(air, slice_labels).tolist():
        below[upper].append(lower)
    with np.errstate(invalid="ignore"):
        return Regions(centre[:, 0], centre[:, 2] * grid.spacing_mm[2], area, below)


def _follow_trunk(seed: int, regions: Regions, largest_mm2: float) -> list[int]:
    """Downwards from `seed` while the way is one region of about the same size."""
    trunk = [seed]
    while True:
        area = regions.area_mm2[trunk[-1]]
        following = [
            region for region in regions.below[trunk[-1]] if regions.area_mm2[region] > 0.4 * area
        ]
        if len(following) != 1:
            return trunk
        next_area = regions.area_mm2[following[0]]
        if next_area > min(GROWTH * area + GROWTH_MM2, largest_mm2):
            return trunk
        trunk.append(following[0])


def _follow_branches(start: int, regions: Regions, chosen: npt.NDArray[np.bool_]) -> None:
    """Mark what continues below `start` as long as no branch suddenly grows into lung."""
    low, high = TRACHEA_AREA_MM2
    front = [(start, regions.area_mm2[start])]
    while front:
        region, area = front.pop()
        for following in regions.below[region]:
            next_area = regions.area_mm2[following]
            if chosen[following] or next_area > min(GROWTH * area + GROWTH_MM2, high / 2):
                continue
            if next_area > low / 2:
                chosen[following] = True
                # A branch may not grow back to the trunk's size step by step.
                front.append((following, min(area, next_area)))
