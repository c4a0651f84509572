"""One odd file among slices costs itself: it fails by name, and flags what it may belong to."""

import io
import zipfile

import numpy as np
import pytest
from dicom_writer import ct_series, ct_slice, random_words

from fastlung.dicom import index_series, load_series
from fastlung.source.archives import member_key, unpack

WORDS = random_words((12, 8, 10), seed=3)
PAGE = b"<!DOCTYPE html><html>404 Not Found</html>"
LOST = {
    "empty": b"",
    "zeros": bytes(5000),
    "a page": PAGE,
    "an answer of S3": b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>',
    "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "noise": b"\x17" * 300,
}


def named(files, suffix):
    """Slices named by number, from the lowest up, as scanners do."""
    return {f"IM{number:04d}{suffix}": blob for number, blob in enumerate(files.values())}


def assert_lost(files, name):
    index = index_series(files)
    (series,) = index.series
    assert index.broken == (name,)
    assert [flag.name for flag in series.flags] == ["files_not_read"]
    assert name in str(index.loss)
    assert len(series.headers) == 11
    return index


@pytest.mark.parametrize("kind", LOST)
@pytest.mark.parametrize("suffix", ["", ".dcm", ".IMA"])
def test_a_lost_slice_is_told_whatever_stands_in_its_place(kind, suffix):
    files = named(ct_series(WORDS), suffix)
    name = max(files)
    index = assert_lost({**files, name: LOST[kind]}, name)
    if kind == "a pointer":
        assert "`git lfs pull`" in str(index.loss)


@pytest.mark.parametrize("suffix", ["", ".dcm"])
def test_a_lost_slice_is_told_in_an_archive_too(suffix):
    files = named(ct_series(WORDS), suffix)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("scan/README", b"")
        for name, blob in files.items():
            archive.writestr(f"scan/{name}", b"" if name == max(files) else blob)
    assert_lost(unpack(packed.getvalue()), member_key("000013", max(files)))


def test_where_names_are_hashed_a_lost_slice_is_told_too():
    files = named(ct_series(WORDS), "")
    hashed = {
        member_key(f"{7919 * n:016x}", name): blob for n, (name, blob) in enumerate(files.items())
    }
    name = max(hashed)
    assert_lost({**hashed, name: b""}, name)


@pytest.mark.parametrize("name", ["README", "index.html", "notes.txt", "THUMBS.DB", ".hidden"])
def test_what_is_called_otherwise_is_no_lost_slice(name):
    for blob in (b"", PAGE, bytes(300)):
        index = index_series({**named(ct_series(WORDS), ""), name: blob})
        assert index.broken == ()
        assert index.series[0].flags == ()


def page(**options):
    def edit(dataset):
        dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
        for keyword in options["without"]:
            delattr(dataset, keyword)

    return ct_slice(
        np.ones(options.get("shape", (5, 5)), np.uint16), instance_uid="1.2.3.99", edit=edit
    )


NO_PLACE = ("ImagePositionPatient", "ImageOrientationPatient")
PAGES = {
    "no spacing": page(without=(*NO_PLACE, "PixelSpacing")),
    "no pixels": page(without=(*NO_PLACE, "PixelData")),
    "no spacing, a place": page(without=("PixelSpacing",)),
    "the same matrix, no place": page(without=(*NO_PLACE, "PixelSpacing"), shape=(8, 10)),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_under_the_uid_of_a_series_is_named_and_the_series_read(name):
    files = {**ct_series(WORDS), "page": PAGES[name]}
    series, odd = index_series(files).series
    np.testing.assert_array_equal(load_series(series, files).stored, WORDS)
    assert series.flags == ()
    assert odd.problem is not None
    assert "page" in str(odd.problem)


@pytest.mark.parametrize("length", [140, 200, 400, 600])
def test_a_broken_file_costs_neither_of_two_series(length):
    first = ct_series(WORDS)
    second = {f"b{name}": blob for name, blob in ct_series(WORDS + 1, series_uid="1.2.3.9").items()}
    cut = {"x.dcm": first[min(first)][:length]}
    index = index_series({**first, **second, **cut})
    whole = [series for series in index.series if series.problem is None]
    assert [len(series.headers) for series in whole] == [12, 12]
    told = [str(index.loss)] if index.loss else [str(index.series[-1].problem)]
    assert "x.dcm" in told[0]


def test_a_slice_whose_pixels_are_cut_still_fails_its_series():
    files = ct_series(WORDS)
    name = min(files)
    (series,) = index_series({**files, name: files[name][:-20]}).series
    assert series.problem is not None
