"""Sizes of scans are estimated from few headers, also while groups are still being found."""

import pytest
from tiny_series import write_group

from fastlung.config import build_config
from fastlung.plan.sizes import Estimator, estimate_sizes
from fastlung.source.open import open_source

pytestmark = pytest.mark.compiled
CONFIG = build_config(spacing_mm=2.0)


class CountedReads:
    """A store that counts headers read."""

    def __init__(self, store):
        self.store, self.reads = store, 0

    def get(self, key, **options):
        self.reads += 1
        return self.store.get(key, **options)


@pytest.fixture
def found(tmp_path):
    """Forty scans of ten slices, one of thirty, and a folder of notes."""
    write_group(tmp_path / "a", 1, slices=10)
    slices = sorted((tmp_path / "a").iterdir())
    for number in range(39):
        folder = tmp_path / f"b{number:02}"
        folder.mkdir()
        for path in slices:
            (folder / path.name).hardlink_to(path)
    write_group(tmp_path / "long", 2, slices=30)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "read.me").write_text("nothing to see")
    places = open_source(str(tmp_path), None)
    return places.groups(sink=None, pseudonym=str), CountedReads(places.store)


def test_while_groups_come_few_headers_are_read(found):
    groups, store = found
    estimator = Estimator(CONFIG, lambda _group: store)
    sizes = {group.label: estimator.estimate(group) for group in groups}
    assert store.reads <= 12
    assert sizes["b07"] == sizes["b30"].__class__(**{
        name: getattr(sizes["b30"], name) for name in sizes["b30"].__slots__
    } | {"label": "b07"})  # fmt: skip
    assert sizes["long"].acquired_voxels == 3 * sizes["a"].acquired_voxels
    assert sizes["long"].objects == 30


def test_both_ways_agree(found):
    groups, store = found
    groups = list(groups)
    estimator = Estimator(CONFIG, lambda _group: store)
    streamed = [estimator.estimate(group) for group in groups]
    assert {(size.label, size.acquired_voxels) for size in streamed if size.label != "notes"} == {
        (size.label, size.acquired_voxels)
        for size in estimate_sizes(groups, CONFIG, lambda _group: store)
        if size.is_scan
    }


def test_a_folder_without_ct_is_told_from_a_scan(found):
    groups, store = found
    sizes = estimate_sizes(list(groups), CONFIG, lambda _group: store)
    assert [size.label for size in sizes if not size.is_scan] == ["notes"]
