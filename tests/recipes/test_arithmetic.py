"""The steps that models need, against each author's arithmetic written out plainly."""

from dataclasses import replace

import numpy as np
import pytest
from raw_scans import raw_scan
from scipy import ndimage

import fastlung
from fastlung.config import build_config
from fastlung.errors import ConfigError, LimitError
from fastlung.pipeline import process_scan
from fastlung.presets import PRESETS
from fastlung.scan import Grid

pytestmark = pytest.mark.compiled


def noise(shape=(9, 14, 17), spacing_mm=(2.0, 0.75, 0.75)):
    """Numbers without any symmetry, and where they lie."""
    hu = np.random.default_rng(3).integers(-1024, 1500, shape).astype(np.int16)
    return hu, Grid(shape=shape, spacing_mm=spacing_mm, origin_mm=(5.0, -6.0, 7.0))


def made(hu, grid, *steps, axes="SPL"):
    raw = raw_scan(hu, grid)
    keep = [{"do": "hu", "padding": "keep"}, {"do": "orient", "axes": axes}]
    return process_scan(raw, build_config(recipe=[*keep, *steps]))


def linear(hu, *indices):
    """Trilinear interpolation at fractional indices, edges repeated."""
    at = np.meshgrid(*indices, indexing="ij")
    return ndimage.map_coordinates(hu.astype(float), at, order=1, mode="nearest")


def test_monai_spacing_counts_steps_and_one_to_the_even_number():
    hu, grid = noise(shape=(9, 14, 16))  # 15 steps of 0.75 are 7.5 of 1.5 mm
    step = {"do": "resample", "spacing_mm": [2.0, 0.75, 1.5], "order": 1, "align": "first"}

    result = made(hu, grid, {**step, "count": "monai"}, axes="RAS")

    shape = np.round((np.array(hu.shape) - 1) * [1, 1, 0.5] + 1).astype(int)
    assert result.image.shape == tuple(shape)
    assert made(hu, grid, step, axes="RAS").image.shape[2] == shape[2] + 1
    # RAS begins at our last column and row.
    columns = 15 - np.arange(shape[2]) * 2.0
    expected = linear(hu, np.arange(9), np.arange(14), columns)
    np.testing.assert_allclose(result.image[:, :, ::-1], expected, atol=0.5)


