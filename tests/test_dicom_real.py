"""Real scans and hostile files: known hashes, known verdicts, and errors of our own only."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pydicom
import pytest

from fastlung.errors import GeometryError, ScanError, UnsupportedError
from fastlung.hounsfield import to_hu
from fastlung.io.dicom import index_series, list_series, load_series, read_series
from fastlung.io.dicom.pixels import read_words

pytestmark = pytest.mark.data

CHEST = {
    "lidc-idri-0306": ("98355e994a40daf4", 123, (2.5, 0.617188, 0.617188)),
    "lung-dx-a0001-5mm": ("25ea476e500e8e1b", 64, (5.0, 0.841796875, 0.841796875)),
    "lung-dx-a0002-8mm": ("883346cf8fb735c8", 30, (8.0, 0.646484375, 0.646484375)),
}


@pytest.mark.compiled
@pytest.mark.parametrize("name", sorted(CHEST))
def test_chest_series_have_their_known_hash(data_dir: Path, name):
    expected, slices, spacing = CHEST[name]
    raw = read_series(data_dir / "chest" / name)
    hu, grid = to_hu(raw, replace_padding=False)
    assert hashlib.sha256(hu.astype("<i2").tobytes()).hexdigest()[:16] == expected
    assert raw.verdict.classes == ("regular",)
    assert grid.shape == (slices, 512, 512)
    assert grid.spacing_mm == spacing


@pytest.mark.parametrize("name", sorted(CHEST))
def test_every_slice_index_maps_to_its_own_position(data_dir: Path, name):
    folder = data_dir / "chest" / name
    (series,) = list_series(folder).series
    index = np.array([[z, 0, 0] for z in range(len(series.headers))])
    told = [
        pydicom.dcmread(folder / header.key, specific_tags=["ImagePositionPatient"])[
            "ImagePositionPatient"
        ].value
        for header in series.headers
    ]
    assert np.abs(series.grid.to_patient(index) - np.array(told, float)).max() < 0.01
    assert (np.diff(series.slice_positions_mm) > 0).all()


def test_padding_is_found_where_the_files_declare_it(data_dir: Path):
    (series,) = list_series(data_dir / "chest" / "lidc-idri-0306").series
    assert {(h.coding.padding_low, h.coding.padding_high) for h in series.headers} == {
        (-2000, -2000)
    }
    (series,) = list_series(data_dir / "awkward" / "tilt-variable-spacing-ge").series
    assert {h.coding.padding_low for h in series.headers} == {-1500}


@pytest.mark.parametrize(
    ("folder", "classes", "numbers"),
    [
        (
            "tilt-variable-spacing-ge",
            ("variable", "tilted"),
            {"tilt_deg": -18.5, "min_step_mm": 1.081, "max_step_mm": 6.999, "slices": 28},
        ),
        ("messy-study-philips/S21610/S2010", ("tilted",), {"tilt_deg": -18.5, "slices": 54}),
        ("messy-study-philips/S21610/S3010", ("tilted",), {"tilt_deg": 16.5, "slices": 58}),
        ("dicom2nifti-failing/gantrytilting/001", ("tilted",), {"tilt_deg": -14.0}),
        (
            "dicom2nifti-failing/notavolume/001",
            ("multi_acquisition", "short"),
            {"clashing_slices": 3},
        ),
        ("dicom2nifti-failing/sliceincrement/002", ("gap", "tilted"), {"missing_slices": 1}),
    ],
)
def test_awkward_series_are_named_measured_and_refused(data_dir: Path, folder, classes, numbers):
    (series,) = list_series(data_dir / "awkward" / folder).series
    assert series.verdict.classes == classes
    for name, value in numbers.items():
        assert series.verdict.numbers[name] == pytest.approx(value, abs=1e-3)
    with pytest.raises(GeometryError):
        read_series(data_dir / "awkward" / folder)


def test_a_missing_slice_is_a_gap_and_read(data_dir: Path):
    raw = read_series(data_dir / "awkward/dicom2nifti-failing/sliceincrement/001")
    assert raw.verdict.classes == ("gap",)
    np.testing.assert_allclose(raw.slice_positions_mm, [0, 5, 10, 20], atol=1e-5)


def test_a_series_of_empty_uids_is_read_like_pydicom_reads_it(data_dir: Path):
    folder = data_dir / "awkward" / "empty-uids-j2k"
    raw = read_series(folder)
    assert raw.series_uid == ""
    assert raw.grid.spacing_mm == (2.0, 0.9765625, 0.9765625)
    assert raw.stored.shape == (20, 512, 512)
    assert raw.acquisition["SliceThickness"] == 3.0
    assert 0 <= raw.stored.min() < raw.stored.max() < 4096


def test_a_study_as_a_scanner_exports_it_is_sorted_out(data_dir: Path):
    study = data_dir / "awkward" / "messy-study-philips"
    blobs = {
        str(path.relative_to(study)): path.read_bytes()
        for path in sorted(study.rglob("*"))
        if path.is_file()
    }
    index = index_series(blobs)
    assert sorted(len(series.headers) for series in index.series) == [54, 58]
    assert index.broken == ()
    reasons = list(index.skipped.values())
    assert reasons.count("a localizer") == 1
    assert sum("secondary capture" in reason for reason in reasons) == 5
    assert sum("DICOMDIR" in reason for reason in reasons) == len(reasons) - 6


def test_enhanced_multiframe_is_refused_by_name(data_dir: Path):
    with pytest.raises(UnsupportedError, match="Enhanced CT"):
        read_series(data_dir / "awkward" / "enhanced")


def test_hostile_files_end_in_our_own_errors(data_dir: Path):
    corpus = data_dir / "hostile" / "fuzz" / "fuzz_corpus_v3"
    paths = sorted(corpus.rglob("*.dcm"))
    assert len(paths) > 500
    accounted = 0
    for path in paths:
        blob = path.read_bytes()
        index = index_series({path.name: blob})
        accounted += len(index.series) + len(index.skipped)
        for series in index.series:
            with pytest.raises(ScanError):  # one slice is never a volume
                load_series(series, {path.name: blob})
    assert accounted == len(paths)


def test_hostile_files_do_no_harm_when_their_pixels_are_reached(data_dir: Path):
    # The corpus holds no spacing and no scale, so its files stop there; given those, they go on.
    corpus = data_dir / "hostile" / "fuzz" / "fuzz_corpus_v3"
    given = (
        b"\x28\x00\x30\x00DS\x08\x000.7\\0.7 "
        b"\x28\x00\x52\x10DS\x02\x000 "
        b"\x28\x00\x53\x10DS\x02\x001 "
    )
    bits = b"\x28\x00\x00\x01US\x02\x00"
    reached = 0
    for path in sorted(corpus.rglob("*.dcm")):
        blob = path.read_bytes().replace(bits, given + bits, 1)
        for series in index_series({"a": blob}).series:
            for header in series.headers:
                if isinstance(header.coding, ScanError):
                    continue
                reached += 1
                try:
                    out = np.empty((header.rows, header.columns), np.uint16)
                    read_words(header.coding, header.transfer_syntax, blob, out)
                except ScanError:
                    continue
    assert reached > 50


def test_reading_like_a_pydicom_loop(data_dir: Path):
    folder = data_dir / "chest" / "lung-dx-a0002-8mm"
    raw = read_series(folder)
    slices = [pydicom.dcmread(io.BytesIO(p.read_bytes())) for p in folder.glob("*.dcm")]
    slices.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
    np.testing.assert_array_equal(raw.stored, np.stack([ds.pixel_array for ds in slices]))
