"""
The manifest: one row a series, for whoever trains on a sink or wants to know what became of it.

Covers columns, their units and meaning, both forms, CSV and Parquet, and when they are written.
"""

from __future__ import annotations

import io
import json
import math
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from fastlung.errors import ObjectNotFoundError, StoreError
from fastlung.report.summary import FORMULA, csv_text
from fastlung.sink.identity import check_identity
from fastlung.sink.records import read_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from fastlung.report.summary import Cell
    from fastlung.scan import Grid, Outcome
    from fastlung.sink.records import Record
    from fastlung.storage.base import Store

__all__ = [
    "COLUMNS",
    "MANIFEST_CSV",
    "MANIFEST_PARQUET",
    "Column",
    "manifest_afterwards",
    "manifest_csv",
    "manifest_parquet",
    "manifest_row",
    "write_manifest",
    "writes_parquet",
]


Row = dict[str, "Cell"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """
    One column of the manifest.

    Attributes
    ----------
    name : str
        Its header.
    kind : str
        ``text``, ``integer`` or ``number``; an absent value is an empty field, null in Parquet.
    unit : str
        Unit of its numbers; empty for texts and counts.
    meaning : str
        What it says.
    """

    name: str
    kind: Literal["text", "integer", "number"]
    unit: str
    meaning: str


def _text(name: str, meaning: str) -> Column:
    return Column(name=name, kind="text", unit="", meaning=meaning)


def _integer(name: str, unit: str, meaning: str) -> Column:
    return Column(name=name, kind="integer", unit=unit, meaning=meaning)


def _number(name: str, unit: str, meaning: str) -> Column:
    return Column(name=name, kind="number", unit=unit, meaning=meaning)


def _grid_columns(side: str, when: str) -> tuple[Column, ...]:
    return (
        *(_integer(f"shape_{side}_{axis}", "voxels", f"{when}, along {axis}") for axis in "zyx"),
        *(_number(f"spacing_{side}_{axis}_mm", "mm", f"{when}, along {axis}") for axis in "zyx"),
        _text(
            f"affine_{side}_lps",
            f"{when}: voxel index (x, y, z, 1) to LPS millimetres, 4 x 4, row by row as JSON",
        ),
    )


#: Technical tags by DICOM keyword; no other tag is in any record.
TAG_COLUMNS = {
    "Modality": _text("modality", "Modality"),
    "Manufacturer": _text("manufacturer", "Manufacturer"),
    "ManufacturerModelName": _text("manufacturer_model_name", "Manufacturer's Model Name"),
    "ConvolutionKernel": _text("convolution_kernel", "Convolution Kernel"),
    "PatientPosition": _text("patient_position", "Patient Position, as HFS"),
    "SliceThickness": _number("slice_thickness_mm", "mm", "Slice Thickness; not the spacing"),
    "KVP": _number("kvp_kv", "kV", "KVP"),
    "XRayTubeCurrent": _number("xray_tube_current_ma", "mA", "X-Ray Tube Current, median"),
    "ExposureTime": _number("exposure_time_ms", "ms", "Exposure Time, median"),
    "ReconstructionDiameter": _number(
        "reconstruction_diameter_mm", "mm", "Reconstruction Diameter"
    ),
    "GantryDetectorTilt": _number("gantry_detector_tilt_degrees", "degrees", "as the tag says it"),
    "RescaleType": _text("rescale_type", "Rescale Type"),
    "BitsStored": _number("bits_stored", "bits", "Bits Stored"),
    "TransferSyntaxUID": _text("transfer_syntax_uid", "Transfer Syntax UID, where all agree"),
}

#: Measurements by their name in the record.
FIGURE_COLUMNS = {
    "padding_fraction": _number(
        "padding_fraction", "fraction", "source voxels that were never measured"
    ),
    "hu_p0_5": _number("hu_p0_5", "HU", "0.5 % of the volume's voxels are at or below"),
    "hu_p50": _number("hu_p50", "HU", "half of the volume's voxels are at or below"),
    "hu_p99_5": _number("hu_p99_5", "HU", "99.5 % of the volume's voxels are at or below"),
    "litres_right": _number("litres_right", "L", "right lung"),
    "litres_left": _number("litres_left", "L", "left lung"),
    "mask_confidence": _number(
        "mask_confidence", "fraction", "0 to 1, from the columns after it down to the noise"
    ),
    "mask_asymmetry": _number(
        "mask_asymmetry", "fraction", "logarithm of left by right over the usual 0.85"
    ),
    "mask_foreign_litres": _number(
        "mask_foreign_litres", "L", "air of the mask that is not the lungs'"
    ),
    "mask_dense_fraction": _number(
        "mask_dense_fraction", "fraction", "of the mask is as dense as tissue"
    ),
    "mask_airway_litres": _number(
        "mask_airway_litres", "L", "trachea and main bronchi in the mask"
    ),
    "mask_missed_fraction": _number(
        "mask_missed_fraction", "fraction", "of the lungs' air is not in the mask"
    ),
    "mask_crossed_fraction": _number(
        "mask_crossed_fraction", "fraction", "of the mask is on the other lung's side"
    ),
    "dense_litres": _number("dense_litres", "L", "dense regions of the lungs"),
    "dense_lost_litres": _number("dense_lost_litres", "L", "those of them not in the mask"),
    "dense_added_litres": _number("dense_added_litres", "L", "those of them taken into the mask"),
    "mask_gas_litres": _number("mask_gas_litres", "L", "gas in the mask where no lung can be"),
    "mask_separate_litres": _number(
        "mask_separate_litres", "L", "of the mask lie apart from their lung"
    ),
    "mask_void_litres": _number("mask_void_litres", "L", "enclosed by a lung and not in the mask"),
    "mask_unforked": _number(
        "mask_unforked", "fraction", "1 where the fork of the trachea was not found"
    ),
    "mask_roughness": _number(
        "mask_roughness", "ratio", "surface of the lungs to that of balls of their volume"
    ),
    "noise_hu": _number("noise_hu", "HU", "standard deviation of the noise in tissue"),
    "litres": _number("litres", "L", "both lungs, where the mask does not tell them apart"),
}

#: Stages of a scan by their name in the record.
STAGE_COLUMNS = {
    stage: _number(f"{stage}_seconds", "s", meaning)
    for stage, meaning in {
        "fetch": "waited for the folder's bytes; counted for its first series",
        "read": "headers sorted and pixels decoded",
        "hu": "stored words to Hounsfield units; a step of its own for the tutorial's rule only",
        "resample": "stored words to Hounsfield units on the target grid",
        "mask": "lung mask",
        "crop": "to the body or the lungs, where asked for",
        "normalise": "window, where one was asked for",
        "encode": "to the bytes of files",
        "picture": "to a preview",
        "wait": "waited for the scan before to be written",
        "store": "written, beside the next scan's computing",
    }.items()
}

#: Revisions by their name in the record.
REVISION_COLUMNS = {
    "grouping": _integer("revision_grouping", "", "of grouping and geometry; none in 0.1.0"),
    "pixels": _integer("revision_pixels", "", "of decoding and resampling; none in 0.1.0"),
    "mask": _integer("revision_mask", "", "of the default mask, where it had a say; none in 0.1.0"),
}

#: All columns, in order.
COLUMNS: tuple[Column, ...] = (
    _text("scan", "name of the scan: its folder below `scans/`"),
    _text("series_uid", "SeriesInstanceUID; with `--names hash`, or if malformed, a hash of it"),
    _text("source", "folder below SOURCE; with `--names hash` a hash of it"),
    _text("also_in", "other source folders with a series of this name, as a JSON list"),
    _text("status", "`done`, `failed`, or `skipped` for a folder without CT"),
    _text("error", "class of the failure"),
    _text("message", "what was expected, found, and can be done"),
    _text("retried", "for a failure: `yes` if the next run tries again, else `no`"),
    _text("image", "key of the image below SINK"),
    _text("mask", "key of the mask below SINK"),
    _integer("output_bytes", "bytes", "of all files of the scan"),
    _text("verdict", "classes of the geometry, separated by spaces"),
    _text("verdict_numbers", "measurements behind them, a JSON object"),
    _text("actions", "what was done about odd geometry: the policy, one sentence each"),
    *_grid_columns("in", "as acquired"),
    *_grid_columns("out", "as written"),
    *TAG_COLUMNS.values(),
    *FIGURE_COLUMNS.values(),
    _text("flags", "reasons to look twice, separated by spaces"),
    *STAGE_COLUMNS.values(),
    _number("seconds", "s", "all stages"),
    _integer("peak_rss_bytes", "bytes", "highest resident memory of the worker so far"),
    _integer("skipped_files", "", "files of the source folder that belong to no series"),
    _text("group", "id of the source folder: its record is `records/<group>.json`"),
    _text("config_digest", "configuration in force; with equal revisions it means equal bytes"),
    *REVISION_COLUMNS.values(),
    _text("fastlung", "version that wrote the scan"),
    _text("written_at", "when its record was written, UTC"),
)


def manifest_row(outcome: Outcome, group: Mapping[str, Cell]) -> Row:
    """
    Lay one outcome out as a row of the manifest.

    Parameters
    ----------
    outcome : Outcome
        Record of one series, or of a folder that could not be read or holds none.
    group : mapping
        What it shares with its source group: `source`, `skipped_files`, `config_digest`, the
        revisions, `fastlung` and `written_at`.

    Returns
    -------
    dict
        `COLUMNS` to values.
    """
    verdict = outcome.verdict
    retried = "yes" if outcome.transient else "no"
    values: Row = {
        "scan": outcome.name,
        "series_uid": outcome.series_uid,
        "also_in": _json(outcome.also_in) if outcome.also_in else None,
        "status": outcome.status,
        "error": outcome.error,
        "message": outcome.message,
        "retried": retried if outcome.status == "failed" else None,
        "image": _key_of(outcome, "image"),
        "mask": _key_of(outcome, "mask"),
        "output_bytes": sum(size for size, _crc in outcome.outputs.values()) or None,
        "verdict": " ".join(verdict.classes) if verdict else None,
        "verdict_numbers": _json(verdict.numbers) if verdict and verdict.numbers else None,
        "actions": " ".join(verdict.actions) if verdict else None,
        **_grid_cells("in", outcome.acquired),
        **_grid_cells("out", outcome.grid),
        **_chosen(TAG_COLUMNS, outcome.acquisition),
        **_chosen(FIGURE_COLUMNS, outcome.figures),
        "flags": " ".join(flag.name for flag in outcome.flags),
        **_chosen(STAGE_COLUMNS, {name: round(s, 4) for name, s in outcome.seconds.items()}),
        "seconds": round(sum(outcome.seconds.values()), 4) if outcome.seconds else None,
        "peak_rss_bytes": outcome.peak_rss_bytes or None,
        "group": outcome.group,
        **group,
    }
    return {column.name: _clean(values[column.name]) for column in COLUMNS}


def manifest_csv(rows: Iterable[Row]) -> bytes:
    """
    Write rows as CSV in UTF-8.

    Parameters
    ----------
    rows : iterable of dict
        From `manifest_row`, in any order.

    Returns
    -------
    bytes
        The whole file, sorted by source folder and scan.
    """
    names = [column.name for column in COLUMNS]
    # Each row becomes text at once: as dictionaries, 200,000 of them would take more than 1 GB.
    lines = sorted((_place(row), csv_text(names, [row]).partition("\n")[2]) for row in rows)
    text = csv_text(names, []) + "".join(line for _place, line in lines)
    return text.encode("utf-8", "replace")


def writes_parquet() -> bool:
    """Whether pyarrow is installed, without importing it."""
    return find_spec("pyarrow") is not None


def manifest_parquet(csv: bytes) -> bytes:
    """
    Turn the manifest into Parquet, with units and meanings in the fields' metadata.

    Parameters
    ----------
    csv : bytes
        From `manifest_csv`.

    Returns
    -------
    bytes
        The whole file: the same rows, an empty field being null.

    Raises
    ------
    ImportError
        Without pyarrow.
    """
    import pyarrow as pa  # noqa: PLC0415 - optional, and 0.2 s
    from pyarrow import compute as pc  # noqa: PLC0415
    from pyarrow import csv as arrow_csv  # noqa: PLC0415
    from pyarrow import parquet  # noqa: PLC0415

    types = {"text": pa.string(), "integer": pa.int64(), "number": pa.float64()}
    schema = pa.schema(
        [
            pa.field(c.name, types[c.kind], metadata={"unit": c.unit, "meaning": c.meaning})
            for c in COLUMNS
        ]
    )
    options = arrow_csv.ConvertOptions(
        column_types=schema, null_values=[""], strings_can_be_null=True
    )
    table = arrow_csv.read_csv(pa.BufferReader(csv), convert_options=options)
    # No spreadsheet reads it: texts are as they were before the CSV kept them from being carried
    # out.
    guarded, texts = f"^'({FORMULA.pattern})", (c.kind == "text" for c in COLUMNS)
    columns = [
        pc.replace_substring_regex(column, guarded, r"\1") if is_text else column
        for column, is_text in zip(table.columns, texts, strict=True)
    ]
    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_arrays(columns, schema=schema), sink)
    return sink.getvalue()


