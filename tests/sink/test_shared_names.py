"""Which source group a name belongs to follows from the source alone, whoever came first."""

import json
import threading
from contextlib import suppress
from itertools import permutations

import pytest
from isal import isal_zlib

from fastlung.config import Config
from fastlung.errors import StoreError
from fastlung.scan import Outcome
from fastlung.sink.commit import Job, Storer, Task
from fastlung.sink.names import claim_key, claim_name
from fastlung.sink.records import read_record, read_records, record_key
from fastlung.sink.shared_names import keep_if_ours, legacy_wish, settle_names
from fastlung.source.groups import SourceGroup
from fastlung.storage.local import LocalStore
from fastlung.text import stable_id

UID = "1.2.3"
LABELS = ("c", "a", "b/x")


class Killed(BaseException):
    """The process is gone."""


class MortalStore(LocalStore):
    """Dies before a certain write; reads go on."""

    left = 10**9

    def _die(self):
        self.left -= 1
        if self.left < 0:
            raise Killed

    def put(self, key, buffers):
        self._die()
        super().put(key, buffers)

    def create(self, key, data):
        self._die()
        return super().create(key, data)

    def delete(self, key):
        self._die()
        super().delete(key)


def commit(sink, label, *names, status="done"):
    """What a worker does with a group; its voxels are its label."""
    group = SourceGroup(id=stable_id(label), label=label, objects=())
    job = Job(source="", sink=sink.url, config=Config(), names_key=b"", writer="w", memory_bytes=1)
    committed = read_record(sink, record_key(group.id)) is not None
    task = Task(group=group, committed=committed)
    with Storer(job, sink) as storer:
        written = []
        for name in names or (UID,):
            outcome = Outcome(name=name, group=group.id, status=status, series_uid=name)
            files = {"image.npy": [f"{label} {name}".encode()], "deep/0.0": [b"x"]}
            written.append(storer.put(task, outcome, files) if status == "done" else outcome)
        return storer.commit(task, written, {}).result()


def scans(sink):
    """Names to voxels, as they lie there."""
    return {path.parent.name: path.read_text() for path in sink.root.glob("scans/*/image.npy")}


def assert_true(sink):
    """Every record names what is there, and no two the same."""
    named = [key for record in read_records(sink) for key in record.outputs]
    assert len(named) == len(set(named))
    for record in read_records(sink):
        for key, (size, crc) in record.outputs.items():
            data = sink.get(key)
            assert (len(data), isal_zlib.crc32(data)) == (size, crc)


def calm(tmp_path, *labels):
    sink = LocalStore(tmp_path / "calm")
    for label in sorted(labels):
        commit(sink, label)
    settle_names(sink)
    return scans(sink)


@pytest.mark.parametrize("order", [*permutations(LABELS)])
def test_any_order_of_arrival_ends_the_same(tmp_path, order):
    sink = LocalStore(tmp_path / "sink")
    for label in order:
        commit(sink, label)
    settle_names(sink)
    assert scans(sink) == calm(tmp_path, *LABELS)
    assert scans(sink)[UID] == f"a {UID}"
    assert_true(sink)


@pytest.mark.parametrize("order", [*permutations(LABELS)])
def test_runs_that_find_groups_one_by_one_end_the_same(tmp_path, order):
    sink = LocalStore(tmp_path / "sink")
    for label in order:
        commit(sink, label)
        settle_names(sink)
        settle_names(sink)
    assert scans(sink) == calm(tmp_path, *LABELS)


def test_both_say_who_else_has_the_series(tmp_path):
    sink = LocalStore(tmp_path)
    commit(sink, "b")
    commit(sink, "a")
    settle_names(sink)
    said = {r.label: (r.outcomes[0].wished_name, r.outcomes[0].also_in) for r in read_records(sink)}
    assert said == {"a": ("", ("b",)), "b": (UID, ("a",))}


def test_killed_at_any_write_every_record_is_true_and_the_next_run_completes(tmp_path):
    writes = 0
    while True:
        sink = MortalStore(tmp_path / str(writes))
        for label in LABELS:
            commit(sink, label)
        sink.left = writes
        try:
            settle_names(sink)
        except Killed:
            sink.left = 10**9
            assert_true(sink)
            settle_names(sink)
            assert scans(sink) == calm(tmp_path / str(writes), *LABELS)
            assert_true(sink)
            writes += 1
        else:
            break
    assert writes > 10


