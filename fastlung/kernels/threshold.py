"""A volume to the run-length rows of its dark voxels."""

import numpy as np

from fastlung.kernels.bits import bits_at_most, runs_of_bits
from fastlung.kernels.runs import Runs

__all__ = ["runs_at_most"]


def runs_at_most(volume: np.ndarray, threshold: float) -> Runs:
    """
    Run-length rows of the voxels at or below a threshold.

    Parameters
    ----------
    volume : ndarray of int16, float32 or uint8, shape (z, y, x), C-contiguous
        Voxels, such as Hounsfield units.
    threshold : float
        In the units of `volume`. NaN voxels never belong.

    Returns
    -------
    Runs
        Half-open runs ``[start, stop)`` along x, row by row.

    Notes
    -----
    By way of bit rows, in which sixty-four equal voxels are passed over at once: 0.010 s for 39
    million voxels, where comparing voxel by voxel took 0.05 s.
    """
    return runs_of_bits(volume.shape, bits_at_most(volume, threshold))
