"""The default mask on real chests: litres near those of enclosed air, and what pictures showed."""

from functools import cache

import numpy as np
import pytest

from fastlung.config import build_config
from fastlung.dicom import read_series
from fastlung.mask import lung_mask
from fastlung.pipeline import process_scan

pytestmark = [pytest.mark.compiled, pytest.mark.data]

#: Air enclosed at -400 HU, lungs and trachea; rough, and no mask of anybody's.
ENCLOSED_LITRES = {"lidc-idri-0306": 4.49, "lung-dx-a0001-5mm": 5.39, "lung-dx-a0002-8mm": 2.65}


@pytest.fixture(scope="module")
def segmented(data_dir):
    """Volume and mask of a scan, by its name; each is made once."""

    @cache
    def of(name):
        raw = read_series(data_dir / "chest" / name)
        result = process_scan(raw, build_config(mask="none"))
        return result, lung_mask(result.image, result.grid, label_airway=True)

    return of


def flags(lungs):
    return {flag.name: flag.value for flag in lungs.flags}


@pytest.mark.parametrize("name", ENCLOSED_LITRES)
def test_litres_are_near_those_of_enclosed_air(segmented, name):
    _, lungs = segmented(name)

    both = lungs.litres_right + lungs.litres_left
    assert both == pytest.approx(ENCLOSED_LITRES[name], rel=0.08)


@pytest.mark.parametrize("name", ENCLOSED_LITRES)
def test_trachea_and_bronchi_are_found_whole(segmented, name):
    """Between 0.015 and 0.06 L, from the top of the scan to below the carina."""
    result, lungs = segmented(name)
    airway = lungs.mask == 3
    slices = np.flatnonzero(airway.any(axis=(1, 2)))

    assert 0.015 < np.count_nonzero(airway) * result.grid.voxel_litres < 0.06
    assert slices[-1] == airway.shape[0] - 1
    assert 130 < slices.size < 200
    assert np.diff(slices).max() == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lidc-idri-0306", set()),
        ("lung-dx-a0001-5mm", {"dense_region_added"}),
        ("lung-dx-a0002-8mm", {"dense_region_added", "asymmetric", "touches_fov"}),
    ],
)
def test_flags_say_what_pictures_show(segmented, name, expected):
    """A healthy chest; a mass on the wall; one at the hilum, and slices that end in the lungs."""
    _, lungs = segmented(name)

    assert set(flags(lungs)) == expected
    assert (lungs.confidence > 0.9) == (not expected)


@pytest.mark.parametrize(
    ("name", "side", "centre", "litres"),
    [
        ("lung-dx-a0001-5mm", 2, (225, 275, 275), 0.07),
        ("lung-dx-a0002-8mm", 1, (120, 195, 105), 0.07),
    ],
)
def test_masses_are_taken_in(segmented, name, side, centre, litres):
    """Voxels in the middle of each mass, read off pictures."""
    result, lungs = segmented(name)
    around = tuple(slice(middle - 5, middle + 5) for middle in centre)

    assert np.median(result.image[around]) > -50
    assert (lungs.mask[around] == side).mean() > 0.95
    assert flags(lungs)["dense_region_added"] == pytest.approx(litres, rel=0.2)


def test_gas_in_the_stomach_is_left_out(segmented):
    """21 mL under the left dome, mostly edge between slices 8 mm apart."""
    result, lungs = segmented("lung-dx-a0002-8mm")
    bubble = (slice(5, 25), slice(70, 84), slice(195, 222))

    assert np.count_nonzero(result.image[bubble] < -800) > 1000
    assert not lungs.mask[bubble].any()
