"""Objects appear whole or not at all, whatever lies in the folder."""

import errno
import os
import socket
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_tests import StoreTests

from fastlung.config import StoreOptions
from fastlung.errors import ConfigError, ObjectNotFoundError, StoreError
from fastlung.storage import LocalStore, open_store
from fastlung.storage import local as store_module


def write(root: Path, files: dict[str, bytes]) -> LocalStore:
    for key, data in files.items():
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return LocalStore(root)


def keys(store: LocalStore, prefix: str = "") -> list[str]:
    return [info.key for info in store.list(prefix)]


class TestLocalStore(StoreTests):
    @pytest.fixture
    def options(self):
        return StoreOptions()

    @pytest.fixture
    def store(self, tmp_path):
        return LocalStore(tmp_path / "root")

    @pytest.fixture
    def below(self, store):
        return lambda key: LocalStore(store.root / key)

    @pytest.fixture
    def raw_put(self, store):
        return lambda key, data: write(store.root, {key: data})


def hidden(root: Path) -> list[str]:
    return [path.name for path in root.rglob(".*")]


def test_list_gives_folders_whole_and_in_order(tmp_path):
    store = write(tmp_path, {"b/2": b"", "b/c/1": b"x", "a/1": b"", "b/1": b"abc", "0": b""})
    assert keys(store) == ["0", "a/1", "b/1", "b/2", "b/c/1"]
    assert keys(store, "b") == ["b/1", "b/2", "b/c/1"]
    assert keys(store, "nowhere") == []
    assert [info.size_bytes for info in store.list("b")] == [3, 0, 1]


def test_list_ends_on_link_loops_and_stays_below_the_root(tmp_path):
    store = write(tmp_path / "root", {"a/1": b"", "a/b/2": b""})
    write(tmp_path / "elsewhere", {"secret": b"s"})
    (tmp_path / "root/a/b/loop").symlink_to(tmp_path / "root/a")
    (tmp_path / "root/out").symlink_to(tmp_path / "elsewhere")
    assert keys(store) == ["a/1", "a/b/2"]


def test_links_to_folders_are_followed_where_that_is_asked_for_and_each_is_told(tmp_path):
    store = write(tmp_path / "root", {"a/1": b"", "b/2": b""})
    write(tmp_path / "elsewhere", {"scan/3": b"s"})
    (tmp_path / "elsewhere/scan/back").symlink_to(tmp_path / "root")
    (tmp_path / "root/a/loop").symlink_to(tmp_path / "root/a")
    (tmp_path / "root/again").symlink_to(tmp_path / "root/b")
    (tmp_path / "root/out").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root/twice").symlink_to(tmp_path / "elsewhere/scan")
    (tmp_path / "root/up").symlink_to(tmp_path)
    told = []
    found = [info.key for info in store.list(on_link=lambda *link: told.append(link))]
    assert found == ["a/1", "b/2", "out/scan/3"]
    assert dict(told) == {
        "again": "seen", "out": "followed", "twice": "seen", "up": "seen", "a/loop": "seen",
        "out/scan/back": "seen",
    }  # fmt: skip
    assert store.get("out/scan/3") == b"s"


def test_a_link_to_a_file_reads_as_the_file(tmp_path):
    store = write(tmp_path, {"annex/object": b"pixels"})
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan/1.dcm").symlink_to(tmp_path / "annex/object")
    assert [(o.key, o.size_bytes) for o in store.list("scan")] == [("scan/1.dcm", 6)]
    assert store.get("scan/1.dcm") == b"pixels"


def test_a_dangling_link_is_listed_and_named_when_read(tmp_path):
    (tmp_path / "1.dcm").symlink_to(tmp_path / "gone")
    (tmp_path / "2.dcm").symlink_to(tmp_path / "2.dcm")
    store = LocalStore(tmp_path)
    assert keys(store) == ["1.dcm", "2.dcm"]
    with pytest.raises(ObjectNotFoundError, match=r"1\.dcm"):
        store.get("1.dcm")
    with pytest.raises(StoreError, match=r"2\.dcm"):
        store.get("2.dcm")


def test_pipes_and_sockets_are_never_opened(tmp_path, monkeypatch):
    store = write(tmp_path, {"1.dcm": b""})
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)  # the path of a socket may have 108 bytes at most
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert keys(store) == ["1.dcm"]
        for key in ("pipe", "socket", ""):
            with pytest.raises(StoreError):
                store.get(key)


def test_an_unreadable_folder_is_reported_not_lost(tmp_path, monkeypatch):
    store = write(tmp_path, {"a/1": b"", "b/1": b""})
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "a":
            raise PermissionError(errno.EACCES, "no")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root may read everything
    with pytest.raises(StoreError, match="folder a cannot be listed: Permission denied"):
        keys(store)
    unreadable = []
    assert [o.key for o in store.list(on_unreadable=unreadable.append)] == ["b/1"]
    assert unreadable == ["a"]


