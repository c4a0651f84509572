"""Every awkward series has its right verdict, its right volume, and the same in any order."""

import awkward_series
import numpy as np
import pytest
from awkward_series import FIXTURES
from hypothesis import given, settings
from hypothesis import strategies as st

from fastlung.dicom import index_series, load_series
from fastlung.volume.hounsfield import to_hu


def largest_first(index):
    return sorted(index.series, key=lambda series: (-len(series.headers), series.part))


@pytest.mark.parametrize("name", FIXTURES)
def test_each_fixture_has_its_right_verdict_and_volume(name):
    fixture = awkward_series.fixture(name)
    index = index_series(fixture.files)
    assert len(index.series) == len(fixture.series)
    for series, right in zip(largest_first(index), fixture.series, strict=True):
        assert series.verdict.classes == right.classes
        if right.error is not None:
            assert type(series.problem) is right.error
            with pytest.raises(right.error):
                load_series(series, fixture.files)
            continue
        raw = load_series(series, fixture.files)
        assert raw.grid.shape[0] == right.slices
        assert raw.grid.spacing_mm[0] == pytest.approx(right.step_mm, abs=1e-4)
        assert_lies_at(raw, right.points_mm)
    # In which order equal acquisitions stand is the reader's business.
    loaded = [load_series(s, fixture.files) for s in index.series if s.problem is None]
    volumes = {to_hu(raw)[0].tobytes() for raw in loaded}
    wanted = [right.hu for right in fixture.series if right.hu is not None]
    assert volumes == {np.asarray(hu).astype(np.int16).tobytes() for hu in wanted}
    assert_skipped(index, fixture)


def assert_lies_at(raw, points_mm):
    """Voxel [0, 0] of each slice is where its file says, within 0.01 mm."""
    axes = np.array(raw.grid.direction)
    shifts_mm = np.zeros((1, 2)) if raw.slice_shifts_mm is None else raw.slice_shifts_mm
    lies_mm = (
        np.array(raw.grid.origin_mm)
        + np.multiply.outer(raw.slice_positions_mm, axes[:, 2])
        + shifts_mm[:, ::-1] @ axes[:, :2].T
    )
    assert np.abs(lies_mm - points_mm).max() < 0.01


def assert_skipped(index, fixture):
    assert index.broken == ()
    assert len(index.skipped) == sum(fixture.skipped.values())
    for reason, count in fixture.skipped.items():
        assert sum(reason in text for text in index.skipped.values()) == count


@given(
    name=st.sampled_from([n for n in FIXTURES if "00" not in n and "1747" not in n]), data=st.data()
)
@settings(max_examples=40)
def test_order_and_names_of_files_never_matter(name, data):
    fixture = awkward_series.fixture(name)
    names = list(fixture.files)
    order = data.draw(st.permutations(range(len(names))))
    renamed = {f"{place:04d}": fixture.files[names[i]] for place, i in enumerate(order)}
    expected, found = index_series(fixture.files), index_series(renamed)
    assert len(found.series) == len(expected.series)
    for wanted, other in zip(expected.series, found.series, strict=True):
        assert other.verdict == wanted.verdict
        assert other.grid == wanted.grid
        assert type(other.problem) is type(wanted.problem)
        if wanted.problem is None:
            np.testing.assert_array_equal(
                load_series(other, renamed).stored, load_series(wanted, fixture.files).stored
            )
