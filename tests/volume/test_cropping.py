"""Boxes around lungs and body, and the pipeline's crop: the same voxels at the same points."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from raw_scans import raw_scan

from fastlung.config import build_config
from fastlung.demo.phantom import phantom
from fastlung.errors import ConfigError
from fastlung.pipeline import process_scan
from fastlung.scan import Grid
from fastlung.volume.orientation import Box, box_of_body, box_of_lungs, cut_array, cut_grid, widened

GRID = Grid(
    shape=(9, 10, 11),
    spacing_mm=(2.0, 1.0, 0.5),
    origin_mm=(-5.0, 6.0, -7.0),
    direction=((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)),
)


@pytest.fixture(scope="module")
def chest():
    return phantom((40, 60, 70), (6.0, 5.0, 5.0))


@given(hnp.arrays(np.uint8, (5, 6, 7), elements=st.integers(0, 2), fill=st.just(0)))
def test_the_box_of_lungs_is_the_smallest_around_all_labels(mask):
    box = box_of_lungs(mask)
    if not mask.any():
        assert box is None
        return
    index = np.argwhere(mask)
    assert box.first == tuple(index.min(axis=0))
    assert box.stop == tuple(index.max(axis=0) + 1)


def test_the_airway_is_outside_the_box_of_lungs():
    mask = np.zeros((6, 7, 8), np.uint8)
    mask[1:3, 2:4, 3:5] = 2
    mask[1:6, 1, 3] = 3

    assert box_of_lungs(mask) == Box((1, 2, 3), (3, 4, 5))


def test_the_box_of_the_body_leaves_out_the_table():
    hu = np.full((6, 20, 20), -1000, np.int16)
    hu[1:5, 3:9, 4:16] = 40
    hu[2:4, 5:7, 6:9] = -850  # a lung
    hu[:, 12, :] = 100  # a table, thin and long
    assert box_of_body(hu) == Box((1, 3, 4), (5, 9, 16))
    assert box_of_body(np.full((3, 3, 3), -1000, np.int16)) is None


def test_margins_are_millimetres_and_end_with_the_volume():
    box = Box((4, 4, 4), (5, 5, 5))
    assert widened(box, 0.0, GRID) == box
    assert widened(box, 1.5, GRID) == Box((3, 2, 1), (6, 7, 8))
    assert widened(box, 100.0, GRID) == Box((0, 0, 0), GRID.shape)


def test_voxels_keep_their_points():
    volume = np.arange(9 * 10 * 11).reshape(GRID.shape)
    box = Box((1, 2, 3), (8, 9, 10))
    part, grid = cut_array(volume, box), cut_grid(GRID, box)
    assert part.shape == grid.shape == (7, 7, 7)
    assert part.flags.c_contiguous
    for index in np.random.default_rng(0).integers(0, 7, (20, 3)):
        whole = np.rint(GRID.to_index(grid.to_patient(index))).astype(int)
        assert volume[tuple(whole)] == part[tuple(index)]


@pytest.mark.parametrize("crop", ["lungs", "body"])
def test_the_pipeline_keeps_a_part_and_says_which(chest, crop):
    raw = raw_scan(chest.hu, chest.grid)
    whole = process_scan(raw, build_config(spacing_mm=6.0))
    result = process_scan(raw, build_config(spacing_mm=6.0, crop=crop, margin_mm=12.0))

    kept = tuple(
        slice(first, first + n)
        for first, n in zip(result.crop.offset, result.grid.shape, strict=True)
    )
    assert result.crop.full_shape == whole.grid.shape
    assert result.image.size < whole.image.size
    np.testing.assert_array_equal(result.image, whole.image[kept])
    np.testing.assert_array_equal(result.mask, whole.mask[kept])
    assert np.count_nonzero(result.mask) == np.count_nonzero(whole.mask)
    np.testing.assert_allclose(
        result.grid.to_patient((0, 0, 0)), whole.grid.to_patient(result.crop.offset), atol=1e-9
    )
    assert (result.figures, result.flags) == (whole.figures, whole.flags)
    if crop == "lungs":  # two voxels of margin, and then lung
        assert not result.mask[:2].any()
        assert result.mask[2].any()


def test_a_scan_without_lungs_is_kept_whole_and_flagged():
    block = np.full((20, 40, 40), 40, np.int16)
    grid = Grid(shape=block.shape, spacing_mm=(5.0, 5.0, 5.0), origin_mm=(0.0, 0.0, 0.0))
    result = process_scan(raw_scan(block, grid), build_config(spacing_mm=5.0, crop="lungs"))
    assert result.crop is None
    assert result.image.shape == block.shape
    assert [flag.name for flag in result.flags] == ["not_chest", "no_lung", "not_cropped"]
    assert "no lungs found" in result.flags[2].text


def test_a_body_is_found_without_a_mask(chest):
    config = build_config(spacing_mm=6.0, crop="body", mask="none", window_hu=(-1000, 400))
    result = process_scan(raw_scan(chest.hu, chest.grid), config)
    assert result.mask is None
    assert result.crop is not None
    assert result.image.shape == result.grid.shape
    assert result.image.dtype == np.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": "lungs", "mask": "none"}, "needs a mask to find them"),
        ({"margin_mm": 3.0}, "margin_mm needs a crop"),
        ({"crop": "body", "margin_mm": -1.0}, "margin_mm"),
    ],
)
def test_crops_that_make_no_sense(options, message):
    with pytest.raises(ConfigError, match=message):
        build_config(**options)


def test_the_margin_follows_the_crop():
    assert build_config().margin_mm == 0.0
    assert build_config(crop="lungs").margin_mm == 5.0
    assert build_config(crop="lungs").digest == build_config(crop="lungs", margin_mm=5.0).digest
