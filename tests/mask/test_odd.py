"""Section by section what the default mask promises, on chests that break the obvious method."""

from dataclasses import replace

import numpy as np
import odd_chests
import pytest
from odd_chests import dice, painted, points_mm, small_chest
from scipy import ndimage

from fastlung.demo.phantom import AIRWAY, LEFT_LUNG, RIGHT_LUNG, phantom
from fastlung.kernels.bits import runs_at_most
from fastlung.mask import lung_mask
from fastlung.scan import Grid

pytestmark = pytest.mark.compiled


@pytest.fixture(scope="module")
def chest():
    return small_chest()


def names(lungs):
    return [flag.name for flag in lungs.flags]


def values(lungs):
    return {flag.name: flag.value for flag in lungs.flags}


def assert_lungs(lungs, chest, least=0.98):
    assert dice(lungs.mask == 1, chest.labels == RIGHT_LUNG) > least
    assert dice(lungs.mask == 2, chest.labels == LEFT_LUNG) > least


@pytest.mark.parametrize(("noise_hu", "least"), [(15.0, 0.98), (80.0, 0.95)])
def test_at_one_millimetre_the_lungs_are_exact(noise_hu, least):
    chest = phantom((232, 220, 280), (1.0, 1.0, 1.0), noise_hu=noise_hu)

    lungs = lung_mask(chest.hu, chest.grid)

    assert_lungs(lungs, chest, least)
    assert lungs.litres_right == pytest.approx(np.count_nonzero(lungs.mask == 1) * 1e-6)
    assert lungs.litres_left == pytest.approx(np.count_nonzero(lungs.mask == 2) * 1e-6)
    assert lungs.litres_right == pytest.approx(chest.litres(RIGHT_LUNG), rel=0.01)
    assert lungs.litres_left == pytest.approx(chest.litres(LEFT_LUNG), rel=0.01)
    assert lungs.flags == ()


# Outside air, tables, fields of view.


@pytest.mark.parametrize("hu", [-980, -930, -850])
def test_the_inside_of_a_table_is_no_lung(chest, hu):
    lungs = lung_mask(*pair(odd_chests.with_foam_table(chest, hu)))

    assert_lungs(lungs, chest)
    assert lungs.flags == ()


@pytest.mark.parametrize("gap_mm", [8, 14])
def test_air_between_arms_and_body_is_no_lung(chest, gap_mm):
    lungs = lung_mask(*pair(odd_chests.with_arms(chest, gap_mm)))

    assert_lungs(lungs, chest)
    assert lungs.flags == ()


def test_an_open_mouth_and_sinuses_above_the_chest_change_nothing(chest):
    """Whole-body scans: air from outside through mouth and trachea into the lungs."""
    head = odd_chests.with_head(chest)

    lungs = lung_mask(head.hu, head.grid, label_airway=True)

    assert_lungs(lungs, head)
    assert lungs.flags == ()
    above = slice(chest.hu.shape[0] + 40, None)  # mouth and sinuses
    assert not lungs.mask[above].any()


@pytest.mark.parametrize("columns", [18, 30, 40])
def test_lungs_cut_in_the_plane_by_the_array_stay(chest, columns):
    cut = odd_chests.cut_in_plane(chest, columns, chest.hu.shape[2] - columns)

    lungs = lung_mask(cut.hu, cut.grid)

    assert_lungs(lungs, cut)
    assert names(lungs) == ["touches_fov"]


@pytest.mark.parametrize("radius_mm", [125, 115, 100])
def test_lungs_cut_in_the_plane_by_a_circle_stay(chest, radius_mm):
    cut = odd_chests.cut_in_circle(chest, radius_mm)

    lungs = lung_mask(cut.hu, cut.grid)

    assert_lungs(lungs, cut)
    assert names(lungs) == ["touches_fov"]


def test_what_touches_the_edge_is_measured(chest):
    """The flag's number is the surface of lung on the edge: here that of two flat cuts."""
    columns = 40
    cut = odd_chests.cut_in_plane(chest, columns, chest.hu.shape[2] - columns)

    lungs = lung_mask(cut.hu, cut.grid)

    surface = np.count_nonzero(cut.labels[:, :, [0, -1]] > 0) * 4.0
    assert values(lungs)["touches_fov"] == pytest.approx(surface, rel=0.05)


