"""The command line: what is said, where, and with which exit code."""

import csv
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import version
from typing import get_args

import numpy as np
import pytest

from fastlung.cli import main
from fastlung.cli.demo import run_demo
from fastlung.cli.inspect import SERIES_COLUMNS
from fastlung.cli.parser import COMMANDS, parse
from fastlung.config import PRESETS, Config, RunOptions
from fastlung.demo.cohort import COHORT, write_cohort
from fastlung.dicom.checks import CHOICES
from fastlung.errors import StoreError
from fastlung.run import engine

# Real runs from start to end: minutes without the compiled kernels.
pytestmark = pytest.mark.compiled

#: Options that keep a run small, and in this process.
QUICK = ["--spacing", "6", "--names", "folder", "--workers", "0"]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, shape=(20, 48, 48), spacing_mm=(12.0, 6.5, 6.5), scans=COHORT[:3])
    return folder


@pytest.fixture(scope="module")
def processed(cohort, tmp_path_factory):
    """A sink that holds the cohort, from a process of its own, and what that printed."""
    sink = tmp_path_factory.mktemp("run") / "sink"
    done = fastlung("process", cohort, sink, *QUICK)
    return sink, done


@pytest.fixture
def broken(cohort, tmp_path):
    """One good series and one with a truncated slice."""
    source = tmp_path / "source"
    for name in ("patient-01", "patient-02"):
        shutil.copytree(cohort / name, source / name)
    victim = sorted((source / "patient-02").iterdir())[3]
    victim.write_bytes(victim.read_bytes()[:-700])
    return source


