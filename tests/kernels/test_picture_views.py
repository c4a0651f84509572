"""Planes, projections and greys of pictures against NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from fastlung.kernels.picture import brightest_along_y, grey_levels, plane_areas

shapes = st.tuples(*[st.integers(1, 7)] * 3)


@given(shapes, st.integers(0, 2**32))
def test_areas_count_labels_in_every_plane(shape, seed):
    mask = np.random.default_rng(seed).integers(0, 5, shape).astype(np.uint8)
    areas = [np.full(n, 9, np.int64) for n in shape]

    plane_areas(mask, 1, 2, *areas)

    lungs = (mask == 1) | (mask == 2)
    for axis, area in enumerate(areas):
        others = tuple(other for other in range(3) if other != axis)
        np.testing.assert_array_equal(area, lungs.sum(axis=others))


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.uint8])
@given(shape=shapes, seed=st.integers(0, 2**32))
def test_the_brightest_labelled_voxel_counts(dtype, shape, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 200, shape).astype(dtype)
    mask = rng.integers(0, 2, shape).astype(np.uint8)
    out = np.full((shape[0], shape[2]), 20, dtype)

    brightest_along_y(image, mask, out)

    expected = np.maximum(np.where(mask > 0, image, 0).max(axis=1), 20)
    np.testing.assert_array_equal(out, expected)


@given(st.integers(0, 2**32), st.sampled_from([8, 64]))
def test_greys_are_linear_between_voxels_and_clipped(seed, levels):
    rng = np.random.default_rng(seed)
    plane = rng.uniform(-1500, 400, rng.integers(1, 9, 2)).astype(np.float32)
    rows, columns = (rng.uniform(-1, n, 6).astype(np.float32) for n in plane.shape)
    out = np.full((6, 6), 255, np.uint8)

    grey_levels(plane, rows, columns, -1350.0, 150.0, levels, out)

    at = np.broadcast_arrays(rows[:, None], columns)
    value = ndimage.map_coordinates(plane.astype(float), at, order=1, mode="nearest")
    exact = np.clip((value + 1350) / 1500, 0, 1) * (levels - 1)
    assert np.abs(out - exact).max() <= 0.501
