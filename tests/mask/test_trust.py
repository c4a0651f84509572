"""Confidence ranks a spoilt mask below the good one; figures and flags say what is wrong."""

import json
from dataclasses import replace

import numpy as np
import odd_chests
import pytest
from odd_chests import small_chest
from scipy import ndimage

from fastlung.demo.phantom import AIRWAY
from fastlung.mask import assess_mask, lung_mask
from fastlung.mask.trust import LIMITS

pytestmark = pytest.mark.compiled

SCANS = {
    "clean": {},
    "noisy": {"noise_hu": 80.0},
    "other vessels": {"seed": 3, "noise_hu": 30.0},
    "stomach gas": {"stomach_gas_litres": 0.3},
}


@pytest.fixture(scope="module", params=SCANS)
def scan(request):
    chest = small_chest(**SCANS[request.param])
    return chest, lung_mask(chest.hu, chest.grid)


@pytest.fixture(scope="module")
def chest():
    return small_chest()


@pytest.fixture(scope="module")
def good(chest):
    return lung_mask(chest.hu, chest.grid)


def one_lung_removed(_chest, mask):
    return np.where(mask == 2, 0, mask)


def trachea_added(chest, mask):
    return np.where(chest.labels == AIRWAY, 1, mask)


def leaked_outside(_chest, mask):
    leak = np.zeros(mask.shape, bool)
    leak[50:60, :20, 60:100] = True
    return np.where(leak, 1, mask)


def eroded(_chest, mask):
    return np.where(ndimage.binary_erosion(mask > 0), mask, 0)


def dilated(_chest, mask):
    return np.where(mask == 0, ndimage.grey_dilation(mask, size=(3, 3, 3)), mask)


def sides_swapped(_chest, mask):
    return np.where(mask > 0, 3 - mask, 0)


def heart_swallowed(chest, mask):
    x, y, z = odd_chests.points_mm(chest)
    heart = ((x - 18) / 50) ** 2 + ((y + 25) / 42) ** 2 + ((z + 40) / 46) ** 2 < 1
    return np.where(heart & (mask == 0), 2, mask)


def stomach_bubble_added(chest, mask):
    """Or the tissue there, where there is no gas."""
    bubble = odd_chests.ball(chest, (70.0, 4.0, -100.0), 30.0)
    return np.where(bubble & (mask == 0), 2, mask)


def top_cut_off(_chest, mask):
    cut = mask.copy()
    cut[-40:] = 0
    return cut


def random_holes(_chest, mask):
    rng = np.random.default_rng(7)
    holes = np.zeros(mask.shape, bool)
    holes.reshape(-1)[rng.choice(np.flatnonzero(mask), 400)] = True
    return np.where(ndimage.binary_dilation(holes, iterations=2), 0, mask)


def shifted(_chest, mask):
    return np.roll(mask, 3, axis=1)


def mirrored(_chest, mask):
    return mask[:, :, ::-1]


def left_lobe_lost(_chest, mask):
    lost = mask.copy()
    lost[:55][mask[:55] == 2] = 0
    return lost


def slices_missing(_chest, mask):
    gone = mask.copy()
    gone[50:54] = 0
    return gone


CORRUPTIONS = [
    one_lung_removed, trachea_added, leaked_outside, eroded, dilated, sides_swapped,
    heart_swallowed, stomach_bubble_added, top_cut_off, random_holes, shifted, mirrored,
    left_lobe_lost, slices_missing,
]  # fmt: skip


@pytest.mark.parametrize("corrupt", CORRUPTIONS, ids=lambda corrupt: corrupt.__name__)
def test_every_corruption_ranks_below_its_original(scan, corrupt):
    chest, good = scan
    spoilt = np.ascontiguousarray(corrupt(chest, good.mask), np.uint8)
    assert (spoilt != good.mask).any()

    found = assess_mask(chest.hu, chest.grid, spoilt)

    assert found.confidence < good.confidence
    assert good.confidence > 0.9


