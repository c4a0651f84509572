"""What a chunk leaves in the sink, whatever its scans are like and whatever goes wrong."""

import errno
import json
import os
import threading
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_series import CANARY, payloads, write_group, write_source

from fastlung.config import build_config
from fastlung.dicom import SeriesHeaders
from fastlung.errors import StoreError
from fastlung.run import group as one_group
from fastlung.run.protocol import Began, Broke, Ended, GaveBack, PackedTask
from fastlung.run.schedule import Lease
from fastlung.run.worker import Worker
from fastlung.sink.commit import Job, Task, committed_outcomes
from fastlung.sink.names import pseudonym
from fastlung.sink.records import load_outcome, load_record, record_key, to_json
from fastlung.source.groups import discover
from fastlung.storage import LocalStore

pytestmark = pytest.mark.compiled

KEY = b"0123456789abcdef"


@pytest.fixture
def source(tmp_path):
    return write_source(tmp_path / "source", 3)


@pytest.fixture
def job(source, tmp_path):
    return Job(
        source=str(source),
        sink=str(tmp_path / "sink"),
        config=build_config(spacing_mm=6.0),
        names_key=b"",
        writer="token",
        memory_bytes=10**9,
        ahead_bytes=10**6,
    )


def handed_over(job, tasks, **options):
    """All news of a worker that is given some groups at once."""
    news = []
    with Worker(job, news.append) as worker:
        worker.submit(
            [
                Lease(
                    number=number,
                    task=PackedTask.of(task),
                    **{"allowed_bytes": job.memory_bytes, **options},
                )
                for number, task in enumerate(tasks)
            ]
        )
        worker.finish()
        while worker.step():
            pass
    return news


def run_chunk(job, tasks, **options):
    """Outcomes of some groups, all committed."""
    news = handed_over(job, tasks, **options)
    for message in news:
        if isinstance(message, Broke):
            raise message.error
    ended = [message for message in news if isinstance(message, Ended)]
    assert [message.number for message in ended] == list(range(len(tasks)))
    return [outcome for message in ended for outcome in message.outcomes]


def tasks(job, **options):
    return [Task(group=group) for group in discover(LocalStore(job.source), **options)]


def sink_files(job):
    sink = LocalStore(job.sink)
    return {info.key: sink.get(info.key) for info in sink.list()}


def refuse_to_put(monkeypatch, suffix, code):
    """The sink answers with an error for some keys."""
    put = LocalStore.put

    def refusing(store, key, buffers):
        if key.endswith(suffix):
            raise StoreError(f"object {key} cannot be written") from OSError(code, "")
        put(store, key, buffers)

    monkeypatch.setattr(LocalStore, "put", refusing)


def test_threads_that_decode_change_no_output(job, tmp_path):
    run_chunk(job, tasks(job))
    threaded = replace(job, sink=str(tmp_path / "threaded"), threads=3)
    run_chunk(threaded, tasks(threaded))

    assert payloads(Path(job.sink)) == payloads(Path(threaded.sink))


def test_a_scan_leaves_payloads_outcome_and_record(job):
    outcomes = run_chunk(job, tasks(job))
    assert [outcome.status for outcome in outcomes] == ["done"] * 3
    files = sink_files(job)
    outcome = outcomes[0]
    assert outcome.name == "1.2.3.0"
    assert set(outcome.outputs) == {
        f"scans/1.2.3.0/{name}"
        for name in ("image.npy", "mask.npy", "metadata.json", "preview.png")
    }
    for key, facts in outcome.outputs.items():
        assert facts == (len(files[key]), zlib.crc32(files[key]))
    assert np.load(f"{job.sink}/scans/1.2.3.0/image.npy").shape == outcome.grid.shape
    written = load_outcome(files["scans/1.2.3.0/outcome.json"])
    untimed = {"seconds": {}, "cpu_seconds": {}}
    assert replace(written, **untimed) == replace(outcome, **untimed)
    computing = {"read", "resample", "mask", "normalise", "encode", "picture"}
    assert set(outcome.seconds) == {"fetch", *computing, "wait", "store"}
    record = load_record(files[record_key(outcome.group)])
    assert record.outputs == outcome.outputs
    assert record.writer == "token"
    assert record.skipped_files == {}
    assert outcome.peak_rss_bytes > 50e6
    assert committed_outcomes(LocalStore(job.sink), job, tasks(job)[0].group) == record.outcomes
    other = replace(job, writer="another run")
    assert committed_outcomes(LocalStore(job.sink), other, tasks(job)[0].group) == ()


