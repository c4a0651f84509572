"""Windows and histograms against NumPy."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastlung.kernels.intensity import histogram, normalise
from fastlung.volume.hounsfield import hu_histogram, hu_percentiles

volumes = hnp.arrays(
    np.int16,
    hnp.array_shapes(min_dims=3, max_dims=3, max_side=6),
    elements=st.integers(-3024, 4000),
)


@given(volumes)
def test_normalise_is_the_tutorials(volume):
    out = np.empty(volume.shape, np.float32)

    normalise(volume, -1000.0, 400.0, 0.25, out)

    expected = np.clip((volume.astype(np.float64) + 1000) / 1400, 0, 1) - 0.25
    np.testing.assert_allclose(out, expected, atol=1e-6)


@given(volumes)
def test_histogram_counts_every_value(volume):
    out = np.full(65536, 7, np.int64)

    histogram(volume, out)

    expected = np.bincount(volume.ravel().astype(np.int64) + 32768, minlength=65536)
    np.testing.assert_array_equal(out, expected)


@given(volumes)
def test_percentiles_are_values_of_the_volume(volume):
    figures = hu_percentiles(hu_histogram(volume))

    expected = np.percentile(volume, [0.5, 50, 99.5], method="inverted_cdf")
    assert list(figures.values()) == expected.tolist()
    assert list(figures) == ["hu_p0_5", "hu_p50", "hu_p99_5"]
