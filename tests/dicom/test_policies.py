"""Policies in whole runs: names of parts, what is recorded, and what `inspect` shows."""

import json

import numpy as np
import pytest
from dicom_writer import ct_series, ct_slice, enhanced_file, random_words
from tiny_series import chest

import fastlung
from fastlung.cli import main
from fastlung.dicom import index_series
from fastlung.inspection import idc_exclusions

UID = "1.2.3.77"
PRESENT = np.r_[0:9, 11:20]
POINTS = np.array([-10.0, -20.0, 30.0]) + np.outer(np.arange(20) * 8.0, [0.0, 0.0, 1.0])


@pytest.fixture
def gapped(tmp_path):
    folder = tmp_path / "source" / "one"
    folder.mkdir(parents=True)
    files = ct_series(
        chest(1)[PRESENT],
        positions_mm=POINTS[PRESENT],
        pixel_spacing_mm=(5.5, 5.5),
        series_uid=UID,
    )
    for name, blob in files.items():
        (folder / name).write_bytes(blob)
    return tmp_path


def run(folder, **options):
    summary = fastlung.process(
        folder / "source", folder / "sink", workers=0, spacing_mm=8.0, mask="none", **options
    )
    return sorted(summary.outcomes, key=lambda outcome: outcome.name)


def test_parts_have_names_in_a_fixed_order_and_say_what_was_done(gapped):
    first, second = run(gapped, on_gap="split")
    assert (first.name, second.name) == (UID, f"{UID}-2")
    assert (first.status, second.status) == ("done", "done")
    assert first.acquired.origin_mm[2] < second.acquired.origin_mm[2]
    about = json.loads((gapped / "sink" / "scans" / UID / "metadata.json").read_text())
    assert about["verdict"]["classes"] == ["gap"]
    assert "9 + 9 slices stand as 2 series" in about["verdict"]["actions"][0]
    assert about["config"]["on_gap"] == "split"


def test_a_policy_that_refuses_is_one_failed_scan(gapped):
    (failed,) = run(gapped, on_gap="fail")
    assert (failed.status, failed.error, failed.transient) == ("failed", "GeometryError", False)
    assert "--on-gap is fail" in failed.message


def test_stacks_of_one_file_are_scans_of_their_own(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    words = np.concatenate([chest(1), chest(2)])
    stacks = ["1"] * 20 + ["2"] * 20
    blob = enhanced_file(words, [*POINTS, *POINTS], stacks=stacks)
    (folder / "enhanced").write_bytes(blob)
    outcomes = run(tmp_path)
    assert [outcome.status for outcome in outcomes] == ["done", "done"]
    assert [outcome.acquired.shape[0] for outcome in outcomes] == [20, 20]


def strict(volume, **options):
    return idc_exclusions(index_series(ct_series(volume, **options)).series)


def test_stricter_rules_name_what_they_exclude():
    volume = random_words((50, 4, 4))
    assert strict(volume) == ()
    assert strict(volume[:49]) == ("fewer than 50 slices",)
    assert strict(volume, transfer_syntax="1.2.840.10008.1.2.4.70") == ("JPEG-compressed",)
    points = np.outer(np.arange(50) * 2.0, [0.0, 0.0, 1.0])
    points[20:] += [0.0, 0.0, 0.02]
    assert strict(volume, positions_mm=points) == ("uneven slice intervals",)
    points = np.outer(np.arange(50) * 2.0, [0.0, 0.1, 1.0])
    assert strict(volume, positions_mm=points) == ("x or y of positions changes",)
    oblique = (1.0, 0.0, 0.0, 0.0, 0.8, 0.6)
    assert "not axial" in strict(volume, orientation=oblique)
    files = ct_series(volume)
    files["again"] = next(iter(files.values()))
    assert idc_exclusions(index_series(files).series) == ("several slices at one z",)
    files = ct_series(volume)
    files["odd"] = ct_slice(
        np.ones((4, 4), np.uint16), orientation=oblique, instance_uid="1.2.3.99"
    )
    assert idc_exclusions(index_series(files).series) == ("orientation changes",)


def test_inspect_counts_what_is_rescued_and_names_what_is_skipped(gapped, capsys):
    scout = gapped / "source" / "scout"
    scout.mkdir()

    def localizer(ds):
        ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    (scout / "one").write_bytes(ct_slice(chest(1)[0], edit=localizer))
    (scout / "notes.txt").write_text("nothing")
    assert main(["inspect", str(gapped / "source"), "--strict-like", "idc"]) == 0
    shown = capsys.readouterr().out
    assert "excluded elsewhere: fewer than 50 slices; uneven slice intervals" in shown
    assert "files skipped: 1 a localizer; 1 not DICOM" in shown
    assert shown.splitlines()[-1] == (
        "1 series: 0 kept by the stricter rules, 1 excluded, 1 of which can be processed here."
    )
    assert main(["inspect", str(gapped / "source"), "--on-gap", "split", "--json"]) == 0
    parts = json.loads(capsys.readouterr().out)
    assert [part["slices"] for part in parts] == [9, 9, 0]
    assert [part["number"] for part in parts] == [1, 2, 0]
