"""Series from paths: folders, single files, pipes, links, and what a newcomer points at."""

import os
import socket
from pathlib import Path

import numpy as np
import pytest
from dicom_writer import (
    DEFLATED,
    EXPLICIT,
    JPEG_LS,
    RLE,
    ct_series,
    ct_slice,
    name_of,
    random_words,
)

from fastlung.dicom import folder as folder_module
from fastlung.dicom import index_series, list_series, load_series, read_series
from fastlung.errors import (
    GeometryError,
    LimitError,
    NothingFoundError,
    ObjectNotFoundError,
    SeveralSeriesError,
    StoreError,
    TruncatedError,
)
from fastlung.limits import limited

WORDS = random_words((5, 128, 160), seed=3)


def put(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, blob in files.items():
        (folder / name).write_bytes(blob)
    return folder


def test_a_folder_with_odd_files_gives_its_one_series(tmp_path):
    put(tmp_path, ct_series(WORDS))
    (tmp_path / "notes.txt").write_text("nothing here")
    (tmp_path / ".DS_Store").write_bytes(bytes(4096))
    (tmp_path / "within").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    raw = read_series(tmp_path)
    np.testing.assert_array_equal(raw.stored, WORDS)
    assert read_series(str(tmp_path)).grid == raw.grid
    index = list_series(tmp_path)
    assert len(index.series) == 1
    assert index.skipped == {
        "notes.txt": "not DICOM",
        ".DS_Store": "not DICOM",
        "within": "a folder within, not entered",
        "dangling": "a link to nothing",
    }


def test_pipes_and_sockets_do_not_hang(tmp_path):
    put(tmp_path, ct_series(WORDS))
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        np.testing.assert_array_equal(read_series(tmp_path).stored, WORDS)
        assert set(list_series(tmp_path).skipped.values()) == {"not a regular file"}
        with pytest.raises(NothingFoundError, match="not a regular file"):
            read_series(tmp_path / "pipe")


def test_a_file_that_turns_into_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    files = folder_module._Folder({"pipe": str(tmp_path / "pipe")}, {"pipe": 100})
    assert files.first("pipe", 100) == b""
    assert files.fill("pipe", 0, np.empty(100, np.uint8)) == 0


def test_a_file_that_changes_between_header_and_pixels_is_refused(tmp_path, monkeypatch):
    put(tmp_path, ct_series(WORDS))
    changed = next(tmp_path.iterdir())
    index_files = folder_module.index_files

    def then_change(*arguments):
        index = index_files(*arguments)
        changed.write_bytes(changed.read_bytes()[:-7])
        return index

    monkeypatch.setattr(folder_module, "index_files", then_change)
    with pytest.raises(StoreError, match="has changed while it was read"):
        read_series(tmp_path)


@pytest.mark.parametrize("syntax", [EXPLICIT, DEFLATED, RLE, JPEG_LS])
def test_threads_read_the_same_words(tmp_path, syntax):
    put(tmp_path, ct_series(WORDS, transfer_syntax=syntax))
    for threads in (1, 2, 3, 16):
        np.testing.assert_array_equal(read_series(tmp_path, threads=threads).stored, WORDS)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_of_several_bad_slices_the_lowest_is_named_whatever_the_threads(threads):
    files = ct_series(WORDS, transfer_syntax=RLE)
    (series,) = index_series(files).series
    for number in (1, 3):
        blob = files[name_of(files, number)]
        files[name_of(files, number)] = blob[:-400]
    with pytest.raises(TruncatedError, match=r"^slice 2 of 5: "):
        load_series(series, files, threads=threads)


def test_limits_hold_in_the_threads_that_inflate():
    files = ct_series(np.zeros((3, 512, 512), np.uint16), transfer_syntax=DEFLATED)
    (series,) = index_series(files).series
    with limited(inflate_ratio=1, inflate_spare_bytes=1), pytest.raises(LimitError):
        load_series(series, files, threads=2)


def test_links_to_slices_are_followed(tmp_path):
    put(tmp_path / "real", ct_series(WORDS))
    (tmp_path / "links").mkdir()
    for file in (tmp_path / "real").iterdir():
        (tmp_path / "links" / file.name).symlink_to(file)
    np.testing.assert_array_equal(read_series(tmp_path / "links").stored, WORDS)


def test_a_single_file_is_a_series_too_short(tmp_path):
    file = tmp_path / "one.dcm"
    file.write_bytes(ct_slice(WORDS[0]))
    with pytest.raises(GeometryError, match="at least 3"):
        read_series(file)
    (series,) = list_series(file).series
    assert series.verdict.classes == ("short",)


def test_nothing_found_says_what_was_looked_at(tmp_path):
    with pytest.raises(NothingFoundError, match="0 entries"):
        read_series(tmp_path)
    (tmp_path / "scan.bin").write_bytes(bytes(1000))
    (tmp_path / "sub").mkdir()
    with pytest.raises(NothingFoundError, match=r"2 entries.*not DICOM: 1"):
        read_series(tmp_path)


def test_several_series_are_listed(tmp_path):
    put(tmp_path, ct_series(WORDS))
    put(
        tmp_path,
        {f"b{n}": b for n, b in ct_series(WORDS[:3], series_uid="1.2.3", step_mm=5.0).items()},
    )
    with pytest.raises(SeveralSeriesError) as caught:
        read_series(tmp_path)
    assert "1) 3 slices of 5.00 mm, kernel B70f, regular" in str(caught.value)
    assert "2) 5 slices of 2.00 mm, kernel B70f, regular" in str(caught.value)
    assert read_series(tmp_path, number=1).grid.shape[0] == 3
    assert read_series(tmp_path, number=2).grid.shape[0] == 5
    for number in (0, 3):
        with pytest.raises(SeveralSeriesError, match=f"expected number {number}, and found 2"):
            read_series(tmp_path, number=number)


def test_a_broken_file_beside_a_series_is_not_passed_over(tmp_path):
    files = ct_series(WORDS)
    put(tmp_path, {**files, "cut": files[name_of(files, 1)][:200]})
    index = list_series(tmp_path)
    assert index.broken == ("cut",)
    assert "1 of 6 files" in str(index.loss)
    assert [flag.name for flag in read_series(tmp_path).flags] == ["files_not_read"]


def test_missing_and_unreadable_paths_are_store_errors(tmp_path, monkeypatch):
    with pytest.raises(ObjectNotFoundError):
        read_series(tmp_path / "gone")
    with pytest.raises(FileNotFoundError):
        list_series(tmp_path / "gone")
    put(tmp_path, ct_series(WORDS))

    def denied(*_args):
        raise PermissionError(13, "Permission denied", str(tmp_path / "DOE^JOHN"))

    monkeypatch.setattr(folder_module.os, "open", denied)
    with pytest.raises(StoreError, match="Permission denied") as caught:
        read_series(tmp_path)
    assert "DOE" not in str(caught.value)


def test_listing_reads_headers_only(tmp_path, monkeypatch):
    put(tmp_path, ct_series(random_words((4, 256, 256))))
    reads = []
    original = folder_module._read

    def spy(file, count):
        reads.append(count)
        return original(file, count)

    monkeypatch.setattr(folder_module, "_read", spy)
    (series,) = list_series(tmp_path).series
    assert reads == [65_536] * 4
    assert series.problem is None
    assert len(series.headers) == 4


@pytest.mark.parametrize("repeated", [False, True])
def test_listing_and_reading_agree(tmp_path, repeated):
    files = ct_series(WORDS, transfer_syntax=DEFLATED)
    if repeated:  # the pixels decide, so listing has to look at them
        files["zz"] = ct_slice(
            WORDS[2],
            position_mm=(-10, -20, 34),
            instance_uid="1.2.3.99",
            transfer_syntax=DEFLATED,
        )
    (listed,) = list_series(put(tmp_path, files)).series
    raw = read_series(tmp_path)
    assert listed.verdict == raw.verdict
    assert listed.grid == raw.grid
    assert listed.acquisition == raw.acquisition
    assert ("duplicate" in listed.verdict.classes) == repeated
