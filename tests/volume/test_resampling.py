"""Banded resampling against SciPy, and the laws of the grids."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import interpolate, zoom
from scipy import ndimage

from fastlung.kernels.resample import LANES
from fastlung.scan import Grid
from fastlung.volume.bands import Samples, axis_band, sample_positions, samples_of, smoothing_mm
from fastlung.volume.resampling import aligned_targets, resample, resample_between, target_grid

#: A cubic band drops weights below 1e-4: of values up to 1000 HU a few tenths remain.
DROPPED_HU = 0.3

lengths = st.integers(1, 9)
spacings = st.sampled_from([0.4, 0.68, 1.0, 1.8, 2.5, 5.0])
orders = st.sampled_from([0, 1, 3])


def grid_of(shape, spacing_mm=(1.0, 1.0, 1.0)):
    return Grid(shape=shape, spacing_mm=spacing_mm, origin_mm=(-10.0, 20.0, 30.0))


def noise(shape, seed=0, dtype=np.int16):
    return np.random.default_rng(seed).integers(-1000, 1000, shape).astype(dtype)


@settings(max_examples=40)
@given(
    st.tuples(lengths, lengths, lengths), st.tuples(spacings, spacings, spacings), orders,
    st.integers(0, 2**32),
)  # fmt: skip
def test_resample_equals_scipy_interpolators(shape, spacing_mm, order, seed):
    volume = noise(shape, seed, np.float32)
    grid = grid_of(shape, spacing_mm)

    out, new_grid = resample(volume, grid, 1.3, order=order)

    targets = aligned_targets(grid, new_grid)
    expected = interpolate(volume, sample_positions(grid), targets, order)
    np.testing.assert_allclose(out, expected, atol=3 * DROPPED_HU if order == 3 else 1e-3)


@settings(max_examples=25)
@given(st.integers(2, 24), st.integers(2, 40), st.integers(0, 2**32))
def test_irregular_positions_are_interpolated_where_they_are(n_in, n_out, seed):
    rng = np.random.default_rng(seed)
    z_mm = np.cumsum(rng.uniform(0.5, 4.0, n_in))
    volume = noise((n_in, 2, 2), seed, np.float32)
    wanted = np.linspace(z_mm[0] - 1, z_mm[-1] + 1, n_out)
    plane = np.arange(2.0)

    for order, tolerance in ((0, 0), (1, 1e-3), (3, 4 * DROPPED_HU)):
        samples = Samples((z_mm, plane, plane), np.zeros((1, 2)))
        out = resample_between(volume, samples, (wanted, plane, plane), order)
        expected = interpolate(volume, (z_mm, plane, plane), (wanted, plane, plane), order)
        np.testing.assert_allclose(out, expected, atol=tolerance)


@pytest.mark.parametrize("shape", [(11, 40, 23), (7, 9, 70)])
@pytest.mark.parametrize("order", [1, 3])
def test_corner_aligned_grid_is_scipy_zoom(shape, order):
    volume = noise(shape)
    grid = grid_of(shape, (1.9, 0.7, 0.8))
    new_grid = target_grid(grid, (1.0, 1.0, 1.0), align="corners")

    targets = aligned_targets(grid, new_grid)
    out = resample_between(volume, samples_of(grid), targets, order)

    np.testing.assert_allclose(out, zoom(volume, new_grid.shape, order), atol=0.5 + DROPPED_HU)


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32])
@pytest.mark.parametrize("order", [0, 1, 3])
def test_same_grid_is_identity(dtype, order):
    volume = np.abs(noise((5, LANES + 3, 6))).astype(dtype)

    out, _ = resample(volume, grid_of(volume.shape), 1.0, order=order)

    assert out.dtype == dtype
    np.testing.assert_array_equal(out, volume)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_a_constant_stays_constant(order):
    volume = np.full((4, 5, 6), -1024, np.int16)

    out, _ = resample(volume, grid_of(volume.shape, (2.5, 0.6, 0.7)), 1.0, order=order)

    assert (out == -1024).all()


def test_integers_saturate_where_a_spline_overshoots():
    volume = np.zeros((1, 1, 12), np.uint8)
    volume[..., 6:] = 255

    out, _ = resample(volume, grid_of(volume.shape), (1.0, 1.0, 0.3), order=3)

    # Unsaturated, the overshoot of about 9 % would wrap around to dark.
    assert out[0, 0, :12].max() < 50
    assert out[0, 0, -12:].min() > 200


def test_flipping_the_input_flips_the_output():
    volume = noise((6, 7, 8))
    grid = grid_of(volume.shape, (1.7, 0.9, 0.6))

    out, _ = resample(volume, grid, 1.0)
    flipped, _ = resample(volume[::-1, ::-1, ::-1], grid, 1.0)

    np.testing.assert_allclose(flipped[::-1, ::-1, ::-1], out, atol=1)


@given(
    st.tuples(lengths, lengths, lengths), st.tuples(spacings, spacings, spacings),
    st.tuples(spacings, spacings, spacings),
)  # fmt: skip
def test_centred_grid_has_exact_spacing_and_the_same_centre(shape, spacing_mm, wanted_mm):
    grid = grid_of(shape, spacing_mm)

    new = target_grid(grid, wanted_mm)

    assert new.spacing_mm == wanted_mm
    ratio = np.multiply(shape, spacing_mm) / wanted_mm
    exact = np.round(np.round(ratio, 9))  # 7 x 1.8 / 0.4 is 31.5
    assert new.shape == tuple(np.maximum(1, exact).astype(int).tolist())
    np.testing.assert_allclose(
        new.to_patient(np.subtract(new.shape, 1) / 2), grid.to_patient(np.subtract(shape, 1) / 2)
    )


def test_a_voxel_keeps_its_place_in_the_patient():
    """A bright blob lies at one patient point before and after, on an oblique grid too."""
    cos, sin = np.cos(np.radians(20)), np.sin(np.radians(20))
    direction = ((cos, 0.0, sin), (0.0, 1.0, 0.0), (-sin, 0.0, cos))
    grid = replace(grid_of((24, 20, 22), (2.0, 0.8, 0.9)), direction=direction)
    index = np.array([13.0, 8.5, 11.0])
    away_mm = (np.moveaxis(np.indices(grid.shape), 0, -1) - index) * grid.spacing_mm
    volume = 1000 * np.exp(-(away_mm**2).sum(axis=-1) / 18)

    out, new_grid = resample(volume.astype(np.float32), grid, 1.0)

    weights = np.clip(out, 1, None) - 1
    centre = [np.average(i, weights=weights) for i in np.indices(out.shape)]
    np.testing.assert_allclose(new_grid.to_patient(centre), grid.to_patient(index), atol=0.05)


def test_bands_have_taps_by_fours_and_rows_that_sum_to_one():
    """Few tap counts mean few code paths; workers must never compile."""
    x = np.arange(60) * 0.7
    for order in (0, 1, 3):
        for spacing in (0.5, 1.0, 2.0):
            band = axis_band(x, np.arange(0, x[-1], spacing), order)

            assert band.weights.shape[1] in ({4} if order < 3 else {12, 16})
            np.testing.assert_allclose(band.weights.sum(axis=1), 1, atol=1e-6)
            assert (np.diff(band.start) >= 0).all()


@settings(max_examples=25)
@given(
    st.tuples(st.integers(8, 30), st.integers(8, 30), st.integers(8, 30)),
    st.tuples(spacings, spacings, spacings), st.sampled_from([1, 3]), st.integers(0, 2**32),
)  # fmt: skip
def test_antialiasing_is_a_gaussian_before_the_interpolation(shape, spacing_mm, order, seed):
    volume = noise(shape, seed, np.float32)
    grid = grid_of(shape, spacing_mm)

    out, new_grid = resample(volume, grid, 1.9, order=order, antialias=True)

    sigma = [smoothing_mm(s, 1.9) / s for s in spacing_mm]
    smooth = ndimage.gaussian_filter(volume, sigma, mode="nearest", truncate=4.0)
    targets = aligned_targets(grid, new_grid)
    expected = interpolate(smooth, sample_positions(grid), targets, order)
    np.testing.assert_allclose(out, expected, atol=5 * DROPPED_HU)


def test_antialiasing_is_for_axes_that_shrink_only():
    volume = noise((12, 40, 40))
    grid = grid_of(volume.shape, (2.5, 1.0, 0.7))
    for spacing_mm, changes in (((1.0, 1.0, 0.7), False), ((1.0, 1.0, 1.0), True)):
        plain, _ = resample(volume, grid, spacing_mm)
        smooth, _ = resample(volume, grid, spacing_mm, antialias=True)
        assert (plain != smooth).any() == changes


def test_antialiasing_keeps_what_the_new_grid_can_hold_and_drops_the_rest():
    """Waves of 20 mm survive 2 mm voxels; waves of 2.4 mm would come out as waves of 12 mm."""
    x_mm = np.arange(200) * 0.6
    grid = grid_of((1, 1, 200), (1.0, 1.0, 0.6))

    def left_over(wave_mm, antialias):
        wave = np.sin(2 * np.pi * x_mm / wave_mm).astype(np.float32)[None, None]
        out, _ = resample(wave, grid, (1.0, 1.0, 2.0), antialias=antialias)
        return np.abs(out[0, 0, 5:-5]).max()

    assert left_over(20.0, antialias=True) > 0.9
    assert left_over(2.4, antialias=False) > 0.8
    assert left_over(2.4, antialias=True) < 0.12


def test_antialiasing_knows_where_uneven_samples_are():
    """A slope stays itself inside, and a constant everywhere, though steps differ threefold."""
    x_mm = np.cumsum(np.tile([0.5, 1.5, 1.0], 20))
    wanted = np.arange(8, 50, 2.5)

    band = axis_band(x_mm, wanted, 1, sigma_mm=1.2)

    columns = band.start[:, None] + np.arange(band.weights.shape[1])
    np.testing.assert_allclose(band.weights.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose((band.weights * x_mm[columns]).sum(axis=1), wanted, atol=0.3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"order": 2}, "order is 0, 1 or 3"),
        ({"grid": grid_of((9, 9, 9))}, "its grid"),
        ({"volume": np.zeros((2, 2, 2))}, "int16, uint8 or float32"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    given_ = {"volume": noise((2, 2, 2)), "grid": grid_of((2, 2, 2)), "order": 3, **arguments}

    with pytest.raises(ValueError, match=message):
        resample(given_["volume"], given_["grid"], 1.0, order=given_["order"])
