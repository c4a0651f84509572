"""`process_scan` and the public steps, on series made of arrays and on real chests."""

import hashlib
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import reference
from raw_scans import CHESTS, raw_scan

import fastlung
from fastlung.config import build_config
from fastlung.demo.phantom import LEFT_LUNG, RIGHT_LUNG, phantom
from fastlung.errors import ConfigError, LimitError
from fastlung.pipeline import process_scan
from fastlung.scan import Grid
from fastlung.volume.hounsfield import to_hu
from fastlung.volume.resampling import resample


@pytest.fixture(scope="module")
def chest():
    return phantom((40, 60, 70), (6.0, 5.0, 5.0))


@pytest.fixture(scope="module")
def raw(chest):
    return raw_scan(chest.hu, chest.grid)


def test_to_hu_keeps_the_acquired_frame(chest, raw):
    hu, grid = to_hu(raw)

    np.testing.assert_array_equal(hu, chest.hu)
    assert grid is raw.grid


@pytest.mark.compiled
def test_the_default_is_int16_hu_at_one_millimetre_with_two_lungs(chest, raw):
    result = process_scan(raw, build_config(spacing_mm=4.0))

    expected, grid = resample(chest.hu, chest.grid, 4.0)
    np.testing.assert_array_equal(result.image, expected)
    assert result.grid == grid
    assert result.image.dtype == np.int16
    assert result.mask.dtype == np.uint8
    assert result.figures["litres_right"] == pytest.approx(chest.litres(RIGHT_LUNG), rel=0.1)
    assert result.figures["litres_left"] == pytest.approx(chest.litres(LEFT_LUNG), rel=0.1)
    assert result.figures["padding_fraction"] == 0
    assert build_config().spacing_mm == (1.0, 1.0, 1.0)


@pytest.mark.compiled
def test_antialias_is_that_of_resample(chest, raw):
    config = build_config(spacing_mm=9.0, antialias=True)

    result = process_scan(raw, config)

    expected, _ = resample(chest.hu, chest.grid, 9.0, antialias=True)
    np.testing.assert_array_equal(result.image, expected)
    assert (result.image != process_scan(raw, build_config(spacing_mm=9.0)).image).any()
    assert config.digest != build_config(spacing_mm=9.0).digest
    with pytest.raises(ConfigError, match="order 0 keeps values"):
        build_config(order=0, antialias=True)


@pytest.mark.compiled
def test_the_airway_is_a_label_on_request():
    chest = phantom((115, 160, 170), (2.0, 2.0, 2.0))
    config = build_config(spacing_mm=2.0, airway=True)

    result = process_scan(raw_scan(chest.hu, chest.grid), config)

    assert set(np.unique(result.mask)) == {0, 1, 2, 3}
    assert result.figures["mask_confidence"] > 0.9
    assert config.digest != build_config(spacing_mm=2.0).digest


def test_only_the_default_mask_knows_the_airway():
    with pytest.raises(ConfigError, match="airway needs the default mask"):
        build_config("tutorial", airway=True)


@pytest.mark.compiled
def test_same_input_same_bits(raw):
    config = build_config(spacing_mm=4.0)

    first, second = process_scan(raw, config), process_scan(raw, config)

    assert first.image.tobytes() == second.image.tobytes()
    assert first.mask.tobytes() == second.mask.tobytes()


def test_the_input_is_left_alone(raw):
    before = raw.stored.copy()

    process_scan(raw, build_config("tutorial", spacing_mm=5.0))

    np.testing.assert_array_equal(raw.stored, before)


def test_stages_are_entered_in_order(raw):
    entered = []

    @contextmanager
    def stage(name):
        entered.append(name)
        yield

    process_scan(raw, build_config(spacing_mm=5.0), stage)

    assert entered == ["resample", "mask", "normalise"]


def test_window_and_zero_centre(raw):
    plain = process_scan(raw, build_config(spacing_mm=5.0))
    config = build_config(spacing_mm=5.0, window_hu=(-1000, 400), zero_centre=0.25, mask="none")

    result = process_scan(raw, config)

    assert result.image.dtype == np.float32
    assert result.mask is None
    expected = np.clip((plain.image.astype(float) + 1000) / 1400, 0, 1) - 0.25
    np.testing.assert_allclose(result.image, expected, atol=1e-6)


