"""Groups arrive in the order they were asked for, side by side, each with its own fate."""

import subprocess
import sys
import threading
from collections import Counter

import pytest

from fastlung.errors import StoreError
from fastlung.storage import LocalStore
from fastlung.storage.base import ObjectInfo
from fastlung.storage.prefetch import Fetcher

PATIENCE = 30


class SlowStore:
    """Gives an object when the test lets it, and notes what was asked for."""

    def __init__(self, *, faulty=()):
        self.asked = []
        self.most = self.under_way = 0
        self._faulty = set(faulty)
        self._lock = threading.Lock()
        self._open = threading.Semaphore(0)
        self._arrived = threading.Semaphore(0)

    def read(self, key, *, etag):
        with self._lock:
            self.asked.append(key)
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        self._arrived.release()
        assert self._open.acquire(timeout=PATIENCE)
        with self._lock:
            self.under_way -= 1
        if key in self._faulty:
            raise StoreError(f"{key}: no answer")
        return memoryview(f"{key} {etag}".encode())

    def wait_for(self, count):
        for _ in range(count):
            assert self._arrived.acquire(timeout=PATIENCE)

    def retire(self, count):
        self._open.release(count)


def objects(group, count):
    return [ObjectInfo(key=f"{group}/{n}", size_bytes=5, etag="e") for n in range(count)]


def test_objects_come_side_by_side_in_the_order_they_were_listed():
    store = SlowStore()
    with Fetcher(requests=4) as fetcher:
        future = fetcher.fetch(store, objects("a", 6))
        store.wait_for(4)
        store.retire(6)
        blobs = future.result(PATIENCE)
    assert list(blobs) == [f"a/{n}" for n in range(6)]
    assert bytes(blobs["a/3"]) == b"a/3 e"
    assert store.most == 4
    assert (fetcher.traffic.objects, fetcher.traffic.fetched_bytes) == (6, 30)


def test_older_groups_come_first_and_the_next_fills_what_is_free():
    store = SlowStore()
    with Fetcher(requests=2) as fetcher:
        futures = [fetcher.fetch(store, objects(name, 3)) for name in "abc"]
        store.retire(9)
        for future in futures:
            future.result(PATIENCE)
    first = [key.partition("/")[0] for key in store.asked]
    assert first == sorted(first)


def test_an_error_belongs_to_its_group_and_spares_it_the_rest():
    store = SlowStore(faulty=["a/1"])
    with Fetcher(requests=1) as fetcher:
        bad, good = (fetcher.fetch(store, objects(name, 10)) for name in "ab")
        store.retire(12)
        with pytest.raises(StoreError, match="a/1: no answer"):
            bad.result(PATIENCE)
        assert len(good.result(PATIENCE)) == 10
    assert store.asked == ["a/0", "a/1", *(f"b/{n}" for n in range(10))]
    assert fetcher.traffic.failed == 1


def test_two_failures_of_one_group_are_one():
    store = SlowStore(faulty=["a/0", "a/1"])
    with Fetcher(requests=2) as fetcher:
        bad = fetcher.fetch(store, objects("a", 2))
        store.wait_for(2)
        good = fetcher.fetch(store, objects("b", 2))
        store.retire(4)
        with pytest.raises(StoreError, match="no answer"):
            bad.result(PATIENCE)
        assert list(good.result(PATIENCE)) == ["b/0", "b/1"]


def test_a_cancelled_group_is_asked_for_no_further():
    store = SlowStore()
    with Fetcher(requests=1) as fetcher:
        dropped, wanted = (fetcher.fetch(store, objects(name, 5)) for name in "ab")
        store.wait_for(1)
        assert dropped.cancel()
        store.retire(6)
        assert len(wanted.result(PATIENCE)) == 5
    assert store.asked == ["a/0", *(f"b/{n}" for n in range(5))]


def test_more_or_fewer_requests_while_it_runs():
    store = SlowStore()
    with Fetcher(requests=1) as fetcher:
        future = fetcher.fetch(store, objects("a", 40))
        store.wait_for(1)
        assert store.under_way == 1
        fetcher.resize(6)
        store.wait_for(5)
        assert store.under_way == 6
        fetcher.resize(2)
        store.retire(10)
        store.wait_for(6)
        assert store.under_way <= 2
        store.retire(30)
        assert len(future.result(PATIENCE)) == 40
    assert store.most == 6


def test_an_idle_fetcher_takes_the_next_group_and_an_empty_one_is_there_at_once():
    store = SlowStore()
    store.retire(20)
    with Fetcher(requests=3) as fetcher:
        for name in "abcd":
            assert len(fetcher.fetch(store, objects(name, 5)).result(PATIENCE)) == 5
        assert fetcher.fetch(store, []).result(0) == {}


def test_leaving_drops_what_was_not_asked_for():
    store = SlowStore()
    with Fetcher(requests=1) as fetcher:
        future = fetcher.fetch(store, objects("a", 5))
        store.wait_for(1)
        store.retire(1)
    assert future.cancelled()
    assert len(store.asked) <= 2


def test_a_local_folder_comes_whole(tmp_path):
    store = LocalStore(tmp_path)
    contents = {f"a/{n:03d}": bytes([n]) * n for n in range(50)}
    for key, data in contents.items():
        store.put(key, [data])
    with Fetcher(store.requests_at_once) as fetcher:
        blobs = fetcher.fetch(store, list(store.list())).result(PATIENCE)
    assert {key: bytes(blob) for key, blob in blobs.items()} == contents
    assert Counter(type(blob) for blob in blobs.values()) == {memoryview: 50}


def test_shared_heaps_leave_a_worker_its_address_space():
    code = """
import sys, threading, psutil
from fastlung.storage.prefetch import share_arenas
if sys.argv[1] == "share" and not share_arenas():
    raise SystemExit(3)
gate = threading.Barrier(17)
def work():
    kept = bytearray(100_000)
    gate.wait(); gate.wait()
for _ in range(16):
    threading.Thread(target=work, daemon=True).start()
gate.wait()
print(psutil.Process().memory_info().vms)
gate.wait()
"""
    taken = {}
    for how in ("share", "apart"):
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", code, how], capture_output=True, text=True, check=False
        )
        if done.returncode == 3:
            pytest.skip("the C library of this machine has no such heaps")
        taken[how] = int(done.stdout)
    assert taken["share"] < taken["apart"] - 10 * 2**26
