"""Multi-frame files: functional groups, stacks, fragments, and counts that lie."""

import numpy as np
import pytest
from dicom_writer import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    J2K_LOSSLESS,
    RLE,
    enhanced_file,
    random_words,
)

from fastlung.dicom import index_series, load_series, read_series
from fastlung.errors import FormatError, GeometryError, LimitError, MetadataError, TruncatedError

WORDS = random_words((5, 16, 20), seed=4)
UPWARDS = [(-10.0, -20.0, 30.0 + 2.5 * z) for z in range(5)]


def series_of(blob):
    (series,) = index_series({"file": blob}).series
    return series


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED, RLE, J2K_LOSSLESS])
def test_frames_are_slices_of_their_own(syntax, legacy):
    order = [3, 0, 4, 1, 2]  # frames need not be stored in order
    slopes = [1.0, 0.5, 2.0, 1.0, 1.5]
    blob = enhanced_file(
        WORDS[order],
        [UPWARDS[z] for z in order],
        slopes=[slopes[z] for z in order],
        transfer_syntax=syntax,
        legacy=legacy,
    )
    series = series_of(blob)
    raw = load_series(series, {"file": blob})
    np.testing.assert_array_equal(raw.stored, WORDS)
    np.testing.assert_array_equal(raw.scale.slope, np.float32(slopes))
    assert set(raw.scale.padding_low) == ({7} if legacy else {0})
    assert raw.verdict.classes == ("regular",)
    assert raw.grid.spacing_mm == (2.5, 0.7, 0.6)
    np.testing.assert_allclose(raw.grid.origin_mm, UPWARDS[0])
    assert series.keys == ("file",)


def test_stacks_of_one_file_are_series_of_their_own(tmp_path):
    words = np.concatenate([WORDS, WORDS + 1])
    stacks = ["1"] * 5 + ["2"] * 5
    blob = enhanced_file(words, UPWARDS * 2, stacks=stacks)
    index = index_series({"file": blob})
    assert [len(series.headers) for series in index.series] == [5, 5]
    volumes = {load_series(series, {"file": blob}).stored.tobytes() for series in index.series}
    assert volumes == {WORDS.tobytes(), (WORDS + 1).tobytes()}
    assert "split by stack: 5 + 5 slices" in index.series[0].verdict.actions[0]
    (tmp_path / "one").write_bytes(enhanced_file(WORDS, UPWARDS))
    np.testing.assert_array_equal(read_series(tmp_path).stored, WORDS)


def test_frames_at_one_position_are_not_taken_for_one_instance():
    blob = enhanced_file(WORDS, [*UPWARDS[:4], UPWARDS[0]])
    series = series_of(blob)
    assert isinstance(series.problem, GeometryError)
    repeated = enhanced_file(WORDS[[0, 1, 2, 3, 0]], [*UPWARDS[:4], UPWARDS[0]])
    series = series_of(repeated)
    assert series.verdict.classes == ("duplicate",)
    np.testing.assert_array_equal(load_series(series, {"file": repeated}).stored, WORDS[:4])


def test_frames_in_several_fragments_are_dealt_out_by_the_offset_table():
    words = random_words((5, 64, 64), seed=9)
    blob = enhanced_file(words, UPWARDS, transfer_syntax=RLE, fragments=3)
    np.testing.assert_array_equal(load_series(series_of(blob), {"file": blob}).stored, words)
    table = blob.index(b"\xe0\x7f\x10\x00OB") + 12
    without = blob[: table + 4] + bytes(4) + blob[table + 28 :]
    with pytest.raises(FormatError, match="no offset table"):
        load_series(series_of(without), {"file": without})
    shuffled = blob[: table + 12] + b"\x01" + blob[table + 13 :]
    with pytest.raises(FormatError, match="offset table"):
        load_series(series_of(shuffled), {"file": shuffled})


def put(**values):
    def edit(ds):
        for keyword, value in values.items():
            setattr(ds, keyword, value)

    return edit


def cut_groups(ds):
    del ds.PerFrameFunctionalGroupsSequence[-1]


@pytest.mark.parametrize(
    ("edit", "error", "text"),
    [
        (put(NumberOfFrames=999_999), LimitError, "999,999; the limit frames is 5,000"),
        (put(NumberOfFrames=6), FormatError, "describe 5"),
        (cut_groups, FormatError, "describe 4"),
        (put(NumberOfFrames=None), MetadataError, "NumberOfFrames"),
        (put(PixelData=bytes(1598)), TruncatedError, "5 frames take 3,200 bytes"),
        (put(PixelData=bytes(3840)), FormatError, "6 images, and the header says 5"),
        (put(SharedFunctionalGroupsSequence=[]), MetadataError, "PixelSpacing is absent"),
    ],
)
def test_counts_that_lie_are_refused_by_arithmetic(edit, error, text):
    series = series_of(enhanced_file(WORDS, UPWARDS, edit=edit))
    assert type(series.problem) is error
    assert text in str(series.problem)


def test_groups_of_endless_items_are_refused_before_they_are_objects():
    blob = enhanced_file(WORDS, UPWARDS)
    item = b"\xfe\xff\x00\xe0\x00\x00\x00\x00"
    bomb = b"\x00\x52\x30\x92SQ\x00\x00" + (800_000).to_bytes(4, "little") + item * 100_000
    at = blob.index(b"\x00\x52\x30\x92SQ")
    index = index_series({"file": blob[:at] + bomb + bytes(100_000)})
    (series,) = index.series
    assert isinstance(series.problem, LimitError)
