"""What 0.1.0 wrote, printed and offered is still so; `frozen.facts` says how to freeze anew."""

import io
import json
import os
import tarfile
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from frozen import facts
from frozen.api import public_api
from frozen.runs import CONFIGURATIONS, RUNS, WHOLE_RUNS

import fastlung
from fastlung.cli import main

# Real runs from start to end: minutes without the compiled kernels.
pytestmark = [
    pytest.mark.compiled,
    pytest.mark.skipif(
        not facts.same_arithmetic(), reason="voxels were frozen with fused multiply-adds"
    ),
]
WHOLE = os.environ.get("FASTLUNG_FROZEN") == "whole"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return facts.demo_cohort(tmp_path_factory.mktemp("demo"))


@pytest.fixture
def source_of(demo, request):
    def found(name: str) -> Path:
        return demo if name == "demo" else request.getfixturevalue("data_dir") / "chest"

    return found


def assert_same(frozen, found):
    lines = facts.differences(frozen, json.loads(json.dumps(found)))
    assert not lines, "\n".join(lines[:20])


def without_files(brief):
    return {key: value for key, value in brief.items() if key != "files"}


def held_to(name, run):
    """Hold a run to what is frozen of it: bytes of files only where the compressor is the same."""
    frozen, found = facts.stored("runs")[name], facts.brief(run)
    assert found["voxels"]
    if facts.same_compressors():
        assert found["files"] == frozen["files"]
    assert set(found["files"]) == set(frozen["files"])
    assert_same(without_files(frozen), without_files(found))


@pytest.mark.parametrize("name", RUNS)
def test_payloads_verdicts_and_documents_are_the_frozen_ones(name, source_of, tmp_path):
    run = facts.run_facts(RUNS[name], source_of(RUNS[name].source), tmp_path / "sink")
    held_to(name, run)
    documents = facts.stored("documents").get(name, {})
    assert_same({**documents, "manifest.csv": 0}, {**run["documents"], "manifest.csv": 0})
    columns = documents.get("manifest.csv", [])
    assert [column for column in run["documents"]["manifest.csv"] if column in columns] == columns


@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_write_what_one_process_writes(workers, source_of, tmp_path):
    run = RUNS["demo, hu"]
    held_to("demo, hu", facts.run_facts(run, source_of(run.source), tmp_path / "sink", workers))


@pytest.mark.skipif(not WHOLE, reason="minutes; FASTLUNG_FROZEN=whole runs it")
@pytest.mark.parametrize("name", WHOLE_RUNS if WHOLE else [*WHOLE_RUNS][:1])
def test_presets_in_every_format_at_their_own_spacing(name, source_of, tmp_path):
    run = WHOLE_RUNS[name]
    workers = len(name) % 3  # 0, 1 and 2 in turn
    found = facts.run_facts(run, source_of(run.source), tmp_path / "sink", workers)
    assert found["voxels"]
    assert_same(facts.stored("whole")[name.rpartition(", ")[0]], found["voxels"])


def test_names_signatures_and_fields_are_still_offered():
    assert_same(facts.stored("api"), public_api())


def test_configurations_keep_their_digests():
    assert len(CONFIGURATIONS) >= 20
    assert facts.configurations() == facts.stored("configurations")


def test_functions_for_one_scan_return_the_same_arrays(demo):
    assert_same(facts.stored("functions"), facts.functions(demo))


def test_events_of_a_run_and_what_is_said_of_its_sink(demo, tmp_path):
    assert_same(facts.stored("events"), facts.events(demo, tmp_path))


def test_commands_keep_their_options_and_exit_codes(tmp_path):
    assert_same(facts.stored("command_line"), facts.command_line(tmp_path))


def test_a_changed_byte_a_lost_key_and_a_changed_value_are_seen(demo, tmp_path):
    run = facts.run_facts(RUNS["demo, npz"], demo, tmp_path / "sink")
    held_to("demo, npz", run)
    name = next(iter(run["voxels"]))
    image = run["voxels"][name]["image"]
    run["voxels"][name]["image"] = [*image[:2], image[2][::-1]]
    with pytest.raises(AssertionError, match=f"voxels/{name}/image"):
        held_to("demo, npz", run)
    assert facts.differences({"a": 1, "b": [2]}, {"b": [3], "c": 0}) == [
        "/a: gone",
        "/b[0]: was 2, is 3",
    ]


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """Two series and a damaged one, and the sink that 0.1.0 made of them."""
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(facts.HERE / "sink-0.1.0.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def printed(*words):
    with redirect_stdout(io.StringIO()) as text:
        code = main([*map(str, words), "--json"])
    return code, json.loads(text.getvalue())


def test_a_sink_of_the_first_release_verifies(old):
    code, said = printed("verify", old / "source", old / "sink")
    assert (code, said["findings"]) == (0, [])
    assert said["series"] == {"done": 2, "failed": 1}


def test_a_scan_of_the_first_release_opens(old):
    scan = fastlung.open_scan(old / "sink" / "scans" / "patient-01")
    direct = np.load(old / "sink" / "scans" / "patient-01" / "image.npy")
    assert np.array_equal(scan.image, direct)
    assert set(np.unique(scan.mask)) == {0, 1, 2}
    assert scan.grid.spacing_mm == (10.0, 10.0, 10.0)


def test_a_damaged_byte_in_a_sink_of_the_first_release_is_found(old, tmp_path):
    with tarfile.open(facts.HERE / "sink-0.1.0.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    victim = tmp_path / "sink" / "scans" / "patient-01" / "image.npy"
    held = bytearray(victim.read_bytes())
    held[-100] ^= 1
    victim.write_bytes(held)
    code, said = printed("verify", old / "source", tmp_path / "sink")
    assert code == 1
    assert [finding["kind"] for finding in said["findings"]] == ["damaged"]
