"""The manifest says what the records say, whatever happened to the run, and nothing else."""

import csv
import io
import json
import re
from importlib.util import find_spec

import numpy as np
import pytest
from tiny_series import CANARY, write_group, write_source

import fastlung
from fastlung.dicom.tags import ACQUISITION_NUMBERS, ACQUISITION_TEXTS
from fastlung.errors import StoreError
from fastlung.scan import Grid, Outcome, Verdict
from fastlung.sink import manifest
from fastlung.sink.manifest import write_manifest
from fastlung.sink.records import read_records
from fastlung.storage import LocalStore

GROUP = {
    "source": "patient-01/ct", "skipped_files": 2, "config_digest": "0" * 16, "fastlung": "0.1.0",
    "revision_grouping": 1, "revision_pixels": 0, "revision_mask": None,
    "written_at": "2026-01-01T00:00:00+00:00",
}  # fmt: skip
DONE = Outcome(
    name="1.2.3",
    series_uid="1.2.3",
    group="a1",
    status="done",
    verdict=Verdict(classes=("duplicate", "gap"), numbers={"gaps": 1.0}, actions=("One.", "Two.")),
    acquired=Grid(shape=(60, 160, 120), spacing_mm=(4.0, 0.6171875, 1.6), origin_mm=(-1, 2, 3)),
    grid=Grid(shape=(240, 320, 256), spacing_mm=(1.0, 1.0, 1.0), origin_mm=(0, 0, 0)),
    acquisition={"KVP": 120.0, "ConvolutionKernel": "B70f"},
    figures={"litres_right": 1.4987, "litres_left": float("nan")},
    outputs={"scans/1.2.3/image.npy": (10, 1), "scans/1.2.3/mask.npy": (5, 2)},
    seconds={"read": 0.25, "resample": 0.5},
)


def read(sink):
    return list(csv.DictReader(io.StringIO((sink / "manifest.csv").read_text())))


def process(source, sink, **options):
    return fastlung.process(str(source), str(sink), **{"workers": 0, "spacing_mm": 4.0, **options})


def test_a_row_has_every_column_and_absent_is_absent():
    row = manifest.manifest_row(DONE, GROUP)
    assert tuple(row) == tuple(column.name for column in manifest.COLUMNS)
    assert (row["verdict"], row["actions"]) == ("duplicate gap", "One. Two.")
    assert (row["shape_in_z"], row["shape_in_x"]) == (60, 120)
    assert (row["image"], row["mask"]) == ("scans/1.2.3/image.npy", "scans/1.2.3/mask.npy")
    assert (row["output_bytes"], row["seconds"], row["read_seconds"]) == (15, 0.75, 0.25)
    assert (row["kvp_kv"], row["convolution_kernel"], row["modality"]) == (120.0, "B70f", None)
    assert row["litres_left"] is None  # not a number
    assert np.array_equal(json.loads(row["affine_in_lps"]), DONE.acquired.affine_lps)
    failed = Outcome(name="x", group="b", status="failed", error="FormatError", transient=True)
    row = manifest.manifest_row(failed, GROUP)
    assert (row["retried"], row["verdict"], row["affine_in_lps"]) == ("yes", None, None)


def test_an_array_of_many_objects_is_named_by_its_folder():
    outputs = {f"scans/1.2.3/image.zarr/{key}": (1, 0) for key in ("c/0", "zarr.json")}
    row = manifest.manifest_row(Outcome(name="1.2.3", group="a", status="done", outputs=outputs),
                                GROUP)  # fmt: skip
    assert (row["image"], row["mask"]) == ("scans/1.2.3/image.zarr", None)


def test_numbers_keep_their_digits_and_rows_their_order():
    rows = [
        manifest.manifest_row(DONE, {**GROUP, "source": name}) for name in ("b", "a", "a/c", "a")
    ]
    text = manifest.manifest_csv(rows)
    assert text == manifest.manifest_csv(rows[::-1])
    read_back = list(csv.DictReader(io.StringIO(text.decode())))
    assert [row["source"] for row in read_back] == ["a", "a", "a/c", "b"]
    assert read_back[0]["spacing_in_y_mm"] == "0.6171875"


def test_nothing_that_is_recorded_has_no_column():
    assert {*ACQUISITION_NUMBERS, *ACQUISITION_TEXTS, "BitsStored", "TransferSyntaxUID"} == set(
        manifest.TAG_COLUMNS
    )
    names = [column.name for column in manifest.COLUMNS]
    assert len(set(names)) == len(names)