@pytest.mark.parametrize("slices", [slice(40, None), slice(None, 80), slice(40, 80)])
def test_lungs_cut_at_top_or_bottom_stay(chest, slices):
    hu = np.ascontiguousarray(chest.hu[slices])
    cut = replace(chest, hu=hu, labels=chest.labels[slices], grid=at(chest.grid, slices, hu.shape))

    lungs = lung_mask(cut.hu, cut.grid)

    assert_lungs(lungs, cut)
    assert "touches_fov" in names(lungs)


# Gas that is not lung.


@pytest.mark.parametrize("litres", [0.05, 0.3, 0.6])
def test_gas_in_the_stomach_is_no_lung(litres):
    chest = small_chest(stomach_gas_litres=litres)

    assert_lungs(lung_mask(chest.hu, chest.grid), chest)


def test_a_bubble_between_thick_slices_is_no_lung(chest):
    """Mostly edge, its mean is that of lung; its inside is not. Seen on a scan of 8 mm slices."""
    bubble = odd_chests.ball(chest, (70.0, 4.0, -98.0), 19.0) & (chest.labels == 0)
    blurred = ndimage.gaussian_filter(np.where(bubble, -1000.0, 40.0), 2.0).astype(np.int16)
    near = odd_chests.ball(chest, (70.0, 4.0, -98.0), 30.0) & (chest.labels == 0)
    sick = replace(chest, hu=np.where(near, blurred, chest.hu).astype(np.int16))
    dark = near & (sick.hu < -400)
    assert np.count_nonzero(dark) * chest.grid.voxel_litres > 0.02
    assert sick.hu[dark].mean() > -940

    assert_lungs(lung_mask(sick.hu, sick.grid), chest)


def test_gas_in_the_bowel_below_the_lungs_is_no_lung(chest):
    x, y, z = points_mm(chest)
    colon = ((np.abs(x) - 60) ** 2 + (y + 40) ** 2 < 18**2) & (z < -100)

    assert_lungs(lung_mask(*pair(painted(chest, colon & (chest.labels == 0), -1000))), chest)


# Airway.


def test_trachea_and_main_bronchi_are_out_and_label_3_on_request(chest):
    without = lung_mask(chest.hu, chest.grid)

    lungs = lung_mask(chest.hu, chest.grid, label_airway=True)

    np.testing.assert_array_equal(np.where(lungs.mask == AIRWAY, 0, lungs.mask), without.mask)
    _, _, z = points_mm(chest)
    assert np.mean(lungs.mask[(chest.labels == AIRWAY) & (z > 30)] == AIRWAY) > 0.95
    assert np.mean(lungs.mask[(chest.labels == AIRWAY) & (z < 20)] == AIRWAY) > 0.75
    assert dice(lungs.mask == AIRWAY, chest.labels == AIRWAY) > 0.9
    assert lungs.litres_right == without.litres_right


def test_without_a_trachea_a_flag_says_so(chest):
    closed = painted(chest, chest.labels == AIRWAY, 40)

    assert "airway_not_removed" in names(lung_mask(closed.hu, closed.grid))


# Right and left.


