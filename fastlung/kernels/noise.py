"""How noisy solid tissue is."""

import numpy as np
from numba import njit

from fastlung.kernels.runs import Runs

__all__ = ["noise_hu"]

#: Voxels compared are this far apart: nearer ones share interpolated noise.
_APART = 3
#: Every so many rows are looked at; a tenth of the rows of a chest is still 100,000 voxels.
_EVERY = 11
#: Differences beyond this are edges.
_WIDEST_HU = 2000


def noise_hu(volume: np.ndarray, solid: Runs) -> float:
    """
    Standard deviation of the noise, from differences of near voxels.

    Parameters
    ----------
    volume : ndarray of int16 or float32, shape (z, y, x), C-contiguous
        Hounsfield units.
    solid : Runs
        Tissue; runs shorter than three centimetres or so add little but their edges.

    Returns
    -------
    float
        In Hounsfield units; 0 where there is no tissue. The median of the differences, which edges
        of organs do not move, over what it is for a normal distribution.
    """
    counts = np.zeros(_WIDEST_HU + 1, np.int64)
    rows = volume.reshape(-1, volume.shape[2])
    _count_differences(solid.offsets, solid.starts, solid.stops, rows, counts)
    total = int(counts.sum())
    if not total:
        return 0.0
    # Linear within the bin of the median, so that whole Hounsfield units do not show.
    below = np.cumsum(counts)
    bin_ = int(np.searchsorted(below, total / 2))
    inside = (total / 2 - (below[bin_] - counts[bin_])) / counts[bin_]
    median = max(0.0, bin_ - 0.5 + inside)
    return float(median / 0.6745 / np.sqrt(2.0))


@njit(nogil=True, cache=True)
def _count_differences(offsets, starts, stops, rows, counts):
    for row in range(0, rows.shape[0], _EVERY):
        for run in range(offsets[row], offsets[row + 1]):
            # The ends of a run are edges, blurred over a few voxels.
            for x in range(np.int64(starts[run]) + 5, np.int64(stops[run]) - 5 - _APART):
                difference = abs(np.float64(rows[row, x + _APART]) - np.float64(rows[row, x]))
                if difference < _WIDEST_HU:
                    counts[np.int64(difference + 0.5)] += 1