def test_the_record_goes_first_and_comes_last(job, monkeypatch):
    run_chunk(job, tasks(job)[:1])
    group = tasks(job)[0].group
    orphans = ("scans/old/image.nii.gz", "scans/old/group", "scans/1.2.3.0/image.nii.gz")
    for key in orphans:
        LocalStore(job.sink).put(key, [group.id.encode()])  # a claim of another's would stay
    log = []
    for name in ("put", "create", "delete"):
        plain = getattr(LocalStore, name)

        def spy(store, key, *rest, name=name, plain=plain):
            log.append((name, key))
            return plain(store, key, *rest)

        monkeypatch.setattr(LocalStore, name, spy)
    leftovers = (*orphans, "scans/1.2.3.0/image.npy", "scans/1.2.3.0/group")
    run_chunk(job, [Task(group=group, leftovers=leftovers, committed=True)])
    scan, record = "scans/1.2.3.0", record_key(group.id)
    log = [entry for number, entry in enumerate(log) if entry not in log[:number]]
    log[2:6] = sorted(log[2:6])  # side by side
    assert log == [
        ("delete", record),
        ("create", f"{scan}/group"),
        ("put", f"{scan}/image.npy"),
        ("put", f"{scan}/mask.npy"),
        ("put", f"{scan}/metadata.json"),
        ("put", f"{scan}/preview.png"),
        ("put", f"{scan}/outcome.json"),
        ("delete", f"{scan}/image.nii.gz"),
        ("delete", "scans/old/image.nii.gz"),
        ("delete", "scans/old/group"),
        ("create", record),
    ]
    assert not set(orphans) & set(sink_files(job))


class Trace:
    """What a worker does, in order; computing waits for `released`."""

    def __init__(self, monkeypatch):
        self.log, self.released = [], threading.Semaphore(0)
        read, process_scan, put = LocalStore.read, one_group.process_scan, LocalStore.put

        def reading(store, key, **options):
            self.log.append(f"read {key.split('/')[0]}")
            return read(store, key, **options)

        def computing(raw, *rest, **options):
            self.log.append(f"compute {raw.series_uid}")
            assert self.released.acquire(timeout=30)
            return process_scan(raw, *rest, **options)

        def writing(store, key, buffers):
            self.log.append(f"write {key}")
            put(store, key, buffers)

        monkeypatch.setattr(LocalStore, "read", reading)
        monkeypatch.setattr(one_group, "process_scan", computing)
        monkeypatch.setattr(LocalStore, "put", writing)

    def wait_for(self, *entries):
        until = time.monotonic() + 30
        while not set(entries) <= set(self.log):
            assert time.monotonic() < until, self.log
            time.sleep(0.001)


def objects_read(trace, patient):
    return trace.log.count(f"read {patient}")


@pytest.mark.parametrize(
    ("ahead_scans", "objects"), [(0, 0), (0.5, 10), (1, 20), (1.5, 30), (9, 60)]
)
def test_as_much_is_read_ahead_as_there_is_room_for(job, source, monkeypatch, ahead_scans, objects):
    write_group(source / "patient-03" / "ct", 3)
    listed = tasks(job)
    trace, news = Trace(monkeypatch), []
    job = replace(job, ahead_bytes=int(ahead_scans * listed[0].source_bytes), requests=1)
    with Worker(job, news.append) as worker:
        worker.submit(
            [
                Lease(number=number, task=PackedTask.of(task), allowed_bytes=10**9)
                for number, task in enumerate(listed)
            ]
        )
        thread = threading.Thread(target=worker.step)
        thread.start()
        trace.wait_for("compute 1.2.3.0")
        until = time.monotonic() + 30
        while len(trace.log) < 20 + objects + 1 and time.monotonic() < until:
            time.sleep(0.001)
        time.sleep(0.05)  # and no more comes
        assert sum(entry.startswith("read") for entry in trace.log) == 20 + objects
        trace.released.release()
        thread.join()


