"""The regression gate: it must catch a slowed kernel, and only that."""

import json

import numpy as np
import pytest
import regression
import tables

VOLUME = np.random.default_rng(0).random((60, 128, 128)).astype(np.float32)


def kernel():
    return np.sqrt(VOLUME * VOLUME + np.float32(1))


def slowed_kernel():
    kernel()
    kernel()
    return kernel()


def yardstick():
    return np.cumsum(VOLUME, axis=1)


@pytest.fixture(scope="module")
def baseline():
    return regression.measure(kernel, yardstick)


def test_a_deliberately_slowed_kernel_is_caught(baseline):
    slowed = regression.measure(slowed_kernel, yardstick)

    assert regression.is_slower(slowed, baseline)
    table, fine = regression.compare({"job": slowed}, {"job": baseline})
    assert not fine
    assert "SLOWER" in table


def test_the_same_kernel_passes_against_itself(baseline):
    again = regression.measure(kernel, yardstick)

    assert not regression.is_slower(again, baseline)


def test_a_drop_within_the_noise_does_not_fail():
    before = regression.Measured(median=10.0, low=9.5, high=10.5, seconds=0.1)
    doubtful = regression.Measured(median=7.5, low=6.0, high=8.2, seconds=0.1)
    certain = regression.Measured(median=7.5, low=7.2, high=7.8, seconds=0.1)

    assert not regression.is_slower(doubtful, before)
    assert regression.is_slower(certain, before)


def test_baselines_are_stored_read_back_and_shown(baseline, tmp_path):
    path = tmp_path / "baselines" / "cpu.json"

    regression.store(path, {"job": baseline}, {"job": {"rival": 0.5}})

    assert regression.load(path) == {"job": baseline}
    assert regression.load(tmp_path / "absent.json") == {}
    page = tables.page([json.loads(path.read_text())])
    assert "| rival | 0.5 |" in page  # a loss is shown as one


def test_a_job_without_a_baseline_is_said_to_have_none(baseline):
    table, fine = regression.compare({"new": baseline}, {})

    assert fine
    assert "no baseline" in table