def test_one_lung_is_whole_wherever_the_field_ends(chest):
    """Half a chest: the middle of what is seen lies in the lung, which must not be cut there."""
    half = odd_chests.cut_in_plane(chest, chest.hu.shape[2] // 2 - 8, chest.hu.shape[2])

    lungs = lung_mask(half.hu, half.grid)

    assert dice(lungs.mask > 0, lung_of(half)) > 0.95
    assert min(lungs.litres_right, lungs.litres_left) == 0.0
    assert "one_lung" in names(lungs)


def test_a_collapsed_lung_is_flagged_with_its_size(chest):
    """The left lung keeps its lower third."""
    _, _, z = points_mm(chest)
    collapsed = painted(chest, (chest.labels == LEFT_LUNG) & (z > -45), 40)

    found = values(lung_mask(collapsed.hu, collapsed.grid))

    assert found["asymmetric"] > 0.4
    assert found["dense_region_lost"] > 0.1


# Dense parts of lungs.


@pytest.mark.parametrize("centre_mm", [(70.0, 60.0, -20.0), (-75.0, 60.0, -20.0)])
@pytest.mark.parametrize("radius_mm", [20, 30])
def test_a_mass_on_the_wall_is_taken_in_and_flagged(chest, centre_mm, radius_mm):
    sick = odd_chests.with_mass(chest, centre_mm, radius_mm)
    mass = sick.hu != chest.hu
    litres = np.count_nonzero(mass) * chest.grid.voxel_litres

    lungs = lung_mask(sick.hu, sick.grid)

    assert np.mean(lungs.mask[mass] > 0) > 0.8
    assert_lungs(lungs, chest, 0.99)
    assert values(lungs)["dense_region_added"] == pytest.approx(litres, rel=0.25)


def test_a_mass_within_the_lung_is_taken_in_whole(chest):
    sick = odd_chests.with_mass(chest, (-60.0, 40.0, 0.0), 30)

    lungs = lung_mask(sick.hu, sick.grid)

    assert np.mean(lungs.mask[sick.hu != chest.hu] > 0) > 0.99
    assert "dense_region_added" in names(lungs)


def test_fluid_cannot_be_recovered_and_is_flagged(chest):
    lungs = lung_mask(*pair(odd_chests.with_fluid(chest, LEFT_LUNG, 90)))

    assert values(lungs)["dense_region_lost"] > 0.1
    assert lungs.confidence < 0.5


def test_where_nothing_is_dense_nothing_changes(chest, monkeypatch):
    """Healthy chests are none the worse for the search."""
    plain = lung_mask(chest.hu, chest.grid)
    monkeypatch.setattr("fastlung.mask.lungs.dense_regions", lambda coarse: 0 * coarse.sides)

    np.testing.assert_array_equal(lung_mask(chest.hu, chest.grid).mask, plain.mask)


def test_heart_and_mediastinum_stay_out(chest):
    """Also where the lungs meet in front of the heart and closing could bridge them."""
    lungs = lung_mask(chest.hu, chest.grid)

    solid = ndimage.binary_erosion(chest.labels == 0, iterations=4)
    assert not (lungs.mask[solid] > 0).any()


# No lungs at all.


def phantom_of(kind):
    """Discs of the kinds that scanners are calibrated with."""
    x, y = np.meshgrid(*(np.arange(-100.0, 100.0, 2.0),) * 2)
    disc = (x**2 + y**2 < 85**2)[None].repeat(60, axis=0)
    volume = np.where(disc, 0, -1000)
    if kind == "rods":
        for number, hu in enumerate((-1000, -100, 120, 950)):
            cx, cy = 50 * np.cos(number * 1.57), 50 * np.sin(number * 1.57)
            volume[:, (x - cx) ** 2 + (y - cy) ** 2 < 12**2] = hu
    elif kind == "air":
        volume[:] = -1000
    noise = np.random.default_rng(1).normal(0, 10, volume.shape)
    return np.clip(volume + noise, -1024, 3071).astype(np.int16)


@pytest.mark.parametrize("kind", ["water", "rods", "air"])
def test_a_calibration_phantom_has_no_lung(kind):
    volume = phantom_of(kind)
    grid = Grid(shape=volume.shape, spacing_mm=(2.0, 2.0, 2.0), origin_mm=(0.0, 0.0, 0.0))

    lungs = lung_mask(volume, grid)

    assert names(lungs) == ["no_lung"]
    assert lungs.confidence == 0.0
    assert not lungs.mask.any()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 40, 40), (40, 1, 40), (2, 3, 70)])
def test_no_shape_is_too_small(shape):
    volume = np.random.default_rng(0).integers(-1100, 400, shape).astype(np.int16)
    grid = Grid(shape=shape, spacing_mm=(1.0, 1.0, 1.0), origin_mm=(0.0, 0.0, 0.0))

    assert not lung_mask(volume, grid, label_airway=True).mask.any()


# A threshold that was taken elsewhere.


def test_dark_voxels_may_be_given(chest):
    dark = runs_at_most(chest.hu, -400.0)

    given = lung_mask(chest.hu, chest.grid, dark=dark)

    np.testing.assert_array_equal(given.mask, lung_mask(chest.hu, chest.grid).mask)


def test_dark_voxels_of_a_turned_array_are_passed_over(chest):
    """Rows of a volume whose x runs the other way are of no use, and must do no harm."""
    flipped = np.ascontiguousarray(chest.hu[:, :, ::-1])
    x, y, z = chest.grid.to_patient((0, 0, chest.hu.shape[2] - 1)).tolist()
    direction = ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    grid = replace(chest.grid, origin_mm=(x, y, z), direction=direction)

    given = lung_mask(flipped, grid, dark=runs_at_most(flipped, -400.0))

    np.testing.assert_array_equal(given.mask[:, :, ::-1], lung_mask(chest.hu, chest.grid).mask)


def pair(chest):
    return chest.hu, chest.grid


def at(grid, slices, shape):
    x, y, z = grid.to_patient((slices.start or 0, 0, 0)).tolist()
    return replace(grid, shape=shape, origin_mm=(x, y, z))


def lung_of(chest):
    return np.isin(chest.labels, (RIGHT_LUNG, LEFT_LUNG))