@given(pieces=st.lists(st.binary(max_size=50), max_size=5))
def test_put_then_get_gives_the_bytes_back(tmp_path_factory, pieces):
    store = LocalStore(tmp_path_factory.mktemp("store"))
    store.put("a/b", pieces)
    store.put("a/b", [*pieces, b"!"])
    assert store.get("a/b") == b"".join(pieces) + b"!"
    assert keys(store) == ["a/b"]
    assert hidden(store.root) == []


def test_a_failed_put_leaves_the_old_object_and_no_trace(tmp_path, monkeypatch):
    store = write(tmp_path, {"image.npy": b"old"})

    def full(_descriptor, _buffer):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match="No space left on device") as caught:
        store.put("image.npy", [b"new"])
    monkeypatch.undo()
    assert isinstance(caught.value.__cause__, OSError)
    assert store.get("image.npy") == b"old"
    assert hidden(tmp_path) == []


def test_a_sink_that_is_a_file_is_an_error_not_a_lost_race(tmp_path):
    (tmp_path / "sink").write_bytes(b"")
    with pytest.raises(StoreError):
        LocalStore(tmp_path / "sink").create("records/1.json", b"{}")


@pytest.mark.parametrize("links", [True, False])
def test_one_of_many_racing_creators_wins(tmp_path, monkeypatch, links):
    if not links:  # a file system without hard links

        def refuse(*_):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(store_module.os, "link", refuse)
    store, gate = LocalStore(tmp_path), threading.Barrier(8)

    def race(number):
        gate.wait()
        return store.create("scans/a/group", b"%016d" % number)

    with ThreadPoolExecutor(8) as pool:
        winners = [number for number, won in enumerate(pool.map(race, range(8))) if won]
    assert len(winners) == 1
    assert store.get("scans/a/group") == b"%016d" % winners[0]
    assert hidden(tmp_path) == []


def test_delete_takes_empty_folders_along(tmp_path):
    store = write(tmp_path, {"scans/a/1": b"", "scans/a/2": b"", "scans/a/x/y/3": b""})
    store.delete("scans/a/x/y/3")
    assert not (tmp_path / "scans/a/x").exists()
    store.delete("scans/a/1")
    store.delete("scans/a/1")
    assert keys(store) == ["scans/a/2"]
    store.delete("scans/a/2")
    assert list(tmp_path.iterdir()) == [tmp_path / "scans"]
    assert not list((tmp_path / "scans").iterdir())


def test_sweep_removes_only_our_own_stale_files(tmp_path):
    stale, fresh = "scans/a/.image.npy.1f.fastlung-tmp", "scans/a/.image.npy.2f.fastlung-tmp"
    foreign = "scans/a/.image.npy.tmp"
    store = write(tmp_path, {stale: b"", fresh: b"", foreign: b""})
    os.utime(tmp_path / stale, (0, 0))
    os.utime(tmp_path / foreign, (0, 0))
    assert store.sweep() == 1
    assert sorted(hidden(tmp_path)) == sorted(Path(key).name for key in (fresh, foreign))


def test_open_store_refuses_what_it_cannot_read(tmp_path):
    assert open_store(str(tmp_path)).root == tmp_path
    assert open_store(f"file://{tmp_path}").root == tmp_path
    for url in ("gs://bucket", "http://bucket", ""):
        with pytest.raises(ConfigError):
            open_store(url)


def test_removing_an_object_of_the_root_leaves_the_root_and_all_above(tmp_path):
    store = LocalStore(tmp_path / "above" / "root")
    store.put("alone", [b"1"])
    store.delete("alone")
    store.delete("never there")
    assert store.root.is_dir()


@pytest.mark.parametrize("longer", [1, 4 * 2**30])
def test_a_file_that_grew_is_refused_before_it_is_read(tmp_path, longer):
    store = write(tmp_path, {"a/1": b"x" * 1000})
    (info,) = store.list()
    os.truncate(tmp_path / "a" / "1", 1000 + longer)  # sparse
    tracemalloc.start()
    try:
        with pytest.raises(StoreError, match="changed since it was listed"):
            store.read("a/1", etag=info.etag)
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


def test_a_file_that_grows_while_it_is_read_is_read_one_byte_too_far(tmp_path, monkeypatch):
    store = write(tmp_path, {"a/1": b"x" * 1000})
    (info,) = store.list()
    asked = []

    def read(descriptor, count):
        os.truncate(tmp_path / "a" / "1", 2**32)
        asked.append(count)
        return os.pread(descriptor, count, 0)

    monkeypatch.setattr(store_module.os, "read", read)
    with pytest.raises(StoreError, match="changed since it was listed"):
        store.get("a/1", etag=info.etag)
    assert sum(asked) <= 1001
