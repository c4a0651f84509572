"""A run is planned for this machine and for others without reading a pixel."""

import json

import pytest
from tiny_series import write_source

from fastlung.cli import main
from fastlung.storage.local import LocalStore

pytestmark = pytest.mark.compiled

GIB = 2**30


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("source"), 5)


def planned(capsys, *words):
    assert main(["plan", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_another_machine_is_planned_for_as_if_it_were_this_one(source, capsys):
    found = planned(capsys, source, "--cpus", 2, "--memory", "16GiB", "--network", "2.5Gbps")
    machine, plan = found["machine"], found["plan"]
    assert (machine["cpus"], machine["memory_limit_bytes"]) == (2, 16 * GIB)
    assert machine["link_bytes_per_second"] == 2.5e9 / 8
    assert (plan["workers"], found["groups"], found["already_done"]) == (2, 5, 0)
    assert found["seconds"] == pytest.approx(5 / plan["scans_per_second"])
    assert found["source_bytes"] == sum(
        path.stat().st_size for path in source.rglob("*") if path.is_file()
    )


def test_an_instance_of_the_catalogue(source, capsys):
    found = planned(capsys, source, "--instance", "c7i.2xlarge")
    assert (found["machine"]["cpus"], found["plan"]["workers"]) == (8, 5)
    assert found["plan"]["limit"] == "groups"
    assert found["machine"]["memory_limit_bytes"] == 16 * GIB
    fewer = planned(capsys, source, "--instance", "c7i.2xlarge", "--memory", "1GiB", "--cpus", 4)
    assert fewer["machine"]["memory_limit_bytes"] == GIB
    assert main(["plan", str(source), "--instance", "c7i.tiny"]) == 2
    assert "c7i.2xlarge" in capsys.readouterr().err


def test_lines_say_what_the_numbers_say(source, capsys):
    assert main(["plan", str(source), "--cpus", "2"]) == 0
    printed = capsys.readouterr().out
    for words in ("5 folders to process", "Plan: 2 workers", "assumed, not measured yet", "About "):
        assert words in printed
    assert main(["plan", str(source), "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_what_a_sink_holds_is_not_planned_again_and_nothing_is_written(source, tmp_path, capsys):
    quick = ["--spacing", "6", "--workers", "0"]
    sink = tmp_path / "sink"
    assert main(["process", str(source), str(sink), "--quiet", *quick]) == 0
    before = {path: path.stat().st_mtime_ns for path in sink.rglob("*")}
    found = planned(capsys, source, sink, *quick)
    assert (found["groups"], found["already_done"], found["seconds"]) == (0, 5, None)
    assert {path: path.stat().st_mtime_ns for path in sink.rglob("*")} == before
    assert not (tmp_path / "new").exists()
    assert planned(capsys, source, tmp_path / "new", *quick)["groups"] == 5
    assert not (tmp_path / "new").exists()


def test_no_pixel_is_read(source, monkeypatch, capsys):
    whole = []
    get = LocalStore.get

    def counted(store, key, **options):
        if options.get("first_bytes") is None:
            whole.append(key)
        return get(store, key, **options)

    monkeypatch.setattr(LocalStore, "get", counted)
    planned(capsys, source)
    assert whole == []


def test_what_fits_nowhere_is_refused_with_need_and_limit(source, capsys):
    assert main(["plan", str(source), "--memory", "1GiB", "--memory-limit", "50MB"]) == 1
    said = capsys.readouterr().err
    assert "the smallest scan needs" in said
    assert "50.0 MB may be used" in said


@pytest.mark.parametrize("speed", ["fast", "10", "0Gbps", "5 Tbps", "-1Gbps"])
def test_a_speed_has_a_unit(source, speed, capsys):
    assert main(["plan", str(source), f"--network={speed}"]) == 2
    assert "2.5Gbps" in capsys.readouterr().err
