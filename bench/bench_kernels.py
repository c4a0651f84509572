"""
Kernels beside what people use today, on one scan of a synthetic chest.

Each benchmark asserts the answer before the clock starts. Compare within one run only: the ratio
means something on a shared machine, the seconds do not.
"""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  (everybody does)
from reference import mask_of
from reference import tutorial_mask as scikit_image_mask
from scipy import ndimage

from fastlung.demo.phantom import phantom
from fastlung.kernels.labels import label
from fastlung.kernels.threshold import runs_at_most
from fastlung.mask import tutorial_mask
from fastlung.resampling import (
    aligned_targets,
    resample_between,
    sample_positions,
    target_grid,
)


@pytest.fixture(scope="module")
def chest():
    """A quarter of a usual scan, so that the slow rivals end in seconds."""
    return phantom((90, 256, 256), (3.6, 1.36, 1.36), noise_hu=60.0)


def fastlung_zoom(chest, order):
    new_grid = target_grid(chest.grid, (1.8, 1.0, 1.0), align="corners")
    targets = aligned_targets(chest.grid, new_grid)
    return resample_between(chest.hu, sample_positions(chest.grid), targets, order)


def scipy_zoom(chest, order):
    new_grid = target_grid(chest.grid, (1.8, 1.0, 1.0), align="corners")
    factors = np.divide(new_grid.shape, chest.grid.shape)
    return ndimage.zoom(chest.hu, factors, order=order, mode="nearest")


def simpleitk_zoom(chest, order):
    new_grid = target_grid(chest.grid, (1.8, 1.0, 1.0), align="corners")
    image = sitk.GetImageFromArray(chest.hu)
    image.SetSpacing(chest.grid.spacing_mm[::-1])
    interpolator = {1: sitk.sitkLinear, 3: sitk.sitkBSpline}[order]
    out = sitk.Resample(
        image, new_grid.shape[::-1], sitk.Transform(), interpolator, (0.0, 0.0, 0.0),
        new_grid.spacing_mm[::-1],
    )  # fmt: skip
    return sitk.GetArrayFromImage(out)


@pytest.mark.parametrize("order", [1, 3], ids=["linear", "cubic"])
@pytest.mark.parametrize("way", [fastlung_zoom, scipy_zoom, simpleitk_zoom])
def bench_resample(benchmark, chest, way, order):
    benchmark.group = f"resample, order {order}"
    inner = (slice(12, -12),) * 3  # SimpleITK treats edges otherwise
    expected = scipy_zoom(chest, order)[inner].astype(int)
    assert np.abs(way(chest, order)[inner] - expected).max() <= 2

    benchmark(way, chest, order)


@pytest.mark.parametrize("way", [tutorial_mask, scikit_image_mask])
def bench_tutorial_mask(benchmark, chest, way):
    benchmark.group = "mask of the tutorial"
    volume = scipy_zoom(chest, 1)
    np.testing.assert_array_equal(way(volume), tutorial_mask(volume))

    benchmark(way, volume)


def fastlung_label(volume):
    runs = runs_at_most(volume, -400)
    return runs, label(runs, 26)


def scipy_label(volume):
    return ndimage.label(volume <= -400, np.ones((3, 3, 3)))


@pytest.mark.parametrize("way", [fastlung_label, scipy_label])
def bench_label(benchmark, chest, way):
    benchmark.group = "threshold and label"
    runs, (_, count) = fastlung_label(chest.hu)
    np.testing.assert_array_equal(mask_of(runs), chest.hu <= -400)
    assert count == scipy_label(chest.hu)[1]

    benchmark(way, chest.hu)