def test_there_is_no_bubble_where_a_chunk_ends(job, monkeypatch):
    """The next chunk's bytes come, and the last scan goes, while another one is computed."""
    trace, news = Trace(monkeypatch), []
    first, second, third = (
        [Lease(number=number, task=PackedTask.of(task), allowed_bytes=10**9)]
        for number, task in enumerate(tasks(job))
    )
    with Worker(job, news.append) as worker:
        thread = threading.Thread(target=lambda: [worker.step() for _ in range(3)])
        thread.start()
        worker.submit(first)
        trace.wait_for("compute 1.2.3.0")
        worker.submit(second)  # a chunk of its own, while the first one is computed
        trace.wait_for("read patient-01")
        trace.released.release()
        trace.wait_for("compute 1.2.3.1", "write scans/1.2.3.0/outcome.json")
        worker.submit(third)
        trace.wait_for("read patient-02")
        trace.released.release(2)
        thread.join()
    ended = [message for message in news if isinstance(message, Ended)]
    assert [message.number for message in ended] == [0, 1, 2]
    assert ended[-1].tally.compute_seconds > 0
    assert ended[-1].tally.fetched_bytes == sum(task.source_bytes for task in tasks(job))


def test_threads_change_no_bit(job):
    outcomes = [run_chunk(replace(job, threads=threads), tasks(job)[:1]) for threads in (1, 3)]
    assert outcomes[0][0].status == "done"
    assert outcomes[0][0].outputs == outcomes[1][0].outputs  # sizes and checksums


def test_what_is_not_begun_can_be_dropped(job, monkeypatch):
    trace, news = Trace(monkeypatch), []
    with Worker(job, news.append) as worker:
        worker.submit(
            [
                Lease(number=number, task=PackedTask.of(task), allowed_bytes=10**9)
                for number, task in enumerate(tasks(job))
            ]
        )
        thread = threading.Thread(target=lambda: [None for _ in iter(worker.step, False)])
        thread.start()
        trace.wait_for("compute 1.2.3.0")
        worker.finish(begun_only=True)
        trace.released.release()
        thread.join()
    assert [message.number for message in news if isinstance(message, Ended)] == [0]


def test_records_of_a_scan_hold_up_no_files_of_the_next(job, monkeypatch):
    written = threading.Event()
    put, create = LocalStore.put, LocalStore.create

    def putting(store, key, buffers):
        if key == "scans/1.2.3.1/image.npy":
            written.set()
        put(store, key, buffers)

    def creating(store, key, data):
        if key.startswith("records/") and load_record(data).outcomes[0].name == "1.2.3.0":
            assert written.wait(30)
        return create(store, key, data)

    monkeypatch.setattr(LocalStore, "put", putting)
    monkeypatch.setattr(LocalStore, "create", creating)
    outcomes = run_chunk(job, tasks(job))
    assert [outcome.status for outcome in outcomes] == ["done"] * 3


def test_a_scan_that_needs_more_than_it_is_allowed_is_given_back_untouched(job, monkeypatch):
    monkeypatch.setattr(SeriesHeaders, "load", pytest.fail)
    first, *_ = tasks(job)
    began, gave_back = handed_over(job, [first], allowed_bytes=first.source_bytes + 1)
    assert began == Began(number=0)
    assert isinstance(gave_back, GaveBack)
    assert 10**8 < gave_back.need_bytes < job.memory_bytes
    assert not any(key.startswith(("scans", "records")) for key in sink_files(job))
    _, gave_back = handed_over(job, [first], allowed_bytes=first.source_bytes - 1)
    assert gave_back.need_bytes == first.source_bytes


def test_memory_that_runs_out_beside_others_gets_another_chance_alone(job, monkeypatch):
    def hog(*_args, **_options):
        raise MemoryError

    monkeypatch.setattr(one_group, "process_scan", hog)
    *_, gave_back = handed_over(job, tasks(job)[:1])
    assert (type(gave_back), gave_back.need_bytes) == (GaveBack, 0)
    (outcome,) = run_chunk(job, tasks(job)[:1], alone=True)
    assert (outcome.status, outcome.error) == ("failed", "InsufficientMemoryError")


