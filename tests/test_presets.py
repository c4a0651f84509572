"""Presets named after networks, against each pipeline's own arithmetic written out plainly."""

import json

import numpy as np
import pytest
from raw_scans import raw_scan
from scipy import ndimage

from fastlung.config import build_config
from fastlung.demo.phantom import phantom
from fastlung.errors import ConfigError
from fastlung.pipeline import process_scan
from fastlung.scan import Grid, Verdict
from fastlung.sink.writer import encode

pytestmark = pytest.mark.compiled

#: Presets that flat options can say.
FLAT = ("hu", "tutorial", "grt123", "luna16-monai", "sybil", "lungmask", "nnunet-ct")


@pytest.fixture(scope="module")
def chest():
    return phantom((40, 60, 70), (6.0, 5.0, 5.0))


def ramp(shape=(4, 40, 50), spacing_mm=(2.5, 1.40625, 1.40625)):
    """Every Hounsfield unit from -1024 to 975, once per slice."""
    hu = np.tile(np.arange(-1024, 976).reshape(shape[1:]), (shape[0], 1, 1)).astype(np.int16)
    return hu, Grid(shape=shape, spacing_mm=spacing_mm, origin_mm=(5.0, -6.0, 7.0))


@pytest.mark.parametrize("mirrored", [False, True])
def test_luna16_monai_is_monais_arithmetic(chest, mirrored):
    """LoadImaged, Orientationd RAS, Spacingd (bilinear, border), ScaleIntensityRanged."""
    hu, grid = chest.hu, chest.grid
    if mirrored:
        corner = grid.to_patient((39, 0, 69))
        hu = np.ascontiguousarray(hu[::-1, :, ::-1])
        grid = Grid(
            shape=grid.shape, spacing_mm=grid.spacing_mm, origin_mm=tuple(corner.tolist()),
            direction=((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0)),
        )  # fmt: skip

    result = process_scan(raw_scan(hu, grid), build_config("luna16-monai", mask="none"))

    ras = chest.hu.transpose(2, 1, 0)[::-1, ::-1].astype(float)  # x to the right, y to the front
    wanted = np.array([0.703125, 0.703125, 1.25])
    have = np.array([5.0, 5.0, 6.0])
    shape = np.round((np.array(ras.shape) - 1) * have / wanted + 1).astype(int)
    at = np.meshgrid(
        *(np.arange(n) * w / h for n, w, h in zip(shape, wanted, have, strict=True)),
        indexing="ij",
        sparse=True,
    )
    resampled = ndimage.map_coordinates(ras, np.broadcast_arrays(*at), order=1, mode="nearest")
    expected = np.clip((resampled + 1024) / (300 + 1024), 0, 1)
    found = result.image.transpose(2, 1, 0)[::-1, ::-1]
    assert found.shape == expected.shape
    # Half a Hounsfield unit: the volume is int16 before the window.
    np.testing.assert_allclose(found, expected, atol=0.51 / 1324)
    first = chest.grid.to_patient((0, 59, 69))  # the voxel that comes first in RAS
    n_z, n_y, n_x = result.grid.shape
    np.testing.assert_allclose(result.grid.to_patient((0, n_y - 1, n_x - 1)), first, atol=1e-6)
    assert n_z == shape[2]


