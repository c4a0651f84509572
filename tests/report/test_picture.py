"""The picture of a scan: read back by another decoder, and measured."""

import io
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from raw_scans import raw_scan

from fastlung.config import build_config
from fastlung.demo.phantom import phantom
from fastlung.pipeline import process_scan
from fastlung.report.picture import (
    ADVANCE,
    COLOURS,
    HEIGHT,
    INK,
    LARGEST_BYTES,
    LEFT,
    RIGHT,
    WARNING,
    encode_png,
    lettering,
    picture,
)
from fastlung.scan import Flag, Grid, ScanResult

pytestmark = pytest.mark.compiled


def decoded(png):
    """Colour numbers, as Pillow reads them."""
    image = Image.open(io.BytesIO(png))
    assert (image.format, image.mode) == ("PNG", "P")
    assert not image.text
    return np.asarray(image)


def colours(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def ball(shape=(40, 100, 60), spacing_mm=(5.0, 2.0, 3.0), centre=(30, 30, 15), radius_mm=30.0):
    """A bright ball in air, up, in front and to the right of the middle; its mask is the ball."""
    grid = Grid(shape=shape, spacing_mm=spacing_mm, origin_mm=(0.0, 0.0, 0.0))
    index = np.indices(shape).reshape(3, -1).T
    away = np.linalg.norm((index - centre) * spacing_mm, axis=1).reshape(shape)
    image = np.where(away <= radius_mm, 200, -1000).astype(np.int16)
    mask = (away <= radius_mm).astype(np.uint8)
    return ScanResult(image=image, mask=mask, grid=grid, figures={"litres_right": 0.1})


def quarters(pixels, grid, pixel_mm):
    """The four panels: axial, projection, coronal, sagittal, without their borders."""
    z, y, x = (np.floor(np.multiply(grid.shape, grid.spacing_mm) / pixel_mm)).astype(int)
    top, left = max(y, z), x
    right = max(x, y)
    upper, lower = slice(0, top), slice(top + 4, top + 4 + z)
    return (
        pixels[upper, :left],
        pixels[upper, left + 4 : left + 4 + right],
        pixels[lower, :left],
        pixels[lower, left + 4 : left + 4 + right],
    )


def test_proportions_sides_and_outlines_are_the_patients():
    """A ball is round in every view, and lies where the patient's letters say."""
    result = ball()

    pixels = decoded(picture(result))

    # 180 x 200 mm in front view and 200 mm of depth: the finest pixels there are.
    for number, panel in enumerate(quarters(pixels, result.grid, 0.75)):
        bright = ((panel > 31) & (panel < 64)) | (panel == RIGHT)
        bright[:24] = False  # letters
        rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
        rows, columns = rows[rows < panel.shape[0] - 20], columns[columns < panel.shape[1] - 14]
        columns = columns[columns > 14]
        for extent in (rows, columns):
            assert np.ptp(extent) * 0.75 == pytest.approx(60, abs=6)
        height = rows.mean() / panel.shape[0]
        across = columns.mean() / panel.shape[1]
        assert height < 0.45, number  # in front, or up
        assert across < 0.45, number  # the patient's right, or front
    assert not (pixels == LEFT).any()


def test_outlines_are_one_pixel_and_of_both_lungs():
    chest = phantom((60, 80, 80), (4.0, 4.0, 4.0))
    mask = np.where(chest.labels == 3, 0, chest.labels).astype(np.uint8)
    result = ScanResult(image=chest.hu, mask=mask, grid=chest.grid)

    pixels = decoded(picture(result))

    right, left = np.argwhere(pixels == RIGHT), np.argwhere(pixels == LEFT)
    axial = pixels.shape[0] // 2
    assert right[right[:, 0] < axial][:, 1].max() < left[left[:, 0] < axial][:, 1].min() + 5
    inside = (pixels == RIGHT)[1:-1, 1:-1]
    around = sum(
        (pixels == RIGHT)[y : pixels.shape[0] - 2 + y, x : pixels.shape[1] - 2 + x]
        for y in range(3)
        for x in range(3)
    )
    assert not (inside & (around == 9)).any()


def test_the_scale_is_five_centimetres():
    pixels = decoded(picture(ball(shape=(80, 90, 150), spacing_mm=(2.0, 2.0, 2.0))))

    bars = [
        stop - start
        for row in pixels == INK
        for start, stop in pairwise(np.flatnonzero(np.diff(np.pad(row.astype(int), 1))))
        if row[start]
    ]
    assert max(bars) == round(50 / 0.75)  # the finest pixels there are


def test_flags_are_words_in_a_colour_of_their_own():
    plain = ball()
    flag = Flag(name="touches_fov", value=9.0, text="9 cm2 of lung in the first slice. " * 9)
    flagged = replace(plain, flags=(flag,))

    first, second = decoded(picture(plain)), decoded(picture(flagged))

    assert not (first == WARNING).any()
    assert (second == WARNING).any()
    assert second.shape[1] == first.shape[1]
    assert second.shape[0] > first.shape[0] + 3 * HEIGHT
    np.testing.assert_array_equal(second[: first.shape[0]], first)


def test_where_no_lung_was_found_the_brightest_of_all_are_shown():
    found = replace(ball(), figures={})
    nothing = replace(found, mask=np.zeros_like(found.mask))
    assert picture(nothing) == picture(replace(found, mask=None)) != picture(found)


@pytest.mark.parametrize(
    "options",
    [
        {"window_hu": (-1350.0, 150.0)},
        {"window_hu": (-1350.0, 150.0), "zero_centre": 0.25},
        {"window_hu": (-1350.0, 150.0), "dtype": "uint8"},
        {"window_hu": (-1350.0, 150.0), "standardise": (-600.0, 400.0)},
    ],
)
def test_what_the_numbers_are_does_not_change_the_picture(options):
    chest = phantom((40, 60, 70), (6.0, 5.0, 5.0))
    raw = raw_scan(chest.hu, chest.grid)
    plain = colours(picture(process_scan(raw, build_config(spacing_mm=4.0))))

    found = colours(picture(process_scan(raw, build_config(spacing_mm=4.0, **options))))

    # What was clipped before planes were averaged differs a little along bones.
    assert found.shape == plain.shape
    assert np.abs(found - plain).mean() < 0.5


def test_the_same_scan_gives_the_same_bytes_and_another_slice_others():
    result = ball()

    assert picture(result) == picture(replace(result))
    assert picture(result, 3) != picture(result, 4)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_noise_stays_within_the_limit(dtype):
    """Noise does not compress: greys give way before the limit does."""
    noise = np.random.default_rng(1).normal(-600, 900, (160, 170, 180))
    grid = Grid(shape=noise.shape, spacing_mm=(2.0, 2.0, 2.0), origin_mm=(0.0, 0.0, 0.0))
    window = None if dtype == np.int16 else (-1000.0, 400.0)
    image = noise.astype(np.int16) if window is None else ((noise + 1000) / 1400).astype(dtype)

    png = picture(ScanResult(image=image, mask=None, grid=grid, window_hu=window))

    assert 50_000 < len(png) <= LARGEST_BYTES
    assert decoded(png).shape > (600, 600)


def test_the_usual_scan_takes_a_blink_of_one_core():
    """0.025 s measured; six times that is a loop that has stopped being a kernel."""
    rng = np.random.default_rng(3)
    image = np.tile(rng.normal(-500, 400, (36, 29, 348)).astype(np.int16), (9, 12, 1))
    mask = np.zeros(image.shape, np.uint8)
    mask[40:280, 60:280, 40:150], mask[40:280, 60:280, 190:310] = 1, 2
    grid = Grid(shape=image.shape, spacing_mm=(1.0, 1.0, 1.0), origin_mm=(0.0, 0.0, 0.0))
    result = ScanResult(image=image, mask=mask, grid=grid)
    picture(result)

    seconds = []
    for _ in range(5):
        started = time.process_time()
        png = picture(result)
        seconds.append(time.process_time() - started)

    assert image.shape == (324, 348, 348)
    assert len(png) <= LARGEST_BYTES
    assert min(seconds) < 0.15


@settings(max_examples=20)
@given(
    st.tuples(*[st.integers(1, 30)] * 3),
    st.tuples(*[st.sampled_from([0.5, 1.0, 7.0])] * 3),
    st.booleans(),
)
def test_any_shape_has_a_picture(shape, spacing_mm, masked):
    grid = Grid(shape=shape, spacing_mm=spacing_mm, origin_mm=(0.0, 0.0, 0.0))
    image = np.full(shape, -800, np.int16)
    mask = np.ones(shape, np.uint8) if masked else None

    pixels = decoded(picture(ScanResult(image=image, mask=mask, grid=grid)))

    assert pixels.max() < len(COLOURS) + min(COLOURS)


def test_letters_are_all_there_and_all_different():
    glyphs = {lettering(chr(code)).tobytes() for code in range(32, 127)}

    assert len(glyphs) == 95
    assert lettering("").shape == (HEIGHT, 0)
    assert lettering("a\u00e4\n").shape == (HEIGHT, 3 * ADVANCE)
    np.testing.assert_array_equal(lettering("\u00e4"), lettering("?"))
    # A capital T: a bar above a stem.
    stem = lettering("T")
    assert stem[0, 1:9].all()
    assert stem[4:14, 4:6].all()
    assert stem[4:14].sum() == 20


@given(st.integers(0, 2**32))
def test_png_files_are_read_back(seed):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 5, rng.integers(1, 40, 2)).astype(np.uint8)
    palette = [tuple(map(int, rng.integers(0, 256, 3))) for _ in range(5)]

    png = encode_png(pixels, palette)

    np.testing.assert_array_equal(decoded(png), pixels)
    np.testing.assert_array_equal(colours(png), np.array(palette)[pixels])