def fastlung(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-m", "fastlung", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def events(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_help_is_the_whole_manual(capsys):
    assert main(["--help"]) == 0
    overview = capsys.readouterr().out
    assert "examples:" in overview
    assert "exit codes:" in overview
    for command in COMMANDS:
        assert command in overview
        assert main([command, "--help"]) == 0
        manual = capsys.readouterr().out
        assert f"examples:\n  fastlung {command}" in manual


def test_every_example_in_the_help_is_a_valid_command(capsys):
    examples = 0
    for words in (["--help"], *([command, "--help"] for command in COMMANDS)):
        main(words)
        for line in re.findall(
            r"^  (fastlung .*?)(?:   +.*| [>|] .*)?$", capsys.readouterr().out, re.MULTILINE
        ):
            argv = shlex.split(line)[1:]
            if "--help" not in argv:
                assert parse(argv).command in COMMANDS
                examples += 1
    assert examples > 20


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fastlung {version('fastlung')}\n"
    assert fastlung("--version").stdout == f"fastlung {version('fastlung')}\n"


def test_no_command_prints_the_help_and_counts_as_wrong_usage(capsys):
    assert main([]) == 2
    assert "examples:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("proces a b", "did you mean 'process'"),
        ("frobnicate", "known: process, inspect, demo"),
        ("process a", "required: SINK"),
        ("process a b c", "one argument too many: 'c'"),
        ("process a b --spcing 2", "unknown option '--spcing'; did you mean '--spacing'"),
        ("process a b --spac 2", "unknown option '--spac'"),
        ("process a b --preset tutoral", "did you mean 'tutorial'"),
        ("process a b --format dicom", "known: npy, npz, nifti, mha, zarr"),
        ("process a b --mask nome", "did you mean 'none'"),
        ("process a b --order 2", "choose from 0, 1, 3"),
        ("process a b --spacing 1,2", "three as Z,Y,X"),
        ("process a b --spacing nan", "found 'nan'"),
        ("process a b --spacing 0", "spacing_mm: expected at least 0.1 (given: 0.0)"),
        ("process a b --window -1000", "LOW,HIGH"),
        ("process a b --window 400,-1000", "lower bound below its upper"),
        ("process a b --zero-centre 0.25", "needs a window"),
        ("process a b --window -1000,400 --dtype int16", "needs dtype float32 or uint8"),
        ("process a b --dtype uint8", "such as -1000,400"),
        ("process a b --crop lung", "did you mean 'lungs'"),
        ("process a b --crop lungs --no-mask", "needs a mask"),
        ("process a b --margin 3", "needs a crop"),
        ("process a b --workers many", "whole number up to 999,999, or auto"),
        ("process a b --workers -1", "expected"),
        ("process a b --chunk-size 0", "at least 1"),
        ("process a b --memory-limit 8", "such as 8GiB"),
        ("process a b --scan-timeout 0", "expected more than 0"),
        ("process a b --auto-tune --workers 3", "leave out one"),
        ("process a b --auto-tune --chunk-size 3", "leave out one"),
        ("inspect a --json --csv", "not allowed with"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_2(words, expected, capsys):
    assert main(words.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("fastlung: error: ")
    assert printed.err.count("\n") == 1
    assert expected in printed.err


@pytest.mark.parametrize("field", ["mask", "crop", "dtype", "format", "names", "order", *CHOICES])
def test_the_parser_takes_exactly_what_the_configuration_takes(field, capsys):
    option = f"--{field.replace('_', '-')}"
    for value in get_args(Config.model_fields[field].annotation):
        assert getattr(parse(["process", "a", "b", option, str(value)]), field) == value
    assert main(["process", "a", "b", option, "7"]) == 2
    capsys.readouterr()


@pytest.mark.parametrize("preset", PRESETS)
def test_the_parser_takes_every_preset(preset):
    assert parse(["process", "a", "b", "--preset", preset]).preset == preset


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("--spacing 1.5", "spacing", (1.5, 1.5, 1.5)),
        ("--spacing 2.5,0.8,0.7", "spacing", (2.5, 0.8, 0.7)),
        ("--window -1000,400", "window", (-1000.0, 400.0)),
        ("--window=-1000,400", "window", (-1000.0, 400.0)),
        ("--window none", "window", "none"),
        ("--no-mask", "mask", "none"),
        ("--zero-centre -0.25", "zero_centre", -0.25),
        ("--workers auto", "workers", "auto"),
        ("--workers 0", "workers", 0),
        ("--memory-limit 8GiB", "memory_limit", 8 * 2**30),
        ("--memory-limit 1.5GB", "memory_limit", 1_500_000_000),
        ("--memory-limit 500mb", "memory_limit", 500_000_000),
    ],
)
def test_values_are_understood(words, name, value):
    assert getattr(parse(["process", "a", "b", *words.split()]), name) == value


def test_every_option_reaches_the_run(monkeypatch, capsys):
    asked = {}

    def stop(_source, _sink, config, options, *_):
        asked.update(config=config, options=options)
        raise StoreError("stopped here")

    monkeypatch.setattr(engine, "run", stop)
    words = (
        "process a b --preset tutorial --spacing 2 --order 1 --mask none --window -500,500 "
        "--zero-centre 0.5 --dtype float32 --crop body --margin 3 --format nifti --names hash "
        "--workers 3 --chunk-size 4 --memory-limit 4GB --scan-timeout 60 --overwrite "
        "--retry-failed --on-gap nearest --on-duplicate first --on-tilt fail "
        "--on-variable-spacing fail --on-mixed-orientation split --min-slices 5 --force"
    )
    assert main(words.split()) == 4
    assert asked["config"] == Config(
        preset="tutorial", hu_rule="tutorial", align="corners", spacing_mm=(2, 2, 2), order=1,
        mask="none", crop="body", margin_mm=3, window_hu=(-500, 500), zero_centre=0.5,
        dtype="float32", format="nifti", names="hash", on_gap="nearest", on_duplicate="first",
        on_tilt="fail", on_variable_spacing="fail", on_mixed_orientation="split", min_slices=5,
        force=True,
    )  # fmt: skip
    assert asked["options"] == RunOptions(
        workers=3, chunk_size=4, memory_limit_bytes=4 * 10**9, scan_timeout_seconds=60,
        overwrite=True, retry_failed=True,
    )  # fmt: skip
    assert capsys.readouterr().err == "fastlung: error: stopped here\n"


def test_a_run_writes_json_lines_where_nobody_watches(processed):
    sink, done = processed
    assert (done.returncode, done.stderr) == (0, "")
    planned, ready, *scans, ended = events(done.stdout)
    assert planned["event"] == "run_planned"
    assert planned["source_groups"] == 3
    assert planned["reasons"]
    assert ready["event"] == "kernels_ready"
    assert {scan["event"] for scan in scans} == {"scan_ended"}
    assert sorted(scan["scan"] for scan in scans) == ["patient-01", "patient-02", "patient-03"]
    assert {scan["scan"]: scan["verdict"] for scan in scans}["patient-02"] == ["duplicate"]
    assert all(scan["seconds"] > 0 and scan["peak_rss_bytes"] > 10**7 for scan in scans)
    assert (ended["event"], ended["done"], ended["failed"], ended["exit_code"]) == (
        "run_ended", 3, 0, 0,
    )  # fmt: skip
    assert str(sink) in ended["text"][-1]
    elapsed = [line["elapsed_seconds"] for line in events(done.stdout)]
    assert elapsed == sorted(elapsed)
    for name in ("patient-01", "patient-02", "patient-03"):
        assert np.load(sink / "scans" / name / "image.npy").dtype == np.int16


def test_the_keys_of_the_events_are_documented(processed, capsys):
    main(["process", "--help"])
    manual = capsys.readouterr().out
    for event in events(processed[1].stdout):
        for key in event:
            assert re.search(rf"\b{key}\b", manual), key


def test_no_patient_name_or_id_is_printed_or_written(processed, cohort):
    sink, done = processed
    secret = re.compile(rb"Phantom|DEMO-")
    assert any(secret.search(path.read_bytes()) for path in cohort.rglob("*.dcm"))
    assert not secret.search(done.stdout.encode())
    for path in sink.rglob("*"):
        assert not secret.search(path.name.encode())
        assert path.is_dir() or path.suffix == ".npy" or not secret.search(path.read_bytes())


def test_a_second_run_has_nothing_to_do(processed, cohort, capsys):
    sink, _ = processed
    assert main(["process", str(cohort), str(sink), *QUICK]) == 0
    planned, ended = events(capsys.readouterr().out)
    assert (planned["source_groups"], planned["already_done"]) == (0, 3)
    assert ended["text"][0] == f"Nothing to do: all 3 scans are already in {sink}."


def test_other_options_on_the_same_sink_are_refused(processed, cohort, capsys):
    sink, _ = processed
    assert main(["process", str(cohort), str(sink), "--spacing", "5", "--names", "folder"]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_a_dry_run_writes_nothing(cohort, tmp_path, capsys):
    sink = tmp_path / "sink"
    words = ["process", str(cohort), str(sink), "--spacing", "6", "--auto-tune", "--dry-run"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Dry run, nothing is written: 3 folders to process, 0 already done.")
    assert "patient-02  (21 files," in printed
    assert re.search(r"^Plan: \d+ workers?, chunks of \d+\.$", printed, re.MULTILINE)
    assert not sink.exists()


def test_a_failed_scan_is_listed_and_exit_is_1(broken, tmp_path, capsys):
    words = ["process", str(broken), str(tmp_path / "sink"), *QUICK]
    assert main(words) == 1
    *_, ended = events(capsys.readouterr().out)
    assert (ended["done"], ended["failed"], ended["exit_code"]) == (1, 1, 1)
    assert any(line.startswith("  patient-02: ") for line in ended["text"])
    assert main([*words, "--quiet"]) == 1
    assert main([*words, "--quiet", "--retry-failed"]) == 1
    quiet = capsys.readouterr()
    assert quiet.out == ""
    assert quiet.err.startswith("1 scan failed:\n  patient-02: ")


@pytest.mark.parametrize(
    ("source", "code", "expected"),
    [
        ("missing", 4, "no such folder"),
        ("empty", 3, "no files"),
        ("text", 3, "found none in 1 file"),
    ],
)
def test_nothing_to_read_has_its_own_exit_codes(source, code, expected, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "notes.txt").write_text("no pictures here")
    assert main(["process", str(tmp_path / source), str(tmp_path / "sink"), *QUICK]) == code
    assert expected in capsys.readouterr().err
    if source != "empty":
        assert main(["inspect", str(tmp_path / source)]) == code


def test_a_terminal_gets_a_bar_a_table_and_a_summary(broken, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    words = ["process", str(broken), str(tmp_path / "sink"), "--spacing", "6", "--names", "folder"]
    assert main([*words, "--auto-tune"]) == 1
    printed = capsys.readouterr().out
    assert "auto-tune: 2 workers" in printed or "auto-tune: at most" in printed
    assert "1 done, 1 failed, 0 left; last: patient-0" in printed
    assert re.search(r"^patient-01 +done +regular +20 +12 6.5 6.5 -> 6 6 6", printed, re.MULTILINE)
    assert "1 scan done, 1 failed, 0 skipped, 0 already there." in printed
    assert printed.rstrip().endswith("sink/scans, one folder a scan.")


def test_inspect_shows_every_series(cohort, capsys):
    assert main(["inspect", str(cohort)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"patient-01 +2\.25\..* +20 +48 x 48 +12 6.5 6.5 +regular", lines[2])
    assert "left out" in lines[4]
    assert lines[-1] == "3 series."


def test_inspect_for_programs(cohort, capsys):
    main(["inspect", str(cohort), "--csv"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    main(["inspect", str(cohort), "--json"])
    series = json.loads(capsys.readouterr().out)
    assert tuple(rows[0]) == SERIES_COLUMNS
    assert [row["folder"] for row in rows] == [entry["group"] for entry in series]
    assert [row["verdict"] for row in rows] == ["regular", "duplicate", "gap"]
    assert [float(row["spacing_y_mm"]) for row in rows] == [
        entry["spacing_mm"][1] for entry in series
    ]


def test_inspect_names_what_cannot_be_processed(broken, capsys):
    assert main(["inspect", str(broken)]) == 1
    assert "cannot be processed: " in capsys.readouterr().out


def test_an_interrupt_says_how_to_go_on(monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "run", interrupt)
    assert main(["process", "a", "b"]) == 130
    assert "same command again" in capsys.readouterr().err


def test_a_bug_is_one_sentence_and_a_traceback_only_on_request(monkeypatch, capsys):
    def fail(*_):
        raise ZeroDivisionError("Doe^Jane")

    monkeypatch.setattr(engine, "run", fail)
    assert main(["process", "a", "b"]) == 1
    error = capsys.readouterr().err
    assert "internal error (ZeroDivisionError)" in error
    assert "Doe" not in error
    assert main(["process", "a", "b", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_debug_shows_where_an_error_comes_from(tmp_path, capsys):
    words = ["process", str(tmp_path / "missing"), str(tmp_path / "sink")]
    assert main(words) == 4
    assert "Traceback" not in capsys.readouterr().err
    assert main([*words, "--debug"]) == 4
    assert "Traceback" in capsys.readouterr().err


def test_a_reader_that_leaves_early_is_no_error(cohort):
    process = subprocess.Popen(  # noqa: S603 - our own interpreter
        [sys.executable, "-m", "fastlung", "inspect", str(cohort)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    complaint = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 1
    assert complaint == b""


def test_the_demo_runs_its_own_advice_works_and_it_runs_again(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my demo"
    size = {"shape": (24, 64, 64), "spacing_mm": (9.0, 5.0, 5.0), "workers": 0}
    assert run_demo(folder, **size) == 0
    printed = capsys.readouterr().out
    for scan in COHORT:
        assert scan.story in printed
        assert re.search(rf"^{scan.name} +done +\S+ +\d+ .* -> 1.5 1.5 1.5", printed, re.MULTILINE)

    snippet = printed.partition("in Python:\n")[2].partition("\n\n")[0]
    exec(re.sub(r"^  ", "", snippet, flags=re.MULTILINE), {})  # noqa: S102 - what a reader would paste
    assert re.match(r"\(144, 213, 213\) lungs: -[78]\d\d\.\d+ HU", capsys.readouterr().out)

    line = next(line for line in printed.splitlines() if "--format nifti" in line)
    assert main([*shlex.split(line)[1:], "--workers", "0", "--dry-run"]) == 0
    assert "6 folders to process" in capsys.readouterr().out

    assert run_demo(folder, **size) == 0
    again = capsys.readouterr().out
    assert "holds an earlier demo" in again
    assert "6 scans done, 0 failed" in again


def test_the_demo_keeps_out_of_a_folder_in_use(tmp_path, capsys):
    (tmp_path / "thesis.tex").touch()
    assert main(["demo", str(tmp_path)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert main(["demo", str(tmp_path / "thesis.tex")]) == 4
