"""What may lie or happen in a source folder beside slices: nothing of it hangs or ends a run."""

import json
import os
import socket
import subprocess
import sys

import pytest
from tiny_series import write_group

import fastlung
from fastlung.errors import StoreError

pytestmark = pytest.mark.compiled


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """Two good series, and a folder with a series among everything that is no regular file."""
    root = tmp_path / "source"
    for seed, label in enumerate(("first", "odd", "second")):
        write_group(root / label, seed)
    folder = root / "odd"
    os.mkfifo(folder / "pipe.dcm")
    (folder / "zero.dcm").symlink_to("/dev/zero")  # endless
    (folder / "tty.dcm").symlink_to("/dev/tty")
    (folder / "outside").symlink_to("/")
    (folder / "itself").symlink_to("itself")
    (folder / "up").symlink_to("..")
    (folder / "empty").touch()
    monkeypatch.chdir(folder)  # the path of a socket may have 108 bytes at most
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.dcm")
        yield root


def told(*args):
    """Output of a command line in a process of its own; links that repeat a folder are named."""
    command = [sys.executable, "-m", "fastlung", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)  # noqa: S603 -- our own interpreter
    assert not done.stderr or "part of the source already not followed" in done.stderr
    assert done.stderr.count("\n") <= 1
    return done.stdout


def test_a_run_ends_and_loses_nothing_but_the_odd_folder(odd, tmp_path):
    command = ("process", odd, tmp_path / "sink", "--workers", 1, "--spacing", 4)
    said = told(*command)
    ended = [json.loads(line) for line in said.splitlines()]
    scans = [event for event in ended if event["event"] == "scan_ended"]
    # A link to itself may once have been a slice: it is not left out in silence.
    assert sorted((scan["status"], scan["error"]) for scan in scans) == [
        ("done", ""),
        ("done", ""),
        ("failed", "StoreError"),
    ]
    (odd / "odd" / "itself").unlink()
    ended = map(json.loads, told(*command).splitlines())
    (scan,) = [event for event in ended if event["event"] == "scan_ended"]
    assert scan["status"] == "done"


def test_inspect_and_the_reader_of_one_folder_end_too(odd):
    said = json.loads(told("inspect", odd, "--json"))
    assert [entry["group"] for entry in said] == ["first", "odd", "second"]
    script = "import sys, fastlung; print(len(fastlung.list_series(sys.argv[1]).skipped))"
    (odd / "odd" / "itself").unlink()
    done = subprocess.run(  # noqa: S603 -- our own interpreter and script
        [sys.executable, "-c", script, str(odd / "odd")],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert int(done.stdout) == 7


def grow(path):
    with path.open("ab") as file:
        file.write(b"\0" * 100)


def shrink(path):
    os.truncate(path, 600)


def become_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def become_a_folder(path):
    path.unlink()
    path.mkdir()


def vanish(path):
    path.unlink()


@pytest.mark.parametrize("change", [grow, shrink, become_a_pipe, become_a_folder, vanish])
def test_a_file_that_changes_after_the_listing_fails_its_folder_for_now(
    change, tmp_path, monkeypatch
):
    for seed, label in enumerate(("good", "moving")):
        write_group(tmp_path / "source" / label, seed)
    moving = sorted((tmp_path / "source" / "moving").iterdir())[3]
    # Kernels are made ready between the listing and the work.
    monkeypatch.setattr("fastlung.run.engine.ready_kernels", lambda: change(moving))
    summary = fastlung.process(tmp_path / "source", tmp_path / "sink", workers=0, spacing_mm=4.0)
    status = {outcome.status: outcome for outcome in summary.outcomes}
    assert status.keys() == {"done", "failed"}
    assert status["failed"].error in ("StoreError", "ObjectNotFoundError")
    assert status["failed"].transient  # a rerun tries again


def test_a_file_that_may_not_be_read_fails_its_folder_alone(tmp_path, monkeypatch):
    for seed, label in enumerate(("good", "locked")):
        write_group(tmp_path / "source" / label, seed)
    original = os.open

    def denied(path, *args, **kwargs):  # root may read anything, so that mode 000 shows nothing
        if "locked" in str(path) and str(path).endswith(".dcm"):
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", denied)
    summary = fastlung.process(tmp_path / "source", tmp_path / "sink", workers=0, spacing_mm=4.0)
    status = {outcome.status: outcome for outcome in summary.outcomes}
    assert status.keys() == {"done", "failed"}
    assert "cannot be read: Permission denied" in status["failed"].message
    first, second = fastlung.inspect(tmp_path / "source")
    assert (first.problem, "Permission denied" in second.problem) == ("", True)
    with pytest.raises(StoreError, match="Permission denied"):
        fastlung.read_series(tmp_path / "source" / "locked")


def test_a_folder_that_may_not_be_listed_fails_alone(tmp_path, monkeypatch):
    for seed, label in enumerate(("good", "locked")):
        write_group(tmp_path / "source" / label, seed)
    original = os.scandir

    def denied(path="."):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(os, "scandir", denied)
    summary = fastlung.process(tmp_path / "source", tmp_path / "sink", workers=0, spacing_mm=4.0)
    assert sorted(outcome.status for outcome in summary.outcomes) == ["done", "failed"]