@pytest.mark.compiled
def test_a_gap_is_interpolated_once_at_true_positions(chest):
    """Taking slices out must not squeeze what lies above the gap toward the feet."""
    keep = np.r_[0:18, 20:40]
    whole = raw_scan(chest.hu, chest.grid)
    gap = raw_scan(
        np.ascontiguousarray(chest.hu[keep]),
        replace(chest.grid, shape=(keep.size, *chest.grid.shape[1:])),
        slice_positions_mm=keep * chest.grid.spacing_mm[0],
    )
    config = build_config(spacing_mm=3.0, order=1, mask="none")

    truth, found = process_scan(whole, config), process_scan(gap, config)

    assert found.grid == truth.grid
    away = np.abs(np.arange(found.grid.shape[0]) * 3.0 - 18.5 * 6.0) > 12.0
    np.testing.assert_array_equal(found.image[away], truth.image[away])


@pytest.mark.parametrize("flips", [(), (0,), (1, 2), (0, 1, 2)])
def test_a_voxel_keeps_its_patient_point_in_canonical_order(flips):
    """Feet-first or prone series with a gap come out upright, at the right place."""
    z_mm = np.array([0.0, 2.0, 4.0, 8.0, 10.0])
    volume = np.full((5, 9, 11), -1000, np.int16)
    volume[3, 2, 7] = 1000
    direction = np.eye(3)
    for axis in flips:
        direction[:, 2 - axis] *= -1
    grid = Grid(
        shape=(5, 9, 11), spacing_mm=(2.0, 1.0, 1.0), origin_mm=(5.0, -6.0, 7.0),
        direction=tuple(map(tuple, direction.tolist())),
    )  # fmt: skip
    raw = raw_scan(volume, grid, slice_positions_mm=z_mm)

    result = process_scan(raw, build_config(spacing_mm=(2.0, 1.0, 1.0), order=1, mask="none"))

    brightest = np.unravel_index(result.image.argmax(), result.image.shape)
    np.testing.assert_allclose(
        result.grid.to_patient(brightest), grid.to_patient((8.0 / 2.0, 2, 7)), atol=1e-9
    )
    np.testing.assert_array_equal(np.asarray(result.grid.direction), np.eye(3))


@pytest.mark.compiled
def test_tutorial_preset_is_the_tutorial(chest):
    slope = np.full(40, 1.0, np.float32)
    raw = raw_scan(chest.hu, chest.grid)
    config = build_config("tutorial", spacing_mm=3.0)

    result = process_scan(raw, config)

    image = reference.tutorial_hounsfield(raw.stored.view(np.int16), slope, raw.scale.intercept)
    shape = np.round(np.multiply(image.shape, np.divide(raw.grid.spacing_mm, 3.0))).astype(int)
    resampled = reference.zoom(image, shape, order=3)
    expected = np.clip((resampled + 1000) / 1400, 0, 1) - 0.25
    np.testing.assert_allclose(result.image, expected, atol=1.0 / 1400)
    plain = process_scan(raw, build_config("tutorial", spacing_mm=3.0, window_hu="none"))
    np.testing.assert_array_equal(result.mask, reference.tutorial_mask(plain.image))
    # First and last voxel centres stay where they are: the grid says so too.
    np.testing.assert_allclose(result.grid.origin_mm, raw.grid.origin_mm)
    last = np.subtract(result.grid.shape, 1)
    np.testing.assert_allclose(result.grid.to_patient(last), raw.grid.to_patient((39, 59, 69)))


@pytest.mark.parametrize("order", [0, 1, 3])
def test_padding_is_never_mixed_with_tissue(order):
    """Neither ringing inside the circle nor values between tissue and padding at its edge."""
    _, y, x = np.indices((6, 40, 44))
    circle = (y - 19.5) ** 2 + (x - 21.5) ** 2 < 17**2
    hu = np.where(circle, 40, 30000).astype(np.int16)
    grid = Grid(shape=hu.shape, spacing_mm=(2.0, 0.7, 0.7), origin_mm=(0.0, 0.0, 0.0))
    raw = raw_scan(hu, grid)
    raw.scale.padding_low[:] = raw.scale.padding_high[:] = 30000 + 1024

    result = process_scan(raw, build_config(order=order, mask="none"))

    assert set(np.unique(result.image)) == {-1024, 40}
    inside = np.count_nonzero(result.image == 40) * result.grid.voxel_litres
    assert inside == pytest.approx(np.count_nonzero(circle) * grid.voxel_litres, rel=0.02)
    assert result.figures["padding_fraction"] == pytest.approx(1 - circle.mean())


