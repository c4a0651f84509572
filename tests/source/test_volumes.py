"""MetaImage and NIfTI as SimpleITK writes them are the same voxels at the same patient points."""

import gzip
import itertools

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its own name

from fastlung import build_config, process_scan, to_hu
from fastlung.errors import FastlungError, ScanError
from fastlung.source.volumes import HEAD_BYTES, index_volume, load_volume

RNG = np.random.default_rng(7)
ENDINGS = ("a.mhd", "a.mha", "a.nii", "a.nii.gz")
TURNED = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
TILTED = np.array([[1.0, 0.0, 0.0], [0.0, 0.96, -0.28], [0.0, 0.28, 0.96]])
#: Sagittal storage, x running against LPS, and a left-handed stack.
DIRECTIONS = {
    "plain": np.eye(3),
    "oblique": TURNED @ TILTED,
    "flipped": np.diag([-1.0, -1.0, 1.0]),
    "left-handed": np.diag([1.0, 1.0, -1.0]),
    "sagittal": np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]),
}


def smooth_hu(shape=(9, 11, 13)):
    """Values that vary along every axis and have no symmetry, shape (z, y, x)."""
    z, y, x = np.ogrid[tuple(slice(n) for n in shape)]
    return (-1000 + 60 * z + 25 * y + 11 * x + 0 * RNG.integers(0, 2)).astype(np.int16)


def image_of(voxels, direction=DIRECTIONS["plain"]):
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-120.5, 33.25, -801.0))
    image.SetDirection(direction.ravel().tolist())
    return image


def files_of(image, folder, name, *, compressed=False):
    sitk.WriteImage(image, str(folder / name), compressed)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def loaded(files):
    heads = {name: data[:HEAD_BYTES] for name, data in files.items()}
    (series,) = index_volume(heads).series
    return load_volume(series, files)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", ENDINGS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_simpleitk_agrees_on_voxels_and_points(tmp_path, name, direction, compressed):
    voxels = smooth_hu()
    image = image_of(voxels, DIRECTIONS[direction])
    raw = loaded(files_of(image, tmp_path, name, compressed=compressed))
    back = sitk.ReadImage(str(tmp_path / name))
    hu, grid = to_hu(raw)
    np.testing.assert_array_equal(hu, sitk.GetArrayFromImage(back))
    for index in RNG.uniform(0, np.array(voxels.shape) - 1, (20, 3)):
        point = back.TransformContinuousIndexToPhysicalPoint(index[::-1].tolist())
        np.testing.assert_allclose(grid.to_patient(index), point, atol=1e-3)


@pytest.mark.compiled
@pytest.mark.parametrize("name", ["a.mha", "a.nii.gz"])
@pytest.mark.parametrize("direction", [key for key in DIRECTIONS if key != "oblique"])
def test_a_processed_volume_has_the_same_values_at_the_same_points(tmp_path, name, direction):
    image = image_of(smooth_hu(), DIRECTIONS[direction])
    raw = loaded(files_of(image, tmp_path, name))
    result = process_scan(raw, build_config(order=1, mask="none", spacing_mm=1.0))
    z, y, x = result.grid.shape
    inner = itertools.product(range(4, z - 4, 3), range(2, y - 2, 2), range(2, x - 2, 2))
    points = [(index, result.grid.to_patient(index)) for index in inner]
    linear = sitk.Cast(image, sitk.sitkFloat64)
    compared = 0
    for index, point in points:
        place = image.TransformPhysicalPointToContinuousIndex(point.tolist())
        if all(0 <= p <= n - 1 for p, n in zip(place, image.GetSize(), strict=True)):
            assert abs(result.image[index] - linear.EvaluateAtPhysicalPoint(point.tolist())) <= 1
            compared += 1
    assert compared >= 20


@pytest.mark.parametrize("name", ["a.mha", "a.nii"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint16])
def test_other_words_are_rounded_and_saturated(tmp_path, name, dtype):
    values = np.array([-1000.5, -999.5, -300.2, 0.49, 1.5, 70_000.0, 5.0, 6.0]).reshape(2, 2, 2)
    if dtype == np.uint16:
        values = np.abs(values)
    with np.errstate(invalid="ignore"):
        voxels = values.clip(*(0, 65_535) if dtype == np.uint16 else (-1e6, 1e6)).astype(dtype)
    files = files_of(image_of(voxels), tmp_path, name)
    if dtype == np.uint16:
        with pytest.raises(ScanError, match="expected air below -200 HU"):
            loaded(files)
        return
    hu, _ = to_hu(loaded(files))
    np.testing.assert_array_equal(hu, np.clip(np.rint(voxels.astype(float)), -32767, 32767))


def test_nifti_scaling_units_and_version_two_are_honoured():
    stored = np.arange(24, dtype=np.int16).reshape(4, 3, 2)
    for kind in (nib.Nifti1Image, nib.Nifti2Image):
        image = kind(stored, np.diag([-0.001, -0.002, 0.003, 1.0]))
        image.header.set_slope_inter(10.0, -1024.0)
        image.header.set_xyzt_units("meter")
        image.set_sform(image.affine, 1)
        # nibabel scales when it writes; stored words and header are put together by hand.
        data = image.header.binaryblock + bytes(4) + stored.tobytes("F")
        raw = loaded({"x.nii": data})
        hu, grid = to_hu(raw)
        np.testing.assert_array_equal(hu, (stored * 10 - 1024).transpose(2, 1, 0))
        assert grid.spacing_mm == pytest.approx((3.0, 2.0, 1.0))