@pytest.mark.parametrize(
    ("corrupt", "flags"),
    [
        (one_lung_removed, {"one_lung", "asymmetric", "air_missed"}),
        (trachea_added, {"airway_not_removed"}),
        (leaked_outside, {"leak"}),
        (sides_swapped, {"sides_crossed"}),
        (heart_swallowed, {"leak"}),
        (top_cut_off, {"air_missed"}),
        (eroded, {"air_missed"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_flags_name_what_is_wrong(chest, good, corrupt, flags):
    spoilt = np.ascontiguousarray(corrupt(chest, good.mask), np.uint8)

    found = assess_mask(chest.hu, chest.grid, spoilt)

    assert flags <= {flag.name for flag in found.flags}
    assert found.confidence <= 0.5


def test_figures_are_litres_and_fractions_that_can_be_counted(chest, good):
    airway = chest.labels == AIRWAY
    outside = np.zeros(good.mask.shape, bool)
    outside[50:60, :8, 60:100] = True
    mask = np.where(airway | outside, 1, good.mask)

    figures = assess_mask(chest.hu, chest.grid, mask.astype(np.uint8)).figures

    ours = lung_mask(chest.hu, chest.grid, label_airway=True).mask == AIRWAY
    litres = chest.grid.voxel_litres
    assert figures["mask_airway_litres"] == pytest.approx(np.sum(ours) * litres, rel=0.01)
    expected = np.sum(mask.astype(bool) & (chest.hu <= -400) & ~ours & (good.mask == 0)) * litres
    assert figures["mask_foreign_litres"] == pytest.approx(expected, rel=0.05)
    dense = np.mean(chest.hu[mask > 0] > -400)
    assert figures["mask_dense_fraction"] == pytest.approx(dense, abs=1e-6)


def test_the_confidence_is_its_formula(good):
    volume = abs(np.log((good.litres_right + good.litres_left) / 3)) / np.log(3)
    expected = 1 / (1 + volume**4)
    for limit in LIMITS:
        expected /= 1 + (good.figures[limit.figure] / limit.half) ** 4

    assert good.confidence == pytest.approx(expected)
    assert good.figures["mask_confidence"] == good.confidence


def test_our_own_mask_and_a_strangers_are_judged_alike(scan):
    chest, good = scan

    found = assess_mask(chest.hu, chest.grid, good.mask)

    assert found.confidence == pytest.approx(good.confidence, rel=1e-9)
    assert found.figures == pytest.approx(dict(good.figures))
    assert found.flags == good.flags


def test_judged_alike_in_any_orientation(chest, good):
    x, y, z = chest.grid.to_patient((chest.hu.shape[0] - 1, 0, 0)).tolist()
    direction = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0))
    grid = replace(chest.grid, origin_mm=(x, y, z), direction=direction)

    found = assess_mask(chest.hu[::-1], grid, good.mask[::-1])

    assert found.confidence == pytest.approx(good.confidence)


def test_an_empty_mask_has_no_confidence(chest):
    found = assess_mask(chest.hu, chest.grid, np.zeros(chest.hu.shape, np.uint8))

    assert found.confidence == 0.0
    assert [flag.name for flag in found.flags] == ["no_lung"]


def test_shapes_must_agree(chest):
    with pytest.raises(ValueError, match="shapes differ"):
        assess_mask(chest.hu, chest.grid, np.zeros((2, 2, 2), np.uint8))


def test_figures_can_be_written_as_json_whatever_is_wrong(chest):
    """No infinity for a lung that is not there."""
    single = np.where(chest.labels == 1, 1, 0).astype(np.uint8)

    json.dumps(dict(assess_mask(chest.hu, chest.grid, single).figures), allow_nan=False)


@pytest.mark.parametrize("sigma_hu", [40.0, 120.0, 250.0])
def test_noise_is_measured_and_flagged(sigma_hu):
    chest = small_chest(noise_hu=sigma_hu)

    lungs = lung_mask(chest.hu, chest.grid)

    # Ribs and the table's edges are noise to it as well.
    assert lungs.figures["noise_hu"] == pytest.approx(sigma_hu, rel=0.15)
    assert ("noisy" in {flag.name for flag in lungs.flags}) == (sigma_hu > 200)
