"""What an image's numbers are, by dtype and window; and that no way of asking compiles late."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastlung.config import build_config
from fastlung.errors import ConfigError
from fastlung.volume.hounsfield import windowed

volumes = hnp.arrays(np.int16, (2, 3, 4), elements=st.integers(-3024, 4000))
#: Every way through the pipeline that reaches other kernels, or other signatures of them.
SCRIPT = """
import importlib, itertools, pkgutil
import numpy as np
from numba.core.dispatcher import Dispatcher
from raw_scans import raw_scan
import fastlung.kernels
from fastlung import build_config, process_scan
from fastlung.demo.phantom import phantom
import fastlung.run.process

def signatures():
    modules = [importlib.import_module(f"fastlung.kernels.{m.name}")
               for m in pkgutil.iter_modules(fastlung.kernels.__path__)]
    kernels = {k for m in modules for k in vars(m).values() if isinstance(k, Dispatcher)}
    return {(k.py_func.__module__, k.__name__, s) for k in kernels for s in k.signatures}

fastlung.kernels.warm_up()
ready = signatures()
chest = phantom((20, 48, 48), (12.0, 6.5, 6.5))
raws = [raw_scan(chest.hu, chest.grid)]
padded = chest.hu.copy(); padded[:, :4] = -2000
shifts = np.zeros((20, 2)); shifts[:, 0] = np.arange(20)
raws += [raw_scan(padded, chest.grid), raw_scan(chest.hu, chest.grid, slice_shifts_mm=shifts)]
images = [{}, {"dtype": "float32"}, {"window_hu": (-1000, 400)},
          {"window_hu": (-1000, 400), "dtype": "uint8"}]
ways = [{"crop": c, "mask": m, **i} for c, m, i in itertools.product(
            ("none", "body", "lungs"), ("default", "tutorial", "grt123", "none"), images)
        if (c, m) != ("lungs", "none")]
for raw, order in itertools.product(raws, (0, 1, 3)):
    process_scan(raw, build_config(spacing_mm=9.0, order=order))
for way in ways:
    process_scan(raws[0], build_config(spacing_mm=9.0, **way))
for preset in ("tutorial", "grt123", "luna16-monai", "sybil", "lungmask", "merlin", "colipri"):
    process_scan(raws[0], build_config(preset, spacing_mm=9.0))
for preset in ("ct-fm", "tap-ct"):
    process_scan(raws[0], build_config(preset))
print(*sorted(map(str, signatures() - ready)), sep="\\n")
"""


@given(volumes)
def test_bytes_are_the_window_rounded(volume):
    found = windowed(volume, "uint8", (-1000.0, 400.0))
    expected = np.clip((volume + 1000.0) / 1400, 0, 1) * 255
    assert found.dtype == np.uint8
    assert np.abs(found - expected).max() <= 0.5 + 1e-3


def test_ends_of_the_window_are_ends_of_the_range():
    ends = np.array([[[-32768, -1000, 400, 32767]]], np.int16)
    assert windowed(ends, "uint8", (-1000.0, 400.0)).tolist() == [[[0, 0, 255, 255]]]
    assert windowed(ends, "float32", (-1000.0, 400.0)).tolist() == [[[0, 0, 1, 1]]]


@given(volumes)
def test_floats_without_a_window_are_hounsfield_units(volume):
    found = windowed(volume, "float32", None)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, volume)
    assert windowed(volume, "int16", None) is volume


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "int16"),
        ({"window_hu": (-1000, 400)}, "float32"),
        ({"preset": "tutorial"}, "float32"),
        ({"preset": "tutorial", "window_hu": "none"}, "int16"),
    ],
)
def test_the_dtype_follows_the_window(options, expected):
    config = build_config(**options)
    assert config.dtype == expected
    assert config.digest == build_config(**options, dtype=expected).digest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "uint8"}, "needs a window_hu, such as -1000,400"),
        ({"dtype": "int16", "window_hu": (-1000, 400)}, "float32 or uint8; window_hu 'none'"),
        ({"preset": "tutorial", "dtype": "uint8"}, "leave zero_centre at 0"),
        ({"dtype": "float64"}, "dtype"),
    ],
)
def test_dtypes_that_cannot_hold_what_is_asked_for(options, message):
    with pytest.raises(ConfigError, match=message):
        build_config(**options)


@pytest.mark.compiled
def test_after_warming_up_no_configuration_compiles_anything():
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", SCRIPT],
        capture_output=True, text=True, check=True, timeout=120,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.stdout.split("\n") == ["", ""]
