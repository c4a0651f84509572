"""Reading scans back: from where, as what, and with which sentence when it cannot be."""

import importlib.util
import json
import sys

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from tiny_series import write_source
from written_scans import chest, written

import fastlung
from fastlung import ScanResult, build_config, open_scan
from fastlung.errors import (
    ConfigError,
    FormatError,
    MissingPackageError,
    ObjectNotFoundError,
)
from fastlung.sink.formats import FORMATS

OPTIONAL = [
    ("SimpleITK", "to_sitk"),
    ("torch", "to_monai"),
    ("monai", "to_monai"),
    ("torchio", "to_torchio"),
]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("source"), 1)


def processed(source, sink, **options):
    """The folder of the only scan of a run."""
    summary = fastlung.process(str(source), str(sink), workers=0, spacing_mm=5.0, **options)
    (outcome,) = summary.outcomes
    assert outcome.status == "done"
    return sink / "scans" / outcome.name


@pytest.fixture(scope="module")
def plain(source, tmp_path_factory):
    return processed(source, tmp_path_factory.mktemp("plain"))


@pytest.mark.compiled
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_goes_through_a_run_and_is_made_again_when_deleted(
    source, plain, tmp_path, name
):
    folder = processed(source, tmp_path, format=name)
    scan, expected = open_scan(folder), open_scan(plain)
    np.testing.assert_array_equal(scan.image, expected.image)
    np.testing.assert_array_equal(scan.mask, expected.mask)
    assert scan.grid == expected.grid
    assert scan.name == folder.name
    assert scan.metadata["figures"] == expected.metadata["figures"]

    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    victims = FORMATS[name].file_names(("image", "mask"))
    (folder / victims[-1]).unlink()
    processed(source, tmp_path, format=name)
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert set(after) == set(before)
    assert all(after[folder / file] == before[folder / file] for file in victims)
    # Nothing is left to do now.
    again = fastlung.process(str(source), str(tmp_path), workers=0, spacing_mm=5.0, format=name)
    assert again.groups_already_done == 1


@pytest.mark.compiled
def test_another_format_leaves_nothing_of_the_first(source, tmp_path):
    folder = processed(source, tmp_path, format="zarr")
    processed(source, tmp_path, format="mha", overwrite=True)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    assert files == {
        "image.mha", "mask.mha", "metadata.json", "preview.png", "outcome.json", "group",
    }  # fmt: skip


@pytest.mark.compiled
def test_windows_on_reading_are_those_of_writing_bit_for_bit(source, plain, tmp_path):
    window = processed(source, tmp_path, window_hu=(-1000, 400), zero_centre=0.25)
    written_so = open_scan(window)
    read_so = open_scan(plain, normalise="tutorial")
    assert read_so.image.dtype == np.float32
    np.testing.assert_array_equal(read_so.image, written_so.image)
    assert (read_so.window_hu, read_so.zero_centre) == ((-1000.0, 400.0), 0.25)
    assert read_so.metadata["window_hu"] is None
    centred = open_scan(window, normalise=(-1000, 400))
    np.testing.assert_allclose(centred.image, written_so.image + 0.25, atol=1e-6)
    assert open_scan(window, normalise="tutorial").image.tobytes() == written_so.image.tobytes()


def test_hu_as_floats_and_bytes_can_be_normalised_too(tmp_path):
    result, _ = chest()
    image = result.image.astype(np.float32)
    bare = ScanResult(image=image, mask=None, grid=result.grid)
    folder = written(tmp_path / "f", bare, build_config(mask="none", dtype="float32"), "npy")
    scan = open_scan(folder, normalise=(-600, 600), zero_centre=0.5)
    expected = np.clip((image + 600.0) / 1200, 0, 1) - 0.5
    np.testing.assert_allclose(scan.image, expected, atol=1e-6)

    result, config = chest("uint8")
    folder = written(tmp_path / "u", result, config, "npz")
    scan = open_scan(folder, normalise=(-1200, 600), zero_centre=0.5)
    np.testing.assert_allclose(scan.image, result.image / 255.0 - 0.5, atol=1e-6)
    with pytest.raises(ConfigError, match="window -1200,600 and knows no HU outside"):
        open_scan(folder, normalise="tutorial")


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_of_the_scan_or_a_url_will_do(tmp_path, name, monkeypatch):
    folder = written(tmp_path / "scan-1", *chest(), name)
    first = FORMATS[name].file_names(("image", "mask"))[0].partition("/")[0]
    monkeypatch.chdir(folder)
    for path in (folder / first, f"{folder}/", f"file://{folder}", "metadata.json", "."):
        assert open_scan(path).name == "scan-1"


