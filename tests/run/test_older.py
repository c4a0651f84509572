"""Scans of older revisions are named, never mixed in silence, and redone or kept as asked."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_series import payloads, write_group, write_source

import fastlung
from fastlung import revisions
from fastlung.cli import main
from fastlung.errors import ConfigError, SinkConflictError
from fastlung.storage import LocalStore, open_store
from fastlung.verification import sink_status, verify

pytestmark = pytest.mark.compiled
SCANS = 3


def process(source, sink, **options):
    return fastlung.process(str(source), str(sink), **{"workers": 0, "spacing_mm": 4.0, **options})


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Three scans and a folder without CT, beside what became of them."""
    folder = tmp_path_factory.mktemp("done")
    source = write_source(folder / "source", SCANS)
    (source / "notes").mkdir()
    (source / "notes/README").write_text("hello")
    process(source, folder / "sink")
    return folder


@pytest.fixture
def own(done, tmp_path):
    return Path(shutil.copytree(done, tmp_path / "own"))


@pytest.fixture
def raised(monkeypatch):
    """The default mask is of the next revision from now on."""
    monkeypatch.setattr(revisions, "MASK", revisions.MASK + 1)


def edit_records(sink, edit):
    for path in sink.glob("records/*.json"):
        record = json.loads(path.read_bytes())
        path.write_text(json.dumps(edit(record) or record))


def made_by_0_1_0(sink):
    edit_records(sink, lambda record: record.pop("revisions") and None)


def spoil(sink):
    """Voxels that only an older version would have written, of the same size."""
    for path in sink.glob("scans/*/mask.npy"):
        data = bytearray(path.read_bytes())
        data[-1000:] = bytes(1000)
        data[-500] = 1
        path.write_bytes(data)
    return payloads(sink)


@pytest.mark.usefixtures("raised")
def test_older_scans_stop_a_resume_before_anything_is_written(own):
    before = {path: path.stat().st_mtime_ns for path in (own / "sink").rglob("*")}
    write_group(own / "source/patient-09", 9)
    with pytest.raises(SinkConflictError, match=r"3 scans of older revisions \(mask \d, now \d\)"):
        process(own / "source", own / "sink")
    assert {path: path.stat().st_mtime_ns for path in (own / "sink").rglob("*")} == before


def test_a_sink_of_0_1_0_is_resumed_while_nothing_was_raised(own, monkeypatch):
    for name in ("GROUPING", "PIXELS", "MASK"):
        monkeypatch.setattr(revisions, name, 0)
    made_by_0_1_0(own / "sink")
    assert process(own / "source", own / "sink").outcomes == ()


def test_records_of_0_1_0_are_older_than_any_raised_number(own, monkeypatch):
    made_by_0_1_0(own / "sink")
    monkeypatch.setattr(revisions, "GROUPING", 5)
    with pytest.raises(SinkConflictError, match=r"3 scans .*grouping 0, now 5"):
        process(own / "source", own / "sink")
    assert verify(str(own / "source"), str(own / "sink")).exit_code == 0


@pytest.mark.usefixtures("raised")
def test_redo_older_does_them_again_and_only_them(own):
    calm = payloads(own / "sink")
    assert spoil(own / "sink") != calm
    redone = process(own / "source", own / "sink", redo="older")
    assert sorted(outcome.name for outcome in redone.outcomes) == ["1.2.3.0", "1.2.3.1", "1.2.3.2"]
    assert redone.groups_already_done == 1  # the folder without CT has no mask
    assert payloads(own / "sink") == calm
    assert process(own / "source", own / "sink").outcomes == ()


@pytest.mark.usefixtures("raised")
def test_keep_older_goes_on_beside_them(own):
    spoilt = spoil(own / "sink")
    write_group(own / "source/patient-09", 9)
    added = process(own / "source", own / "sink", keep_older=True)
    assert [outcome.name for outcome in added.outcomes] == ["1.2.3.9"]
    assert spoilt.items() <= payloads(own / "sink").items()
    assert sink_status(str(own / "sink")).older.scans == SCANS
    with pytest.raises(SinkConflictError, match="3 scans"):
        process(own / "source", own / "sink")


@pytest.mark.usefixtures("raised")
def test_overwrite_asks_no_questions(own):
    assert len(process(own / "source", own / "sink", overwrite=True).outcomes) == SCANS + 1
    assert not sink_status(str(own / "sink")).older


def test_a_raised_mask_concerns_no_sink_without_it(done, tmp_path, monkeypatch):
    process(done / "source", tmp_path, mask="none")
    monkeypatch.setattr(revisions, "MASK", revisions.MASK + 1)
    assert process(done / "source", tmp_path, mask="none").outcomes == ()


