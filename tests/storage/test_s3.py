"""A bucket behaves like a folder, and says in one sentence why it cannot be used."""

import pickle
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st
from s3_server import FaultyServer
from store_tests import StoreTests, keys

from fastlung.config import StoreOptions, build_store_options
from fastlung.errors import (
    AccessError,
    ConfigError,
    ObjectNotFoundError,
    StoreError,
)
from fastlung.storage import open_store
from fastlung.storage.base import ObjectInfo
from fastlung.storage.s3 import retry
from fastlung.storage.s3.listing import by_folder
from fastlung.storage.s3.read import PLAIN_KEY, part_bytes, parts_of, turns_of


@pytest.fixture(autouse=True)
def _own_credentials(aws_environment, monkeypatch):  # noqa: ARG001 - pytest fixtures
    """Nothing of this machine's AWS configuration, and no waiting between tries."""
    monkeypatch.setattr(retry, "FIRST_WAIT_SECONDS", 0.0)


class TestS3Store(StoreTests):
    @pytest.fixture
    def options(self, s3):
        return s3.options

    @pytest.fixture
    def store(self, s3):
        return open_store(f"s3://{s3.bucket}/some/prefix/", s3.options)

    @pytest.fixture
    def below(self, s3, store):
        return lambda key: open_store(f"{store.url}/{key}", s3.options)

    @pytest.fixture
    def raw_put(self, s3):
        return lambda key, data: s3.client.put_object(
            Bucket=s3.bucket, Key=f"some/prefix/{key}", Body=data
        )

    def test_boto3_reads_what_was_put(self, s3, store):
        data = bytes(range(256)) * 40_000
        store.put("scans/x/image.npy", [data[:100], data[100:]])
        answer = s3.client.get_object(Bucket=s3.bucket, Key="some/prefix/scans/x/image.npy")
        assert answer["Body"].read() == data

    def test_a_whole_bucket_is_a_store_and_folder_markers_are_no_objects(self, s3):
        for key in ("x/", "x/1", "0"):
            s3.client.put_object(Bucket=s3.bucket, Key=key, Body=b"")
        store = open_store(f"s3://{s3.bucket}", s3.options)
        assert keys(store) == ["x/1", "0"]
        assert store.url == f"s3://{s3.bucket}"

    def test_listings_of_many_pages_are_complete(self, store, monkeypatch):
        for number in range(25):
            store.put(f"a/{number:02d}", [b""])
        monkeypatch.setattr("fastlung.storage.s3.store.KEYS_A_PAGE", 10)
        assert keys(store) == [f"a/{number:02d}" for number in range(25)]

    def test_large_objects_go_up_in_parts_and_come_back_whole(self, store, monkeypatch):
        monkeypatch.setattr("fastlung.storage.s3.read.SINGLE_PUT_BYTES", 1000)
        monkeypatch.setattr("fastlung.storage.s3.read.PART_BYTES", 5 * 2**20)
        data = bytes(range(251)) * 60_000
        store.put("large", [data])
        (listed,) = store.list()
        assert listed.etag.endswith('-2"') or "-" in listed.etag.partition("-")[2]
        assert store.get("large", etag=listed.etag) == data

    def test_connections_are_not_pickled_with_the_options(self, s3):
        assert pickle.loads(pickle.dumps(s3.options)) == s3.options  # noqa: S301

    @pytest.mark.parametrize("key", ["tab\tx", "new\nline"])
    def test_keys_that_obstore_refuses_are_read_by_boto3(self, store, raw_put, key):
        raw_put(key, b"pixels")
        (listed,) = store.list()
        assert listed.key == key
        assert store.get(key, etag=listed.etag) == b"pixels"
        assert store.get(key, first_bytes=3) == b"pix"


@given(st.lists(st.text("ab/-", min_size=1, max_size=8), max_size=30, unique=True))
def test_sorted_listings_come_out_by_folder_and_complete(names):
    infos = [ObjectInfo(key=key, size_bytes=0, etag="") for key in sorted(names)]
    found = [info.key for info in by_folder(infos)]
    assert sorted(found) == sorted(names)
    folders = [key.rpartition("/")[0] for key in found]
    runs = [f for n, f in enumerate(folders) if n == 0 or folders[n - 1] != f]
    assert len(runs) == len(set(runs))


@pytest.mark.parametrize("key", ["a//b", "/a", "a/", "a/./b", "../b", "a/..", "..", "a\nb", ""])
def test_keys_that_obstore_rewrites_are_not_plain(key):
    assert not PLAIN_KEY.fullmatch(key)


@pytest.mark.parametrize("key", ["a/b.dcm", ".a", "a..b/c", "1.2.840/IM 0001", "ü/…"[:1]])
def test_usual_keys_are_plain(key):
    assert PLAIN_KEY.fullmatch(key)


