"""No answer of a store is believed: no ETag, no length, no page, nor that it is an object."""

import pytest
from lying_s3 import LyingS3, Page, etag_of

from fastlung.config import StoreOptions
from fastlung.errors import ConfigError, ListingError, StoreError
from fastlung.storage import open_store
from fastlung.storage.s3 import retry

DICOM = b"\0" * 128 + b"DICM" + bytes(range(256)) * 40
HTML = b"<!DOCTYPE html><html><head><title>504 Gateway Time-out</title></head></html>"
XML = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>SlowDown</Code></Error>'
JSON = b'{"message": "no healthy upstream"}'
BOTH_READERS = ("in/a/1.dcm", "in/a//1.dcm")  # through obstore, and through boto3


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch, aws_environment):  # noqa: ARG001 - pytest fixtures
    monkeypatch.setattr(retry, "FIRST_WAIT_SECONDS", 0.001)
    monkeypatch.setattr(retry, "LONGEST_WAIT_SECONDS", 0.005)


@pytest.fixture
def server():
    with LyingS3(dict.fromkeys(BOTH_READERS, DICOM)) as running:
        yield running


def store_at(server, prefix="in"):
    return open_store(f"s3://bucket/{prefix}", StoreOptions(endpoint_url=server.url))


def listed(server, prefix="in"):
    return list(store_at(server, prefix).list())


def read(server, key, **options):
    store = store_at(server)
    (info,) = [info for info in store.list() if f"in/{info.key}" == key]
    return bytes(store.get(info.key, etag=info.etag, **options))


@pytest.mark.parametrize("key", BOTH_READERS)
@pytest.mark.parametrize("first_bytes", [-1, 100])
def test_another_object_of_the_same_length_is_refused_by_the_etag_of_its_answer(
    server, key, first_bytes
):
    other = bytes(reversed(DICOM))
    server.answer_of = lambda _key, _data: (200, {"ETag": etag_of(other)}, other)
    with pytest.raises(StoreError, match="changed since it was listed"):
        read(server, key, first_bytes=first_bytes)


@pytest.mark.parametrize("key", BOTH_READERS)
@pytest.mark.parametrize("longer", [b"", b"x", b"x" * 10**6])
def test_an_answer_of_another_length_than_listed_is_asked_for_again(server, key, longer):
    wrong = DICOM + longer if longer else DICOM[:-1]
    answers = iter([wrong, wrong])
    server.answer_of = lambda _key, data: (200, {"ETag": etag_of(DICOM)}, next(answers, data))
    assert read(server, key) == DICOM


def test_an_answer_without_an_etag_is_not_taken(server):
    server.answer_of = lambda _key, data: (200, {}, data)
    with pytest.raises(StoreError):
        read(server, BOTH_READERS[1])


def test_a_weak_etag_of_a_proxy_is_still_the_object(server):
    server.answer_of = lambda _key, data: (200, {"ETag": f"W/{etag_of(data)}"}, data)
    assert read(server, BOTH_READERS[0]) == DICOM


@pytest.mark.parametrize("key", BOTH_READERS)
@pytest.mark.parametrize("page", [HTML, XML, JSON, b"\n\n   " + HTML, b" " * 2000 + XML])
def test_an_error_page_of_the_right_length_passes_and_is_named_if_it_does_not(server, key, page):
    padded = page + b" " * (len(DICOM) - len(page))
    answers = iter([padded, padded])
    server.answer_of = lambda _key, data: (200, {"ETag": etag_of(DICOM)}, next(answers, data))
    assert read(server, key) == DICOM
    server.answer_of = lambda _key, _data: (200, {"ETag": etag_of(DICOM)}, padded)
    with pytest.raises(StoreError, match="sends an error page for the object"):
        read(server, key, first_bytes=200)


@pytest.mark.parametrize("key", ["in/report", "in/report.html"])
def test_a_page_that_is_the_object_is_read(server, key):
    server.objects[key] = HTML
    assert read(server, key) == HTML
    assert read(server, key, first_bytes=9) == HTML[:9]


@pytest.mark.parametrize("prefix", ["in", "in/a"])
def test_the_folder_marker_of_the_sources_own_prefix_is_hidden(server, prefix):
    server.objects |= {"in/": b"", "in/a/": b"", "in_$folder$": b"", "in/a/b_$folder$": b""}
    assert {info.size_bytes for info in listed(server, prefix)} == {len(DICOM)}


def keys(*names):
    return [(f"in/{name}", 1, '"e"') for name in names]


def pages(*found):
    """A listing of these pages, whatever is asked for."""

    def answer(query):
        number = int(query.get("continuation-token", "0").rpartition("-")[2])
        return found[min(number, len(found) - 1)]

    return answer


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        (pages(Page(keys("a", "b"), truncated=True)), "not where to go on"),
        (pages(Page(keys("a"), truncated=True, next_page="t-0")), "twice"),
        (pages(Page(truncated=True, next_page="t-0")), "same next page"),
        (
            pages(Page(truncated=True, next_page="t-1"), Page(truncated=True, next_page="t-0")),
            "same next page",
        ),
        (pages(Page(keys("a", "b", "b"))), "a key twice"),
        (pages(Page(keys("b", "c", "a"))), "in order"),
        (pages(Page(keys("a", "z"), truncated=True, next_page="t-1"), Page(keys("m"))), "in order"),
        (pages(Page(keys("a"), truncated=True, next_page="t-1"), Page(keys("a"))), "twice"),
        (pages(Page(folders=["in/a/", "in/a/"])), "twice"),
        (pages(Page([("elsewhere/a", 1, '"e"')])), "not asked for"),
    ],
)
def test_a_listing_that_may_have_left_something_out_is_an_error_by_name(server, lie, why):
    server.page_of = lie
    with pytest.raises(ListingError, match=why) as caught:
        listed(server)
    assert "s3://bucket/in" in str(caught.value)
    assert len(server.asked) < 20


def test_a_listing_in_many_pages_is_still_whole(server):
    names = [f"in/s{n:02d}/{m}" for n in range(30) for m in range(7)]
    server.objects, server.page_keys = dict.fromkeys(names, b"x"), 4
    assert sorted(f"in/{info.key}" for info in listed(server)) == names


@pytest.mark.parametrize(
    "url", ["s3://AKIAKEY:SECRET@bucket/x", "s3://SECRET%40bucket/x", "s3:/AKIA:SECRET@bucket"]
)
def test_credentials_in_a_url_are_refused_and_never_shown(url):
    with pytest.raises(ConfigError) as caught:
        open_store(url)
    assert "SECRET" not in str(caught.value)
    assert "s3://bucket/prefix" in str(caught.value)
