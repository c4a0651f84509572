"""Every format, held to other people's readers and to `open_scan`: same voxels, same points."""

import io
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import xarray
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.transform import Rotation
from written_scans import OPTIONS, chest, files_of, written

from fastlung import open_scan
from fastlung.config import build_config
from fastlung.errors import FormatError
from fastlung.scan import Grid, ScanResult
from fastlung.sink.formats import FORMATS
from fastlung.sink.formats.zarr import EDGE
from fastlung.sink.writer import file_names

POINTS = 20

lengths = st.floats(0.3, 9.0)


@st.composite
def grids(draw, shape):
    """Oblique, anisotropic, and with axes that run any way."""
    turn = Rotation.from_euler("xyz", draw(st.tuples(*[st.floats(-180, 180)] * 3)), degrees=True)
    axes = turn.as_matrix()
    if draw(st.booleans()):
        axes[:, 0] *= -1
    return Grid(
        shape=shape,
        spacing_mm=draw(st.tuples(lengths, lengths, lengths)),
        origin_mm=draw(st.tuples(*[st.floats(-900, 900)] * 3)),
        direction=tuple(map(tuple, axes.tolist())),
    )


@st.composite
def results(draw):
    """Results of every dtype, with and without a mask, small and one block and a bit long."""
    shape = draw(st.sampled_from([(1, 1, 1), (3, 5, 4), (2, EDGE, 3), (2, 3, EDGE + 1)]))
    options = OPTIONS[dtype := draw(st.sampled_from(sorted(OPTIONS)))]
    seed = np.random.default_rng(draw(st.integers(0, 2**32)))
    image = seed.integers(0, 256, shape) if dtype == "uint8" else seed.normal(0, 500, shape)
    mask = draw(st.none() | hnp.arrays(np.uint8, shape, elements=st.integers(0, 2)))
    config = build_config(**options, mask="none" if mask is None else "default")
    result = ScanResult(
        image=image.astype(dtype),
        mask=mask,
        grid=draw(grids(shape)),
        window_hu=config.window_hu,
        zero_centre=config.zero_centre,
    )
    return result, config


def arrays_of(result):
    return {"image": result.image} if result.mask is None else {
        "image": result.image, "mask": result.mask,
    }  # fmt: skip


def random_indices(shape):
    return np.random.default_rng(0).integers(0, shape, (POINTS, 3))


def assert_same(found, expected):
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", FORMATS)
@given(case=results())
@settings(max_examples=25)
def test_open_scan_gives_back_what_was_written(name, case):
    result, config = case
    with tempfile.TemporaryDirectory() as folder:
        scan = open_scan(written(Path(folder) / "scan-7", result, config, name))
    assert scan.name == "scan-7"
    assert scan.grid == result.grid
    assert_same(scan.image, result.image)
    assert (scan.mask is None) == (result.mask is None)
    if result.mask is not None:
        assert_same(scan.mask, result.mask)
    assert (scan.window_hu, scan.zero_centre) == (result.window_hu, result.zero_centre)
    assert scan.image.flags.c_contiguous
    assert scan.image.flags.writeable


@pytest.mark.parametrize("name", ["nifti", "mha"])
@given(case=results())
@settings(max_examples=25)
def test_simpleitk_sees_the_same_voxels_at_the_same_points(name, case):
    result, config = case
    with tempfile.TemporaryDirectory() as folder:
        written(Path(folder), result, config, name)
        scan = open_scan(folder)
        files = FORMATS[name].file_names(tuple(arrays_of(result)))
        images = {
            file.partition(".")[0]: sitk.ReadImage(str(Path(folder) / file)) for file in files
        }
    for array, image in images.items():
        assert_same(sitk.GetArrayFromImage(image), getattr(scan, array))
        for index in random_indices(scan.grid.shape):
            # NIfTI's header holds single precision.
            tolerance = 1e-9 if name == "mha" else 2e-3
            point = image.TransformIndexToPhysicalPoint(index[::-1].tolist())
            np.testing.assert_allclose(point, scan.grid.to_patient(index), atol=tolerance)
            assert image[index[::-1].tolist()] == getattr(scan, array)[tuple(index)]


@given(case=results())
@settings(max_examples=25)
def test_nibabel_sees_the_same_voxels_at_the_same_points(case):
    result, config = case
    with tempfile.TemporaryDirectory() as folder:
        scan = open_scan(written(Path(folder), result, config, "nifti"))
        for array in arrays_of(result):
            image = nib.load(Path(folder) / f"{array}.nii.gz")
            assert_same(np.asanyarray(image.dataobj), getattr(scan, array).T)
            index = random_indices(scan.grid.shape)
            ras = nib.affines.apply_affine(image.affine, index[:, ::-1])
            lps = ras * [-1, -1, 1]
            np.testing.assert_allclose(lps, scan.grid.to_patient(index), atol=2e-3)


@given(case=results())
@settings(max_examples=15)
def test_zarr_sees_the_same_voxels_at_the_same_points(case):
    result, config = case
    with tempfile.TemporaryDirectory() as folder:
        scan = open_scan(written(Path(folder), result, config, "zarr"))
        group = zarr.open_group(Path(folder) / "scan.zarr", mode="r")
        assert set(group.array_keys()) == set(arrays_of(result))
        for array in arrays_of(result):
            assert_same(group[array][:], getattr(scan, array))
            held = group[array].attrs
            affine = np.asarray(held["direction"]) * held["spacing_mm"][::-1]
            index = random_indices(scan.grid.shape)
            points = index[:, ::-1] @ affine.T + held["origin_mm"]
            np.testing.assert_allclose(points, scan.grid.to_patient(index), atol=1e-9)
            for at in index[:3]:
                assert group[array][tuple(at)] == getattr(scan, array)[tuple(at)]