def test_torchio_takes_the_floor_and_centres_it():
    hu, grid = noise()

    result = made(
        hu, grid,
        {"do": "resample", "spacing_mm": [3.0, 1.0, 2.0], "order": 1, "count": "floor"},
    )  # fmt: skip

    shape = [int(n * s // t) for n, s, t in zip(hu.shape, grid.spacing_mm, (3, 1, 2), strict=True)]
    assert list(result.image.shape) == shape
    indices = [
        ((n - 1) * s / 2 + (np.arange(m) - (m - 1) / 2) * t) / s
        for n, m, s, t in zip(hu.shape, shape, grid.spacing_mm, (3, 1, 2), strict=True)
    ]
    np.testing.assert_allclose(result.image, linear(hu, *indices), atol=0.501)


@pytest.mark.parametrize("shape", [None, ["keep", 7, 40]])
def test_torch_interpolate_goes_from_edge_to_edge(shape):
    hu, grid = noise()
    wanted = {"spacing_mm": [1.5, 1.0, 0.6]} if shape is None else {"shape": shape}

    result = made(
        hu, grid,
        {"do": "resample", "order": 1, "align": "extent", "count": "floor"} | wanted,
    )  # fmt: skip

    n_out = [int(9 * 2.0 / 1.5), int(14 * 0.75 / 1.0), int(17 * 0.75 / 0.6)]
    n_out = n_out if shape is None else [9, 7, 40]
    assert list(result.image.shape) == n_out
    indices = [(np.arange(m) + 0.5) * n / m - 0.5 for n, m in zip(hu.shape, n_out, strict=True)]
    np.testing.assert_allclose(result.image, linear(hu, *indices), atol=0.501)
    extent = np.multiply(result.grid.spacing_mm, n_out)
    np.testing.assert_allclose(extent, np.multiply(grid.spacing_mm, hu.shape))


@pytest.mark.parametrize(("positions", "slices"), [("true", 14), ("even", 10)])
def test_a_gap_is_kept_unless_positions_are_said_to_be_even(positions, slices):
    hu, grid = noise(shape=(10, 12, 12), spacing_mm=(3.0, 1.0, 1.0))
    z_mm = np.r_[0.0:24.0:3.0, 36.0, 39.0]  # 12 mm without a slice
    step = {"do": "resample", "spacing_mm": [3.0, 1.0, 1.0], "order": 1, "align": "first"}

    raw = raw_scan(hu, grid, slice_positions_mm=z_mm)
    result = process_scan(raw, build_config(recipe=[{**step, "positions": positions}]))

    assert result.image.shape[0] == slices
    np.testing.assert_array_equal(result.image[-2:], hu[-2:])


def test_clipping_before_interpolation_is_not_clipping_after():
    hu, grid = noise()
    clip = {"do": "clip", "low_hu": -300.0, "high_hu": 200.0}
    step = {"do": "resample", "spacing_mm": [1.3, 0.5, 0.5], "order": 1}

    before = made(hu, grid, clip, step).image
    after = made(hu, grid, step, clip).image

    clipped = np.clip(hu, -300, 200).astype(np.int16)
    np.testing.assert_array_equal(before, made(clipped, grid, step).image)
    np.testing.assert_array_equal(after, np.clip(made(hu, grid, step).image, -300, 200))
    assert (before != after).any()


@pytest.mark.parametrize("axes", ["SPL", "RAS"])
@pytest.mark.parametrize("odd", ["before", "after", "monai"])
def test_the_odd_voxel_goes_where_the_author_says(axes, odd):
    hu, grid = noise(shape=(9, 14, 17))
    size = np.array([4, 9, 12])

    image = made(
        hu, grid, {"do": "crop", "to": "centre", "size": size.tolist(), "odd": odd}, axes=axes
    ).image

    order = hu if axes == "SPL" else hu[:, ::-1, ::-1]  # y and x run against RAS
    cut = np.array(hu.shape) - size
    first = {
        "before": -(-cut // 2),
        "after": cut // 2,
        "monai": np.array(hu.shape) // 2 - size // 2,
    }[odd]
    expected = order[tuple(slice(f, f + n) for f, n in zip(first, size, strict=True))]
    found = image if axes == "SPL" else image[:, ::-1, ::-1]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("odd", "before"), [("before", 3), ("after", 2)])
def test_padding_is_put_around_and_known_to_the_grid(odd, before):
    hu, grid = noise()

    result = made(
        hu, grid, {"do": "pad", "size": [14, 1, 1], "value": "minimum", "odd": odd}
    )  # fmt: skip

    expected = np.pad(hu, ((before, 5 - before), (0, 0), (0, 0)), constant_values=hu.min())
    np.testing.assert_array_equal(result.image, expected)
    np.testing.assert_allclose(result.grid.to_patient((before, 0, 0)), grid.origin_mm)
    assert result.crop.offset == (-before, 0, 0)


def test_foreground_is_what_lies_above_with_a_margin_inside_the_volume():
    hu = np.full((9, 14, 17), -1000, np.int16)
    hu[1, 5:8, 4] = 30
    hu[3, 6, 10:12] = 1
    _, grid = noise()

    image = made(
        hu, grid, {"do": "crop", "to": "foreground", "above": 0.0, "margin_voxels": 2}
    ).image

    np.testing.assert_array_equal(image, hu[0:6, 3:10, 2:14])


def test_what_is_outside_the_lungs_can_be_painted():
    hu, grid = noise(shape=(6, 40, 44))

    result = made(hu, grid, {"do": "mask", "method": "tutorial", "outside_hu": -1024.0})

    outside = result.mask == 0
    assert (result.image[outside] == -1024).all()
    np.testing.assert_array_equal(result.image[~outside], hu[~outside])


def test_channels_are_windows_of_the_same_voxels_in_the_models_order():
    hu, grid = noise()
    windows = [[-1024.0, 1024.0], [-135.0, 215.0], [0.0, 80.0]]

    image = fastlung.load_for(
        raw_scan(hu, grid),
        [
            {"do": "orient", "axes": "RAS"},
            {"do": "channels", "windows_hu": windows, "to": [0, 255]},
        ],
    )

    assert image.shape == (3, 17, 14, 9)
    turned = hu.transpose(2, 1, 0)[::-1, ::-1].astype(float)
    for channel, (low, high) in zip(image, windows, strict=True):
        expected = np.clip((turned - low) / (high - low), 0, 1) * 255
        np.testing.assert_allclose(channel, expected, atol=1e-3)


def test_patches_follow_one_another_along_the_last_axis():
    hu, grid = noise(shape=(4, 6, 8))

    patches = fastlung.load_for(
        raw_scan(hu, grid),
        [{"do": "orient", "axes": "RAS"}, {"do": "patches", "size": [2, 3, 4]}],
    )

    turned = hu.transpose(2, 1, 0)[::-1, ::-1]
    assert patches.shape == (8, 1, 4, 3, 2)
    np.testing.assert_array_equal(patches[1, 0], turned[:4, :3, 2:])
    np.testing.assert_array_equal(patches[2, 0], turned[:4, 3:, :2])
    np.testing.assert_array_equal(patches[4, 0], turned[4:, :3, :2])


def test_patches_that_do_not_fill_the_volume_are_refused():
    hu, grid = noise()

    with pytest.raises(ConfigError, match="crop it to a multiple"):
        fastlung.load_for(raw_scan(hu, grid), [{"do": "patches", "size": [2, 3, 4]}])


def test_a_padding_beyond_the_limit_is_refused():
    hu, grid = noise()

    with fastlung.limited(output_voxels=5000), pytest.raises(LimitError, match="coarser"):
        made(hu, grid, {"do": "pad", "size": [4000, 4000, 4000]})


def test_a_mask_found_before_is_interpolated_along():
    hu, grid = noise(shape=(6, 40, 44))
    resample = {"do": "resample", "spacing_mm": [2.0, 1.5, 1.5], "order": 1}

    result = made(hu, grid, {"do": "mask", "method": "tutorial"}, resample)

    assert result.mask.shape == result.image.shape
    assert set(np.unique(result.mask)) <= {0, 1}


@pytest.mark.parametrize(
    "preset", [name for name in PRESETS if name not in ("nnunet-ct", "grt123")]
)
def test_a_recipe_gives_the_same_for_a_patient_stored_upside_down(preset):
    """Head first and mirrored, the same patient: the same array for the model."""
    hu, grid = noise(shape=(12, 30, 34), spacing_mm=(6.0, 5.0, 5.0))
    corner = tuple(grid.to_patient((11, 0, 33)).tolist())
    mirrored = replace(
        grid, origin_mm=corner, direction=((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0))
    )

    upright = fastlung.load_for(raw_scan(hu, grid), preset)
    turned = fastlung.load_for(raw_scan(np.ascontiguousarray(hu[::-1, :, ::-1]), mirrored), preset)

    assert upright.shape == turned.shape
    np.testing.assert_allclose(upright, turned, atol=1.01 * np.ptp(upright) / 1000)
