"""Headers of NIfTI and MetaImage mean what SimpleITK says they mean, or are refused by name."""

import itertools
import struct

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its own name

from fastlung.errors import MetadataError, ScanError
from fastlung.source.volumes import index_volume, load_volume

HU = (np.arange(4 * 5 * 6).reshape(4, 5, 6) - 1000).astype("<i2")


def affine(sizes=(3, 3, 3), turn_deg=0.0, flip=1, shear=0.0):
    cosine, sine = np.cos(np.deg2rad(turn_deg)), np.sin(np.deg2rad(turn_deg))
    turn = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    found = np.eye(4)
    found[:3, :3] = turn @ np.diag([-1.0 * flip, -1.0, 1.0]) @ np.diag(sizes)
    found[0, 2] += shear
    found[:3, 3] = 14.5, 12.5, -30
    return found


def nifti(sform, qform, codes, *patches):
    image = nibabel.Nifti1Image(np.ascontiguousarray(HU.transpose(2, 1, 0)), None)
    image.header.set_qform(qform, codes[1])
    image.header.set_sform(sform, codes[0])
    image = nibabel.Nifti1Image(image.dataobj, None, image.header)
    image.header.set_qform(qform, codes[1])
    image.header.set_sform(sform, codes[0])
    raw = bytearray(image.to_bytes())
    for form, at, *values in patches:
        struct.pack_into(form, raw, at, *values)
    return bytes(raw)


def ours(blobs):
    index = index_volume(blobs)
    if index.loss is not None:
        raise index.loss
    return load_volume(index.series[0], blobs)


def assert_as_simpleitk(folder, blobs, name):
    for key, blob in blobs.items():
        (folder / key).write_bytes(blob)
    theirs = sitk.ReadImage(str(folder / name))
    raw = ours(blobs)
    np.testing.assert_allclose(raw.grid.spacing_mm[::-1], theirs.GetSpacing(), rtol=1e-5)
    np.testing.assert_allclose(raw.grid.origin_mm, theirs.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(np.ravel(raw.grid.direction), theirs.GetDirection(), atol=1e-5)
    np.testing.assert_array_equal(raw.stored.view(np.int16), sitk.GetArrayFromImage(theirs))


SFORMS = {
    "as the qform": affine(),
    "turned": affine(turn_deg=10),
    "mirrored": affine(flip=-1),
    "turned a little": affine(turn_deg=0.02),
    "without spacing": affine((1, 1, 1)),
    "another spacing": affine((3, 3, 2)),
    "sheared": affine(shear=1.0),
    "empty": np.diag([0.0, 0, 0, 1]),
}


@pytest.mark.parametrize("name", SFORMS)
@pytest.mark.parametrize("codes", list(itertools.product((0, 1, 2, 4), (1, 2))))
def test_nifti_with_a_qform_lies_where_simpleitk_puts_it(tmp_path, name, codes):
    assert_as_simpleitk(tmp_path, {"a.nii": nifti(SFORMS[name], affine(), codes)}, "a.nii")


@pytest.mark.parametrize("name", ["as the qform", "turned", "mirrored"])
def test_nifti_with_an_sform_alone_lies_where_simpleitk_puts_it(tmp_path, name):
    assert_as_simpleitk(tmp_path, {"a.nii": nifti(SFORMS[name], affine(), (1, 0))}, "a.nii")


@pytest.mark.parametrize(
    ("sform", "codes", "pixdim"),
    [
        (affine((1, 1, 1)), (1, 0), (3, 3, 3)),
        (affine(), (1, 0), (1, 1, 1)),
        (affine(), (1, 1), (1, 1, 1)),
        (affine(), (1, 1), (0, 3, 3)),
        (affine(), (0, 1), (3, -3, 3)),
        (affine(), (1, 1), (float("nan"), 3, 3)),
    ],
)
def test_nifti_that_says_two_sizes_or_none_is_refused(sform, codes, pixdim):
    blob = nifti(sform, affine(), codes, ("<3f", 80, *pixdim))
    with pytest.raises(MetadataError, match="pixdim"):
        ours({"a.nii": blob})


@pytest.mark.parametrize("size", [100, 200, 5000, 30_000])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_extensions_may_be_of_any_length(size, kind):
    image = kind(np.ascontiguousarray(HU.transpose(2, 1, 0)), affine())
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"x" * size))
    raw = ours({"a.nii": image.to_bytes()})
    np.testing.assert_array_equal(raw.stored.view(np.int16), HU)
    np.testing.assert_allclose(raw.grid.affine_ras, affine(), atol=1e-5)


