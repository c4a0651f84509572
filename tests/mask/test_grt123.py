"""`--preset grt123` and `--mask grt123` against a plain implementation of the same description."""

from dataclasses import replace

import numpy as np
import pytest
import reference_grt123
from raw_scans import CHESTS, raw_scan
from scipy import ndimage

import fastlung
from fastlung.config import build_config
from fastlung.demo.phantom import phantom
from fastlung.errors import ConfigError, LimitError
from fastlung.mask import grt123_mask
from fastlung.pipeline import process_scan
from fastlung.scan import Grid

pytestmark = pytest.mark.compiled


def assert_identical(hu, grid):
    """Mask of fastlung equal to the oracle's, voxel for voxel; returns the oracle's lungs."""
    lungs = reference_grt123.mask(hu, grid.spacing_mm)
    if lungs[1].any():
        lungs = sorted(lungs, key=lambda lung: np.argwhere(lung)[:, 2].mean())
    expected = np.zeros(hu.shape, np.uint8)
    for number, lung in enumerate(lungs, start=1):
        expected[lung] = number

    found = grt123_mask(hu, grid)

    np.testing.assert_array_equal(found.mask, expected)
    return lungs


@pytest.mark.parametrize(
    ("seed", "noise_hu", "spacing_mm"),
    [(0, 15.0, (4.0, 2.0, 2.0)), (1, 80.0, (4.0, 2.0, 2.0)), (2, 30.0, (6.0, 3.0, 2.5))],
)
def test_mask_of_phantoms(seed, noise_hu, spacing_mm):
    shape = tuple(
        round(extent / step) for extent, step in zip((240, 320, 320), spacing_mm, strict=True)
    )
    chest = phantom(shape, spacing_mm, seed=seed, noise_hu=noise_hu)

    lungs = assert_identical(chest.hu, chest.grid)

    # They smooth and threshold low, and close nothing: less than the truth.
    dice = 2 * np.count_nonzero((lungs[0] | lungs[1]) & (chest.labels > 0))
    dice /= np.count_nonzero(lungs[0] | lungs[1]) + np.count_nonzero(chest.labels > 0)
    assert dice > 0.8


def joined(chest, x_mm=6.0):
    """The phantom with a bridge of lung in front of the heart."""
    hu = chest.hu.copy()
    axes = zip(hu.shape, chest.grid.spacing_mm, strict=True)
    z, y, x = (np.arange(n) * s - (n - 1) * s / 2 for n, s in axes)
    bridge = (
        (np.abs(x) < 40) & (np.abs(y[:, None] + 62) < x_mm) & (np.abs(z[:, None, None] - 30) < 40)
    )
    hu[bridge] = -860
    return hu


def test_lungs_that_touch_are_parted_by_erosion(chest):
    lungs = assert_identical(joined(chest), chest.grid)

    assert all(lung.any() for lung in lungs)


def test_lungs_open_to_the_outside_are_found_once_slices_at_the_head_are_cleared(chest):
    """The trachea leaves the volume through a corner's air: nothing is lung until slices go."""
    hu = chest.hu.copy()
    hu[-3:] = -1000

    lungs = assert_identical(hu, chest.grid)

    assert lungs[0].any()


@pytest.mark.parametrize("fill", [-1000, 40, -600])
def test_without_lungs_the_mask_is_empty_and_flagged(fill):
    grid = Grid(shape=(6, 40, 44), spacing_mm=(5.0, 2.0, 2.0), origin_mm=(0.0, 0.0, 0.0))

    found = grt123_mask(np.full(grid.shape, fill, np.int16), grid)

    assert not found.mask.any()
    assert [flag.name for flag in found.flags] == ["no_lung"]


def test_constant_corners_make_a_circle(chest):
    """What is padded outside the scanner's circle is no lung, whatever its value."""
    _, y, x = np.indices(chest.hu.shape)
    outside = (y - 79.5) ** 2 + (x - 79.5) ** 2 >= 79.5**2

    lungs = assert_identical(np.where(outside, -3024, chest.hu).astype(np.int16), chest.grid)

    assert lungs[0].any()


@pytest.fixture(scope="module")
def chest():
    return phantom((60, 160, 160), (4.0, 2.0, 2.0))


def test_image_is_theirs_to_the_last_byte(chest):
    raw = raw_scan(chest.hu, chest.grid)
    lungs = reference_grt123.mask(chest.hu, chest.grid.spacing_mm)
    expected, low, whole = reference_grt123.image(chest.hu, chest.grid.spacing_mm, *lungs)

    result = process_scan(raw, build_config("grt123"))

    assert result.image.dtype == np.uint8
    assert result.crop == fastlung.Crop(offset=tuple(low), full_shape=tuple(whole))
    np.testing.assert_array_equal(result.image, expected)
    assert result.mask.shape == result.image.shape
    assert set(np.unique(result.mask)) == {0, 1, 2}
    # Where the crop lies in the patient: grey voxels outside, lung inside.
    centre = np.argwhere(result.mask == 1).mean(axis=0)
    there = chest.grid.to_index(result.grid.to_patient(centre))
    assert chest.labels[tuple(np.rint(there).astype(int))] == 1