def test_a_bad_scan_fails_alone_and_for_good(job, source):
    folder = source / "patient-01" / "ct"
    victim = sorted(folder.iterdir())[3]
    victim.write_bytes(victim.read_bytes()[:-5000])
    outcomes = run_chunk(job, tasks(job))
    assert [outcome.status for outcome in outcomes] == ["done", "failed", "done"]
    assert outcomes[1].error == "TruncatedError"
    assert not outcomes[1].transient
    assert outcomes[1].verdict is not None
    assert not any("1.2.3.1/" in key for key in sink_files(job))
    (written,) = load_record(sink_files(job)[record_key(outcomes[1].group)]).outcomes
    assert replace(written, cpu_seconds={}) == replace(outcomes[1], cpu_seconds={})


def test_input_that_changes_meanwhile_fails_for_now(job, source):
    listed = tasks(job)
    (source / "patient-00" / "ct" / "000-0.dcm").unlink()
    victim = min((source / "patient-01" / "ct").iterdir())
    victim.write_bytes(victim.read_bytes() + b"more")
    outcomes = run_chunk(job, listed)
    assert [(o.error, o.transient) for o in outcomes] == [
        ("ObjectNotFoundError", True),
        ("StoreError", True),
        ("", False),
    ]
    assert "000-0.dcm" in outcomes[0].message


@pytest.mark.parametrize("memory_bytes", [10_000, 130 * 10**6])
def test_too_large_a_scan_is_refused_before_anything_is_allocated(job, monkeypatch, memory_bytes):
    monkeypatch.setattr(SeriesHeaders, "load", pytest.fail)
    small = replace(job, memory_bytes=memory_bytes, config=build_config(spacing_mm=0.1))
    (outcome,) = run_chunk(small, tasks(job)[:1])
    assert (outcome.status, outcome.error) == ("failed", "InsufficientMemoryError")
    assert outcome.transient
    assert "the run may use" in outcome.message


def test_a_full_disk_stops_the_chunk(job, monkeypatch):
    refuse_to_put(monkeypatch, "mask.npy", errno.ENOSPC)
    with pytest.raises(StoreError, match=r"mask\.npy cannot be written"):
        run_chunk(job, tasks(job))
    monkeypatch.undo()
    assert not any(key.startswith("records/") for key in sink_files(job))


def test_one_object_that_cannot_be_written_fails_its_scan(job, monkeypatch):
    refuse_to_put(monkeypatch, "1.2.3.1/mask.npy", errno.EFBIG)
    outcomes = run_chunk(job, tasks(job))
    assert [outcome.status for outcome in outcomes] == ["done", "failed", "done"]
    assert (outcomes[1].error, outcomes[1].transient) == ("StoreError", True)
    assert outcomes[1].outputs == {}


def test_files_of_a_scan_go_side_by_side_and_its_outcome_after_them(job, monkeypatch):
    put, all_there = LocalStore.put, threading.Barrier(4)
    written = []

    def slow(store, key, buffers):
        if not key.endswith("outcome.json"):
            all_there.wait(timeout=60)  # breaks if one of them waits for another to end
        put(store, key, buffers)
        written.append(key.rpartition("/")[2])

    monkeypatch.setattr(LocalStore, "put", slow)
    (outcome,) = run_chunk(job, tasks(job)[:1])
    assert outcome.status == "done"
    assert len(outcome.outputs) == 4
    assert sorted(written[:4]) == ["image.npy", "mask.npy", "metadata.json", "preview.png"]
    assert written[4:] == ["outcome.json"]


def test_no_file_of_a_failed_scan_is_on_its_way_when_the_next_one_begins(job, monkeypatch):
    put, refused, log = LocalStore.put, threading.Event(), []

    def slow(store, key, buffers):
        if key.endswith("1.2.3.1/mask.npy"):
            refused.set()
            raise StoreError(f"object {key} cannot be written") from OSError(errno.EFBIG, "")
        if key.endswith("1.2.3.1/image.npy"):
            refused.wait(timeout=60)
            time.sleep(0.2)
        put(store, key, buffers)
        log.append(key)

    monkeypatch.setattr(LocalStore, "put", slow)
    outcomes = run_chunk(job, tasks(job))
    assert [outcome.status for outcome in outcomes] == ["done", "failed", "done"]
    assert outcomes[1].outputs == {}
    assert "scans/1.2.3.1/outcome.json" not in log
    last = log.index("scans/1.2.3.1/image.npy")
    assert all(key.startswith("scans/1.2.3.2/") for key in log[last + 1 :])
    assert not [key for key in log[:last] if key.startswith("scans/1.2.3.2/")]