@pytest.mark.compiled
def test_every_figure_and_stage_of_a_run_has_a_column(tmp_path):
    write_group(tmp_path / "source", 1)
    for preset, mask in (("hu", None), ("tutorial", None), ("hu", "none")):
        sink = tmp_path / f"{preset}-{mask}"
        process(tmp_path / "source", sink, preset=preset, mask=mask)
        (outcome,) = next(read_records(LocalStore(sink))).outcomes
        assert set(outcome.figures) <= set(manifest.FIGURE_COLUMNS)
        assert set(outcome.seconds) <= set(manifest.STAGE_COLUMNS)
        (row,) = read(sink)
        assert float(row["hu_p50"]) == outcome.figures["hu_p50"]
        assert int(row["output_bytes"]) == sum(size for size, _ in outcome.outputs.values())


@pytest.mark.compiled
def test_a_run_ends_with_a_manifest_of_all_it_found(tmp_path):
    source, sink = write_source(tmp_path / "source", 3), tmp_path / "sink"
    bad = next((source / "patient-01/ct").iterdir())
    bad.write_bytes(bad.read_bytes()[:-3000])
    (source / "notes").mkdir()
    (source / "notes/README").write_text("hello")
    process(source, sink)
    rows = read(sink)
    assert [(row["source"], row["status"]) for row in rows] == [
        ("notes", "skipped"), ("patient-00/ct", "done"), ("patient-01/ct", "failed"),
        ("patient-02/ct", "done"),
    ]  # fmt: skip
    assert [row["series_uid"] for row in rows] == ["", "1.2.3.0", "1.2.3.1", "1.2.3.2"]
    assert (rows[2]["error"], rows[2]["retried"]) == ("TruncatedError", "no")
    image = np.load(sink / rows[1]["image"])
    assert image.shape == tuple(int(rows[1][f"shape_out_{axis}"]) for axis in "zyx")
    assert CANARY not in (sink / "manifest.csv").read_text()

    before = (sink / "manifest.csv").stat()
    process(source, sink)  # nothing to do: the file is not even touched
    assert (sink / "manifest.csv").stat().st_mtime_ns == before.st_mtime_ns
    (sink / "manifest.csv").unlink()
    process(source, sink)
    assert read(sink) == rows


@pytest.mark.compiled
def test_an_interrupted_run_leaves_a_manifest_of_what_is_committed(tmp_path, monkeypatch):
    source, sink = write_source(tmp_path / "source", 9), tmp_path / "sink"

    def interrupt(event):
        if type(event).__name__ == "ScanEnded":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process(source, sink, chunk_size=1, on_event=interrupt)
    # The next scan may have been computed while the first one was written.
    assert {row["status"] for row in read(sink)} == {"done"}
    assert len(read(sink)) == len(list(sink.glob("records/*.json")))

    put = LocalStore.put

    def full(store, key, buffers):
        if "image" in key or "manifest" in key:
            raise StoreError(f"{key}: no space") from OSError(28, "")
        put(store, key, buffers)

    monkeypatch.setattr(LocalStore, "put", full)
    with pytest.raises(StoreError, match="image"):  # not the manifest's own failure
        process(source, sink)


@pytest.mark.compiled
def test_hashed_names_hide_uid_and_folder_and_folder_names_do_not(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTLUNG_NAMES_KEY", "a key of hashed names")
    write_group(tmp_path / "source/someone", 7)
    process(tmp_path / "source", tmp_path / "hashed", names="hash")
    process(tmp_path / "source", tmp_path / "folder", names="folder")
    assert not re.search("someone|1.2.3.7", (tmp_path / "hashed/manifest.csv").read_text())
    (row,) = read(tmp_path / "hashed")
    assert re.fullmatch("[0-9a-f]{16}", row["series_uid"])
    (row,) = read(tmp_path / "folder")
    assert (row["scan"], row["series_uid"]) == ("someone", "1.2.3.7")


@pytest.mark.skipif(find_spec("pyarrow") is None, reason="needs pyarrow, an optional extra")
def test_parquet_holds_the_same_with_types_and_units(tmp_path, monkeypatch):
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import parquet  # noqa: PLC0415

    rows = [manifest.manifest_row(DONE, {**GROUP, "source": name}) for name in ("b", "a")]
    path = tmp_path / "manifest.parquet"
    path.write_bytes(manifest.manifest_parquet(manifest.manifest_csv(rows)))
    table = parquet.read_table(path)
    assert table.to_pylist() == rows[::-1]
    none = parquet.read_table(pa.BufferReader(manifest.manifest_parquet(manifest.manifest_csv([]))))
    assert (none.num_rows, none.schema) == (0, table.schema)
    assert table.schema.field("spacing_out_z_mm").metadata[b"unit"] == b"mm"
    # A machine without pyarrow cannot keep the file right, so it goes.
    monkeypatch.setattr("fastlung.sink.manifest.writes_parquet", lambda: False)
    assert write_manifest(LocalStore(tmp_path)) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.csv"]
