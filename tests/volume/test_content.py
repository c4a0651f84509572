"""What a volume shows: values that are no HU, what is no chest, and reformats."""

from types import SimpleNamespace

import numpy as np
import pytest

from fastlung import read_series
from fastlung.scan import Grid, Verdict
from fastlung.volume.content import chest_flags, hu_flags, reformat_flags
from fastlung.volume.hounsfield import hu_histogram, to_hu

GRID = Grid(shape=(60, 100, 100), spacing_mm=(4.0, 3.0, 3.0), origin_mm=(0.0, 0.0, 0.0))


def body(lung_part):
    """Air around a body of soft tissue, of which a part is lung."""
    rng = np.random.default_rng(0)
    hu = np.full(GRID.shape, -1000.0)
    hu[:, 20:80, 10:90] = 40
    inside = hu[:, 20:80, 10:90]
    inside[:, :, : int(80 * lung_part)] = -850
    return hu + rng.normal(0, 15, hu.shape)


def names(hu):
    counts = hu_histogram(np.rint(hu).clip(-1024, 3071).astype(np.int16))
    return [flag.name for flag in (*hu_flags(counts), *chest_flags(counts, GRID, None))]


def test_a_chest_is_a_chest_in_hounsfield_units():
    assert names(body(0.3)) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda hu: hu - 1024,
        lambda hu: hu - 1000,
        lambda hu: hu + 1024,
        lambda hu: 0.5 * hu - 1024,
        lambda hu: 0.5 * hu,
        lambda hu: (hu + 1024) / 16 - 1024,
    ],
)
def test_values_that_were_rescaled_twice_or_shifted_are_doubtful(change):
    assert names(change(body(0.3)))[0] == "hu_doubtful"


@pytest.mark.parametrize(("lung_part", "flagged"), [(0.0, True), (0.02, True), (0.15, False)])
def test_a_head_and_the_edge_of_a_chest_are_no_chest(lung_part, flagged):
    assert names(body(lung_part)) == (["not_chest"] if flagged else [])


def test_small_lungs_of_a_small_body_are_a_chest():
    counts = hu_histogram(np.rint(body(0.1)).astype(np.int16))
    assert chest_flags(counts, GRID, 0.3)
    child = Grid(shape=GRID.shape, spacing_mm=(2.0, 1.5, 1.5), origin_mm=GRID.origin_mm)
    assert chest_flags(counts, child, 0.3) == ()


def series(classes=("regular",), numbers=None, slices=60, step_mm=4.0):
    grid = Grid(shape=(slices, 200, 200), spacing_mm=(step_mm, 1.5, 1.5), origin_mm=(0, 0, 0))
    return SimpleNamespace(
        grid=grid,
        slice_positions_mm=np.arange(slices) * step_mm,
        verdict=Verdict(classes=classes, numbers=numbers or {}),
    )


def test_reformats_and_slabs_are_told():
    assert reformat_flags(series()) == ()
    leaning = series(("not_axial",), {"normal_to_z_axis_deg": 90.0})
    assert "90 degrees" in reformat_flags(leaning)[0].text
    assert "20 mm high" in reformat_flags(series(slices=5))[0].text


@pytest.mark.data
@pytest.mark.parametrize("name", ["lidc-idri-0306", "lung-dx-a0001-5mm", "lung-dx-a0002-8mm"])
def test_no_real_chest_is_flagged(data_dir, name):
    raw = read_series(data_dir / "chest" / name)
    hu, grid = to_hu(raw)
    counts = hu_histogram(np.ascontiguousarray(hu))
    assert (*hu_flags(counts), *chest_flags(counts, grid, None), *reformat_flags(raw)) == ()