def _place(row: Row) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in ("source", "scan", "group"))


def _key_of(outcome: Outcome, array: str) -> str | None:
    """Key of an array: one file, or the folder of one that is many objects."""
    keys = {"/".join(key.split("/")[:3]) for key in outcome.outputs}
    return next((key for key in sorted(keys) if key.split("/")[-1].startswith(f"{array}.")), None)


def _grid_cells(side: str, grid: Grid | None) -> Row:
    cells: Row = {column.name: None for column in _grid_columns(side, "")}
    if grid is None:
        return cells
    for axis, count, spacing_mm in zip("zyx", grid.shape, grid.spacing_mm, strict=True):
        cells[f"shape_{side}_{axis}"] = count
        cells[f"spacing_{side}_{axis}_mm"] = spacing_mm
    cells[f"affine_{side}_lps"] = _json((grid.affine_lps + 0.0).tolist())  # no -0.0
    return cells


def _chosen(columns: Mapping[str, Column], values: Mapping[str, str | float]) -> Row:
    # A record of another version may hold what this one has no column for.
    return {column.name: values.get(key) for key, column in columns.items()}


def _clean(value: Cell) -> Cell:
    if value == "" or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True)


MANIFEST_CSV = "manifest.csv"

MANIFEST_PARQUET = "manifest.parquet"