def test_two_runs_may_settle_at_once(tmp_path):
    for number in range(10):
        sink = LocalStore(tmp_path / str(number))
        for label in LABELS:
            commit(sink, label)

        def settle(sink=sink):
            with suppress(StoreError):
                settle_names(LocalStore(sink.root))

        both = [threading.Thread(target=settle) for _ in range(2)]
        for each in both:
            each.start()
        for each in both:
            each.join()
        assert_true(sink)
        for label in LABELS:
            if read_record(sink, record_key(stable_id(label))) is None:
                commit(sink, label)  # as the next run does
        settle_names(sink)
        assert scans(sink) == calm(tmp_path / str(number), *LABELS)


def test_a_group_in_work_keeps_its_name_until_it_is_committed(tmp_path):
    sink = LocalStore(tmp_path / "sink")
    assert claim_name(sink, UID, stable_id("c")) == UID
    commit(sink, "a")
    assert settle_names(sink) == {}
    commit(sink, "c")
    settle_names(sink)
    assert scans(sink) == calm(tmp_path, "a", "c")


def test_who_wrote_under_a_name_it_has_lost_leaves_no_wrong_record(tmp_path):
    sink = LocalStore(tmp_path)
    commit(sink, "c")
    commit(sink, "a")
    settle_names(sink)
    sink.put(f"scans/{UID}/image.npy", [b"a run of before, slow"])
    with pytest.raises(StoreError, match="run again"):
        keep_if_ours(sink, UID, stable_id("c"))
    assert_true(sink)
    commit(sink, "a")
    assert scans(sink)[UID] == f"a {UID}"


def test_the_name_of_a_series_that_fails_now_goes_to_the_next(tmp_path):
    sink = LocalStore(tmp_path)
    commit(sink, "a")
    commit(sink, "b")
    settle_names(sink)
    commit(sink, "a", status="failed")
    settle_names(sink)
    assert scans(sink)[UID] == f"b {UID}"
    commit(sink, "a")
    settle_names(sink)
    assert scans(sink)[UID] == f"a {UID}"
    assert_true(sink)


def test_a_second_series_of_one_folder_may_be_called_like_another_folder(tmp_path):
    results = set()
    for order in permutations([("a", "a", "a-2"), ("a-2", "a-2")]):
        sink = LocalStore(tmp_path / order[0][0])
        for label, *names in order:
            commit(sink, label, *names)
        settle_names(sink)
        assert_true(sink)
        results.add(tuple(sorted(scans(sink).items())))
    assert len(results) == 1
    assert dict(results.pop())["a-2"] == "a a-2"


def test_suffixes_of_early_versions_are_settled_too(tmp_path):
    sink = LocalStore(tmp_path / "sink")
    for label in ("c", "a"):
        commit(sink, label)
    for path in (tmp_path / "sink" / "records").glob("*.json"):
        plain = json.loads(path.read_text())
        for outcome in plain["outcomes"]:
            del outcome["wished_name"], outcome["also_in"]
        path.write_text(json.dumps(plain))
    for path in (tmp_path / "sink" / "shared-names").glob("*/*"):
        path.unlink()
    wishes = [w for r in read_records(sink) for o in r.outcomes if (w := legacy_wish(o))]
    settle_names(sink, wishes)
    assert scans(sink) == calm(tmp_path, "a", "c")


def test_a_sink_without_shared_names_is_asked_once(tmp_path):
    asked = []

    class Counting(LocalStore):
        def list(self, prefix="", **options):
            asked.append(prefix)
            return super().list(prefix, **options)

        def get(self, key, **options):
            asked.append(key)
            return super().get(key, **options)

    sink = LocalStore(tmp_path)
    commit(sink, "a", "1")
    commit(sink, "b", "2")
    assert settle_names(Counting(tmp_path)) == {}
    assert asked == ["shared-names"]
    assert sink.get(claim_key("1")) == stable_id("a").encode()
