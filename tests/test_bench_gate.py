"""The regression gate: it must catch a slowed kernel, and only that."""

import json
from dataclasses import asdict, replace

import costs
import numpy as np
import pytest
import regression
import tables
from comparisons import COMPARISONS
from dicom_writer import ct_series, random_words
from targets import LIMITS, TARGETS

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
    table, fine = regression.compare({"job": slowed}, {"jobs": {"job": asdict(baseline)}})
    assert not fine
    assert "SLOWER" in table


def test_the_same_kernel_passes_against_itself(baseline):
    again = regression.measure(kernel, yardstick)

    assert not regression.is_slower(again, baseline)


def test_a_drop_within_the_noise_does_not_fail():
    before = regression.Measured(median=10.0, low=9.5, high=10.5, seconds=0.1, other_seconds=1.0)
    doubtful = regression.Measured(median=7.5, low=6.0, high=8.2, seconds=0.1, other_seconds=1.0)
    certain = regression.Measured(median=7.5, low=7.2, high=7.8, seconds=0.1, other_seconds=1.0)

    assert not regression.is_slower(doubtful, before)
    assert regression.is_slower(certain, before)


def test_baselines_are_stored_added_to_read_back_and_shown(baseline, tmp_path):
    path = tmp_path / "baselines" / "cpu.json"
    ahead, behind = (replace(baseline, median=median) for median in (6.0, 0.5))
    jobs = {"read and HU | synthetic": baseline}

    regression.store(path, jobs, {"read and HU | synthetic": {"pydicom loop": ahead}}, {})
    regression.store(path, {}, {"read and HU | synthetic": {"SimpleITK": behind}}, {})

    stored = regression.load(path)
    assert stored["jobs"] == {name: asdict(job) for name, job in jobs.items()}
    assert set(stored["rivals"]["read and HU | synthetic"]) == {"pydicom loop", "SimpleITK"}
    assert regression.load(tmp_path / "absent.json")["jobs"] == {}
    rows = tables.page([stored]).splitlines()
    (won,) = [row for row in rows if "pydicom loop" in row]
    (lost,) = [row for row in rows if "| SimpleITK |" in row]
    assert won.endswith("| 5 | met |")
    assert lost.endswith("| 3 | **missed** **slower** |")
    assert tables.missed(stored) == ["read and HU"]


def test_a_baseline_of_another_format_is_none(tmp_path):
    path = tmp_path / "cpu.json"
    path.write_text(json.dumps({"format": 1, "jobs": {"job": {}}}))

    assert regression.load(path)["jobs"] == {}


def test_a_job_without_a_baseline_is_said_to_have_none(baseline):
    table, fine = regression.compare({"new": baseline}, {"jobs": {}})

    assert fine
    assert "no baseline" in table


@pytest.mark.parametrize("path", sorted(regression.BASELINES.glob("*.json")), ids=lambda p: p.stem)
def test_the_page_is_made_from_the_baselines_and_says_why_where_a_target_is_missed(path):
    stored = json.loads(path.read_text())

    assert set(tables.missed(stored)) <= set(LIMITS)
    assert tables.page([stored]).partition("## ")[2].strip() in tables.PAGE.read_text()


def test_every_target_is_held_against_a_rival_that_is_measured():
    measured = {(job.name, rival) for job in COMPARISONS for rival in job.rivals}
    # `torch_rivals` needs torch, which only `nox -s bench-torch` has.
    measured |= {("resample linear", rival) for rival in ("TorchIO Resample", "MONAI Spacing")}

    for target in TARGETS:
        assert any(job == target.job and rival.startswith(target.rival) for job, rival in measured)


def test_a_scan_takes_little_more_memory_than_its_words_and_its_outputs(tmp_path):
    """Source, output, a ring and what compresses: the bound that the plan's arithmetic rests on."""
    words = random_words((60, 256, 256))
    for name, data in ct_series(words, step_mm=1.0, pixel_spacing_mm=(1, 1)).items():
        (tmp_path / name).write_bytes(data)

    memory = costs.measure_memory(tmp_path, 1.0)

    assert memory["source"] == words.nbytes
    assert memory["output"] == words.nbytes * 3 // 2
    assert memory["peak"] < memory["planned"]
