"""What was measured is found again for the same kind of run, and damage is no trouble."""

import json
import os
from dataclasses import replace

import pytest
from machines import machine

from fastlung.config import build_config
from fastlung.plan.costs import LOCAL, Calibration, Routes, forget_all, recall, remember

MEASURED = Calibration(cpu=1.3, requests=0.4, stored=0.9, network_bytes_per_second=2e8, scans=40)
CONFIG = build_config()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "fastlung" / "calibration.json"


def test_the_same_kind_of_run_finds_it_again():
    assert recall(machine(), CONFIG, LOCAL) is None
    remember(machine(), CONFIG, LOCAL, MEASURED)
    assert recall(machine(), CONFIG, LOCAL) == MEASURED
    assert recall(machine(available=1), CONFIG, LOCAL) == MEASURED  # memory changes by the second
    assert recall(machine(cpus=9), CONFIG, LOCAL) is None
    assert recall(machine(), build_config("tutorial"), LOCAL) is None
    assert recall(machine(), CONFIG, Routes(source="network", sink="disk")) is None
    assert recall(replace(machine(), instance_type="c7i.large"), CONFIG, LOCAL) is None
    forget_all()
    assert recall(machine(), CONFIG, LOCAL) is None


def test_later_measurements_replace_earlier_ones_and_leave_no_litter(cache):
    for cpu in (1.0, 2.0):
        remember(machine(), CONFIG, LOCAL, replace(MEASURED, cpu=cpu))
    assert recall(machine(), CONFIG, LOCAL).cpu == 2.0
    assert [path.name for path in cache.parent.iterdir()] == ["calibration.json"]


def test_it_never_grows_without_bound(cache):
    for cpus in range(1, 121):
        remember(machine(cpus=cpus), CONFIG, LOCAL, MEASURED)
    assert len(json.loads(cache.read_text())["calibrations"]) == 100
    assert recall(machine(cpus=120), CONFIG, LOCAL) == MEASURED
    assert recall(machine(cpus=1), CONFIG, LOCAL) is None


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"version": 1, "calibrations": {}}', '{"version": 2}', "\0\xff",
     '{"version": 2, "calibrations": 7}', "[" * 100_000],
)  # fmt: skip
def test_a_damaged_file_is_none_and_is_replaced(cache, text):
    cache.parent.mkdir()
    cache.write_text(text, "latin-1")
    assert recall(machine(), CONFIG, LOCAL) is None
    remember(machine(), CONFIG, LOCAL, MEASURED)
    assert recall(machine(), CONFIG, LOCAL) == MEASURED


@pytest.mark.parametrize(
    "damage",
    [
        {"cpu": 0}, {"cpu": -1}, {"cpu": "x"}, {"cpu": None}, {"requests": 1e9}, {"scans": 0},
        {"network_bytes_per_second": -1}, {"stored": float("nan")}, {"unknown": 1},
        {"network_bytes_per_second": float("inf")},
    ],
)  # fmt: skip
def test_a_damaged_entry_is_none(cache, damage):
    remember(machine(), CONFIG, LOCAL, MEASURED)
    found = json.loads(cache.read_text())
    (entry,) = found["calibrations"].values()
    entry.update(damage)
    cache.write_text(json.dumps(found))
    assert recall(machine(), CONFIG, LOCAL) is None


def test_a_folder_that_cannot_be_written_to_is_no_error(cache):
    cache.parent.write_text("a file where the folder should be")
    remember(machine(), CONFIG, LOCAL, MEASURED)
    assert recall(machine(), CONFIG, LOCAL) is None


def test_nothing_in_it_names_anyone(cache):
    remember(machine(), CONFIG, LOCAL, MEASURED)
    text = cache.read_text()
    assert os.uname().nodename not in text
    assert str(cache.parent.parent) not in text
