"""Local means of a volume, compared with a threshold: what is dark for more than one voxel."""

import numpy as np

from fastlung.kernels.jit import njit

__all__ = ["mean_at_most"]


def mean_at_most(volume: np.ndarray, reach: tuple[int, int, int], threshold: float) -> np.ndarray:
    """
    Where the mean of a box of voxels is at or below a threshold.

    Parameters
    ----------
    volume : ndarray of int16 or float32, shape (z, y, x)
        Voxels, such as Hounsfield units.
    reach : tuple of int
        The box has ``2 * reach + 1`` voxels along ``(z, y, x)``; at a border only those inside.
    threshold : float
        In the units of `volume`.

    Returns
    -------
    ndarray of uint8, shape (z, y, x)
        0 where the mean is at or below it, 1 elsewhere: dark voxels for `runs_at_most`.

    Notes
    -----
    Sums run along: a slice enters and one leaves, then rows, then voxels, whatever the reach.
    """
    out = np.empty(volume.shape, np.uint8)
    if out.size:
        _compare_means(volume, *reach, float(threshold), out)
    return out


@njit(nogil=True, cache=True)
def _compare_means(volume, reach_z, reach_y, reach_x, threshold, out):
    depth, height, width = volume.shape
    slab = np.zeros((height, width), np.float32)
    row = np.empty(width, np.float32)
    slices = 0
    for z in range(-reach_z, depth):
        if z + reach_z < depth:
            slices += 1
            for y in range(height):
                for x in range(width):
                    slab[y, x] += np.float32(volume[z + reach_z, y, x])
        if z - reach_z - 1 >= 0:
            slices -= 1
            for y in range(height):
                for x in range(width):
                    slab[y, x] -= np.float32(volume[z - reach_z - 1, y, x])
        if z < 0:
            continue
        row[:] = 0.0
        rows = 0
        for y in range(-reach_y, height):
            if y + reach_y < height:
                rows += 1
                for x in range(width):
                    row[x] += slab[y + reach_y, x]
            if y - reach_y - 1 >= 0:
                rows -= 1
                for x in range(width):
                    row[x] -= slab[y - reach_y - 1, x]
            if y < 0:
                continue
            total = np.float32(0.0)
            voxels = 0
            for x in range(-reach_x, width):
                if x + reach_x < width:
                    total += row[x + reach_x]
                    voxels += 1
                if x - reach_x - 1 >= 0:
                    total -= row[x - reach_x - 1]
                    voxels -= 1
                if x >= 0:
                    out[z, y, x] = total > np.float32(threshold * voxels * rows * slices)