@pytest.mark.parametrize("degrees", [16.5, -18.5])
@pytest.mark.parametrize("z_mm", [np.arange(30) * 2.0, np.r_[0:20, 21:40:2] * 2.0])
def test_a_tilted_gantry_is_straightened_in_the_same_interpolation(degrees, z_mm):
    """Slices sheared along y and back again give what an upright scanner would have seen."""

    def body(z, y, x):
        return 300 * np.sin(z / 9) * np.cos(y / 7) + 200 * np.cos(x / 8 + y / 11)

    shift = np.zeros((z_mm.size, 2))
    shift[:, 0] = z_mm * np.tan(np.radians(degrees))
    y_mm, x_mm = np.arange(60) * 0.8, np.arange(50) * 0.8
    hu = body(z_mm[:, None, None], (y_mm + shift[:, :1])[:, :, None], x_mm)
    grid = Grid(shape=hu.shape, spacing_mm=(2.0, 0.8, 0.8), origin_mm=(1.0, 2.0, 3.0))
    raw = raw_scan(
        np.rint(hu).astype(np.int16), grid, slice_positions_mm=z_mm, slice_shifts_mm=shift
    )

    result = process_scan(raw, build_config(mask="none"))

    index = np.moveaxis(np.indices(result.image.shape), 0, -1)
    x, y, z = np.moveaxis(result.grid.to_patient(index) - grid.origin_mm, -1, 0)
    offset = z * np.tan(np.radians(degrees))
    measured = (y - offset > 6) & (y - offset < y_mm[-1] - 6) & (z > 6) & (z < z_mm[-1] - 6)
    measured &= (x > 6) & (x < x_mm[-1] - 6)
    error = np.abs(result.image - body(z, y, x))[measured]
    assert error.size > 10_000
    assert error.max() < (3 if np.ptp(np.diff(z_mm)) == 0 else 12)
    never = (y - offset < -1.4) | (y - offset > y_mm[-1] + 1.4)
    assert never.any()
    assert (result.image[never] == -1024).all()


def test_an_absurd_output_is_refused_before_it_is_allocated(chest):
    far = np.arange(40) * 6.0
    far[-1] = 1e9
    raw = raw_scan(chest.hu, chest.grid, slice_positions_mm=far)

    with pytest.raises(LimitError, match="coarser spacing"):
        process_scan(raw, build_config())


@pytest.mark.data
@pytest.mark.compiled
@pytest.mark.parametrize("name", CHESTS)
def test_real_chests(data_dir, name):
    digest, litres = CHESTS[name]
    raw = fastlung.read_series(data_dir / "chest" / name)

    hu, _ = to_hu(raw, replace_padding=False)
    result = process_scan(raw, build_config())

    assert hashlib.sha256(hu.tobytes()).hexdigest()[:16] == digest
    found = result.figures["litres_right"] + result.figures["litres_left"]
    assert found == pytest.approx(litres, rel=0.1)
    assert set(np.unique(result.mask)) == {0, 1, 2}


@pytest.mark.data
@pytest.mark.compiled
@pytest.mark.parametrize("name", CHESTS)
def test_tutorial_on_real_chests(data_dir, name):
    """Within 1 HU of SciPy everywhere before normalisation; the mask identical."""
    raw = fastlung.read_series(data_dir / "chest" / name)
    # Every other row and column: SciPy's cubic zoom takes 30 s on the whole.
    thin = replace(
        raw,
        stored=np.ascontiguousarray(raw.stored[:, ::2, ::2]),
        grid=replace(
            raw.grid,
            shape=(raw.grid.shape[0], *(n // 2 for n in raw.grid.shape[1:])),
            spacing_mm=(raw.grid.spacing_mm[0], *(2 * s for s in raw.grid.spacing_mm[1:])),
        ),
    )
    config = build_config("tutorial", spacing_mm=2.0, window_hu="none")

    result = process_scan(thin, config)

    image, _ = to_hu(thin, replace_padding=False)
    image = np.where(image == -3024, -1024, image)  # stored -2000 becomes stored 0
    shape = np.round(np.multiply(image.shape, np.divide(thin.grid.spacing_mm, 2.0))).astype(int)
    assert np.abs(result.image - reference.zoom(image, shape, order=3)).max() <= 1
    np.testing.assert_array_equal(result.mask, reference.tutorial_mask(result.image))