def test_a_rival_with_the_same_result_counts_another_does_not(job):
    run_chunk(job, tasks(job)[:1])
    again = run_chunk(replace(job, writer="rival"), tasks(job)[:1])
    assert again[0].status == "done"
    (key,) = (key for key in sink_files(job) if key.startswith("records/"))
    record = load_record(sink_files(job)[key])
    assert record.writer == "token"
    LocalStore(job.sink).put(key, [to_json(replace(record, config_digest="other"))])
    (outcome,) = run_chunk(job, tasks(job)[:1])
    assert (outcome.status, outcome.error) == ("failed", "StoreError")
    assert "another writer" in outcome.message


def test_what_is_no_ct_is_skipped_with_the_reason(job, source):
    (source / "notes").mkdir()
    (source / "notes" / "README.txt").write_text(CANARY)
    (source / "patient-00" / "ct" / "Thumbs.db").write_bytes(b"junk")
    outcomes = {outcome.name: outcome for outcome in run_chunk(job, tasks(job))}
    assert outcomes["notes"].status == "skipped"
    assert "no CT series" in outcomes["notes"].message
    assert outcomes["1.2.3.0"].status == "done"
    record = load_record(sink_files(job)[record_key(outcomes["1.2.3.0"].group)])
    assert list(record.skipped_files.values()) == [1]


def test_series_of_one_folder_and_copies_of_a_series_never_collide(job, source):
    write_group(source / "mixed", 7)
    for path in (source / "mixed").iterdir():
        path.rename(path.with_suffix(".first"))
    write_group(source / "mixed", 8)
    write_group(source / "patient-09" / "copy", 0)  # the UID of patient-00
    outcomes = run_chunk(job, tasks(job))
    assert all(outcome.status == "done" for outcome in outcomes)
    names = [outcome.name for outcome in outcomes]
    copy = tasks(job)[-1].group.id[:8]
    assert sorted(names) == sorted(
        ["1.2.3.0", "1.2.3.1", "1.2.3.2", "1.2.3.7", "1.2.3.8", f"1.2.3.0-{copy}"]
    )
    files = sink_files(job)
    assert all(set(outcome.outputs) <= set(files) for outcome in outcomes)


def test_nothing_written_holds_a_name_or_with_hashes_a_path(job, source):
    victim = min((source / "patient-01" / "ct").iterdir())
    victim.write_bytes(victim.read_bytes()[:-5000])
    hashed = replace(job, config=build_config(spacing_mm=6.0, names="hash"), names_key=KEY)
    listed = tasks(job, pseudonym=lambda path: pseudonym(KEY, path))
    (source / "patient-02" / "ct" / "000-0.dcm").unlink()
    outcomes = run_chunk(hashed, listed)
    assert [outcome.status for outcome in outcomes] == ["done", "failed", "failed"]
    everything = json.dumps([to_json(outcome).decode() for outcome in outcomes]).encode()
    for key, data in sink_files(job).items():
        everything += os.fsencode(key) + data
    for secret in (CANARY, "patient-0", "000-0.dcm", "1.2.3.0", KEY.decode()):
        assert secret.encode() not in everything


def test_threads_of_the_plan_share_a_scan_and_change_no_bit(job, tmp_path, monkeypatch):
    asked = []
    process = one_group.process_scan

    def watched(*args, **options):
        asked.append(options["threads"])
        return process(*args, **options)

    monkeypatch.setattr(one_group, "process_scan", watched)
    alone = run_chunk(job, tasks(job))
    two = replace(job, sink=str(tmp_path / "shared"), threads=2)
    shared = run_chunk(two, tasks(two))
    assert asked == [1, 1, 1, 2, 2, 2]
    assert [outcome.outputs for outcome in alone] == [outcome.outputs for outcome in shared]
