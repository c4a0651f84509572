"""The server that costs nothing behaves like a bucket where fastlung looks."""

import asyncio
from functools import partial

import pytest
from null_s3 import KEEP_BYTES, NullS3, Pace, null_s3_process
from store_tests import keys

from fastlung.config import StoreOptions
from fastlung.errors import ObjectNotFoundError, StoreError
from fastlung.storage import open_store
from fastlung.storage.prefetch import Fetcher


@pytest.fixture(autouse=True)
def _own_credentials(aws_environment):
    """Nothing of this machine's AWS configuration."""


def opened(url, prefix):
    return open_store(f"s3://bucket/{prefix}".rstrip("/"), StoreOptions(endpoint_url=url))


def test_what_it_serves_is_listed_and_read_and_what_is_small_is_kept():
    held = {f"in/a/{n:04d}.dcm": bytes([n % 251]) * n for n in range(1500)}
    with NullS3(held, Pace(first_byte_seconds=0.001)) as server:
        source, sink = opened(server.url, "in"), opened(server.url, "out")
        infos = list(source.list())
        assert {f"in/{info.key}": info.size_bytes for info in infos} == {
            key: len(data) for key, data in held.items()
        }
        with Fetcher(8) as fetcher:
            blobs = fetcher.fetch(source, infos[:40]).result(60)
        assert all(bytes(blob) == held[f"in/{key}"] for key, blob in blobs.items())
        assert source.get("a/0100.dcm", first_bytes=7) == bytes([100]) * 7

        sink.put("scans/x/image.npy", [bytes(KEEP_BYTES + 1)])
        assert sink.create("records/1.json", b"{}")
        assert not sink.create("records/1.json", b"later")
        assert sink.get("records/1.json") == b"{}"
        assert {info.key: info.size_bytes for info in sink.list()} == {
            "records/1.json": 2,
            "scans/x/image.npy": KEEP_BYTES + 1,
        }
        with pytest.raises(ObjectNotFoundError):
            sink.get("scans/x/image.npy")
        sink.delete("records/1.json")
        assert keys(sink) == ["scans/x/image.npy"]
        with pytest.raises(StoreError, match="changed since it was listed"):
            source.get("a/0001.dcm", etag='1-"other"')


def test_a_link_is_shared_alike_and_each_way_for_itself():
    ended = []

    async def measure():
        loop = asyncio.get_running_loop()
        began, over = loop.time(), asyncio.Event()
        server = NullS3({}, Pace(first_byte_seconds=0.0, total_bytes_per_second=1e6))

        def through(name):
            ended.append((name, loop.time() - began))
            if len(ended) == 3:
                over.set()

        for name, sent, received in (
            ("large", 0, 200_000),
            ("small", 0, 20_000),
            ("other way", 50_000, 0),
        ):
            server.after(sent, received, partial(through, name))
        await over.wait()

    asyncio.run(measure())
    assert [name for name, _ in ended] == ["small", "other way", "large"]
    # The small one has half of the link; none is through before its bytes can be.
    assert [round(seconds, 2) >= least for (_, seconds), least in zip(
        ended, (0.04, 0.05, 0.22), strict=True
    )] == [True] * 3  # fmt: skip


def test_a_folder_is_served_many_times_from_a_process_of_its_own(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.dcm").write_bytes(b"pixels")
    with null_s3_process(tmp_path, copies=3, pace=Pace(first_byte_seconds=0.0)) as (url, _pid):
        store = opened(url, "")
        assert keys(store) == [f"{n:04d}/a/1.dcm" for n in range(3)]
        assert store.get("0002/a/1.dcm") == b"pixels"
