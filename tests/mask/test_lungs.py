"""The default mask on chests with known truth, the tutorial's mask against scikit-image."""

from dataclasses import replace

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from fastlung.demo.phantom import AIRWAY, LEFT_LUNG, RIGHT_LUNG, phantom
from fastlung.mask import lung_mask, tutorial_mask
from fastlung.scan import Grid
from fastlung.volume.orientation import canonical_grid, orientation_of, turned, turned_back

CHEST = {"shape": (120, 150, 170), "spacing_mm": (2.0, 2.0, 2.0)}


def dice(mask, truth):
    return 2 * np.count_nonzero(mask & truth) / (mask.sum() + truth.sum())


@pytest.fixture(scope="module")
def chest():
    return phantom(**CHEST)


@pytest.fixture(scope="module")
def lungs(chest):
    return lung_mask(chest.hu, chest.grid)


@pytest.mark.compiled
@pytest.mark.parametrize(
    ("changes", "least"),
    [({}, 0.98), ({"noise_hu": 80.0}, 0.97), ({"stomach_gas_litres": 0.3}, 0.98)],
    ids=["clean", "noisy", "stomach gas"],
)
def test_both_lungs_are_found_and_told_apart(changes, least):
    chest = phantom(**CHEST, **changes)

    lungs = lung_mask(chest.hu, chest.grid)

    assert dice(lungs.mask == 1, chest.labels == RIGHT_LUNG) > least
    assert dice(lungs.mask == 2, chest.labels == LEFT_LUNG) > least
    assert lungs.litres_right == pytest.approx(chest.litres(RIGHT_LUNG), rel=0.02)
    assert lungs.litres_left == pytest.approx(chest.litres(LEFT_LUNG), rel=0.02)
    assert lungs.flags == ()


@pytest.mark.compiled
def test_trachea_stays_out(chest, lungs):
    trachea = (chest.labels == AIRWAY) & (np.arange(120) > 75)[:, None, None]

    assert trachea.any()
    assert not (lungs.mask[trachea] > 0).any()


@pytest.mark.compiled
def test_nodules_on_the_wall_and_vessels_are_in(chest, lungs):
    dense = (chest.hu > -200) & np.isin(chest.labels, (RIGHT_LUNG, LEFT_LUNG))
    inner = ndimage.binary_erosion(chest.labels > 0, iterations=2)

    assert np.mean(lungs.mask[dense & inner] > 0) > 0.99


@pytest.mark.compiled
@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
@pytest.mark.parametrize("flips", [(), (2,), (0, 2), (0, 1)])
def test_right_is_right_in_patient_space_however_the_array_runs(chest, lungs, axes, flips):
    """Sagittal, coronal, feet-first and prone arrays of one chest have one truth."""
    direction = np.eye(3)
    volume = chest.hu
    origin = np.array(chest.grid.origin_mm)
    for axis in flips:
        volume = np.flip(volume, axis)
        column = 2 - axis
        origin[column] += (chest.grid.shape[axis] - 1) * chest.grid.spacing_mm[axis]
        direction[:, column] *= -1
    volume = np.ascontiguousarray(volume.transpose(axes))
    direction = direction[:, [2 - axis for axis in reversed(axes)]]
    grid = Grid(
        shape=volume.shape,
        spacing_mm=(2.0, 2.0, 2.0),
        origin_mm=tuple(origin.tolist()),
        direction=tuple(map(tuple, direction.tolist())),
    )

    found = lung_mask(volume, grid)

    back = turned(found.mask, orientation_of(grid))
    np.testing.assert_array_equal(back, lungs.mask)


@pytest.mark.compiled
def test_a_mirrored_patient_has_mirrored_labels(chest, lungs):
    found = lung_mask(np.ascontiguousarray(chest.hu[:, :, ::-1]), chest.grid)

    assert found.litres_right == pytest.approx(lungs.litres_left, rel=1e-3)
    assert found.litres_left == pytest.approx(lungs.litres_right, rel=1e-3)


@pytest.mark.compiled
@pytest.mark.parametrize(
    ("slices", "rows", "tolerance"),
    [(slice(60, 75), slice(36, 46), 0.02), (slice(40, 90), slice(0, 60), 0.08)],
    ids=["a window that erosion parts", "a whole junction, cut at the middle"],
)
def test_joined_lungs_are_split(chest, slices, rows, tolerance):
    """The membrane in front of the heart is thinner than a voxel on many real scans."""
    between = ndimage.binary_closing(chest.labels > 0, np.ones((1, 1, 7))) & (chest.labels == 0)
    joined = chest.hu.copy()
    joined[slices, rows][between[slices, rows]] = -860
    assert np.count_nonzero(joined != chest.hu) > 100

    found = lung_mask(joined, chest.grid)

    assert found.litres_right == pytest.approx(chest.litres(RIGHT_LUNG), rel=tolerance)
    assert found.litres_left == pytest.approx(chest.litres(LEFT_LUNG), rel=tolerance)


@pytest.mark.compiled
def test_one_lung_is_flagged_and_keeps_its_side(chest):
    collapsed = np.where(chest.labels == LEFT_LUNG, 40, chest.hu).astype(np.int16)

    found = lung_mask(collapsed, chest.grid)

    assert [flag.name for flag in found.flags] == ["one_lung", "asymmetric"]
    assert found.litres_right == pytest.approx(chest.litres(RIGHT_LUNG), rel=0.03)


