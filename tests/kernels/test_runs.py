"""Run-length rows and everything asked of them, against scikit-image and SciPy on voxels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from reference import ball_of, labels_of, mask_of
from scipy import ndimage

from fastlung.kernels import morphology
from fastlung.kernels.bits import runs_at_most
from fastlung.kernels.labels import fill_holes, label, label_slices
from fastlung.kernels.runs import (
    complement,
    difference,
    magnified,
    means,
    moments,
    on_plane_border,
    paint,
    paint_coarse,
    select,
    sizes,
    slice_sizes,
    union,
    within,
)

# Rows longer than a word of 64 voxels, and volumes of a single row or column.
shapes = st.tuples(st.integers(1, 4), st.integers(1, 6), st.sampled_from([1, 5, 64, 65, 130]))


@st.composite
def masks(draw, shape=shapes):
    """Blobs and noise: random voxels, smoothed or not, at any density."""
    size = draw(shape) if isinstance(shape, st.SearchStrategy) else shape
    noise = np.random.default_rng(draw(st.integers(0, 2**32))).random(size)
    if draw(st.booleans()):
        noise = ndimage.uniform_filter(noise, 3, mode="wrap")
    return noise < np.quantile(noise, draw(st.floats(0, 1)))


def runs_of(mask):
    return runs_at_most(np.where(mask, -1, 1).astype(np.int16), 0)


@given(
    hnp.arrays(
        st.sampled_from([np.int16, np.uint8, np.float32]),
        shapes,
        elements=st.integers(0, 100),
    ),
    st.integers(-1, 101),
)
def test_runs_hold_exactly_the_voxels_at_most_the_threshold(volume, threshold):
    runs = runs_at_most(volume, threshold)

    np.testing.assert_array_equal(mask_of(runs), volume <= threshold)
    # Runs of a row ascend and never touch, so there are as few as possible.
    for row in range(runs.offsets.size - 1):
        here = slice(runs.offsets[row], runs.offsets[row + 1])
        assert (runs.starts[here][1:] > runs.stops[here][:-1]).all()


@pytest.mark.parametrize("width", [1, 63, 64, 65, 127, 128, 200])
@pytest.mark.parametrize("threshold", [-1e9, -32768, -400.5, -400, 0, 32766.5, 32767, 1e9, np.inf])
def test_integers_are_compared_as_they_are(width, threshold):
    volume = np.random.default_rng(width).integers(-32768, 32768, (2, 3, width)).astype(np.int16)
    volume[0, 0, :1], volume[1, 2, -1:] = -32768, 32767
    volume[0, 1, : width // 2] = np.floor(np.clip(threshold, -32768, 32767))

    np.testing.assert_array_equal(mask_of(runs_at_most(volume, threshold)), volume <= threshold)


def test_nan_belongs_to_no_threshold():
    volume = np.array([[[np.nan, -1.0, 1.0, np.nan]]], np.float32)

    np.testing.assert_array_equal(mask_of(runs_at_most(volume, 0))[0, 0], [0, 1, 0, 0])


def test_the_noisiest_volume_fits():
    """One run for every other voxel: more than the first buffers hold."""
    volume = np.tile(np.array([-1, 1], np.int16), (3, 40, 100))

    assert runs_at_most(volume, 0).starts.size == 3 * 40 * 100


@given(masks(), st.integers(0, 2**32))
def test_set_operations(mask, seed):
    other = np.random.default_rng(seed).random(mask.shape) < 0.4
    a, b = runs_of(mask), runs_of(other)

    np.testing.assert_array_equal(mask_of(complement(a)), ~mask)
    np.testing.assert_array_equal(mask_of(union(a, b)), mask | other)
    np.testing.assert_array_equal(mask_of(difference(a, b)), mask & ~other)


@given(masks(), st.sampled_from([(6, 1), (18, 2), (26, 3)]))
def test_label_numbers_as_scipy_does(mask, connectivity):
    neighbours, rank = connectivity
    runs = runs_of(mask)

    labels, count = label(runs, neighbours)

    expected, expected_count = ndimage.label(mask, ndimage.generate_binary_structure(3, rank))
    assert count == expected_count
    np.testing.assert_array_equal(labels_of(runs, labels), expected)


@given(masks(), st.sampled_from([(4, 1), (8, 2)]))
def test_label_slices_joins_nothing_across_slices(mask, connectivity):
    neighbours, rank = connectivity
    runs = runs_of(mask)

    labels, count = label_slices(runs, neighbours)

    plane = ndimage.generate_binary_structure(2, rank)
    structure = np.stack([np.zeros_like(plane), plane, np.zeros_like(plane)])
    expected, expected_count = ndimage.label(mask, structure)
    assert count == expected_count
    np.testing.assert_array_equal(labels_of(runs, labels), expected)


@given(masks())
def test_measures_by_label(mask):
    runs = runs_of(mask)
    labels, count = label(runs, 6)
    volume = np.arange(mask.size, dtype=np.int16).reshape(mask.shape)
    truth = labels_of(runs, labels)
    index = np.arange(1, count + 1)

    assert sizes(runs, labels, count)[1:].tolist() == [(truth == i).sum() for i in index]
    if count:
        np.testing.assert_allclose(
            moments(runs, labels, count)[1:, :3], ndimage.center_of_mass(mask, truth, index)
        )
        np.testing.assert_allclose(
            means(runs, volume, labels, count)[1:], ndimage.mean(volume, truth, index)
        )
    inner = np.zeros(mask.shape, bool)
    inner[:, 1:-1, 1:-1] = True
    touching = [bool(((truth == i) & ~inner).any()) for i in index]
    assert on_plane_border(runs, labels, count)[1:].tolist() == touching


@given(masks())
def test_select_and_paint_write_only_what_was_chosen(mask):
    runs = runs_of(mask)
    labels, _ = label(runs, 26)
    volume = np.full(mask.shape, 9, np.uint8)

    chosen = select(runs, labels == 1)
    paint(chosen, np.full(chosen.starts.size, 5, np.uint8), volume)

    np.testing.assert_array_equal(volume, np.where(labels_of(runs, labels) == 1, 5, 9))


@given(masks(), st.integers(0, 140), st.integers(0, 140))
def test_within_keeps_some_columns(mask, left, right):
    found = within(runs_of(mask), left, right)

    columns = np.arange(mask.shape[2])
    np.testing.assert_array_equal(mask_of(found), mask & (columns >= left) & (columns < right))
    assert (found.starts < found.stops).all()


@given(masks(), st.tuples(*[st.integers(1, 4)] * 3))
def test_coarse_views_of_a_mask(mask, steps):
    runs = runs_of(mask)
    labels, _ = label(runs, 6)
    values = (labels % 200 + 1).astype(np.uint8)
    painted = np.zeros(mask.shape, np.uint8)
    paint(runs, values, painted)

    coarse = paint_coarse(runs, values, steps)
    blocks = mask_of(magnified(runs_of(coarse > 0), steps, mask.shape))

    every = tuple(slice(None, None, step) for step in steps)
    np.testing.assert_array_equal(coarse, painted[every])
    for axis, step in enumerate(steps):
        coarse = coarse.repeat(step, axis=axis)
    z, y, x = mask.shape
    np.testing.assert_array_equal(blocks, coarse[:z, :y, :x] > 0)
    assert slice_sizes(runs).tolist() == mask.sum(axis=(1, 2)).tolist()


@given(masks())
def test_fill_holes_as_scipy_does(mask):
    np.testing.assert_array_equal(
        mask_of(fill_holes(runs_of(mask))), ndimage.binary_fill_holes(mask)
    )


@given(
    masks(),
    st.sampled_from([(0.5, (1.0, 1.0, 1.0)), (2.0, (1.0, 1.0, 1.0)), (3.0, (2.5, 1.0, 0.6))]),
)
def test_morphology_with_a_ball_in_millimetres(mask, case):
    radius_mm, spacing_mm = case
    runs, element = runs_of(mask), morphology.ball(radius_mm, spacing_mm)
    structure = ball_of(radius_mm, spacing_mm)

    grown = ndimage.binary_dilation(mask, structure)
    np.testing.assert_array_equal(mask_of(morphology.dilate(runs, element)), grown)
    np.testing.assert_array_equal(
        mask_of(morphology.erode(runs, element)),
        ndimage.binary_erosion(mask, structure, border_value=1),
    )
    np.testing.assert_array_equal(
        mask_of(morphology.close(runs, element)),
        ndimage.binary_erosion(grown, structure, border_value=1),
    )


@pytest.mark.parametrize("width", [63, 64, 65, 128, 200])
def test_morphology_keeps_to_the_row(width):
    """A bit at the end of a row must not leak into the next word or row."""
    mask = np.zeros((1, 3, width), bool)
    mask[0, 1, [0, width - 1]] = True
    element = morphology.ball(2.0, (1.0, 1.0, 1.0))

    grown = mask_of(morphology.dilate(runs_of(mask), element))

    np.testing.assert_array_equal(
        grown, ndimage.binary_dilation(mask, ball_of(2.0, (1.0, 1.0, 1.0)))
    )