def test_records_of_a_newer_version_are_left_to_it(own):
    edit_records(own / "sink", lambda record: {**record, "revisions": {"grouping": 99}})
    for choice in ({}, {"redo": "older"}, {"keep_older": True}):
        with pytest.raises(SinkConflictError, match=r"newer fastlung.*update"):
            process(own / "source", own / "sink", **choice)


@pytest.mark.usefixtures("raised")
def test_what_is_done_again_anyway_is_not_counted(own):
    def failed_by_the_machine(record):
        for outcome in record["outcomes"]:
            outcome.update(status="failed", error="WorkerDiedError", transient=True)

    edit_records(own / "sink", failed_by_the_machine)
    assert len(process(own / "source", own / "sink").outcomes) == SCANS + 1


def test_both_answers_at_once_are_none(own):
    with pytest.raises(ConfigError, match="one of them"):
        process(own / "source", own / "sink", redo="older", keep_older=True)


KILLED = """
import os, signal, sys
import fastlung
from fastlung import revisions
from fastlung.storage.local import LocalStore

revisions.MASK, create, records = int(sys.argv[3]), LocalStore.create, []

def create_but_one_record(store, key, data):
    records.extend([key] if key.startswith("records/") else [])
    if len(records) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return create(store, key, data)

LocalStore.create = create_but_one_record
fastlung.process(*sys.argv[1:3], workers=0, spacing_mm=4.0, redo="older")
"""


@pytest.mark.usefixtures("raised")
def test_a_redo_that_is_killed_leaves_the_rest_named_and_is_taken_up(own):
    source, sink = own / "source", own / "sink"
    for seed in range(SCANS, 2 * SCANS):
        write_group(source / f"patient-{seed:02d}/ct", seed)
    process(source, sink, keep_older=True)
    calm = payloads(sink)
    made_by_0_1_0(sink)
    spoil(sink)
    words = [sys.executable, "-c", KILLED, source, sink, str(revisions.MASK)]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL  # noqa: S603
    left = sink_status(str(sink)).older.scans
    assert 0 < left < 2 * SCANS
    with pytest.raises(SinkConflictError, match=f"{left} scans? of older"):
        process(source, sink)
    process(source, sink, redo="older")
    assert payloads(sink) == calm
    assert not sink_status(str(sink)).older


@pytest.mark.usefixtures("raised")
def test_two_versions_at_work_at_once_are_no_race_but_a_mistake(own, monkeypatch):
    """The one that began before the other's commit hears of it."""
    create = LocalStore.create

    def beaten(store, key, data):
        if key.startswith("records/"):
            rival = json.loads(data)
            rival["revisions"]["mask"] -= 1
            create(store, key, json.dumps(rival).encode())
        return create(store, key, data)

    monkeypatch.setattr(LocalStore, "create", beaten)
    (path,) = (p for p in (own / "sink/records").iterdir() if "1.2.3.0" in p.read_text())
    path.unlink()
    summary = process(own / "source", own / "sink", keep_older=True)
    assert [outcome.error for outcome in summary.outcomes] == ["StoreError"]


@pytest.mark.usefixtures("raised")
def test_commands_say_how_many_are_older(own, capsys):
    source, sink = str(own / "source"), str(own / "sink")
    words = [source, sink, "--spacing", "4", "--workers", "0"]
    assert main(["process", *words]) == 2
    assert "--redo older does these again" in capsys.readouterr().err
    for command in (["status", sink], ["verify", source, sink], ["manifest", sink]):
        assert main(command) == 0
        assert "3 scans of older revisions" in capsys.readouterr().out
    assert main(["status", sink, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["older"]["scans"] == SCANS
    assert main(["process", *words, "--redo", "older", "--dry-run"]) == 0
    assert "3 folders to process, 1 already done" in (out := capsys.readouterr().out)
    assert "are done again" in out
    assert main(["process", *words, "--keep-older"]) == 0
    planned = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (planned["older"], planned["source_groups"]) == (SCANS, 0)


@pytest.mark.usefixtures("raised")
def test_a_bucket_is_redone_as_a_folder_is(s3, done):
    sink = f"s3://{s3.bucket}/sink/"
    store = open_store(sink, s3.options)
    for info in LocalStore(done / "sink").list():
        store.put(info.key, [LocalStore(done / "sink").get(info.key)])
    with pytest.raises(SinkConflictError, match="3 scans of older revisions"):
        process(done / "source", sink, storage=s3.options)
    redone = process(done / "source", sink, storage=s3.options, redo="older")
    assert len(redone.outcomes) == SCANS
    assert not sink_status(sink, s3.options).older