@pytest.mark.compiled
def test_a_table_or_cropped_field_does_not_hide_outside_air(chest, lungs):
    """The corner is solid and the table cuts the air in two: what defeats the tutorial's mask."""
    cropped = chest.hu.copy()
    cropped[:, :3, :3] = 300

    assert dice(lung_mask(cropped, chest.grid).mask > 0, lungs.mask > 0) > 0.999


@pytest.mark.compiled
def test_a_tracheostomy_loses_no_lung(chest, lungs):
    """Air from the trachea to the outside: in its slices only the trachea goes with it."""
    opened = chest.hu.copy()
    x = slice(82, 88)
    front = int(np.argmax(chest.hu[112, :, 85] > -200))
    opened[112:116, front - 2 : 80, x] = -1000

    found = lung_mask(opened, chest.grid)

    assert dice(found.mask > 0, lungs.mask > 0) > 0.999


@pytest.mark.compiled
def test_a_field_that_cuts_the_body_keeps_the_lungs(chest, lungs):
    """Outside the circle there is nothing, and the body touches it all around."""
    y, x = np.indices(chest.hu.shape[1:])
    circle = (y - 78) ** 2 + (x - 84.5) ** 2 < 72**2
    cut = np.where(circle, chest.hu, -1024).astype(np.int16)

    found = lung_mask(cut, chest.grid)

    inside = circle & (lungs.mask > 0)
    assert inside.sum() > 0.9 * np.count_nonzero(lungs.mask)
    assert dice(found.mask > 0, inside) > 0.97


@pytest.mark.compiled
def test_an_abdomen_with_gas_has_no_lung(chest):
    lowest = int(np.flatnonzero((chest.labels > 0).any(axis=(1, 2)))[0])
    volume = np.concatenate([chest.hu[:lowest]] * 3)
    volume[4:14, 65:85, 105:125] = -1000  # a bubble of 32 mL
    grid = replace(chest.grid, shape=volume.shape)

    found = lung_mask(volume, grid)

    assert [flag.name for flag in found.flags] == ["no_lung"]


@pytest.mark.compiled
def test_lungs_of_a_child_are_found_and_flagged(chest):
    small = replace(chest.grid, spacing_mm=(1.2, 1.2, 1.2))

    found = lung_mask(chest.hu, small)

    assert [flag.name for flag in found.flags] == ["implausible_volume"]
    assert found.litres_right == pytest.approx(chest.litres(RIGHT_LUNG) * 0.6**3, rel=0.05)


@pytest.mark.parametrize("value", [-1024, 0, 3071])
def test_no_lung_is_a_flag_never_an_error(value):
    grid = Grid(shape=(3, 8, 8), spacing_mm=(1.0, 1.0, 1.0), origin_mm=(0.0, 0.0, 0.0))

    found = lung_mask(np.full((3, 8, 8), value, np.int16), grid)

    assert not found.mask.any()
    assert [flag.name for flag in found.flags] == ["no_lung"]


@pytest.mark.compiled
def test_lungs_cut_by_the_scan_are_flagged(chest):
    grid = replace(chest.grid, shape=(40, *chest.grid.shape[1:]))

    found = lung_mask(np.ascontiguousarray(chest.hu[40:80]), grid)

    assert "touches_fov" in [flag.name for flag in found.flags]


def test_volume_and_grid_must_agree():
    grid = Grid(shape=(3, 8, 8), spacing_mm=(1.0, 1.0, 1.0), origin_mm=(0.0, 0.0, 0.0))

    with pytest.raises(ValueError, match="its grid"):
        lung_mask(np.zeros((2, 2, 2), np.int16), grid)


@given(
    st.integers(0, 2**32),
    # scikit-image numbers regions in another order where an axis has length 1: ties differ.
    st.tuples(st.integers(2, 5), st.integers(2, 9), st.integers(2, 9)),
    st.integers(1, 3),
)
def test_tutorial_mask_is_the_tutorials(seed, shape, smooth):
    noise = np.random.default_rng(seed).normal(-320, 500, shape)
    image = ndimage.uniform_filter(noise, smooth).astype(np.int16)

    np.testing.assert_array_equal(tutorial_mask(image), reference.tutorial_mask(image))


def test_orientation_views_undo_each_other_and_keep_patient_points():
    direction = ((0.0, 0.1, -0.9), (-1.0, 0.0, 0.0), (0.0, -0.9, -0.1))
    grid = Grid(
        shape=(3, 4, 5), spacing_mm=(3.0, 0.5, 0.7), origin_mm=(1.0, 2.0, 3.0), direction=direction
    )
    array = np.arange(60).reshape(3, 4, 5)
    orientation = orientation_of(grid)
    upright = canonical_grid(grid, orientation)

    view = turned(array, orientation)

    np.testing.assert_array_equal(turned_back(view, orientation), array)
    for value in (0, 17, 42, 59):
        before = grid.to_patient(np.argwhere(array == value)[0])
        after = upright.to_patient(np.argwhere(view == value)[0])
        np.testing.assert_allclose(after, before, atol=1e-9)
    columns = np.asarray(upright.direction)
    assert (np.diag(columns) > 0).all()
    assert (np.abs(columns).argmax(axis=0) == [0, 1, 2]).all()