def test_what_is_no_scan_is_said_in_a_sentence(tmp_path):
    with pytest.raises(ObjectNotFoundError, match="expected the folder of one scan"):
        open_scan(tmp_path)
    (tmp_path / "metadata.json").write_text("{}")
    with pytest.raises(FormatError, match="not what this version writes"):
        open_scan(tmp_path)


@pytest.mark.parametrize("name", FORMATS)
def test_damage_is_named(tmp_path, name):
    folder = written(tmp_path, *chest(), name)
    victim = folder / FORMATS[name].file_names(("image", "mask"))[-1]
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    with pytest.raises(FormatError, match="damaged"):
        open_scan(folder)
    victim.unlink()
    with pytest.raises(ObjectNotFoundError, match=victim.name):
        open_scan(folder)


def test_files_of_two_runs_are_not_taken_for_one(tmp_path):
    written(tmp_path, *chest(), "npy")
    np.save(tmp_path / "mask.npy", np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(FormatError, match="files of two runs"):
        open_scan(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalise": "hu"}, "no preset with a window; expected 'tutorial'"),
        ({"normalise": (400, -1000)}, "low before high"),
        ({"normalise": (float("nan"), 1)}, "two numbers"),
        ({"zero_centre": 0.25}, "zero_centre needs normalise"),
    ],
)
def test_windows_that_are_none(tmp_path, options, message):
    written(tmp_path, *chest(), "npy")
    with pytest.raises(ConfigError, match=message):
        open_scan(tmp_path, **options)


@pytest.mark.parametrize("array", ["image", "mask"])
def test_other_libraries_get_the_same_voxels_at_the_same_points(tmp_path, array):
    scan = open_scan(written(tmp_path, *chest(), "npy"))
    voxels = getattr(scan, array)
    other, nifti, channels = scan.to_sitk(array), scan.to_nibabel(array), scan.channel_first(array)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(other), voxels)
    np.testing.assert_array_equal(np.asanyarray(nifti.dataobj), voxels.T)
    np.testing.assert_array_equal(channels[0].T, voxels)
    assert channels.flags.c_contiguous
    for index in np.random.default_rng(0).integers(0, voxels.shape, (20, 3)):
        point = scan.grid.to_patient(index)
        np.testing.assert_allclose(
            other.TransformIndexToPhysicalPoint(index[::-1].tolist()), point, atol=1e-9
        )
        ras = nib.affines.apply_affine(nifti.affine, index[::-1])
        np.testing.assert_allclose(ras * [-1, -1, 1], point, atol=1e-9)


@pytest.mark.parametrize(("package", "method"), OPTIONAL)
def test_a_missing_package_is_one_sentence(tmp_path, monkeypatch, package, method):
    scan = open_scan(written(tmp_path, *chest(), "npy"))
    if importlib.util.find_spec("torch") is None and package != "SimpleITK":
        package = "torch" if method == "to_monai" else "torchio"
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=rf"pip install {package}$"):
        getattr(scan, method)()


def test_monai_and_torchio_see_the_same_points(tmp_path):
    """As their own readers do, given the NIfTI files."""
    monai, torchio = pytest.importorskip("monai"), pytest.importorskip("torchio")
    scan = open_scan(written(tmp_path, *chest(), "nifti"))
    load = monai.transforms.LoadImage(image_only=True, ensure_channel_first=True, dtype=None)
    subject = scan.to_torchio()
    for array in ("image", "mask"):
        ours, theirs = scan.to_monai(array), load(tmp_path / f"{array}.nii.gz")
        assert tuple(ours.shape) == tuple(theirs.shape)
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
        np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-3)
        other = torchio.ScalarImage(tmp_path / f"{array}.nii.gz")
        np.testing.assert_array_equal(subject[array].numpy(), other.numpy())
        np.testing.assert_allclose(subject[array].affine, other.affine, atol=1e-3)


def test_a_scan_without_mask_has_none_to_give(tmp_path):
    result, _ = chest()
    bare = ScanResult(image=result.image, mask=None, grid=result.grid)
    scan = open_scan(written(tmp_path, bare, build_config(mask="none"), "mha"))
    assert scan.mask is None
    assert json.dumps(scan.metadata["labels"]) == "{}"
    with pytest.raises(ValueError, match="written without a mask"):
        scan.to_sitk("mask")
    with pytest.raises(ValueError, match="no 'labels'"):
        scan.channel_first("labels")