def test_sybil_is_sybils_bytes_less_their_mean():
    """apply_windowing(-600, 1500, 16 bit) // 256, Normalize, CropOrPad, plainly."""
    hu, grid = ramp()
    centre, width = -600 - 0.5, 1500 - 1
    sixteen = ((hu - centre) / width + 0.5) * 65535
    sixteen = np.where(hu <= centre - width / 2, 0, sixteen)
    sixteen = np.where(hu > centre + width / 2, 65535, sixteen)
    expected = (sixteen // 256 - 128.1722) / 87.1849

    whole = process_scan(raw_scan(hu, grid), build_config("sybil", mask="none"))

    assert whole.image.shape == (200, 256, 256)
    inside = (slice(98, 102), slice(108, 148), slice(103, 153))
    # Bytes are cut off: at most half a grey level from the line through their middle.
    difference = whole.image[inside] - expected
    assert np.abs(difference).max() <= 0.51 / 87.1849
    assert abs(difference[hu < 100].mean()) < 0.02 / 87.1849
    padding = whole.image.copy()
    padding[inside] = 0
    assert not padding.any()
    np.testing.assert_allclose(whole.grid.to_patient((98, 108, 103)), grid.origin_mm)
    assert whole.crop.offset == (-98, -108, -103)
    assert whole.crop.full_shape == grid.shape


def test_a_size_crops_as_well_as_pads(chest):
    raw = raw_scan(chest.hu, chest.grid)
    plain = process_scan(raw, build_config(spacing_mm=5.0))

    result = process_scan(raw, build_config(spacing_mm=5.0, size=(31, 101, 70)))

    first = (plain.grid.shape[0] - 31 + 1) // 2
    before = (101 - plain.grid.shape[1] + 1) // 2
    part = result.image[:, before : before + plain.grid.shape[1]]
    np.testing.assert_array_equal(part, plain.image[first : first + 31])
    np.testing.assert_array_equal(
        result.mask[:, before : before + plain.grid.shape[1]], plain.mask[first : first + 31]
    )
    assert (result.image[:, :before] == -1024).all()
    assert result.crop.offset == (first, -before, 0)


def test_lungmask_is_its_window_of_the_body(chest):
    raw = raw_scan(chest.hu, chest.grid)
    plain = process_scan(raw, build_config(mask="none", spacing_mm=5.0)).image

    result = process_scan(raw, build_config("lungmask", mask="none", spacing_mm=5.0))

    z, y, x = result.crop.offset
    part = plain[z:, y:, x:][: result.image.shape[0], : result.image.shape[1]]
    expected = (np.clip(part[:, :, : result.image.shape[2]], -1024, 600) + 1024.0) / 1624
    np.testing.assert_allclose(result.image, expected, atol=1e-6)
    assert result.image.size < 0.8 * plain.size


def test_nnunet_ct_is_clipping_and_a_z_score_of_the_data_set(chest):
    config = build_config(
        "nnunet-ct", window_hu=(-991.0, 362.0), standardise=(-158.58, 324.7), spacing_mm=5.0
    )
    raw = raw_scan(chest.hu, chest.grid)
    plain = process_scan(raw, build_config(mask="none", spacing_mm=5.0)).image

    result = process_scan(raw, config)

    expected = (np.clip(plain.astype(float), -991, 362) - -158.58) / 324.7
    np.testing.assert_allclose(result.image, expected, atol=1e-5)
    files = encode(result, acquired=chest.grid, verdict=Verdict(), acquisition={}, config=config)
    metadata = json.loads(b"".join(files["metadata.json"]))
    assert metadata["image_unit"] == "standard deviations from the mean"
    assert metadata["standardise"] == [-158.58, 324.7]


def test_nnunet_ct_says_which_constants_it_needs():
    with pytest.raises(ConfigError, match="percentile_00_5"):
        build_config("nnunet-ct")


@pytest.mark.parametrize(
    "wrong",
    [
        {"standardise": (0.0, 1.0)},
        {"standardise": (0.0, 1.0), "window_hu": (-1000, 400), "dtype": "uint8"},
        {"standardise": (0.0, 0.0), "window_hu": (-1000, 400)},
        {"size": (0, 5, 5)},
    ],
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"standardise|size"):
        build_config(**wrong)


@pytest.mark.parametrize("preset", FLAT)
def test_options_override_every_preset(preset):
    given = {"window_hu": (-991.0, 362.0), "standardise": (-158.6, 324.7)}
    fixed = {} if preset != "nnunet-ct" else given

    config = build_config(preset, spacing_mm=2.0, crop="lungs", margin_mm=10.0, **fixed)

    assert config.spacing_mm == (2.0, 2.0, 2.0)
    assert (config.crop, config.margin_mm) == ("lungs", 10.0)
    assert build_config(preset, crop="none", **fixed).margin_mm == 0.0
