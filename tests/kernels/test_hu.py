"""Hounsfield units against a slow oracle, and the corner cases that ruin naive code."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import hounsfield, tutorial_hounsfield

from fastlung.kernels import hu
from fastlung.scan import SliceScale
from fastlung.volume.hounsfield import scale_arrays

NO_PADDING = {"padding_low": 1, "padding_high": 0}


def scale_of(slices=1, **values):
    fields = {
        "shift": 0, "bits_stored": 16, "signed": False, "slope": 1.0, "intercept": 0.0,
        **NO_PADDING, **values,
    }  # fmt: skip
    dtypes = {
        "shift": np.uint8, "bits_stored": np.uint8, "signed": np.bool_, "slope": np.float32,
        "intercept": np.float32, "padding_low": np.int32, "padding_high": np.int32,
    }  # fmt: skip
    return SliceScale(**{name: np.full(slices, fields[name], dtypes[name]) for name in dtypes})


def rescaled(stored, scale, *, darkest_hu=-np.inf):
    out = np.empty(stored.shape, np.int16)
    padded = hu.rescale(stored, scale_arrays(scale), darkest_hu, -1024, out)
    return out, padded


@given(
    seed=st.integers(0, 2**32),
    bits=st.sampled_from([8, 10, 12, 13, 16]),
    shift=st.sampled_from([0, 2]),
    signed=st.booleans(),
    slope=st.sampled_from([1.0, 0.5, 1.000061, 2.0, -1.0, 10.0]),
    intercept=st.sampled_from([0.0, -1024.0, -1000.5, 32000.0]),
    padding=st.sampled_from([(1, 0), (0, 0), (-2000, -2000), (60, 70)]),
)
def test_equals_the_oracle(seed, bits, shift, signed, slope, intercept, padding):
    stored = np.random.default_rng(seed).integers(0, 2**16, (2, 3, 9)).astype(np.uint16)
    scale = scale_of(
        2, bits_stored=bits, shift=min(shift, 16 - bits), signed=signed, slope=slope,
        intercept=intercept, padding_low=padding[0], padding_high=padding[1],
    )  # fmt: skip

    out, _ = rescaled(stored, scale, darkest_hu=-1500.0)

    # The compiler may fuse multiply and add: one rounding less, so ties may fall either way.
    difference = np.abs(out.astype(int) - hounsfield(stored, scale, replace_padding=True))
    assert difference.max() <= (0 if slope in {1.0, 2.0, -1.0, 10.0, 0.5} else 1)


@pytest.mark.parametrize(
    ("word", "scale", "expected"),
    [
        # 12 bits in 16, sign in bit 11: 0xF830 and 0x0830 are both -2000.
        (0xF830, scale_of(bits_stored=12, signed=True), -2000),
        (0x0830, scale_of(bits_stored=12, signed=True), -2000),
        # Overlay bits above HighBit are no part of the value.
        (0xF123, scale_of(bits_stored=12, intercept=-1024), 0x123 - 1024),
        # Unsigned above 32767 must not wrap before it is rescaled.
        (40000, scale_of(intercept=-32768), 7232),
        # Too large for int16: saturated, not wrapped.
        (65535, scale_of(slope=2), 32767),
        (0, scale_of(intercept=-40000), -32768),
        # Half to even.
        (1, scale_of(slope=0.5), 0),
        (3, scale_of(slope=0.5), 2),
        (5, scale_of(slope=0.5), 2),
    ],
)
def test_known_values(word, scale, expected):
    out, padded = rescaled(np.array([[[word]]], np.uint16), scale)

    assert out.item() == expected
    assert padded == 0


def test_each_slice_has_its_own_slope_and_intercept():
    scale = SliceScale(
        shift=np.zeros(2, np.uint8), bits_stored=np.full(2, 16, np.uint8),
        signed=np.zeros(2, bool), slope=np.array([1, 3], np.float32),
        intercept=np.array([-1000, -7], np.float32), padding_low=np.ones(2, np.int32),
        padding_high=np.zeros(2, np.int32),
    )  # fmt: skip

    out, _ = rescaled(np.full((2, 1, 1), 10, np.uint16), scale)

    assert out.ravel().tolist() == [-990, 23]


def test_padding_and_impossible_darkness_become_air_and_are_counted():
    stored = np.array([[[63536, 5, 0, 100]]], np.uint16)  # 63536 is -2000 as int16
    scale = scale_of(signed=True, intercept=-1600, padding_low=-2000, padding_high=-2000)

    out, padded = rescaled(stored, scale, darkest_hu=-1500.0)

    assert out.ravel().tolist() == [-1024, -1024, -1024, -1024 + 1024 - 1500]
    assert padded == 3


@given(st.integers(0, 2**32), st.sampled_from([1.0, 0.5, 1.7]), st.sampled_from([-1024.0, -3.7]))
def test_tutorial_rule_truncates_and_replaces_minus_2000(seed, slope, intercept):
    words = np.random.default_rng(seed).integers(-2048, 4096, (2, 3, 5)).astype(np.int16)
    words[0, 0, 0] = -2000
    scale = scale_of(2, signed=True, slope=slope, intercept=intercept)
    out = np.empty(words.shape, np.int16)

    hu.rescale_as_tutorial(words.view(np.uint16), scale_arrays(scale), out)

    np.testing.assert_array_equal(
        out, tutorial_hounsfield(words, scale.slope.astype(np.float64), scale.intercept)
    )