def write_manifest(sink: Store, look: Callable[[Record], object] | None = None) -> int:
    """
    Bring the manifest of a sink up to date.

    Parameters
    ----------
    sink : Store
        A sink that holds records.
    look : callable, optional
        Shown each record on the way.

    Returns
    -------
    int
        Rows.

    Raises
    ------
    StoreError
        If the sink cannot be read or written.
    """
    table = manifest_csv(_rows(read_records(sink), look))
    _put_if_new(sink, MANIFEST_CSV, table)
    if writes_parquet():
        _put_if_new(sink, MANIFEST_PARQUET, manifest_parquet(table))
    else:
        # A machine with pyarrow wrote it; from now on it would be out of date.
        sink.delete(MANIFEST_PARQUET)
    return table.count(b"\n") - 1  # no field holds a line feed


def _rows(records: Iterable[Record], look: Callable[[Record], object] | None) -> Iterator[Row]:
    for record in records:
        if look is not None:
            look(record)
        shared: Row = {
            "source": record.label,
            "skipped_files": sum(record.skipped_files.values()),
            "config_digest": record.config_digest,
            **_chosen(REVISION_COLUMNS, record.revisions),
            "fastlung": record.fastlung,
            "written_at": record.written_at,
        }
        for outcome in record.outcomes:
            yield manifest_row(outcome, shared)


@contextmanager
def manifest_afterwards(sink: Store, sink_id: str) -> Iterator[None]:
    """
    Bring the manifest up to date however a run ends, an interrupt included.

    Parameters
    ----------
    sink : Store
        Where the run writes.
    sink_id : str
        Which sink that is; nothing is written into another.

    Raises
    ------
    StoreError
        If the sink cannot be read or written; never in place of the error that ended the run.
    """
    try:
        yield
    except BaseException:
        with suppress(StoreError):
            check_identity(sink, sink_id)
            write_manifest(sink)
        raise
    write_manifest(sink)


def _put_if_new(sink: Store, key: str, data: bytes) -> None:
    """Write unless the same bytes are there: a finished sink may be read-only by now."""
    with suppress(ObjectNotFoundError):
        if sink.get(key) == data:
            return
    sink.put(key, [data])
