"""Real scans and hostile files: known hashes, known verdicts, and errors of our own only."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pydicom
import pytest

from fastlung.config import build_config
from fastlung.dicom import index_series, list_series, load_series, read_series
from fastlung.dicom.checks import Policy
from fastlung.dicom.pixels import read_words
from fastlung.errors import GeometryError, ScanError
from fastlung.pipeline import process_scan
from fastlung.volume.hounsfield import to_hu

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
    assert {(h.pixel_format.padding_low, h.pixel_format.padding_high) for h in series.headers} == {
        (-2000, -2000)
    }
    (series,) = list_series(data_dir / "awkward" / "tilt-variable-spacing-ge").series
    assert {h.pixel_format.padding_low for h in series.headers} == {-1500}


TILTED = {
    "tilt-variable-spacing-ge": (("variable", "tilted"), -18.5, 28),
    "messy-study-philips/S21610/S2010": (("tilted",), -18.5, 54),
    "messy-study-philips/S21610/S3010": (("tilted",), 16.5, 58),
    "dicom2nifti-failing/gantrytilting/001": (("tilted",), -14.0, 4),
    "dicom2nifti-failing/sliceincrement/002": (("gap", "tilted"), -15.5, 4),
}


def slow_twin(folder: Path, names):
    """Hounsfield units and positions of files as pydicom gives them."""
    slices = [pydicom.dcmread(folder / name) for name in names]
    hu = [ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept) for ds in slices]
    return np.stack(hu), np.array([ds.ImagePositionPatient for ds in slices], float)


@pytest.mark.compiled
@pytest.mark.parametrize("folder", sorted(TILTED))
def test_tilted_series_are_measured_and_each_slice_counts_where_it_lies(data_dir: Path, folder):
    classes, tilt, count = TILTED[folder]
    (series,) = list_series(data_dir / "awkward" / folder).series
    raw = read_series(data_dir / "awkward" / folder)

    assert raw.verdict.classes == classes
    assert raw.verdict.numbers["tilt_deg"] == pytest.approx(tilt, abs=0.05)
    assert raw.grid.shape == (count, 512, 512)
    hu, grid = to_hu(raw, replace_padding=False)
    truth, told_mm = slow_twin(
        data_dir / "awkward" / folder, [header.key for header in series.headers]
    )
    np.testing.assert_array_equal(hu, truth)
    axes = np.array(grid.direction)
    lies_mm = (
        np.array(grid.origin_mm)
        + np.multiply.outer(raw.slice_positions_mm, axes[:, 2])
        + raw.slice_shifts_mm[:, ::-1] @ axes[:, :2].T
    )
    assert np.abs(lies_mm - told_mm).max() < 0.01


def test_uneven_steps_keep_their_true_positions(data_dir: Path):
    raw = read_series(data_dir / "awkward" / "tilt-variable-spacing-ge")
    steps = np.diff(raw.slice_positions_mm)
    expected = [4.002] * 13 + [1.081] + [6.999] * 13
    np.testing.assert_allclose(steps, expected, atol=1e-3)


@pytest.mark.compiled
@pytest.mark.parametrize("folder", ["tilt-variable-spacing-ge", "messy-study-philips/S21610/S3010"])
def test_the_brightest_point_of_a_tilted_series_stays_where_it_was(data_dir: Path, folder):
    """A block painted into one slice is found at that slice's own patient point."""
    folder = data_dir / "awkward" / folder
    (series,) = list_series(folder).series
    raw = read_series(folder)
    raw.stored[:] = 0
    middle = len(series.headers) * 2 // 3
    raw.stored[middle, 200:212, 260:272] = 3000

    result = process_scan(raw, build_config(order=1, mask="none"))

    header = series.headers[middle]
    row, column = np.array(header.orientation[:3]), np.array(header.orientation[3:])
    y_mm, x_mm = np.multiply(header.pixel_spacing_mm, (205.5, 265.5))
    point_mm = np.array(header.position_mm) + x_mm * row + y_mm * column
    weight = np.clip(result.image - np.median(result.image), 0, None).astype(float)
    index = [(weight * axis).sum() / weight.sum() for axis in np.indices(weight.shape)]
    # Sampled at 1 mm, a block of 5 mm has its centre to a quarter of a voxel in its plane; along
    # the normal it leans to the wider step between uneven neighbours.
    normal = np.cross(row, column)
    off_mm = result.grid.to_patient(index) - point_mm
    assert np.abs(off_mm - (off_mm @ normal) * normal).max() < 0.25
    assert abs(off_mm @ normal) < 1.2


def test_slices_at_one_position_are_refused_or_dealt_out(data_dir: Path):
    folder = data_dir / "awkward/dicom2nifti-failing/notavolume/001"
    (series,) = list_series(folder).series
    assert series.verdict.classes == ("multi_acquisition", "short")
    assert series.verdict.numbers["clashing_slices"] == 3
    with pytest.raises(GeometryError, match="--on-duplicate split"):
        read_series(folder)
    dealt = list_series(folder, Policy(on_duplicate="split")).series
    assert [len(series.headers) for series in dealt] == [1] * 4


