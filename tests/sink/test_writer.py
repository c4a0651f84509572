"""Other people's readers find the same voxels at the same points."""

import gzip
import io
import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from fastlung.config import build_config
from fastlung.scan import Grid, ScanResult, Verdict
from fastlung.sink.writer import encode, file_names

COS, SIN = np.cos(0.3), np.sin(0.3)
#: Oblique and anisotropic, so that a swapped axis or sign shows.
GRID = Grid(
    shape=(5, 7, 9),
    spacing_mm=(2.5, 0.75, 0.5),
    origin_mm=(-120.25, 33.5, -410.125),
    direction=((COS, -SIN, 0.0), (SIN, COS, 0.0), (0.0, 0.0, 1.0)),
)
RANDOM = np.random.default_rng(1)
HU = RANDOM.integers(-1024, 3000, GRID.shape).astype(np.int16)
FRACTIONS = RANDOM.random(GRID.shape, dtype=np.float32)
MASK = RANDOM.integers(0, 3, GRID.shape).astype(np.uint8)


def encoded(config, image=HU, mask=MASK):
    result = ScanResult(image=image, mask=mask, grid=GRID, window_hu=config.window_hu)
    return encode(
        result,
        acquired=GRID,
        verdict=Verdict(classes=("gap",)),
        acquisition={"KVP": 120.0},
        config=config,
    )


def joined(files):
    return {name: b"".join(bytes(piece) for piece in pieces) for name, pieces in files.items()}


@pytest.mark.parametrize("image", [HU, FRACTIONS], ids=["hu", "fractions"])
def test_numpy_reads_npy(image):
    files = joined(encoded(build_config(), image))
    for name, expected in (("image.npy", image), ("mask.npy", MASK)):
        found = np.load(io.BytesIO(files[name]))
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_npy_does_not_copy_the_voxels():
    _header, body = encoded(build_config())["image.npy"]
    assert np.shares_memory(np.frombuffer(body, np.int16), HU)


@pytest.mark.parametrize("image", [HU, FRACTIONS], ids=["hu", "fractions"])
def test_simpleitk_reads_nifti_at_the_same_points(tmp_path, image):
    files = joined(encoded(build_config(format="nifti"), image))
    for name, expected in (("image.nii.gz", image), ("mask.nii.gz", MASK)):
        (tmp_path / name).write_bytes(files[name])
        found = sitk.ReadImage(str(tmp_path / name))
        voxels = sitk.GetArrayFromImage(found)
        assert voxels.dtype == expected.dtype
        np.testing.assert_array_equal(voxels, expected)
        for z, y, x in [(0, 0, 0), (4, 6, 8), (1, 2, 3)]:
            point = found.TransformIndexToPhysicalPoint((x, y, z))
            np.testing.assert_allclose(point, GRID.to_patient((z, y, x)), atol=1e-3)


def test_nibabel_reads_the_affine_from_both_forms(tmp_path):
    path = tmp_path / "image.nii.gz"
    path.write_bytes(joined(encoded(build_config(format="nifti")))[path.name])
    image = nib.load(path)
    for affine, code in (image.get_qform(coded=True), image.get_sform(coded=True)):
        np.testing.assert_allclose(affine, GRID.affine_ras, atol=1e-4)
        assert code == 1
    assert image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), HU.T)


def test_gzip_is_whole_and_holds_no_time_and_no_name():
    data = joined(encoded(build_config(format="nifti")))["image.nii.gz"]
    assert data[:4] == b"\x1f\x8b\x08\x00"  # no flags: no name
    assert data[4:8] == bytes(4)  # no time
    assert gzip.decompress(data)[352:] == HU.tobytes()


@pytest.mark.parametrize("name", ["npy", "nifti"])
def test_the_same_result_gives_the_same_bytes(name):
    config = build_config(format=name)
    again = encoded(config, HU.copy(), MASK.copy())
    assert joined(encoded(config)) == joined(again)


def test_metadata_says_what_the_voxels_are():
    config = build_config("tutorial")
    plain = json.loads(joined(encoded(config, FRACTIONS))["metadata.json"])
    assert plain["grid"]["shape"] == [5, 7, 9]
    assert plain["grid"]["spacing_mm"] == [2.5, 0.75, 0.5]
    np.testing.assert_allclose(plain["affine_lps"], GRID.affine_lps)
    assert plain["window_hu"] == [-1000.0, 400.0]
    assert plain["labels"] == {"0": "background", "1": "lungs"}
    assert plain["verdict"]["classes"] == ["gap"]
    assert plain["acquisition"] == {"KVP": 120.0}
    assert plain["config_digest"] == config.digest


def test_two_ways_to_one_configuration_write_the_same_metadata():
    tutorial = build_config("tutorial")
    spelt = build_config("hu", **tutorial.model_dump(exclude={"preset"}))
    assert joined(encoded(tutorial, FRACTIONS)) == joined(encoded(spelt, FRACTIONS))


def test_without_a_mask_there_is_no_mask_file():
    config = build_config(mask="none")
    assert set(encoded(config, mask=None)) == {"image.npy", "metadata.json"}
    assert file_names(config) == ("image.npy", "metadata.json")
