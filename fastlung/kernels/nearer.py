"""Voxels shared between two cores by exact Euclidean distance."""

import numpy as np
from numba import njit

__all__ = ["share"]

#: Value of voxels that are to be shared; 1 and 2 are the cores.
UNDECIDED = 3
FAR = 32767


def share(volume: np.ndarray, spacing_mm: tuple[float, float, float]) -> None:
    """
    Give every undecided voxel to the nearer of two cores.

    Parameters
    ----------
    volume : ndarray of uint8, shape (z, y, x), C-contiguous
        1 and 2 where the cores are, 3 where a voxel is to be decided, 0 elsewhere. In place every 3
        becomes 1 or 2, or 0 where both are equally far.
    spacing_mm : tuple of float
        Spacing along ``(z, y, x)``, in millimetres.

    Notes
    -----
    The lower envelope of parabolas along each axis (Felzenszwalb and Huttenlocher, 2012). Distances
    along z are kept as counts of slices, those in the plane for one slice at a time: four bytes a
    voxel, where a distance transform of each core takes sixteen.
    """
    steps = np.full((2, *volume.shape), FAR, np.int16)
    _share(volume, steps, *spacing_mm)


@njit(nogil=True, cache=True)
def _share(volume, steps, spacing_z, spacing_y, spacing_x):
    depth, height, width = volume.shape
    for core in range(2):
        _count_slices(volume, core + 1, steps[core])
    squared = np.empty((2, height, width), np.float64)
    line = np.empty(max(height, width), np.float64)
    corners = np.empty(line.shape[0], np.int64)
    ends = np.empty(line.shape[0] + 1, np.float64)
    decided = np.empty((2, width), np.float64)
    for z in range(depth):
        if not (volume[z] == UNDECIDED).any():
            continue
        for core in range(2):
            for x in range(width):
                for y in range(height):
                    away = steps[core, z, y, x]
                    line[y] = np.inf if away == FAR else (away * spacing_z) ** 2
                _envelope(line[:height], spacing_y, corners, ends)
                squared[core, :, x] = line[:height]
        for y in range(height):
            if not (volume[z, y] == UNDECIDED).any():
                continue
            for core in range(2):
                decided[core] = squared[core, y]
                _envelope(decided[core], spacing_x, corners, ends)
            for x in range(width):
                if volume[z, y, x] == UNDECIDED:
                    first, second = decided[0, x], decided[1, x]
                    volume[z, y, x] = 1 if first < second else 2 if second < first else 0


@njit(nogil=True, cache=True)
def _count_slices(volume, core, steps):
    """Slices to the nearest voxel of a core straight above or below."""
    depth, height, width = volume.shape
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                if volume[z, y, x] == core:
                    steps[z, y, x] = 0
                elif z > 0 and steps[z - 1, y, x] != FAR:
                    steps[z, y, x] = steps[z - 1, y, x] + 1
    for z in range(depth - 2, -1, -1):
        for y in range(height):
            for x in range(width):
                above = steps[z + 1, y, x]
                if above != FAR and above + 1 < steps[z, y, x]:
                    steps[z, y, x] = above + 1


@njit(nogil=True, cache=True)
def _envelope(line, spacing, corners, ends):
    """Replace squared distances by ``min(line[v] + ((q - v) * spacing)**2)`` over all v."""
    count = 0
    for q in range(line.shape[0]):
        if line[q] == np.inf:
            continue
        start = -np.inf
        while count > 0:
            v = corners[count - 1]
            start = (line[q] - line[v]) / (2.0 * spacing * spacing * (q - v)) + 0.5 * (q + v)
            if start > ends[count - 1]:
                break
            count -= 1
            start = -np.inf
        corners[count] = q
        ends[count] = start
        count += 1
    if count == 0:
        return
    ends[count] = np.inf
    heights = line.copy()
    k = 0
    for q in range(line.shape[0]):
        while ends[k + 1] < q:
            k += 1
        v = corners[k]
        line[q] = heights[v] + ((q - v) * spacing) ** 2
