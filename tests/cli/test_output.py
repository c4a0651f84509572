"""Scans are done whether or not anybody can be told of them, and one sentence says so."""

import shutil
import subprocess
import sys

import pytest
import tiny_series

FAST = "--workers 0 --spacing 6 --mask none"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("s")
    tiny_series.write_group(root / "Jürgen 肺", 1)
    return root


def shell(line, **environment):
    """Run a line of bash in which FASTLUNG is the program."""
    program = f"{sys.executable} -m fastlung"
    return subprocess.run(  # noqa: S603 - our own words
        ["/bin/bash", "-c", line.replace("FASTLUNG", program)],
        capture_output=True,
        text=True,
        errors="replace",
        env=environment or None,
        cwd="/",
        check=False,
    )


def done(sink):
    return len(list(sink.glob("records/*.json")))


@pytest.mark.parametrize(
    ("target", "word"),
    [(">&-", "closed"), (">/dev/full", "No space left"), (">&- 2>&-", ""), ("2>/dev/full", "")],
)
def test_a_run_goes_on_where_its_output_does_not(source, tmp_path, target, word):
    found = shell(f"FASTLUNG process {source} {tmp_path}/sink {FAST} {target}")
    assert (found.returncode, done(tmp_path / "sink")) == (0, 1)
    assert word in found.stderr
    assert len(found.stderr.splitlines()) <= 1


def test_a_run_whose_reader_leaves_does_all_scans(tmp_path):
    source = tiny_series.write_source(tmp_path / "source", 4)
    line = f"FASTLUNG process {source} {tmp_path}/sink {FAST} | head -c 9; exit ${{PIPESTATUS[0]}}"
    assert (shell(line).returncode, done(tmp_path / "sink")) == (0, 4)


@pytest.mark.parametrize(("target", "code"), [(">/dev/full", 4), (">&-", 4), ("| true", 0)])
def test_an_answer_that_cannot_be_given_is_an_error(target, code):
    found = shell(f"FASTLUNG config {target}")
    assert found.returncode == code
    assert "internal error" not in found.stderr


def test_a_terminal_of_ascii_gets_escapes(source, tmp_path):
    plain = {"PYTHONIOENCODING": "ascii", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    found = shell(
        f"FASTLUNG inspect {source}; FASTLUNG process {source} {tmp_path}/k {FAST}", **plain
    )
    assert found.returncode == 0, found.stderr
    assert "J\\xfcrgen" in found.stdout
    assert done(tmp_path / "k") == 1


def test_a_working_folder_that_is_gone_matters_to_relative_paths_only(source, tmp_path):
    gone = f"cd {tmp_path}/gone && rmdir {tmp_path}/gone &&"
    (tmp_path / "gone").mkdir()
    found = shell(f"{gone} FASTLUNG process {source} {tmp_path}/sink {FAST}")
    assert (found.returncode, done(tmp_path / "sink")) == (0, 1), found.stderr
    (tmp_path / "gone").mkdir()
    found = shell(f"{gone} FASTLUNG process {source} here {FAST}")
    assert found.returncode == 2, found.stderr
    assert "working folder" in found.stderr


def test_no_proc_is_no_obstacle(source, tmp_path):
    hidden = "mount -t tmpfs none /proc"
    if shutil.which("unshare") is None or shell(f"unshare -m sh -c '{hidden}'").returncode:
        pytest.skip("no mount namespace of our own may be made here")
    line = f"{hidden} && FASTLUNG process {source} {tmp_path}/sink {FAST}"
    found = shell(f'unshare -m bash -c "{line}"')
    assert (found.returncode, done(tmp_path / "sink")) == (0, 1), found.stderr
