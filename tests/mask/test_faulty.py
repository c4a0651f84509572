"""What 0.1.0 got wrong on real chests, drawn: each fault has a chest and a limit."""

import numpy as np
import pytest
from faulty_chests import (
    cut_at,
    thick,
    with_aorta,
    with_bubble,
    with_colon,
    with_couch_gap,
    with_hernia,
    with_lungs_of,
    with_middle_tumour,
    with_tagged_tumour,
)
from odd_chests import dice, small_chest

from fastlung.demo.phantom import AIRWAY, LEFT_LUNG, RIGHT_LUNG
from fastlung.mask import assess_mask, lung_mask

pytestmark = pytest.mark.compiled


@pytest.fixture(scope="module")
def chest():
    return small_chest()


def lungs_of(chest):
    return np.isin(lung_mask(chest.hu, chest.grid).mask, (RIGHT_LUNG, LEFT_LUNG))


def names(trust):
    return {flag.name for flag in trust.flags}


@pytest.mark.parametrize("sick", [with_tagged_tumour, with_middle_tumour])
def test_tumours_that_touch_wall_or_hilum_by_a_thread_are_in(chest, sick):
    tumorous, tumour = sick(chest)

    assert lungs_of(tumorous)[tumour].mean() > 0.98


@pytest.mark.parametrize(
    ("filled", "most"),
    [(with_aorta, 0.03), (with_hernia, 0.02), (with_colon, 0.02), (with_couch_gap, 0.0)],
)
def test_what_lies_beside_the_lungs_stays_out(chest, filled, most):
    strange, foreign = filled(chest)

    lungs = lungs_of(strange)

    assert lungs[foreign].mean() <= most
    assert dice(lungs, np.isin(strange.labels, (RIGHT_LUNG, LEFT_LUNG))) > 0.99


@pytest.mark.parametrize("slice_mm", [2, 4, 6])
def test_gas_under_a_dome_thinner_than_a_slice_stays_out(chest, slice_mm):
    strange, gas = with_bubble(chest)

    lungs = lungs_of(thick(strange, slice_mm))

    assert lungs[gas].mean() < 0.05
    assert dice(lungs, np.isin(chest.labels, (RIGHT_LUNG, LEFT_LUNG))) > 0.99


@pytest.mark.parametrize("top", [118, 104, 96])
def test_a_trachea_cut_by_the_scan_is_no_lung(chest, top):
    cut = cut_at(chest, 0, top)

    assert lungs_of(cut)[cut.labels == AIRWAY].mean() < 0.02


def test_lungs_as_dark_as_air_are_found_and_flagged(chest):
    dark = with_lungs_of(chest, -1000)

    lungs = lung_mask(dark.hu, dark.grid)

    assert dice(lungs.mask > 0, np.isin(chest.labels, (RIGHT_LUNG, LEFT_LUNG))) > 0.98
    assert "gas_in_mask" in names(lungs)


def test_a_tumour_left_out_is_seen_as_a_void(chest):
    tumorous, tumour = with_middle_tumour(chest)
    mask = lung_mask(tumorous.hu, tumorous.grid).mask.copy()
    assert not names(assess_mask(tumorous.hu, tumorous.grid, mask)) & {"void_enclosed"}

    mask[tumour] = 0

    assert "void_enclosed" in names(assess_mask(tumorous.hu, tumorous.grid, mask))


def test_bowel_added_to_a_mask_is_seen_as_a_piece_apart_or_gas(chest):
    strange, gas = with_bubble(chest)
    mask = lung_mask(strange.hu, strange.grid).mask.copy()
    mask[gas] = LEFT_LUNG

    assert names(assess_mask(strange.hu, strange.grid, mask)) & {"separate_piece", "gas_in_mask"}
