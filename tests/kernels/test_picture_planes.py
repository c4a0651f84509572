"""What grt123's method asks of slices and bytes, against scikit-image and SciPy."""

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from skimage import measure, morphology

from fastlung.kernels.bits import runs_at_most
from fastlung.kernels.labels import label_slices, share
from fastlung.kernels.picture import eccentricities, slice_hulls, smoothed_below
from fastlung.kernels.resample import zoom_bytes

seeds = st.integers(0, 2**32)


@given(seeds, st.booleans())
def test_smoothing_is_scipys_gaussian(seed, circle):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 14))
    volume = rng.integers(-1100, 100, (2, size, size)).astype(np.int16)
    weights = np.exp(-0.5 * np.arange(-2, 3) ** 2)
    weights = (weights / weights.sum())[2:]
    light = np.empty(volume.shape, np.uint8)

    smoothed_below(volume, weights, -600.0, np.array([circle, False]), light)

    y, x = np.indices((size, size)) + 0.5 - size / 2
    for z, plane in enumerate(volume.astype(np.float32)):
        if circle and z == 0:
            plane[np.hypot(y, x) >= size / 2] = np.nan
        expected = ndimage.gaussian_filter(plane, 1, truncate=2.0) < -600
        np.testing.assert_array_equal(light[z] == 0, expected)


@given(seeds, st.integers(0, 3))
def test_hulls_are_scikit_images(seed, sparse):
    rng = np.random.default_rng(seed)
    shape = (3, int(rng.integers(1, 14)), int(rng.integers(1, 14)))
    mask = rng.random(shape) < 0.5 / 4**sparse

    found = reference.mask_of(slice_hulls(runs_at_most((~mask).astype(np.uint8), 0)))

    for plane, hull in zip(mask, found, strict=True):
        expected = morphology.convex_hull_image(plane) if plane.any() else plane
        np.testing.assert_array_equal(hull, expected)


@given(seeds)
def test_eccentricities_are_scikit_images(seed):
    image = ndimage.uniform_filter(np.random.default_rng(seed).normal(0, 9, (2, 20, 24)), 3)
    runs = runs_at_most(image.astype(np.float32), 0)
    labels, count = label_slices(runs, 8)

    found = eccentricities(runs, labels, count)

    volume = reference.labels_of(runs, labels)
    for plane in volume:
        for region in measure.regionprops(plane):
            assert found[region.label] == pytest.approx(region.eccentricity, abs=1e-6)


@given(seeds)
def test_voxels_go_to_the_nearer_core(seed):
    rng = np.random.default_rng(seed)
    spacing_mm = tuple(rng.uniform(0.5, 5.0, 3))
    volume = rng.choice([0, 3, 3, 3, 3, 3, 1, 2], (5, 8, 9)).astype(np.uint8)
    volume[0, 0, :2] = 1, 2
    away = [ndimage.distance_transform_edt(volume != core, sampling=spacing_mm) for core in (1, 2)]
    expected = np.where(away[0] < away[1], 1, np.where(away[0] > away[1], 2, 0))
    expected = np.where(volume == 3, expected, volume)

    share(volume, spacing_mm)

    np.testing.assert_array_equal(volume, expected)


@given(seeds)
def test_zoomed_bytes_are_scipys(seed):
    rng = np.random.default_rng(seed)
    shape, wanted = rng.integers(1, 9, 3), rng.integers(2, 14, 3)
    volume = rng.integers(0, 256, shape).astype(np.uint8)
    at = [np.arange(n) * ((m - 1) / (n - 1)) for n, m in zip(wanted, shape, strict=True)]
    out = np.empty(wanted, np.uint8)

    zoom_bytes(volume, *at, out)

    expected = ndimage.zoom(volume, wanted / shape, order=1, mode="nearest")
    np.testing.assert_array_equal(out, expected)