def test_an_upside_down_series_gives_the_same(chest):
    """Stored head first and mirrored, the same patient: the same bytes."""
    flipped = np.ascontiguousarray(chest.hu[::-1, :, ::-1])
    corner = chest.grid.to_patient((59, 0, 159))
    grid = replace(
        chest.grid,
        origin_mm=tuple(corner.tolist()),
        direction=((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0)),
    )

    upright = process_scan(raw_scan(chest.hu, chest.grid), build_config("grt123"))
    turned = process_scan(raw_scan(flipped, grid), build_config("grt123"))

    np.testing.assert_array_equal(upright.image, turned.image)
    np.testing.assert_array_equal(upright.mask, turned.mask)


@pytest.mark.parametrize("mask", ["default", "tutorial", "none"])
def test_any_mask_goes_with_the_preset(chest, mask):
    crop = "none" if mask == "none" else "lungs"
    hu = chest.hu.copy()
    hu[:, 132:] = 40  # the tutorial's mask takes the air below the table for lung
    result = process_scan(raw_scan(hu, chest.grid), build_config("grt123", mask=mask, crop=crop))

    grey = result.image == 170
    assert (grey.mean() > 0.2) == (mask != "none")
    if mask != "none":
        assert not grey[ndimage.binary_erosion(result.mask > 0, iterations=3)].all()


@pytest.mark.parametrize("preset", ["hu", "tutorial", "luna16-monai", "lungmask"])
def test_the_mask_and_a_crop_go_with_any_preset(chest, preset):
    config = build_config(preset, mask="grt123", crop="lungs", margin_mm=10, spacing_mm=3.0)

    result = process_scan(raw_scan(chest.hu, chest.grid), config)

    inside = np.argwhere(result.mask)
    assert set(np.unique(result.mask)) == {0, 1, 2}
    full = np.subtract(result.crop.full_shape, np.add(result.crop.offset, result.grid.shape))
    margins = inside.min(axis=0), np.subtract(result.grid.shape, 1) - inside.max(axis=0)
    for margin, room in zip(margins, (result.crop.offset, full), strict=True):
        assert ((margin == 4) | (np.array(room) == 0)).all()


def test_a_scan_without_lungs_is_kept_whole(chest):
    solid = np.full_like(chest.hu, 40)

    result = process_scan(raw_scan(solid, chest.grid), build_config("grt123"))

    assert [flag.name for flag in result.flags] == ["not_chest", "no_lung", "not_cropped"]
    assert result.crop is None
    assert set(np.unique(result.image)) == {int((40 + 1200) / 1800 * 255)}


def test_a_size_is_filled_up_with_their_grey(chest):
    raw = raw_scan(chest.hu, chest.grid)
    plain = process_scan(raw, build_config("grt123", spacing_mm=2.0))

    result = process_scan(raw, build_config("grt123", spacing_mm=2.0, size=(150, 160, 170)))

    assert result.image.shape == result.mask.shape == (150, 160, 170)
    assert result.image[0, 0, 0] == result.image[-1, -1, -1] == 170
    assert np.count_nonzero(result.mask) == np.count_nonzero(plain.mask)
    shift = np.subtract(result.crop.offset, plain.crop.offset)
    np.testing.assert_allclose(result.grid.to_patient((0, 0, 0)), plain.grid.to_patient(shift))


def test_an_absurd_output_is_refused(chest):
    with fastlung.limited(output_voxels=1000), pytest.raises(LimitError, match="coarser"):
        process_scan(raw_scan(chest.hu, chest.grid), build_config("grt123"))


@pytest.mark.parametrize("wrong", [{"order": 3}, {"dtype": "float32"}, {"crop": "body"}])
def test_what_the_preset_fixes_is_said(wrong):
    with pytest.raises(ConfigError, match="grt123"):
        build_config("grt123", **wrong)


@pytest.mark.data
@pytest.mark.parametrize("name", CHESTS)
def test_real_chests(data_dir, name):
    """Every third row and column, that the oracle takes seconds: mask and image identical."""
    raw = fastlung.read_series(data_dir / "chest" / name)
    z, y, x = raw.grid.spacing_mm
    stored = np.ascontiguousarray(raw.stored[:, ::3, ::3])
    grid = replace(raw.grid, shape=stored.shape, spacing_mm=(z, 3 * y, 3 * x))
    thin = replace(raw, stored=stored, grid=grid)
    hu, grid = fastlung.to_hu(thin, replace_padding=False)

    lungs = assert_identical(hu, grid)

    expected, low, _ = reference_grt123.image(hu, grid.spacing_mm, *lungs)
    result = process_scan(thin, build_config("grt123"))
    assert result.crop.offset == tuple(low)
    np.testing.assert_array_equal(result.image, expected)
