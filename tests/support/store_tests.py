"""What every store must do, whatever is behind it: subclass `StoreTests` and give a `store`."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fastlung.errors import ObjectNotFoundError, StoreError
from fastlung.storage import open_store


def fill(store, files):
    for key, data in files.items():
        store.put(key, [data])
    return store


def keys(store, prefix=""):
    return [info.key for info in store.list(prefix)]


class StoreTests:
    """
    Tests of one store.

    A subclass gives the fixtures `store`, empty and writable, `options` to reopen it with, and
    `below`, which gives a store of the same kind further down.
    """

    def test_a_store_that_was_never_written_is_empty(self, store):
        assert keys(store) == []
        assert keys(store, "nowhere") == []
        store.check_sink()

    def test_what_was_put_comes_back_listed_with_its_size(self, store):
        fill(store, {"a/1": b"x", "a/2": b"abc", "0": b"", "b/c/1": bytes(100_000)})
        sizes = {info.key: info.size_bytes for info in store.list()}
        assert sizes == {"a/1": 1, "a/2": 3, "0": 0, "b/c/1": 100_000}
        for info in store.list():
            assert len(store.get(info.key, etag=info.etag)) == info.size_bytes
        store.check_source()

    def test_one_object_is_described_as_in_the_listing(self, store):
        fill(store, {"a/1": b"abc"})
        (listed,) = store.list()
        assert store.stat("a/1") == listed
        for key in ("a/2", "a"):
            with pytest.raises(StoreError):
                store.stat(key)

    def test_pieces_are_joined_and_an_object_replaced(self, store):
        store.put("a/b", [b"old", b" and ", memoryview(bytearray(b"longer"))])
        assert store.get("a/b") == b"old and longer"
        store.put("a/b", [b"new"])
        assert store.get("a/b") == b"new"
        store.put("a/b", [])
        assert store.get("a/b") == b""

    def test_objects_of_a_folder_are_listed_together_and_in_order(self, store):
        names = ["1", "a/1", "a/2", "a/b/1", "a/b/2", "a/c", "a-b/1", "a.b", "z"]
        fill(store, dict.fromkeys(names, b""))
        listed = keys(store)
        assert sorted(listed) == sorted(names)
        folders = [key.rpartition("/")[0] for key in listed]
        runs = [f for n, f in enumerate(folders) if n == 0 or folders[n - 1] != f]
        assert len(runs) == len(set(runs))
        assert listed == keys(store)
        within = [key for key in listed if key.rpartition("/")[0] == "a"]
        assert within == ["a/1", "a/2", "a/c"]

    def test_a_prefix_is_a_folder_not_the_beginning_of_a_name(self, store):
        fill(store, {"scan/1": b"", "scan/deep/1": b"", "scan2/1": b""})
        assert sorted(keys(store, "scan")) == ["scan/1", "scan/deep/1"]
        assert keys(store, "scan/1") == []

    def test_hidden_names_are_not_listed(self, store, raw_put):
        raw_put(".git/objects/1", b"")
        raw_put("a/.DS_Store", b"")
        raw_put("a/1", b"")
        assert keys(store) == ["a/1"]

    @pytest.mark.parametrize("count", [0, 1, 6, 17, 1000])
    def test_the_head_of_an_object_can_be_read_alone(self, store, count):
        data = b"header and pixels"
        fill(store, {"1.dcm": data, "empty": b""})
        assert store.get("1.dcm", first_bytes=count) == data[:count]
        assert store.get("empty", first_bytes=count) == b""

    def test_a_missing_object_is_named(self, store):
        for key in ("missing", "a/missing"):
            with pytest.raises(ObjectNotFoundError, match="missing"):
                store.get(key)

    @pytest.mark.parametrize("later", [b"after!", b"longer than before"])
    def test_what_changed_since_listing_is_noticed(self, store, later):
        fill(store, {"1.dcm": b"before"})
        (listed,) = store.list()
        assert store.get("1.dcm", etag=listed.etag) == b"before"
        fill(store, {"1.dcm": later})
        (relisted,) = store.list()
        assert relisted.etag != listed.etag
        with pytest.raises(StoreError, match=r"1\.dcm: changed since it was listed"):
            store.get("1.dcm", etag=listed.etag)
        with pytest.raises(StoreError, match="changed since it was listed"):
            store.get("1.dcm", etag=listed.etag, first_bytes=3)

    def test_one_of_many_racing_creators_wins(self, store):
        gate = threading.Barrier(8)

        def race(number):
            gate.wait()
            return store.create("scans/a/group", b"%016d" % number)

        with ThreadPoolExecutor(8) as pool:
            winners = [number for number, won in enumerate(pool.map(race, range(8))) if won]
        assert len(winners) == 1
        assert store.get("scans/a/group") == b"%016d" % winners[0]
        assert not store.create("scans/a/group", b"later")
        assert store.get("scans/a/group") == b"%016d" % winners[0]

    def test_delete_removes_and_forgives_what_is_missing(self, store):
        fill(store, {"scans/a/1": b"", "scans/a/2": b""})
        store.delete("scans/a/1")
        store.delete("scans/a/1")
        assert keys(store) == ["scans/a/2"]

    @pytest.mark.parametrize("key", ["../x", "a/../../x", "a//b", "", "a/", ".", "a\0b", "/etc/x"])
    def test_nothing_is_written_outside_the_root(self, store, key):
        for write in (
            store.delete,
            lambda key: store.put(key, [b""]),
            lambda k: store.create(k, b""),
        ):
            with pytest.raises(StoreError, match="not a key"):
                write(key)
        assert keys(store) == []

    @pytest.mark.parametrize("key", ["sp ace/ü.dcm", "a+b=c,d;(1)/~x'!@:", "100%/#?&[]{}^|"])
    def test_unusual_names_come_back_as_they_are(self, store, key):
        fill(store, {key: b"pixels"})
        (listed,) = store.list()
        assert listed.key == key
        assert store.get(key, etag=listed.etag) == b"pixels"

    def test_the_url_opens_the_same_store_again(self, store, options):
        fill(store, {"a/1": b"x"})
        assert open_store(store.url, options).get("a/1") == b"x"

    def test_one_root_below_another_has_a_key_there(self, store, below):
        assert store.key_of(store) == ""
        assert store.key_of(below("out/x")) == "out/x"
        assert below("out").key_of(store) is None
        assert below("out").key_of(below("outer")) is None

    def test_sweeping_leaves_whole_objects_alone(self, store):
        fill(store, {"a/1": b"x"})
        assert store.sweep() == 0
        assert keys(store) == ["a/1"]