def test_a_missing_slice_is_a_gap_and_read(data_dir: Path):
    folder = data_dir / "awkward/dicom2nifti-failing/sliceincrement/001"
    raw = read_series(folder)
    assert raw.verdict.classes == ("gap",)
    np.testing.assert_allclose(raw.slice_positions_mm, [0, 5, 10, 20], atol=1e-5)
    assert read_series(folder, Policy(on_gap="nearest")).slice_breaks == (3,)
    parts = list_series(folder, Policy(on_gap="split")).series
    assert [len(part.headers) for part in parts] == [3, 1]
    with pytest.raises(GeometryError, match="--on-gap is fail"):
        read_series(folder, Policy(on_gap="fail"))


@pytest.mark.parametrize("folder", ["slicecount/001", "sliceorientation/001"])
def test_magnetic_resonance_is_skipped_by_name(data_dir: Path, folder):
    index = list_series(data_dir / "awkward/dicom2nifti-failing" / folder)
    assert index.series == ()
    assert set(index.skipped.values()) == {"modality MR, not a CT image"}


SYNTAXES = "awkward/transfer-syntaxes"
LOSSY = {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.53"}
LOSSY |= {"1.2.840.10008.1.2.4.55", "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.91"}


@pytest.mark.compiled
def test_each_transfer_syntax_alone_gives_the_original_image(data_dir: Path):
    short = Policy(min_slices=1)
    original = pydicom.dcmread(data_dir / SYNTAXES / "CTImage.dcm").pixel_array
    progressive = []
    seen = set()
    for file in sorted((data_dir / SYNTAXES).glob("CTImage*")):
        raw = read_series(file, short)
        syntax = raw.acquisition["TransferSyntaxUID"]
        seen.add(syntax)
        assert raw.grid.shape == (1, 512, 512)
        assert raw.grid.spacing_mm == (5.0, 0.675781, 0.675781)
        if syntax in LOSSY:
            hu, _ = to_hu(raw)
            expected, _ = to_hu(read_series(data_dir / SYNTAXES / "CTImage.dcm", short))
            assert np.median(np.abs(hu.astype(int) - expected)) <= 20
            progressive.append(raw.stored.tobytes()) if syntax[-2:] in ("51", "53", "55") else None
        else:
            np.testing.assert_array_equal(raw.stored[0].view(np.int16), original)
    assert len(seen) == 15
    assert len(progressive) == 3
    assert len(set(progressive)) == 1


@pytest.mark.parametrize(
    ("name", "reason"), [("no-pixel-data", "structured report"), ("no-pixel-spacing", "US")]
)
def test_what_has_no_pixels_or_no_spacing_is_skipped_by_name(data_dir: Path, name, reason):
    index = list_series(data_dir / SYNTAXES / f"{name}.dcm")
    assert index.series == ()
    assert reason in index.skipped[f"{name}.dcm"]


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


@pytest.mark.compiled
def test_an_enhanced_file_is_read_from_its_functional_groups(data_dir: Path):
    folder = data_dir / "awkward" / "enhanced"
    ds = pydicom.dcmread(folder / "eCT_Supplemental.dcm")
    (series,) = list_series(folder).series
    assert series.verdict.classes == ("short",)
    assert series.verdict.numbers["slices"] == 2

    raw = read_series(folder, Policy(min_slices=2))

    groups = ds.PerFrameFunctionalGroupsSequence
    told = np.array([g.PlanePositionSequence[0].ImagePositionPatient for g in groups], float)
    order = np.argsort(told @ np.array(raw.grid.direction)[:, 2])
    np.testing.assert_array_equal(raw.stored, ds.pixel_array[order])
    np.testing.assert_allclose(raw.grid.to_patient([[0, 0, 0], [1, 0, 0]]), told[order], atol=0.01)
    assert raw.grid.spacing_mm == (10.0, 0.388672, 0.388672)
    scale = ds.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0]
    np.testing.assert_allclose(raw.scale.slope, float(scale.RescaleSlope))
    np.testing.assert_allclose(raw.scale.intercept, float(scale.RescaleIntercept))


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
                if isinstance(header.pixel_format, ScanError):
                    continue
                reached += 1
                try:
                    out = np.empty((header.rows, header.columns), np.uint16)
                    read_words(header.pixel_format, header.transfer_syntax, blob, out)
                except ScanError:
                    continue
    assert reached > 50


def test_reading_like_a_pydicom_loop(data_dir: Path):
    folder = data_dir / "chest" / "lung-dx-a0002-8mm"
    raw = read_series(folder)
    slices = [pydicom.dcmread(io.BytesIO(p.read_bytes())) for p in folder.glob("*.dcm")]
    slices.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
    np.testing.assert_array_equal(raw.stored, np.stack([ds.pixel_array for ds in slices]))
