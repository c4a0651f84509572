"""Conversion fused into the resampling: the same bits as its steps done one after the other."""

from dataclasses import replace

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_scans import raw_scan

from fastlung.config import build_config
from fastlung.demo.phantom import phantom
from fastlung.pipeline import process_scan
from fastlung.scan import Grid
from fastlung.volume.bands import samples_of
from fastlung.volume.hounsfield import to_hu
from fastlung.volume.resampling import aligned_targets, resample_between, target_grid

PADDING = 30000  # stored word
#: No multiples of one another: hardly an output voxel is as near to one input voxel as to another.
SPACING_MM = (2.03, 0.817, 0.709)


def step_by_step(raw, spacing_mm, order):
    """Hounsfield units, continued tissue, resampled volume, blank: each a volume of its own."""
    hu, grid = to_hu(raw, replace_padding=False)
    unmeasured = (raw.stored == PADDING) | (hu < -1500)
    whole = unmeasured.all(axis=(1, 2))  # slices with nothing to continue stay marked
    hu = reference.continued(hu, unmeasured)
    hu[whole] = -32768
    samples = samples_of(grid, raw)
    out_grid = target_grid(grid, spacing_mm, bounds_mm=samples.bounds_mm)
    targets = aligned_targets(grid, out_grid)
    out = resample_between(hu, samples, targets, order)
    out, either = reference.blanked(
        out, unmeasured, samples.positions_mm, targets, samples.shifts_mm, grid.spacing_mm, -1024
    )
    return out, ~either, unmeasured.mean()


def series(rng, shape, *, padding, shear, gaps):
    """Noise with slopes of its own in every slice, and what real series have besides."""
    z, y, x = np.indices(shape)
    raw = raw_scan(
        rng.integers(-1000, 1500, shape).astype(np.int16),
        Grid(shape=shape, spacing_mm=SPACING_MM, origin_mm=(0.0, 0.0, 0.0)),
    )
    raw.scale.slope[:] = rng.choice([0.5, 1.0, 1.3], shape[0])
    raw.scale.intercept[:] = rng.choice([-1024.0, -1000.5], shape[0])
    raw.scale.padding_low[:] = raw.scale.padding_high[:] = PADDING
    centre = np.divide(shape, 2)
    raw.stored[{
        "none": np.zeros(shape, bool),
        "circle": (y - centre[1]) ** 2 + (x - centre[2]) ** 2 > 0.2 * min(shape[1:]) ** 2,
        "dots": rng.random(shape) < 0.2,
        "rows": (y < 2) | (x == 3) | (y == shape[1] // 2),
        "slices": (z % 3 == 1),
        "all": np.ones(shape, bool),
    }[padding]] = PADDING  # fmt: skip
    z_mm = np.arange(shape[0]) * SPACING_MM[0]
    changes = {}
    if gaps:
        z_mm[shape[0] // 2 :] += 6.0
        changes["slice_breaks"] = (shape[0] // 2,) if gaps == "break" else ()
    if shear:
        changes["slice_shifts_mm"] = np.outer(z_mm, {"y": (0.3, 0), "yx": (-0.2, 0.4)}[shear])
    return replace(raw, slice_positions_mm=z_mm, **changes)


@pytest.mark.compiled
@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(st.integers(2, 9), st.integers(3, 45), st.integers(3, 45)),
    padding=st.sampled_from(["none", "circle", "dots", "rows", "slices", "all"]),
    shear=st.sampled_from([None, None, "y", "yx"]),
    gaps=st.sampled_from([None, "gap", "break"]),
    spacing_mm=st.sampled_from([(1.0, 1.0, 1.0), (0.7, 0.31, 0.53), (5.0, 3.0, 7.0)]),
    order=st.sampled_from([0, 1, 3]),
    threads=st.integers(1, 3),
)
@settings(max_examples=150)
def test_the_same_bits_as_step_by_step(
    seed, shape, padding, shear, gaps, spacing_mm, order, threads
):
    raw = series(np.random.default_rng(seed), shape, padding=padding, shear=shear, gaps=gaps)
    config = build_config(order=order, spacing_mm=spacing_mm, mask="none")

    result = process_scan(raw, config, threads=threads)

    expected, sure, padded = step_by_step(raw, spacing_mm, order)
    assert sure.mean() > 0.5 or min(result.image.shape) < 4
    np.testing.assert_array_equal(result.image[sure], expected[sure])
    assert result.figures["padding_fraction"] == padded


@pytest.mark.compiled
@pytest.mark.parametrize("options", [{}, {"preset": "tutorial"}, {"crop": "lungs", "order": 1}])
def test_threads_change_no_bit(options):
    chest = phantom((40, 60, 70), (6.0, 5.0, 5.0), noise_hu=40.0)
    raw = raw_scan(chest.hu, chest.grid)
    config = build_config(**options, spacing_mm=3.0)

    serial, *more = (process_scan(raw, config, threads=threads) for threads in (1, 2, 3, 64))

    for other in more:
        assert other.image.tobytes() == serial.image.tobytes()
        assert other.mask.tobytes() == serial.mask.tobytes()
        assert other.figures == serial.figures
