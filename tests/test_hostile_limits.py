"""Every limit refuses by arithmetic: nothing of the claimed size is ever allocated."""

import dataclasses
import json
import struct
import tracemalloc
import zlib
from contextlib import contextmanager

import numpy as np
import pytest
from dicom_writer import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, RLE, ct_series, ct_slice
from dicom_writer import random_words as words
from tiny_series import write_group

import fastlung
from fastlung.cli import main
from fastlung.config import build_config, build_run_options
from fastlung.dicom import index_series, list_series, load_series, read_series
from fastlung.dicom.headers import read_headers
from fastlung.errors import ConfigError, LimitError
from fastlung.limits import NAMES, Limits, check_listing, limited, limits_in_force
from fastlung.pipeline import process_scan
from fastlung.run.engine import dry_run

MIB = 2**20
GIB = 2**30
WORDS = words((6, 8, 10))


@contextmanager
def allocating_less_than(limit_bytes):
    """Count what Python and NumPy allocate; `bytearray` and `np.empty` show here before use."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < limit_bytes


def problem_of(files):
    """Why the one series of these files, or the one file of no series, is refused."""
    index = index_series(files)
    if index.series:
        (series,) = index.series
        assert isinstance(series.problem, LimitError)
        with pytest.raises(LimitError):
            load_series(series, files)
        return str(series.problem)
    (key,) = index.broken
    return index.skipped[key]


def test_the_measure_sees_large_allocations():
    with pytest.raises(AssertionError), allocating_less_than(4 * MIB):
        np.empty(8 * MIB, np.uint8)


def test_object_bytes(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(3 * GIB)  # no block of it is on the disk
    with allocating_less_than(MIB), pytest.raises(LimitError, match="object_bytes is 1,073,741,82"):
        read_series(tmp_path)
    with allocating_less_than(MIB), pytest.raises(LimitError, match="a file of 3,221,225,472"):
        list_series(tmp_path)
    (summary,) = fastlung.inspect(tmp_path)
    assert "object_bytes" in summary.problem


def test_a_header_without_end_is_not_read_by_the_parent_either(tmp_path):
    (tmp_path / "source").mkdir()
    blob = ct_slice(WORDS[0])
    at = blob.find(b"\x18\x00\x50\x00")
    with (tmp_path / "source" / "slice").open("wb") as file:
        file.write(blob[:at] + b"\x09\x00\x10\x10OB\0\0" + (3 * GIB).to_bytes(4, "little"))
        file.truncate(3 * GIB)
    with allocating_less_than(8 * MIB):
        would = dry_run(
            str(tmp_path / "source"), str(tmp_path / "sink"), build_config(), build_run_options()
        )
    assert len(would.pending) == 1
    summary = fastlung.process(tmp_path / "source", tmp_path / "sink", workers=0)
    assert [outcome.error for outcome in summary.outcomes] == ["LimitError"]


def test_group_objects():
    with allocating_less_than(MIB), pytest.raises(LimitError, match="50,001 files"):
        check_listing(range(50_001))
    with limited(group_objects=60_000):
        check_listing(range(50_001))


def test_rows_columns():
    def huge(ds):
        ds.Rows = ds.Columns = 65535

    for syntax in (EXPLICIT, RLE):
        files = ct_series(WORDS, edits=dict.fromkeys(range(6), huge), transfer_syntax=syntax)
        with allocating_less_than(4 * MIB):
            assert "65535 x 65535; the limit rows_columns is 4,096" in problem_of(files)


def test_frames():
    def many(ds):
        ds.NumberOfFrames = 1_000_000

    files = ct_series(WORDS, edits=dict.fromkeys(range(6), many), transfer_syntax=RLE)
    with allocating_less_than(4 * MIB):
        assert "NumberOfFrames is 1,000,000; the limit frames is 5,000" in problem_of(files)


def test_slices():
    files = ct_series(WORDS)
    with limited(slices=5):
        assert "6 slices; the limit slices is 5" in problem_of(files)
    with limited(slices=6):
        assert index_series(files).series[0].problem is None


def test_scan_bytes():
    def large(ds):  # compressed, so that only the frame could tell
        ds.Rows = ds.Columns = 4096

    files = ct_series(WORDS, edits=dict.fromkeys(range(6), large), transfer_syntax=RLE)
    with limited(scan_bytes=6 * 32 * MIB - 1), allocating_less_than(4 * MIB):
        assert "6 slices of 4096 x 4096 take 201,326,592 bytes" in problem_of(files)
    with limited(scan_bytes=6 * 32 * MIB):
        assert index_series(files).series[0].problem is None


def nested(syntax, depth):
    """A slice with sequences of undefined length in each other, before its geometry."""
    order = ">" if syntax == BIG_ENDIAN else "<"
    short = struct.pack(f"{order}HH", 0x0009, 0x1010)
    opened = short + (b"" if syntax == IMPLICIT else b"SQ\0\0") + b"\xff" * 4
    opened += struct.pack(f"{order}HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    closed = struct.pack(f"{order}HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    blob = ct_slice(WORDS[0], transfer_syntax=syntax)
    at = blob.find(struct.pack(f"{order}HH", 0x0018, 0x0050))
    return blob[:at] + opened * depth + closed * depth + blob[at:]


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
def test_sequence_depth(syntax):
    assert index_series({"deep": nested(syntax, 32)}).series[0].defects == ()
    assert "limit sequence_depth is 32" in problem_of({"deep": nested(syntax, 33)})
    with limited(sequence_depth=40):
        assert index_series({"deep": nested(syntax, 40)}).series[0].defects == ()
    endless = nested(syntax, 20_000)
    with allocating_less_than(4 * MIB):
        assert "sequence_depth" in problem_of({"endless": endless})


def test_many_sequences_beside_each_other_are_not_deep():
    single = nested(EXPLICIT, 1)
    at, after = single.find(b"\x09\x00\x10\x10SQ"), single.find(b"\x18\x00\x50\x00")
    many = single[:at] + single[at:after] * 500 + single[after:]
    assert index_series({"many": many}).series[0].defects == ()


def test_depth_hidden_from_the_limit_ends_in_an_error_all_the_same():
    # Ends of sequences that pydicom takes for values: by their count, nothing is open.
    opened = b"\x09\x00\x10\x10SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    hidden = b"\x09\x00\x11\x10LO\x08\x00\xfe\xff\xdd\xe0\0\0\0\0"
    blob = ct_slice(WORDS[0])
    at = blob.find(b"\x18\x00\x50\x00DS")
    assert "nested too deeply" in str(
        index_series({"a": blob[:at] + (opened + hidden) * 5000}).skipped["a"]
    )


def flooded(syntax, count):
    """A slice with so many empty elements before its geometry."""
    blob = ct_slice(WORDS[0], transfer_syntax=syntax)
    at = blob.find(struct.pack("<HH", 0x0018, 0x0050))
    return blob[:at] + (b"\x09\x00\x10\x10" + b"LO\0\0" * (syntax == EXPLICIT)) * count + blob[at:]


def test_header_bytes():
    few, many = flooded(EXPLICIT, 20_000), flooded(EXPLICIT, 200_000)
    with limited(header_bytes=MIB):
        assert index_series({"few": few}).series[0].defects == ()
        with allocating_less_than(8 * MIB):
            assert "bytes; the limit header_bytes is 1,048,576" in problem_of({"many": many})
    asked = []

    def read(count):
        asked.append(count)
        return many[:count]

    with limited(header_bytes=MIB):
        read_headers("many", GIB, read)
    assert max(asked) == MIB


def test_inflated_size():
    meta = ct_slice(WORDS[0], transfer_syntax=DEFLATED)
    # The file meta ends where the deflated bytes begin: 12 bytes after its group length's value.
    length = int.from_bytes(meta[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = meta[: 144 + length] + packer.compress(bytes(64 * MIB)) + packer.flush()
    with allocating_less_than(40 * MIB):  # zlib grows its buffer by doubling
        assert "inflates beyond" in problem_of({"bomb": bomb})
    with limited(inflate_spare_bytes=MIB), allocating_less_than(4 * MIB):
        assert "limit inflate_ratio is 4" in problem_of({"bomb": bomb})
    with limited(inflate_spare_bytes=65 * MIB, header_bytes=MIB):
        assert "inflates" not in str(index_series({"bomb": bomb}).skipped)


def test_output_voxels():
    files = ct_series(WORDS, step_mm=10_000.0, pixel_spacing_mm=(10.0, 10.0))
    (series,) = index_series(files).series
    raw = load_series(series, files)
    config = build_config(spacing_mm=0.1)
    with allocating_less_than(16 * MIB), pytest.raises(LimitError, match="output_voxels is 4,000"):
        process_scan(raw, config)
    with limited(output_voxels=10**5), pytest.raises(LimitError, match="output_voxels is 100,000"):
        process_scan(raw, build_config(spacing_mm=5.0))


def test_every_limit_has_its_test_and_its_reason():
    tested = " ".join(name for name in globals() if name.startswith("test_"))
    for name in NAMES:
        assert name in tested or name.startswith("inflate_")
        assert (
            f"{name} : int" in Limits.__doc__
            or f"{name}, " in Limits.__doc__
            or (f", {name} : int" in Limits.__doc__)
        )


def test_limits_hold_for_a_block():
    with limited(slices=7):
        assert limits_in_force() == Limits(slices=7)
        with limited(frames=8):
            assert limits_in_force() == Limits(slices=7, frames=8)
        with limited(Limits()):
            assert limits_in_force() == Limits()
        assert limits_in_force().frames == Limits().frames
    assert limits_in_force() == Limits()


@pytest.mark.parametrize("value", [0, -1, 1.5, "many", None])
def test_a_limit_is_a_positive_whole_number(value):
    with pytest.raises(ConfigError, match="limit slices: expected a whole number"):
        dataclasses.replace(Limits(), slices=value)


@pytest.mark.compiled
@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_refuses_one_folder_and_does_the_others(tmp_path, workers):
    write_group(tmp_path / "source" / "small", 1, slices=6)
    write_group(tmp_path / "source" / "large", 2, slices=20)
    for limit, value in (("slices", 10), ("group_objects", 10)):
        summary = fastlung.process(
            tmp_path / "source",
            tmp_path / limit,
            workers=workers,
            spacing_mm=4.0,
            limits={limit: value},
        )
        errors = {outcome.group: outcome.error for outcome in summary.outcomes}
        assert sorted(errors.values()) == ["", "LimitError"]


@pytest.mark.compiled
def test_limits_are_typed_as_name_and_number(tmp_path, capsys):
    write_group(tmp_path / "source", 2)
    source, sink = str(tmp_path / "source"), str(tmp_path / "sink")
    told = ["--limit", "slices=19", "--limit", "object_bytes=2GiB"]
    assert main(["process", source, sink, "--workers", "0", *told]) == 1
    assert "the limit slices is 19, and --limit slices=N changes it" in capsys.readouterr().out
    assert main(["inspect", source, "--json", *told]) == 1
    assert "limit slices is 19" in json.loads(capsys.readouterr().out)[0]["problem"]
    assert main(["process", source, sink, "--workers", "0", "--retry-failed", "--quiet"]) == 0


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("slice=5", "did you mean 'slices'?"),
        ("slices", "expected NAME=N"),
        ("slices=many", "expected a number"),
        ("slices=0", "expected a whole number above 0"),
    ],
)
@pytest.mark.parametrize("command", ["inspect", "process"])
def test_a_limit_that_cannot_be_meant(typed, said, command, tmp_path, capsys):
    sink = [str(tmp_path / "sink")] if command == "process" else []
    assert main([command, str(tmp_path), *sink, "--limit", typed]) == 2
    assert said in capsys.readouterr().err


def test_run_options_take_limits_by_name():
    assert build_run_options(limits={"slices": 9}).limits == Limits(slices=9)
    assert build_run_options(limits=Limits(slices=9)).limits == Limits(slices=9)
    assert build_run_options().limits == Limits()