@pytest.mark.parametrize("dtype", OPTIONS)
def test_xarray_opens_the_group_with_named_dimensions(tmp_path, dtype):
    result, config = chest(dtype)
    written(tmp_path, result, config, "zarr")
    with xarray.open_zarr(tmp_path / "scan.zarr") as dataset:
        assert set(dataset.data_vars) == {"image", "mask"}
        assert dataset["image"].dims == ("z", "y", "x")
        assert_same(dataset["image"].values, result.image)
        assert_same(dataset["mask"].isel(z=slice(60, 70)).values, result.mask[60:70])
        assert dataset["image"].attrs["spacing_mm"] == [1.5, 1.0, 1.0]
        assert dataset.attrs["origin_mm"] == [1.0, 2.0, 3.0]


def test_a_zarr_array_is_one_sharded_object_and_empty_blocks_are_left_out():
    result, config = chest()
    files = files_of(result, config, "zarr")
    assert set(files) == {
        "metadata.json", "scan.zarr/zarr.json",
        "scan.zarr/image/zarr.json", "scan.zarr/image/c/0/0/0",
        "scan.zarr/mask/zarr.json", "scan.zarr/mask/c/0/0/0",
    }  # fmt: skip
    about = json.loads(files["scan.zarr/image/zarr.json"])
    assert about["chunk_grid"]["configuration"]["chunk_shape"] == [2 * EDGE, 2 * EDGE, 2 * EDGE]
    index = np.frombuffer(files["scan.zarr/image/c/0/0/0"][-132:-4], "<u8").reshape(8, 2)
    assert index[0].tolist() == [2**64 - 1, 2**64 - 1]
    assert index[1, 0] == 0


def test_a_damaged_index_is_refused(tmp_path):
    result, config = chest()
    written(tmp_path, result, config, "zarr")
    shard = tmp_path / "scan.zarr" / "mask" / "c" / "0" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[-20] ^= 1
    shard.write_bytes(data)
    with pytest.raises(FormatError, match="damaged"):
        open_scan(tmp_path)


@pytest.mark.parametrize("dtype", OPTIONS)
def test_numpy_reads_the_archive_and_the_grid_in_it(dtype):
    result, config = chest(dtype)
    data = files_of(result, config, "npz")["scan.npz"]
    with np.load(io.BytesIO(data)) as archive:
        assert_same(archive["image"], result.image)
        assert_same(archive["mask"], result.mask)
        assert archive["spacing_mm"].tolist() == [1.5, 1.0, 1.0]
        assert archive["origin_mm"].tolist() == [1.0, 2.0, 3.0]
        assert archive["direction"].tolist() == np.eye(3).tolist()


def test_other_programs_accept_the_archive(tmp_path):
    result, config = chest()
    path = tmp_path / "scan.npz"
    path.write_bytes(files_of(result, config, "npz")[path.name])
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert sum(info.compress_size for info in archive.infolist()) < path.stat().st_size
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-m", "zipfile", "--test", str(path)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert "Done testing" in done.stdout


@pytest.mark.parametrize("dtype", OPTIONS)
@pytest.mark.parametrize("name", FORMATS)
def test_bytes_are_the_same_every_time(name, dtype):
    first, second = (files_of(*chest(dtype), name) for _ in range(2))
    assert first == second
    assert tuple(first) == file_names(build_config(format=name))


@pytest.mark.parametrize("name", FORMATS)
def test_one_format_becomes_another_without_loss(name, tmp_path):
    """Read one, write the other, and the bytes are those of writing it at once."""
    result, config = chest()
    scan = open_scan(written(tmp_path, result, config, name))
    again = ScanResult(image=scan.image, mask=scan.mask, grid=scan.grid)
    for other in FORMATS:
        assert files_of(again, config, other) == files_of(result, config, other)


def test_headers_say_what_the_numbers_are(tmp_path):
    written(tmp_path / "nii", *chest("float32"), "nifti")
    header = nib.load(tmp_path / "nii" / "image.nii.gz").header
    assert header["descrip"].item() == b"-1000 to 400 HU as 0 to 1, minus 0.25"
    written(tmp_path / "mha", *chest("uint8"), "mha")
    text = (tmp_path / "mha" / "image.mha").read_bytes()[:500].decode("ascii", "replace")
    assert "Comment = -1200 to 600 HU as 0 to 255\n" in text
    assert "ElementType = MET_UCHAR\n" in text
    mask = (tmp_path / "mha" / "mask.mha").read_bytes()[:500].decode("ascii", "replace")
    assert "Comment = 0 background, 1 right lung, 2 left lung\n" in mask


@given(grid=grids((7, 8, 9)), points=hnp.arrays(float, (5, 3), elements=st.floats(-500, 500)))
def test_to_index_undoes_to_patient(grid, points):
    np.testing.assert_allclose(grid.to_patient(grid.to_index(points)), points, atol=1e-6)
    np.testing.assert_allclose(grid.to_index(grid.to_patient(points)), points, atol=1e-6)
    assert grid.to_patient([0, 0, 0]).tolist() == pytest.approx(list(grid.origin_mm))