@pytest.mark.parametrize(
    "url", ["s3://", "s3:///prefix", "s3://a", "s3://bu cket/x", "gs://bucket"]
)
def test_what_is_no_bucket_is_refused_before_anything_is_asked(url):
    with pytest.raises(ConfigError, match="s3://bucket/prefix"):
        open_store(url)


# What S3 answers, and the sentence it becomes.


def error(status, code):
    body = f"<Error><Code>{escape(code)}</Code><Message>CANARY</Message></Error>".encode()
    return status, {"Content-Type": "application/xml"}, body


def listing(*entries):
    contents = "".join(
        f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size><ETag>{tag}</ETag></Contents>"
        for key, size, tag in entries
    )
    body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
    return 200, {"Content-Type": "application/xml"}, body.encode()


def opened(server, **options):
    return open_store("s3://bucket/in", StoreOptions(endpoint_url=server.url, **options))


def test_no_credentials(monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(AccessError, match=r"no credentials found.*--no-sign-request"):
        open_store("s3://bucket/in", StoreOptions(endpoint_url="http://127.0.0.1:1")).check_source()


def test_a_profile_that_does_not_exist():
    with pytest.raises(ConfigError, match=r"--profile nobody: not in the AWS configuration"):
        open_store("s3://bucket/in", StoreOptions(profile="nobody")).check_source()


def test_no_such_bucket(s3):
    sentence = "s3://nosuchbucket/x cannot be listed: no such bucket at http"
    with pytest.raises(ObjectNotFoundError, match=sentence):
        open_store("s3://nosuchbucket/x", s3.options).check_source()


def test_wrong_secret(s3, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(AccessError, match=r"credentials are refused.*--profile"):
        open_store(f"s3://{s3.bucket}", s3.options).check_source()


def test_credentials_chosen_later_count(s3, monkeypatch):
    store = open_store(f"s3://{s3.bucket}", s3.options)
    store.check_source()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(AccessError, match="credentials are refused"):
        store.check_source()


def test_anonymous_where_that_is_not_allowed(s3):
    options = s3.options.model_copy(update={"no_sign_request": True})
    with pytest.raises(AccessError, match=r"access denied without credentials.*s3:ListBucket"):
        open_store(f"s3://{s3.bucket}", options).check_source()


def test_access_denied():
    with (
        FaultyServer(lambda *_: error(403, "AccessDenied")) as server,
        pytest.raises(
            AccessError, match=r"s3://bucket/in cannot be listed: access denied with.*s3:ListBucket"
        ) as why,
    ):
        opened(server).check_source()
    assert "CANARY" not in str(why.value)


def test_requester_pays_is_told_from_access_denied_and_then_works():
    def answer(method, _path, headers, _number):
        if headers.get("x-amz-request-payer") == "requester":
            return listing(("in/1.dcm", 6, '"e"')) if method == "GET" else (200, {}, b"")
        return error(403, "AccessDenied")

    with FaultyServer(answer) as server:
        with pytest.raises(AccessError, match="add --request-payer requester"):
            opened(server).check_source()
        store = opened(server, request_payer="requester")
        store.check_source()
        assert keys(store) == ["1.dcm"]


def in_region(home):
    """A bucket that only answers requests signed for its own region, as Amazon's do."""

    def answer(method, _path, headers, _number):
        region = {"x-amz-bucket-region": home}
        if f"/{home}/s3/" not in headers.get("Authorization", ""):
            return 301, region, error(301, "PermanentRedirect")[2] if method == "GET" else b""
        if method == "HEAD":
            return 200, region, b""
        if "list-type" in _path:
            return listing(("in/1.dcm", 6, '"e"'))
        return 200, {"ETag": '"e"', "Last-Modified": "Sun, 22 Nov 2026 14:25:43 GMT"}, b"pixels"

    return answer


def test_wrong_region():
    with (
        FaultyServer(in_region("eu-west-1")) as server,
        pytest.raises(StoreError, match=r"wrong region: the bucket is in eu-west-1.*us-west-2"),
    ):
        opened(server, region="us-west-2").check_source()


@pytest.mark.parametrize("default", ["", "us-west-2"])
def test_the_bucket_says_its_region_where_none_was_asked_for(monkeypatch, default):
    if default:
        monkeypatch.setenv("AWS_DEFAULT_REGION", default)
    with FaultyServer(in_region("eu-west-1")) as server:
        store = opened(server)
        store.check_source()
        assert store.get("1.dcm") == b"pixels"


def test_an_endpoint_that_does_not_answer():
    options = StoreOptions(endpoint_url="http://127.0.0.1:1")
    sentence = r"s3://bucket cannot be reached: no answer from http://127\.0\.0\.1:1 \(.*4 tries"
    with pytest.raises(StoreError, match=sentence):
        open_store("s3://bucket/in", options).check_source()


def test_the_endpoint_may_come_from_the_environment(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.options.endpoint_url)
    store = open_store(f"s3://{s3.bucket}/x")
    store.put("1", [b"one"])
    assert store.get("1") == b"one"


def test_an_endpoint_that_is_no_url_is_one_sentence(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"AWS_ENDPOINT_URL: 127\.0\.0\.1:9: no URL"):
        open_store("s3://bucket/x").check_source()
    with pytest.raises(ConfigError, match="endpoint_url: expected http:// or https:// and a host"):
        build_store_options(endpoint_url="localhost:8333")


# What may pass is tried again, and nothing torn is taken for whole.


def serving(body, *, faults):
    """Serve one object after some faults; each is a whole answer."""
    headers = {"ETag": '"e"', "Last-Modified": "Sun, 22 Nov 2026 14:25:43 GMT"}
    left = list(faults)

    def answer(method, *_):
        if method == "HEAD":
            return 200, {}, b""
        return left.pop(0) if left else (200, headers, body)

    return answer


FAULTS = {
    "SlowDown": error(503, "SlowDown"),
    "InternalError": error(500, "InternalError"),
    "RequestTimeout": error(400, "RequestTimeout"),
    "HTML": (502, {"Content-Type": "text/html"}, b"<html>bad gateway</html>"),
    "cut": (
        200,
        {"ETag": '"e"', "Last-Modified": "Sun, 22 Nov 2026 14:25:43 GMT", "Content-Length": "6"},
        b"pix",
    ),
}


@pytest.mark.parametrize("key", ["1.dcm", "a//b.dcm"])
def test_reading_is_tried_again_until_it_is_whole(key):
    with FaultyServer(serving(b"pixels", faults=FAULTS.values())) as server:
        assert opened(server).get(key) == b"pixels"
        paths = [path for method, path in server.requests if method == "GET"]
        assert paths == [f"/bucket/in/{key}"] * (len(FAULTS) + 1)


@pytest.mark.parametrize(
    ("size_bytes", "part"), [(0, 2**23), (10_000 * 2**23, 2**23), (10_000 * 2**23 + 1, 9 * 2**20)]
)
def test_parts_are_long_enough_for_ten_thousand_to_suffice(size_bytes, part):
    assert part_bytes(size_bytes) == part
    assert part * 10_000 >= size_bytes


@pytest.mark.parametrize(
    ("size_mib", "parts", "turns"), [(0, 1, 1), (16, 1, 1), (17, 3, 1), (64, 8, 1), (65, 9, 2)]
)
def test_an_object_goes_up_in_parts_and_those_in_turns(size_mib, parts, turns):
    assert (parts_of(size_mib * 2**20), turns_of(size_mib * 2**20)) == (parts, turns)


def test_a_store_that_ignores_the_condition_of_a_create_is_found_out(s3):
    store = open_store(f"s3://{s3.bucket}/out", s3.options)
    assert store.enforces_create()
    assert "Contents" not in s3.client.list_objects_v2(Bucket=s3.bucket)
    gone = b"<DeleteResult><Deleted><Key>x</Key></Deleted></DeleteResult>"
    with FaultyServer(lambda *_: (200, {"ETag": '"e"'}, gone)) as server:
        assert not opened(server).enforces_create()


def test_in_the_end_the_object_its_bucket_and_the_cause_are_named():
    tries = retry.IN_A_RUN.tries
    with (
        FaultyServer(serving(b"pixels", faults=[FAULTS["SlowDown"]] * tries)) as server,
        pytest.raises(StoreError, match=r"1\.dcm in s3://bucket cannot be read: ") as why,
    ):
        opened(server).get("1.dcm")
    assert f"{server.url} answers SlowDown 503 ({tries} tries)" in str(why.value)


def test_a_refusal_is_not_tried_again():
    with FaultyServer(serving(b"", faults=[error(403, "AccessDenied")])) as server:
        with pytest.raises(AccessError, match="access denied"):
            opened(server).get("1.dcm")
        assert len([method for method, _ in server.requests if method == "GET"]) == 1


@pytest.mark.parametrize("key", ["1.dcm", "a//b.dcm"])
def test_a_body_shorter_than_listed_is_never_taken_for_whole(key):
    with (
        FaultyServer(serving(b"pix", faults=[])) as server,
        pytest.raises(StoreError, match="broke off"),
    ):
        opened(server).get(key, etag='6-"e"')


@pytest.mark.parametrize("rival", [b"ours", b"theirs"])
def test_a_lost_answer_to_our_own_create_is_no_lost_race(rival):
    lost = [error(503, "SlowDown")]
    headers = {"ETag": '"e"', "Last-Modified": "Sun, 22 Nov 2026 14:25:43 GMT"}

    def answer(method, *_):
        if method == "PUT":
            return lost.pop() if lost else error(412, "PreconditionFailed")
        return (200, {}, b"") if method == "HEAD" else (200, headers, rival)

    with FaultyServer(answer) as server:
        assert opened(server).create("records/1.json", b"ours") is (rival == b"ours")
