"""The synthetic chest is what its truth says, and the cohort on disk is that chest."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from fastlung.demo.cohort import COHORT, PADDING_STORED, write_cohort
from fastlung.demo.phantom import AIRWAY, LEFT_LUNG, RIGHT_LUNG, phantom

SMALL = {"shape": (20, 48, 48), "spacing_mm": (12.0, 6.5, 6.5)}


@pytest.fixture(scope="module")
def chest():
    return phantom(stomach_gas_litres=0.3)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, **SMALL)
    return folder


def slices(folder: Path) -> list[pydicom.Dataset]:
    datasets = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    return sorted(datasets, key=lambda dataset: dataset.ImagePositionPatient[2])


def test_a_seed_decides_every_voxel():
    first, again, other = (phantom(**SMALL, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.hu, again.hu)
    assert np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.hu, other.hu)


def test_right_lung_lies_at_low_x_and_the_spine_at_high_y(chest):
    _, bone_y, _ = ndimage.center_of_mass(chest.hu > 400)
    centre = {v: ndimage.center_of_mass(chest.labels == v) for v in (RIGHT_LUNG, LEFT_LUNG)}
    assert centre[RIGHT_LUNG][2] < chest.hu.shape[2] / 2 < centre[LEFT_LUNG][2]
    assert bone_y > centre[RIGHT_LUNG][1]
    assert chest.grid.to_patient((0, 0, 0))[2] < chest.grid.to_patient((1, 0, 0))[2]


@pytest.mark.parametrize("label", [RIGHT_LUNG, LEFT_LUNG, AIRWAY])
def test_each_label_is_one_piece(chest, label):
    sizes = np.bincount(ndimage.label(chest.labels == label)[0].ravel())[1:]
    assert sizes.max() / sizes.sum() > 0.999


def test_the_airway_opens_into_both_lungs_and_leaves_at_the_top(chest):
    around = ndimage.binary_dilation(chest.labels == AIRWAY)
    assert set(np.unique(chest.labels[around])) == {0, RIGHT_LUNG, LEFT_LUNG, AIRWAY}
    assert (chest.labels[-1] == AIRWAY).any()
    assert not np.isin(chest.labels[-1], (RIGHT_LUNG, LEFT_LUNG)).any()


def test_tissues_have_their_hounsfield_units(chest):
    inside = ndimage.binary_erosion(np.isin(chest.labels, (RIGHT_LUNG, LEFT_LUNG)), iterations=2)
    assert np.median(chest.hu[inside]) == pytest.approx(-860, abs=30)
    assert np.median(chest.hu[:, :8]) == pytest.approx(-1000, abs=5)
    lumen = ndimage.binary_erosion(chest.labels == AIRWAY, np.ones((1, 3, 3)))
    assert np.median(chest.hu[lumen]) == pytest.approx(-1000, abs=25)


def test_litres_do_not_depend_on_the_grid(chest):
    finer = phantom((100, 120, 140), (2.5, 2.7, 2.3))
    for label in (RIGHT_LUNG, LEFT_LUNG):
        assert finer.litres(label) == pytest.approx(chest.litres(label), rel=0.02)
        assert 1.2 < chest.litres(label) < 2.5


def test_lungs_all_but_meet_in_front_and_stay_apart(chest):
    right, left = (chest.labels == label for label in (RIGHT_LUNG, LEFT_LUNG))
    assert not (ndimage.binary_dilation(right) & left).any()
    assert (ndimage.binary_dilation(right, iterations=3) & left).any()


def test_the_table_cuts_the_outside_air_in_two(chest):
    air = ndimage.label(chest.hu[30] < -500)[0]
    assert air[0, 0] != air[-1, 0]
    assert air[0, 0] != 0
    assert air[-1, 0] != 0


def test_stomach_gas_has_the_volume_asked_for_and_spares_the_lungs():
    grid = {"shape": (100, 96, 120), "spacing_mm": (3.0, 3.0, 3.0)}
    without, with_gas = (phantom(**grid, stomach_gas_litres=v) for v in (0.0, 0.2))
    gas = (with_gas.hu < -500) & (without.hu > -500)
    assert gas.sum() * with_gas.grid.voxel_litres == pytest.approx(0.2, rel=0.1)
    assert not (gas & (with_gas.labels > 0)).any()


def test_nodules_are_lung_in_the_truth():
    none, some = (phantom(noise_hu=0.0, nodules=n) for n in (0, 6))
    solid = (some.hu > -200) & (none.hu < -600)
    assert solid.sum() > 50
    assert np.isin(some.labels[solid], (RIGHT_LUNG, LEFT_LUNG)).all()
    assert np.array_equal(none.labels, some.labels)


@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 24)] * 3),
    spacing_mm=st.tuples(*[st.floats(0.5, 20.0)] * 3),
    seed=st.integers(0, 2**32),
)
def test_any_grid_can_be_drawn_on(shape, spacing_mm, seed):
    chest = phantom(shape, spacing_mm, seed=seed, stomach_gas_litres=0.1)
    assert chest.hu.shape == chest.labels.shape == chest.grid.shape == shape
    assert chest.hu.dtype == np.int16
    assert chest.hu.min() >= -1024
    assert chest.labels.max() <= AIRWAY
    centre = chest.grid.to_patient((np.asarray(shape) - 1) / 2)
    assert centre == pytest.approx((0, 0, 0), abs=1e-9)


def test_a_cohort_written_twice_has_the_same_bytes(cohort, tmp_path):
    write_cohort(tmp_path, **SMALL)

    def digests(folder):
        return {
            path.relative_to(folder): hashlib.sha256(path.read_bytes()).digest()
            for path in folder.rglob("*.dcm")
        }

    assert digests(tmp_path) == digests(cohort)
    assert sorted(path.name for path in cohort.iterdir()) == [scan.name for scan in COHORT]


def test_a_smaller_cohort_leaves_no_slice_of_a_larger_one_and_spares_other_files(tmp_path):
    target = tmp_path / COHORT[0].name
    write_cohort(tmp_path, shape=(9, 16, 16), scans=COHORT[:1])
    (target / "IMMY-OWN.dcm").touch()
    write_cohort(tmp_path, shape=(5, 16, 16), scans=COHORT[:1])
    assert len(list(target.iterdir())) == 6
    (target / "IMMY-OWN.dcm").unlink()
    heights = np.diff([float(d.ImagePositionPatient[2]) for d in slices(target)])
    assert list(heights) == [4.0] * 4


def test_the_bytes_returned_are_the_bytes_written(tmp_path):
    written = write_cohort(tmp_path, **SMALL, scans=COHORT[:1])
    assert written == sum(path.stat().st_size for path in tmp_path.rglob("*.dcm"))


@pytest.mark.parametrize("scan", COHORT, ids=lambda scan: scan.name)
def test_every_series_is_a_valid_ct_series(cohort, scan):
    found = slices(cohort / scan.name)
    assert len({dataset.SeriesInstanceUID for dataset in found}) == 1
    assert {dataset.Modality for dataset in found} == {"CT"}
    for dataset in found:
        for uid in (dataset.SOPInstanceUID, dataset.SeriesInstanceUID, dataset.StudyInstanceUID):
            assert uid.is_valid
            assert uid.startswith("2.25.")
    by_name = [pydicom.dcmread(path) for path in sorted((cohort / scan.name).iterdir())]
    heights = [dataset.ImagePositionPatient[2] for dataset in by_name]
    assert heights != sorted(heights)


def test_series_differ(cohort):
    uids = {slices(cohort / scan.name)[0].SeriesInstanceUID for scan in COHORT}
    assert len(uids) == len(COHORT)


def test_the_plain_series_holds_the_chest_where_it_lies(tmp_path):
    write_cohort(tmp_path, **SMALL, scans=COHORT[:1])
    found = slices(tmp_path / COHORT[0].name)
    hu = np.stack(
        [d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in found]
    )
    # An upright chest: the airway leaves through the last slice, the table lies at high y.
    table = (np.abs(hu - 150) < 60).sum(axis=(0, 2))
    assert np.argmax(table) > hu.shape[1] / 2
    middle = hu[-1, hu.shape[1] // 2 + 1, hu.shape[2] // 2 - 1 : hu.shape[2] // 2 + 1]
    assert middle.max() < -300
    assert {float(d.PixelSpacing[0]) for d in found} == {6.5}


def test_one_slice_is_there_twice(cohort):
    found = Counter(dataset.SOPInstanceUID for dataset in slices(cohort / "patient-02"))
    assert sorted(found.values()) == [1] * 19 + [2]
    contents = Counter(path.read_bytes() for path in (cohort / "patient-02").iterdir())
    assert max(contents.values()) == 2


def test_two_slices_are_missing(cohort):
    heights = [float(d.ImagePositionPatient[2]) for d in slices(cohort / "patient-03")]
    assert sorted(Counter(np.diff(heights)).items()) == [(12.0, 16), (36.0, 1)]


def test_padding_fills_the_corners_and_only_outside_the_circle(cohort):
    for dataset in slices(cohort / "patient-04"):
        assert dataset.PixelPaddingValue == PADDING_STORED
        padding = dataset.pixel_array == PADDING_STORED
        assert padding[0, 0]
        assert padding[-1, -1]
        assert padding.mean() == pytest.approx(1 - np.pi / 4, abs=0.02)


def test_compressed_oblong_series_decodes_to_a_chest(cohort):
    found = slices(cohort / "patient-05")
    assert {d.file_meta.TransferSyntaxUID for d in found} == {pydicom.uid.RLELossless}
    row_mm, column_mm = map(float, found[0].PixelSpacing)
    assert row_mm / column_mm == pytest.approx(1.25)
    hu = np.stack([d.pixel_array for d in found]) - 1024.0
    assert np.median(hu[:, 0]) == pytest.approx(-1000, abs=10)
    numbers = [int(d.InstanceNumber) for d in found]
    assert sorted(numbers) == list(range(1, 21))
    assert numbers != sorted(numbers)


def test_upper_slices_are_half_as_far_apart_again(cohort):
    heights = [float(d.ImagePositionPatient[2]) for d in slices(cohort / "patient-06")]
    steps = np.diff(heights)
    assert set(steps) == {12.0, 18.0}
    assert list(steps) == sorted(steps)
