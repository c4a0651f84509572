"""
Rivals made with torch, which takes an environment of its own: ``nox -s bench-torch``.

One thread, as ours. Both resample to the very grid ours does, so that answers can be compared.
"""

from functools import cache, partial

import monai.transforms
import numpy as np
import torch
import torchio
from comparisons import Comparison, within_two_inside, zoom_of_a_part
from monai.data import MetaTensor
from scans import SCANS, Scan

__all__ = ["TORCH_COMPARISONS"]

torch.set_num_threads(1)


def _affine(grid):
    """Of (x, y, z) arrays with their first voxel at the origin."""
    return np.diag([*grid.spacing_mm[::-1], 1.0])


@cache
def _tensor(scan: Scan):
    """(1, x, y, z), as both want it."""
    return torch.from_numpy(np.ascontiguousarray(scan.hu.T[None]).astype(np.float32))


def torchio_resample(scan: Scan):
    wanted = scan.corner_grid
    like = torchio.ScalarImage(
        tensor=torch.zeros(1, *wanted.shape[::-1], dtype=torch.uint8), affine=_affine(wanted)
    )
    image = torchio.ScalarImage(tensor=_tensor(scan), affine=_affine(scan.grid))
    return torchio.Resample(like, image_interpolation="linear")(image).data


def monai_spacing(scan: Scan):
    spacing = monai.transforms.Spacing(
        pixdim=scan.corner_grid.spacing_mm[::-1], mode="bilinear", padding_mode="border",
        align_corners=True, dtype=torch.float32,
    )  # fmt: skip
    return spacing(MetaTensor(_tensor(scan), affine=torch.from_numpy(_affine(scan.grid))))


def agree(ours, theirs):
    within_two_inside(ours, np.rint(np.asarray(theirs)[0].T))


TORCH_COMPARISONS = tuple(
    Comparison(
        name="resample linear",
        scan=scan.name,
        ours=partial(scan.resampled, 1),
        yardstick=zoom_of_a_part,
        rivals={
            "TorchIO Resample": partial(torchio_resample, scan),
            "MONAI Spacing": partial(monai_spacing, scan),
        },
        agree=agree,
    )
    for scan in SCANS
)
