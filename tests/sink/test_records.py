"""What is written is what is read, and only a whole, matching record counts as done."""

import json
import math
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlung.scan import Flag, Grid, Outcome, Verdict
from fastlung.sink import decode, records
from fastlung.sink.records import (
    Record,
    is_done,
    load_outcome,
    load_record,
    read_records,
    record_key,
    to_json,
)
from fastlung.source.groups import SourceGroup
from fastlung.storage import LocalStore, ObjectInfo

GROUP = SourceGroup(
    id="0123456789abcdef",
    label="a",
    objects=(ObjectInfo(key="a/1", size_bytes=3, etag="e"),),
)
GRID = Grid(shape=(2, 3, 4), spacing_mm=(2.0, 0.5, 0.5), origin_mm=(-1.0, 2.0, 3.5))
DONE = Outcome(
    name="1.2.3",
    group=GROUP.id,
    status="done",
    verdict=Verdict(classes=("gap",), numbers={"gap_mm": 4.0}, actions=("filled it",)),
    acquired=GRID,
    grid=GRID,
    acquisition={"KVP": 120.0, "ConvolutionKernel": "B70f"},
    figures={"litres_left": 2.25},
    flags=(Flag(name="leak", value=1.0, text="look"),),
    outputs={"scans/1.2.3/image.npy": (176, 7), "scans/1.2.3/mask.npy": (152, 8)},
    seconds={"read": 0.5},
    peak_rss_bytes=1000,
)
FAILED = Outcome(name="a", group=GROUP.id, status="failed", error="FormatError", message="m")
SIZES = {"scans/1.2.3/image.npy": 176, "scans/1.2.3/mask.npy": 152, "scans/other/image.npy": 1}


def record(*outcomes, **changes):
    facts = {
        "group": GROUP.id,
        "label": GROUP.label,
        "objects_digest": GROUP.digest,
        "config_digest": "c",
        "outcomes": outcomes,
        "skipped_files": {"not DICOM": 2},
        "writer": "token",
    }
    return Record(**{**facts, **changes})


def test_records_and_outcomes_come_back_as_they_were():
    assert load_outcome(to_json(DONE)) == DONE
    assert load_outcome(to_json(FAILED)) == FAILED
    whole = record(DONE, FAILED)
    assert load_record(to_json(whole)) == whole
    assert to_json(load_record(to_json(whole))) == to_json(whole)
    assert whole.outputs == DONE.outputs


def test_json_holds_no_word_that_json_does_not_know():
    figures = {"a": math.nan, "b": math.inf, "c": np.float32(0.5), "d": np.int64(3)}
    data = to_json(Outcome(name="a", group="b", status="done", figures=figures))
    plain = json.loads(data, parse_constant=pytest.fail)
    assert plain["figures"] == {"a": None, "b": None, "c": 0.5, "d": 3}
    assert math.isnan(load_outcome(data).figures["a"])


@pytest.mark.parametrize(
    ("kind", "decoders"),
    [
        (Record, records.FIELDS),
        (Outcome, decode.OUTCOME),
        (Verdict, decode.VERDICT),
        (Flag, decode.FLAG),
        (Grid, decode.GRID),
    ],
)
def test_every_field_that_is_written_is_one_that_can_be_read(kind, decoders):
    """Otherwise all records would count as damaged, and every resume would begin anew."""
    assert decoders.keys() == {field.name for field in fields(kind)}


@given(st.data())
def test_damaged_records_are_never_believed_and_never_crash(tmp_path_factory, data):
    whole = to_json(record(DONE))
    start = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:start] + data.draw(st.binary(max_size=20)) + whole[start + 20 :]
    sink = LocalStore(tmp_path_factory.mktemp("sink"))
    sink.put(record_key(GROUP.id), [damaged])
    for found in read_records(sink):
        to_json(found)
        is_done(found, GROUP, "c", SIZES, retry_failed=False)


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"{}", b'"x"', b"\xff", b"[" * 100_000, b'{"format": 1}']
)
def test_garbage_is_passed_over(tmp_path, data):
    sink = LocalStore(tmp_path)
    sink.put(record_key("ffff"), [data])
    sink.put(record_key(GROUP.id), [to_json(record(DONE))])
    sink.put(record_key("copied"), [to_json(record(DONE))])  # a record under a wrong name
    assert [found.group for found in read_records(sink)] == [GROUP.id]


def test_a_record_of_a_later_format_is_not_ours_to_judge():
    with pytest.raises(ValueError, match="format"):
        load_record(to_json(record(DONE, format=2)))


@pytest.mark.parametrize(
    ("change", "sizes", "done"),
    [
        ({}, SIZES, True),
        ({"objects_digest": "other"}, SIZES, False),
        ({"config_digest": "other"}, SIZES, False),
        ({}, {**SIZES, "scans/1.2.3/mask.npy": 151}, False),
        ({}, {"scans/1.2.3/image.npy": 176}, False),
    ],
)
def test_done_means_same_input_same_configuration_all_outputs(change, sizes, done):
    assert is_done(record(DONE, **change), GROUP, "c", sizes, retry_failed=False) is done


@pytest.mark.parametrize(
    ("transient", "retry_failed", "done"),
    [(False, False, True), (False, True, False), (True, False, False), (True, True, False)],
)
def test_only_failures_that_would_repeat_count_as_done(transient, retry_failed, done):
    failed = Outcome(name="a", group=GROUP.id, status="failed", transient=transient)
    found = record(DONE, failed)
    assert is_done(found, GROUP, "c", SIZES, retry_failed=retry_failed) is done