def test_big_endian_metaimage_with_a_header_to_skip():
    voxels = smooth_hu((3, 4, 5))
    header = (
        "NDims = 3\nDimSize = 5 4 3\nElementSpacing = 1 1 2\nElementByteOrderMSB = True\n"
        "HeaderSize = 7\nElementType = MET_SHORT\nElementDataFile = other-name.raw\n"
    )
    files = {"x.mhd": header.encode(), "x.raw": b"skipped" + voxels.astype(">i2").tobytes()}
    np.testing.assert_array_equal(to_hu(loaded(files))[0], voxels)


def test_several_gzip_streams_are_one_file(tmp_path):
    files = files_of(image_of(smooth_hu()), tmp_path, "a.nii")
    plain = files["a.nii"]
    blocks = b"".join(gzip.compress(plain[at : at + 500]) for at in range(0, len(plain), 500))
    np.testing.assert_array_equal(to_hu(loaded({"a.nii.gz": blocks}))[0], smooth_hu())


def test_the_series_uid_comes_from_a_file_name_that_is_one(tmp_path):
    files = files_of(image_of(smooth_hu()), tmp_path, "a.mha")
    for key, uid in [("x/1.3.6.1.4.mha", "1.3.6.1.4"), ("Doe^John.mha", ""), ("1..2.mha", "1..2")]:
        (series,) = index_volume({key: files["a.mha"]}).series
        assert series.series_uid == uid


def test_masks_are_left_out_and_what_is_no_ct_is_refused(tmp_path):
    mask = image_of(np.ones((3, 3, 3), np.uint8))
    index = index_volume(files_of(mask, tmp_path, "a.nii.gz"))
    assert index.series == ()
    assert "a mask or a picture" in index.skipped["a.nii.gz"]
    wide = image_of(np.ones((3, 3, 3), np.int16))
    with pytest.raises(ScanError, match=r"darkest voxel is 1, expected air below -200 HU"):
        loaded(files_of(wide, tmp_path, "a.nii.gz"))


MHD = "NDims = 3\nDimSize = 5 4 3\nElementSpacing = 1 1 2\nElementType = MET_SHORT\n"
BAD = {
    "no data file named": MHD,
    "several data files": MHD + "ElementDataFile = LIST\n",
    "a pattern": MHD + "ElementDataFile = slice%03d.raw 1 3 1\n",
    "two channels": MHD + "ElementNumberOfChannels = 2\nElementDataFile = LOCAL\n",
    "text": MHD + "BinaryData = False\nElementDataFile = LOCAL\n",
    "complex": MHD.replace("SHORT", "WEIRD") + "ElementDataFile = LOCAL\n",
    "too few numbers": MHD.replace("5 4 3", "5 4") + "ElementDataFile = LOCAL\n",
    "no numbers": MHD.replace("5 4 3", "five four three") + "ElementDataFile = LOCAL\n",
    "NaN": MHD.replace("1 1 2", "1 nan 2") + "ElementDataFile = LOCAL\n",
    "metres": MHD.replace("1 1 2", "0.001 0.001 0.002") + "ElementDataFile = LOCAL\n",
    "sheared": MHD + "TransformMatrix = 1 0 0 0.5 1 0 0 0 1\nElementDataFile = LOCAL\n",
    "empty": MHD.replace("5 4 3", "5 0 3") + "ElementDataFile = LOCAL\n",
    "huge": MHD.replace("5 4 3", "99999 99999 99999") + "ElementDataFile = LOCAL\n",
    "cut short": MHD + "ElementDataFile = LOCAL\n123",
    "not deflated": MHD + "CompressedData = True\nElementDataFile = LOCAL\n" + "123" * 99,
    "no .raw": MHD + "ElementDataFile = x.raw\n",
}


@pytest.mark.parametrize("what", BAD)
def test_bad_headers_become_one_sentence(what):
    files = {"x.mhd": BAD[what].encode()}
    index = index_volume(files)
    if index.broken:
        assert index.skipped["x.mhd"]
        return
    with pytest.raises(ScanError):
        load_volume(index.series[0], files)


def test_a_nifti_without_a_place_in_the_patient_is_refused():
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), None)
    image.header["qform_code"] = image.header["sform_code"] = 0
    data = image.header.binaryblock + bytes(4 + 16)
    assert "left and right cannot be told" in index_volume({"x.nii": data}).skipped["x.nii"]


def test_any_header_is_read_or_refused(tmp_path):
    for name in ("a.mha", "a.nii"):
        whole = files_of(image_of(smooth_hu((2, 3, 4))), tmp_path, name)[name]
        for _ in range(300):
            bad = bytearray(whole)
            for at in RNG.integers(0, min(len(whole), 360), 3):
                bad[at] = RNG.integers(0, 256)
            try:
                index = index_volume({"x": bytes(bad)})
                if index.series:
                    load_volume(index.series[0], {"x": bytes(bad)})
            except FastlungError:
                continue
