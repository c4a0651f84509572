"""A bucket listed side by side gives what one long listing gives, in bounded memory."""

import threading
from bisect import bisect_left, bisect_right
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlung.errors import StoreError
from fastlung.storage.base import ObjectInfo
from fastlung.storage.s3.listing import (
    FOLDERS_A_RANGE,
    PAGES_AHEAD,
    SIDE_BY_SIDE,
    Page,
    by_folder,
    listed,
    parse_page,
)

TOKEN = "x+y%2F=="  # noqa: S105 - of a listing


def info(key):
    return ObjectInfo(key=key, size_bytes=1, etag="e")


class Keys:
    """Lists as S3 does, and counts what it was asked for."""

    def __init__(self, keys, *, page=10, fail_at=None):
        self.keys = sorted(keys)
        self.page, self.fail_at = page, fail_at
        self.asked = Counter()
        self._lock = threading.Lock()

    def __call__(self, prefix, *, after="", flat=False):
        at = max(bisect_left(self.keys, prefix), bisect_right(self.keys, after) if after else 0)
        while True:
            with self._lock:
                self.asked["flat" if flat else "deep"] += 1
                if self.fail_at is not None and sum(self.asked.values()) > self.fail_at:
                    raise StoreError("s3://bucket cannot be listed: no answer")
            objects, folders = [], []
            while at < len(self.keys) and self.keys[at].startswith(prefix):
                if len(objects) + len(folders) == self.page:
                    break
                head, slash, _ = self.keys[at][len(prefix) :].partition("/")
                if flat and slash:
                    folders.append(prefix + head + slash)
                    at = bisect_left(self.keys, folders[-1] + chr(0x10FFFF), at)
                else:
                    objects.append(info(self.keys[at]))
                    at += 1
            more = at < len(self.keys) and self.keys[at].startswith(prefix)
            yield Page(
                objects=tuple(objects),
                folders=tuple(folders),
                token=f"more after {at}" if more else "",
            )
            if not more:
                return


def keys_of(infos):
    return [each.key for each in infos]


@given(
    st.lists(st.text("ab/-.", min_size=1, max_size=7), max_size=60, unique=True),
    st.integers(1, 7),
)
def test_side_by_side_equals_one_after_the_other(names, page):
    one_listing = keys_of(by_folder(info(name) for name in sorted(names)))
    assert keys_of(listed(Keys(names, page=page), "")) == one_listing


@pytest.mark.parametrize("folders", [1, 2, 15, 40, 300])
def test_folders_objects_beside_them_and_deep_ones_are_all_found(folders):
    keys = [f"s{n:03d}/{m}" for n in range(folders) for m in range(3)]
    keys += ["read.me", "s000x", "s001/deep/1", "z/deep/er/1", "zz"]
    assert keys_of(listed(Keys(keys), "")) == keys_of(by_folder(map(info, sorted(keys))))
    below = [key for key in keys if key.startswith("z/")]
    assert keys_of(listed(Keys(keys), "z/")) == below


def test_a_long_way_to_the_first_fork_is_gone_down():
    keys = [f"data/ct/2026/{n:02d}/1" for n in range(40)]
    pages = Keys(keys)
    assert keys_of(listed(pages, "")) == keys
    assert pages.asked["flat"] == 4 + 3  # four levels, the last one of four pages


def test_a_page_holds_several_series_and_is_not_asked_for_once_for_each():
    pages = Keys([f"{n:04d}/{m:03d}" for n in range(400) for m in range(100)], page=1000)
    assert len(keys_of(listed(pages, ""))) == 40_000
    assert pages.asked["deep"] <= 1.5 * 40 + 400 / 8


def test_an_error_of_any_page_ends_the_listing():
    keys = [f"{n:03d}/{m}" for n in range(100) for m in range(30)]
    for fail_at in (0, 1, 5, 60):
        with pytest.raises(StoreError, match="cannot be listed"):
            keys_of(listed(Keys(keys, fail_at=fail_at), ""))


def test_a_listing_that_nobody_reads_on_ends_its_threads():
    before = threading.active_count()
    keys = [f"{n:03d}/{m}" for n in range(200) for m in range(200)]
    found = listed(Keys(keys), "")
    assert next(found).key == "000/0"
    found.close()
    assert threading.active_count() == before


def test_a_store_without_order_is_refused():
    keys = Keys([f"{n:03d}/{m}" for n in range(100) for m in range(5)], page=1000)
    keys.keys[15:25] = keys.keys[24:14:-1]
    with pytest.raises(StoreError, match="does not list its keys in order"):
        keys_of(listed(keys, ""))


def test_a_million_keys_do_not_sit_in_memory():
    series, slices = 2000, 500
    produced = consumed = most = 0
    lock = threading.Lock()

    def page_of(numbers, first):
        nonlocal produced, most
        with lock:
            # What lies behind the end of a range is dropped at once.
            produced += len(
                range(numbers[0], min(numbers[-1] + 1, first + FOLDERS_A_RANGE * slices))
            )
            most = max(most, produced - consumed)
        return tuple(info(f"study/{n // slices:04d}/{n % slices:03d}.dcm") for n in numbers)

    def pages(prefix, *, after="", flat=False):
        if flat and prefix == "":
            yield Page(folders=("study/",))
        elif flat:
            for at in range(0, series, 1000):
                yield Page(folders=tuple(f"study/{n:04d}/" for n in range(at, at + 1000)))
        else:
            first = int((after or prefix).split("/")[1]) * slices
            for at in range(first, series * slices, 1000):
                yield Page(objects=page_of(range(at, at + 1000), first), token=str(at))

    for _ in listed(pages, ""):
        consumed += 1
    assert consumed == series * slices
    assert produced == consumed
    assert most <= (SIDE_BY_SIDE + 1) * (PAGES_AHEAD + 2) * 1000


def answered(body, status=200):
    response, custom = {"status_code": status, "body": body}, {}
    parse_page(response, custom)
    return response["body"], custom.get("Page")


@pytest.mark.parametrize("space", ["", ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'])
def test_a_page_is_read_with_and_without_its_namespace(space):
    body = (
        f"<?xml version='1.0'?><ListBucketResult{space}><EncodingType>url</EncodingType>"
        "<Contents><Key>a+b%2F%C3%BC%26.dcm</Key><Size>7</Size><ETag>&quot;e+1&quot;</ETag>"
        "</Contents><CommonPrefixes><Prefix>a%20c/</Prefix></CommonPrefixes>"
        f"<NextContinuationToken>{TOKEN}</NextContinuationToken></ListBucketResult>"
    )
    _, page = answered(body.encode())
    assert page == Page(
        objects=(ObjectInfo(key="a b/ü&.dcm", size_bytes=7, etag='"e+1"'),),
        folders=("a c/",),
        token=TOKEN,
    )


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"<ListBucketResult><Contents><Key>a", 200),
        (b"<html><body>Sorry</body></html>", 200),
        (b"<ListBucketResult><Contents><Size>x</Size></Contents></ListBucketResult>", 200),
        (b"<Error><Code>AccessDenied</Code></Error>", 403),
    ],
)
def test_what_is_no_page_is_left_to_botocore(body, status):
    assert answered(body, status) == (body, None)
