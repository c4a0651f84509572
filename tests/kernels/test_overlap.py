"""What masks have in common, where they lie, what of them was measured: against plain loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import labels_of, mask_of

from fastlung.kernels.bits import runs_at_most
from fastlung.kernels.intensity import noise_hu
from fastlung.kernels.labels import label, label_slices
from fastlung.kernels.overlap import (
    boxes,
    field_of_view,
    in_field,
    on_field_edge,
    overlap,
    overlaps,
)

shapes = st.tuples(st.integers(1, 4), st.integers(1, 6), st.sampled_from([1, 5, 65, 130]))


@st.composite
def volumes(draw):
    """Tissue, lung, air and padding in blocks along x, so that runs are of any length."""
    shape = draw(shapes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = rng.choice(np.array([-1024, -1000, -850, 40], np.int16), shape)
    return np.repeat(values, draw(st.integers(1, 40)), axis=2)[:, :, : shape[2]]


def masks():
    return volumes().map(lambda volume: volume <= -850)


def runs_of(mask):
    return runs_at_most(np.where(mask, -1, 1).astype(np.int16), 0)


@given(masks(), st.integers(0, 2**32))
def test_overlap_counts_common_voxels(mask, seed):
    other = np.random.default_rng(seed).random(mask.shape) < 0.5

    assert overlap(runs_of(mask), runs_of(other)) == np.count_nonzero(mask & other)


@given(masks())
def test_overlaps_of_neighbouring_slices(mask):
    runs = runs_of(mask)
    labels, _ = label_slices(runs, 4)
    labels = np.where(labels % 5 == 0, 0, labels).astype(np.int32)  # some are passed over
    truth = labels_of(runs, labels)

    pairs, voxels = overlaps(runs, labels)

    lower, upper = truth[:-1].ravel(), truth[1:].ravel()
    both = (lower > 0) & (upper > 0)
    touching = np.stack([lower[both], upper[both]], axis=1)
    expected, counts = np.unique(touching, axis=0, return_counts=True)
    np.testing.assert_array_equal(pairs, expected.reshape(-1, 2))
    np.testing.assert_array_equal(voxels, counts)


@given(masks())
def test_boxes_are_the_smallest(mask):
    runs = runs_of(mask)
    labels, count = label(runs, 6)
    truth = labels_of(runs, labels)

    found = boxes(runs, labels, count)

    assert not found[0].any()
    for number in range(1, count + 1):
        where = np.argwhere(truth == number)
        np.testing.assert_array_equal(found[number], [where.min(axis=0), where.max(axis=0) + 1])


@given(volumes(), st.sampled_from([np.int16, np.float32]))
def test_the_field_of_a_row_starts_and_ends_with_a_measured_voxel(volume, dtype):
    field = field_of_view(volume.astype(dtype), -1024.0)

    for row, (first, stop) in zip(volume.reshape(-1, volume.shape[2]), field, strict=True):
        measured = np.flatnonzero(row > -1024)
        expected = (measured[0], measured[-1] + 1) if measured.size else (0, 0)
        assert (first, stop) == expected


@given(volumes())
def test_what_lies_in_the_field_and_on_its_edge(volume):
    field = field_of_view(volume, -1024.0)
    x = np.arange(volume.shape[2])
    first, stop = (field[:, end].reshape(*volume.shape[:2], 1) for end in (0, 1))
    inside = (x >= first) & (x < stop)

    runs = in_field(runs_at_most(volume, -850.0), field)

    np.testing.assert_array_equal(mask_of(runs), (volume <= -850) & inside)
    edge = on_field_edge(runs, field)
    empty = np.pad(first[..., 0] == stop[..., 0], ((0, 0), (1, 1)), constant_values=True)
    rows = np.repeat(np.arange(runs.offsets.size - 1), np.diff(runs.offsets))
    for run, row in enumerate(rows):
        z, y = divmod(int(row), volume.shape[1])
        ends = runs.starts[run] == first[z, y, 0] or runs.stops[run] == stop[z, y, 0]
        assert edge[run] == (ends or empty[z, y] or empty[z, y + 2])


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("sigma_hu", [5.0, 50.0, 150.0])
def test_noise_of_tissue(dtype, sigma_hu):
    volume = np.random.default_rng(0).normal(40, sigma_hu, (4, 200, 300)).astype(dtype)
    volume[:, :, 150:] += 700  # an edge is no noise

    found = noise_hu(volume, runs_at_most(np.zeros(volume.shape, np.uint8), 0))

    assert found == pytest.approx(sigma_hu, rel=0.04)


def test_no_tissue_has_no_noise():
    nothing = runs_at_most(np.ones((2, 3, 4), np.uint8), 0)

    assert noise_hu(np.zeros((2, 3, 4), np.int16), nothing) == 0.0
