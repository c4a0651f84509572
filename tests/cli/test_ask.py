"""What `verify`, `status` and `manifest` print, and the codes they end with."""

import json
import shutil

import pytest
from tiny_series import write_source

from fastlung.cli import ask, main

pytestmark = pytest.mark.compiled


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("done")
    source = write_source(folder / "source", 3)
    bad = next((source / "patient-02/ct").iterdir())
    bad.write_bytes(bad.read_bytes()[:-3000])
    words = ["--spacing", "6", "--workers", "0", "--quiet"]
    assert main(["process", str(source), str(folder / "sink"), *words]) == 1
    return folder


@pytest.fixture
def own(done, tmp_path):
    return shutil.copytree(done, tmp_path / "own")


def answer(capsys, *words):
    code = main([str(word) for word in words])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_verify_of_a_sound_sink(done, capsys):
    words = ("verify", done / "source", done / "sink")
    code, out, _ = answer(capsys, *words)
    assert code == 0
    assert "every output read and its checksum recomputed" in out
    assert "2 scans done, 1 failed (TruncatedError 1), 0 folders without CT" in out
    assert out.endswith("Nothing is missing, damaged, stale or orphaned.\n")
    assert answer(capsys, *words, "--quiet") == (0, "", "")
    code, out, _ = answer(capsys, *words, "--quick", "--json")
    assert (code, json.loads(out)["findings"]) == (0, [])


def test_verify_of_a_spoilt_sink_says_what_to_do(own, capsys):
    sink = own / "sink"
    victim = sink / "scans/1.2.3.0/image.npy"
    victim.write_bytes(victim.read_bytes()[:-1] + b"!")
    (sink / "scans/1.2.3.1/mask.npy").unlink()
    (sink / "scans/mine").mkdir()
    (sink / "scans/mine/notes").touch()
    words = ("verify", own / "source", sink)
    code, out, _ = answer(capsys, *words)
    assert code == 1
    assert "3 findings (damaged 1, missing 1, orphaned 1):" in out
    assert "  damaged   scans/1.2.3.0/image.npy: expected CRC-32 " in out
    assert "--forget-damaged lets the next run" in out
    assert "`fastlung process`, typed as before" in out
    code, out, err = answer(capsys, *words, "--quiet")
    assert (code, out) == (1, "")
    assert "damaged" in err
    code, out, _ = answer(capsys, *words, "--forget-damaged")
    assert "2 records removed: the next run does these folders again." in out
    code, out, _ = answer(capsys, *words, "--json")
    found = json.loads(out)
    assert (code, found["exit_code"], found["forgotten"]) == (1, 1, 0)
    assert sorted(row["kind"] for row in found["findings"]) == ["missing", "missing", "orphaned"]


def test_long_lists_are_cut_and_say_so(own, capsys, monkeypatch):
    monkeypatch.setattr(ask, "LISTED", 1)
    shutil.rmtree(own / "sink/records")
    _, out, _ = answer(capsys, "verify", own / "source", own / "sink")
    assert out.count("  missing ") == 1
    assert "  and 2 more; --json prints all." in out


def test_status_in_words_and_json(own, capsys):
    code, out, _ = answer(capsys, "status", own / "sink")
    assert code == 0
    assert "3 of 3 folders done, 0 left." in out
    assert "2 scans done, 1 failed (TruncatedError 1)" in out
    assert "spacing_mm = [6.0, 6.0, 6.0]" in out
    assert "order" not in out  # the default is not worth a word
    code, out, _ = answer(capsys, "status", own / "sink", "--json")
    found = json.loads(out)
    assert (found["groups_left"], found["series"]) == (0, {"done": 2, "failed": 1})
    assert answer(capsys, "status", own / "sink", "--quiet") == (0, "", "")
    assert answer(capsys, "status", own / "source")[0] == 2


def test_manifest_is_made_anew_and_only_in_a_sink(own, capsys):
    table = own / "sink/manifest.csv"
    before = table.read_bytes()
    table.unlink()
    code, out, _ = answer(capsys, "manifest", own / "sink")
    assert (code, out) == (0, f"3 rows in {own}/sink/manifest.csv.\n")
    assert table.read_bytes() == before
    assert answer(capsys, "manifest", own / "source")[0] == 2
    assert not (own / "source/manifest.csv").exists()


def test_the_other_commands_are_quiet_too(own, capsys):
    code, out, err = answer(capsys, "inspect", own / "source", "--quiet")
    assert (code, out) == (1, "")
    assert err.startswith("patient-02/ct: 1 of 20 files cannot be used")
    assert answer(capsys, "completion", "bash", "--quiet") == (0, "", "")
