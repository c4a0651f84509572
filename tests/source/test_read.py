"""Whatever kind of group a series is in, it is read the same, and refused in the same words."""

import shutil

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its own name
from tiny_series import chest, write_group

from fastlung import inspect, preview, process, read_series
from fastlung.errors import FormatError, InsufficientMemoryError
from fastlung.source.groups import discover
from fastlung.source.read import fetch, index_blobs, index_headers, index_sample
from fastlung.storage import LocalStore


@pytest.fixture
def store(tmp_path):
    """One series as a folder and as an archive of it, and a volume."""
    write_group(tmp_path / "ct", 1)
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "ct")
    hu = chest(1).astype(np.int16) - 1024
    sitk.WriteImage(sitk.GetImageFromArray(hu), str(tmp_path / "v.mha"))
    return LocalStore(tmp_path)


def by_kind(store):
    return {group.kind: group for group in discover(store)}


@pytest.mark.parametrize("kind", ["files", "archive", "volume"])
def test_headers_alone_say_what_the_whole_files_say(store, kind):
    group = by_kind(store)[kind]
    (series,) = index_headers(group, store).series
    (whole,) = index_blobs(group, fetch(group, store)).series
    assert (series.grid, series.verdict) == (whole.grid, whole.verdict)
    assert series.keys == whole.keys
    assert series.pixel_keys == set(series.keys)


@pytest.mark.parametrize("kind", ["files", "archive", "volume"])
def test_a_series_knows_how_to_load_itself(store, kind):
    group = by_kind(store)[kind]
    blobs = fetch(group, store)
    (series,) = index_blobs(group, blobs).series
    raw = series.load({key: memoryview(blobs[key]) for key in series.pixel_keys}, threads=2)
    words = raw.stored.view(np.int16) + (1024 if kind == "volume" else 0)
    np.testing.assert_array_equal(words, chest(1))


def test_a_sample_is_the_largest_file_or_the_volume_and_of_an_archive_nothing(store, tmp_path):
    (tmp_path / "ct" / "notes.txt").write_text("no slice")
    groups = by_kind(store)
    (series,) = index_sample(groups["files"], store).series
    assert len(series.headers) == 1
    assert index_sample(groups["volume"], store).series[0].grid.shape == chest(1).shape
    assert index_sample(groups["archive"], store) is None


def test_an_archive_is_unpacked_within_what_it_may_take(store):
    group = by_kind(store)["archive"]
    with pytest.raises(InsufficientMemoryError, match="inflates beyond 1,000 bytes"):
        fetch(group, store, memory_bytes=1000)
    files = sum(map(len, fetch(group, store).values()))
    assert len(fetch(group, store, memory_bytes=files)) == len(chest(1))


def test_one_sentence_says_that_a_file_may_be_a_slice(tmp_path):
    folder = tmp_path / "ct"
    write_group(folder, 1)
    slices = sorted(folder.iterdir())
    slices[3].write_bytes(slices[3].read_bytes()[:200])  # ends within the file meta information
    (flag,) = read_series(folder).flags
    assert flag.name == "files_not_read"
    good, inspected = inspect(folder)
    done, failed = process(str(folder), str(tmp_path / "sink"), workers=0).outcomes
    assert (done.status, failed.status) == ("done", "failed")
    assert flag in done.flags
    assert good.flags == (flag.text,)
    assert failed.message == inspected.problem
    assert failed.message.startswith(f"1 of {len(slices)} files may be slices and cannot be read")
    assert slices[3].name in failed.message


def test_a_folder_of_files_that_may_be_slices_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"")
    with pytest.raises(FormatError, match="may be slices and cannot be read") as refused:
        read_series(tmp_path)
    with pytest.raises(FormatError) as of_preview:
        preview(tmp_path)
    assert str(of_preview.value) == str(refused.value)
