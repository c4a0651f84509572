"""Two sinks are the same, or it is said which scans differ, in what, and by how much."""

import csv
import io
import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from tiny_series import write_group, write_source

import fastlung
from fastlung import comparison
from fastlung.cli import main
from fastlung.errors import ConfigError
from fastlung.storage import LocalStore, open_store

pytestmark = pytest.mark.compiled
SCANS = 3


def process(source, sink, **options):
    return fastlung.process(str(source), str(sink), **{"workers": 0, "spacing_mm": 4.0, **options})


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Three scans, a broken one and a folder without CT, beside what became of them."""
    folder = tmp_path_factory.mktemp("done")
    source = write_source(folder / "source", SCANS + 1)
    broken = next((source / f"patient-{SCANS:02d}/ct").iterdir())
    broken.write_bytes(broken.read_bytes()[:-3000])
    (source / "notes").mkdir()
    (source / "notes/README").write_text("hello")
    process(source, folder / "sink")
    return folder


@pytest.fixture
def other(done, tmp_path):
    """A copy of the sink that a test may change."""
    return Path(shutil.copytree(done / "sink", tmp_path / "other"))


def record_of(sink, name):
    return next(path for path in sink.glob("records/*.json") if f'"{name}"' in path.read_text())


def change(sink, name, array, edit):
    """Change an array of a scan as another version would have: with its record."""
    path = sink / "scans" / name / f"{array}.npy"
    voxels = np.load(path)
    edit(voxels)
    np.save(path, voxels)
    record = json.loads(record_of(sink, name).read_bytes())
    for outcome in record["outcomes"]:
        data = path.read_bytes()
        outcome["outputs"][f"scans/{name}/{array}.npy"] = [len(data), zlib.crc32(data)]
    record_of(sink, name).write_text(json.dumps(record))


def differing(first, second, **options):
    found = fastlung.compare(str(first), str(second), **options)
    return {scan.scan: scan for scan in found if scan.differs}


def test_a_sink_and_its_copy_are_the_same_and_nothing_is_read(done, other, monkeypatch):
    monkeypatch.setattr(comparison, "stored_scan", None)
    found = list(fastlung.compare(str(done / "sink"), str(other)))
    assert [scan.differs for scan in found] == [()] * (SCANS + 2)
    assert sorted({scan.status_first for scan in found}) == ["done", "failed", "skipped"]
    assert {scan.image_voxels for scan in found if scan.status_first == "done"} == {0}


def test_voxels_and_hounsfield_units_that_differ_are_measured(done, other):
    def darken(voxels):
        voxels[5, 10, 10:14] -= 100
        voxels[6, 10, 10] += 300

    change(other, "1.2.3.1", "image", darken)
    (scan,) = differing(done / "sink", other).values()
    size = np.load(other / "scans/1.2.3.1/image.npy").size
    assert (scan.scan, scan.differs, scan.image_voxels) == ("1.2.3.1", ("image",), 5)
    assert (scan.hu_max, scan.hu_mean) == (300, pytest.approx(700 / size))
    assert scan.mask_voxels == 0


def test_labels_that_differ_are_counted(done, other):
    def erase(mask):
        mask[mask == 2] = 0

    lost = np.count_nonzero(np.load(other / "scans/1.2.3.0/mask.npy") == 2)
    change(other, "1.2.3.0", "mask", erase)
    (scan,) = differing(done / "sink", other).values()
    assert (scan.differs, scan.mask_voxels, scan.image_voxels) == (("mask",), lost, 0)
    assert lost > 0


def test_a_window_is_measured_in_hounsfield_units(done, tmp_path):
    options = {"window_hu": (-1000, 400), "dtype": "uint8"}
    process(done / "source", tmp_path / "a", **options)
    shutil.copytree(tmp_path / "a", tmp_path / "b")

    def brighten(voxels):
        voxels[0, 0, 0] += 10

    change(tmp_path / "b", "1.2.3.0", "image", brighten)
    (scan,) = differing(tmp_path / "a", tmp_path / "b").values()
    assert scan.hu_max == pytest.approx(10 * 1400 / 255)


def test_files_of_another_format_hold_the_same_scans(done, tmp_path):
    process(done / "source", tmp_path, format="nifti")
    assert differing(done / "sink", tmp_path) == {}


def test_other_numbers_and_other_grids_are_told_and_not_measured(done, tmp_path):
    process(done / "source", tmp_path / "window", window_hu=(-1000, 400))
    process(done / "source", tmp_path / "coarse", spacing_mm=5.0)
    windowed = differing(done / "sink", tmp_path / "window")
    assert {scan.differs for scan in windowed.values()} == {("encoding",)}
    assert {(scan.hu_max, scan.mask_voxels) for scan in windowed.values()} == {(None, 0)}
    coarse = differing(done / "sink", tmp_path / "coarse")
    assert len(coarse) == SCANS
    assert all("grid" in scan.differs and scan.hu_max is None for scan in coarse.values())


def test_a_mask_in_one_of_them_only(done, tmp_path):
    process(done / "source", tmp_path, mask="none")
    for scan in differing(done / "sink", tmp_path).values():
        assert {"litres", "mask"} <= set(scan.differs)
        assert scan.litres_first > 0
        assert (scan.litres_second, scan.image_voxels) == (None, 0)


def test_scans_of_one_sink_only_and_of_another_place_of_the_source(done, tmp_path):
    source = tmp_path / "source"
    write_group(source / "elsewhere/renamed", 0)
    write_group(source / "patient-09", 9)
    process(source, tmp_path / "sink")
    found = differing(done / "sink", tmp_path / "sink")
    assert found.pop("1.2.3.9").differs == ("only_second",)
    assert "1.2.3.0" not in found  # by its name, though its folder has another
    assert {scan.differs for scan in found.values()} == {("only_first",)}
    assert {"1.2.3.1", "1.2.3.2"} < found.keys()


def test_what_records_say_otherwise_is_named(done, other):
    path = record_of(other, "1.2.3.2")
    record = json.loads(path.read_bytes())
    (outcome,) = record["outcomes"]
    outcome["verdict"]["classes"] = ["gap"]
    outcome["flags"] = [{"name": "leak", "value": 1.0, "text": "look"}]
    outcome["figures"]["litres_left"] += 0.5
    path.write_text(json.dumps(record))
    (scan,) = differing(done / "sink", other).values()
    assert scan.differs == ("verdict", "flags", "litres")
    assert (scan.verdict_first, scan.verdict_second) == (("regular",), ("gap",))
    assert "leak" in scan.flags_second
    assert scan.litres_second - scan.litres_first == pytest.approx(0.5)


def test_a_scan_that_fails_in_one_of_them(done, other):
    path = record_of(other, "1.2.3.2")
    record = json.loads(path.read_bytes())
    record["outcomes"][0].update(status="failed", error="GeometryError", outputs={}, grid=None)
    path.write_text(json.dumps(record))
    (scan,) = differing(done / "sink", other).values()
    assert scan.differs[:2] == ("status", "error")
    assert (scan.error_first, scan.error_second) == ("", "GeometryError")


def test_damaged_records_and_outputs_are_no_equality(done, other):
    record_of(other, "1.2.3.0").write_text("{")
    change(other, "1.2.3.1", "mask", lambda voxels: np.add(voxels, 1, out=voxels))
    (other / "scans/1.2.3.1/image.npy").write_bytes(b"none")
    found = differing(done / "sink", other)
    assert sorted(scan.differs for scan in found.values()) == [("record",), ("unreadable",)]
    assert all(scan.note for scan in found.values())


def test_a_folder_that_is_no_sink_is_refused_at_once(done, tmp_path):
    with pytest.raises(ConfigError, match="expected a sink"):
        fastlung.compare(str(done / "sink"), str(tmp_path))


def test_the_command_says_it_as_text_csv_and_json(done, other, capsys):
    words = ["compare", str(done / "sink"), str(other)]
    assert main(words) == 0
    assert capsys.readouterr().out == "5 scans equal, 0 different.\n"

    change(other, "1.2.3.1", "image", lambda voxels: voxels.fill(0))
    assert main(words) == 1
    assert "4 scans equal, 1 different (image 1)." in capsys.readouterr().out
    assert main([*words, "--csv"]) == 1
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["scan"], row["differs"], row["mask_voxels"]) == ("1.2.3.1", "image", "0")
    assert main([*words, "--json", "--all"]) == 1
    everything = json.loads(capsys.readouterr().out)
    assert sorted(scan["differs"] for scan in everything) == [[], [], [], [], ["image"]]


def test_no_more_than_a_pair_of_scans_is_in_memory(done, tmp_path, monkeypatch):
    process(done / "source", tmp_path, format="nifti")
    held, most, measured = [], [], comparison._measured
    opened = comparison._opened

    def counting(store, name):
        held.append(name)
        most.append(len(held))
        return opened(store, name)

    def letting_go(*words):
        held.clear()
        return measured(*words)

    monkeypatch.setattr(comparison, "_opened", counting)
    monkeypatch.setattr(comparison, "_measured", letting_go)
    assert differing(done / "sink", tmp_path) == {}
    assert (len(most), max(most)) == (2 * SCANS, 2)


def test_a_bucket_beside_a_folder(s3, done, other):
    store = open_store(f"s3://{s3.bucket}/sink/", s3.options)
    for info in LocalStore(done / "sink").list():
        store.put(info.key, [LocalStore(done / "sink").get(info.key)])
    change(other, "1.2.3.1", "image", lambda voxels: voxels.fill(0))
    found = differing(f"s3://{s3.bucket}/sink/", other, storage=s3.options)
    assert [(name, scan.differs) for name, scan in found.items()] == [("1.2.3.1", ("image",))]