@pytest.mark.parametrize("patch", [("<2f", 112, 1.0, float("nan")), ("4s", 344, b"ni1\0")])
def test_a_nifti_header_that_peers_read_is_read(tmp_path, patch):
    assert_as_simpleitk(tmp_path, {"a.nii": nifti(affine(), affine(), (1, 1), patch)}, "a.nii")


FIRST = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
LAST = "DimSize = 6 5 4\nElementType = MET_SHORT\n"
WORDS = {
    "Offset": "1 2 3", "Position": "4 5 6", "Origin": "7 8 9",
    "ElementSpacing": "3 3 3", "ElementSize": "1 1 1",
    "TransformMatrix": "0 1 0 1 0 0 0 0 1", "Rotation": "1 0 0 0 0 1 0 1 0",
    "Orientation": "0 0 1 0 1 0 1 0 0",
}  # fmt: skip
PAIRS = [
    *itertools.permutations(("Offset", "Position", "Origin"), 2),
    *itertools.permutations(("ElementSpacing", "ElementSize"), 2),
    *itertools.permutations(("TransformMatrix", "Rotation", "Orientation"), 2),
]


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_metaimage_synonyms_have_a_rank_whatever_their_order(tmp_path, pair):
    spacing = "" if pair[0].startswith("Element") else "ElementSpacing = 3 3 3\n"
    text = FIRST + spacing + "".join(f"{name} = {WORDS[name]}\n" for name in pair) + LAST
    blob = f"{text}ElementDataFile = LOCAL\n".encode() + HU.tobytes()
    assert_as_simpleitk(tmp_path, {"a.mha": blob}, "a.mha")


@pytest.mark.parametrize("before", [0, 40])
@pytest.mark.parametrize("size", ["-1", "as it is"])
@pytest.mark.parametrize("end", ["\n", ""])
def test_metaimage_data_may_lie_at_the_end_of_a_file(tmp_path, before, size, end):
    shown = str(before) if size == "as it is" else size
    text = (
        f"{FIRST}ElementSpacing = 3 3 3\n{LAST}HeaderSize = {shown}\nElementDataFile = a.raw{end}"
    )
    blobs = {"a.mhd": text.encode(), "a.raw": bytes(before) + HU.tobytes()}
    assert_as_simpleitk(tmp_path, blobs, "a.mhd")


@pytest.mark.parametrize("change", [(" = ", ": "), ("\n", "\r\n"), ("MET_SHORT", "MET_LONG")])
def test_metaimage_may_be_spelt_otherwise(tmp_path, change):
    voxels = HU.astype("<i4") if "MET_LONG" in change else HU
    text = f"{FIRST}ElementSpacing = 3 3 3\n{LAST}ElementDataFile = LOCAL\n".replace(*change)
    assert_as_simpleitk(tmp_path, {"a.mha": text.encode() + voxels.tobytes()}, "a.mha")


@pytest.mark.parametrize(
    ("blob", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"", "an empty file"),
        (bytes(600), "zeros only"),
        (b"<html>404</html>" * 40, "neither MetaImage nor NIfTI"),
    ],
)
def test_a_volume_that_cannot_be_read_is_refused_in_words_of_volumes(blob, said):
    with pytest.raises(ScanError, match=said) as refused:
        ours({"folder/chest.nii": blob})
    assert "chest.nii cannot be read" in str(refused.value)
    assert "slice" not in str(refused.value)
