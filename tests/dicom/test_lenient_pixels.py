"""Pixel Data is read where the standard or every peer reads it, and no further."""

import struct

import imagecodecs
import numpy as np
import pytest
from dicom_writer import (
    BIG_ENDIAN,
    DEFLATED_FRAME,
    J2K_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    JPEG_XL_LOSSLESS,
    RLE,
    ct_series,
    encode,
    enhanced_file,
    random_words,
)

from fastlung.dicom import index_series, load_series
from fastlung.errors import DecodeError, FormatError, MetadataError, ScanError, TruncatedError
from fastlung.volume.hounsfield import to_hu

WORDS = random_words((4, 16, 16), seed=5)
END = b"\xfe\xff\xdd\xe0\0\0\0\0"


def put(**values):
    def edit(dataset):
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return edit


def load(files):
    (series,) = index_series(files).series
    return load_series(series, files)


def everywhere(edit):
    return dict.fromkeys(range(4), edit)


def padded(count):
    def edit(dataset):
        dataset.PixelData = dataset.PixelData + b"\7" * count

    return edit


@pytest.mark.parametrize("count", [2, 100, 510, 700])
def test_padding_behind_the_pixels_is_dropped(count):
    stored = load(ct_series(WORDS, edits=everywhere(padded(count)))).stored
    np.testing.assert_array_equal(stored, WORDS)


@pytest.mark.parametrize("count", [512, 1024])
def test_whole_images_behind_the_pixels_are_none_of_ours(count):
    (series,) = index_series(ct_series(WORDS, edits=everywhere(padded(count)))).series
    assert isinstance(series.problem, FormatError)
    assert "images, and the header says 1" in str(series.problem)


def test_padding_that_is_claimed_must_be_there():
    files = ct_series(WORDS, edits=everywhere(padded(100)))
    (series,) = index_series({name: blob[:-20] for name, blob in files.items()}).series
    assert isinstance(series.problem, TruncatedError)


def test_padding_behind_many_frames_is_dropped():
    places = [(0, 0, 2.0 * number) for number in range(4)]
    files = {"a": enhanced_file(WORDS, places, edit=padded(500))}
    np.testing.assert_array_equal(load(files).stored, WORDS)


@pytest.mark.parametrize("syntax", [JPEG_LS, JPEG_LOSSLESS_SV1, J2K_LOSSLESS, RLE])
@pytest.mark.parametrize("tail", [b"", bytes(8), bytes(3), b"\xfe\xff\x0d\xe0\0\0\0\0"])
def test_a_sequence_without_its_delimiter_is_read(syntax, tail):
    files = ct_series(WORDS, transfer_syntax=syntax)
    assert all(blob.endswith(END) for blob in files.values())
    open_ended = {name: blob[:-8] + tail for name, blob in files.items()}
    np.testing.assert_array_equal(load(open_ended).stored, WORDS)


@pytest.mark.parametrize("syntax", [JPEG_LS, JPEG_LOSSLESS_SV1, J2K_LOSSLESS, RLE])
@pytest.mark.parametrize("cut", [10, 30, 60])
def test_without_a_delimiter_a_frame_that_is_cut_still_fails(syntax, cut):
    files = ct_series(WORDS, transfer_syntax=syntax)
    name = min(files)
    with pytest.raises(ScanError):
        load({**files, name: files[name][: -8 - cut]})


def test_a_frame_that_lacks_its_last_fragment_fails_without_a_delimiter():
    files = ct_series(WORDS, transfer_syntax=J2K_LOSSLESS, fragments=2)
    name = min(files)
    last = files[name].rindex(b"\xfe\xff\x00\xe0")
    with pytest.raises(TruncatedError):
        load({**files, name: files[name][:last]})


def test_empty_last_fragments_and_long_padding_are_passed_over():
    empty = b"\xfe\xff\x00\xe0" + bytes(4)
    files = ct_series(WORDS, transfer_syntax=JPEG_LS)
    longer = {name: blob[:-8] + empty + END for name, blob in files.items()}
    np.testing.assert_array_equal(load(longer).stored, WORDS)
    name = min(files)
    start = files[name].rindex(b"\xfe\xff\x00\xe0")
    (length,) = struct.unpack_from("<I", files[name], start + 4)
    frame = files[name][start + 8 : start + 8 + length] + bytes(500)
    blob = files[name][: start + 4] + struct.pack("<I", len(frame)) + frame + END
    np.testing.assert_array_equal(load({**files, name: blob}).stored, WORDS)


@pytest.mark.parametrize("edit", [put(NumberOfFrames=0), put(ModalityLUTSequence=[])])
def test_a_header_that_says_nothing_odd_is_read(edit):
    np.testing.assert_array_equal(load(ct_series(WORDS, edits=everywhere(edit))).stored, WORDS)


@pytest.mark.parametrize("end", [b"\0", b"\n", b"\r", b"\t"])
def test_numbers_may_end_in_what_writers_leave_there(end):
    files = ct_series(WORDS, slope=1.5)
    odd = {name: blob.replace(b"1.5 ", b"1.5" + end) for name, blob in files.items()}
    assert odd != files
    np.testing.assert_array_equal(load(odd).scale.slope, np.full(4, 1.5, np.float32))


def high_bit(words, stored, high, **options):
    return load(ct_series(words, bits_stored=stored, high_bit=high, **options))


def test_a_high_bit_that_words_speak_against_does_not_count():
    raw = high_bit(WORDS, 12, 15)
    np.testing.assert_array_equal(to_hu(raw)[0], WORDS.astype(int) - 1024)


def test_words_that_really_stand_high_are_shifted():
    raw = high_bit(WORDS << 4, 12, 15)
    np.testing.assert_array_equal(to_hu(raw)[0], WORDS.astype(int) - 1024)


@pytest.mark.parametrize("mask", [0xFFFF, 0x0FFF])
def test_signed_words_speak_against_a_high_bit_too(mask):
    signed = WORDS.astype(np.int16) // 2 - 1000
    raw = high_bit(signed.view(np.uint16) & mask, 12, 15, signed=True, intercept=0.0)
    np.testing.assert_array_equal(to_hu(raw)[0], signed)


def test_a_high_bit_below_the_bits_stored_does_not_count():
    np.testing.assert_array_equal(high_bit(WORDS, 16, 11).scale.shift, [0] * 4)


def test_words_that_fit_neither_are_refused_by_name():
    with pytest.raises(MetadataError, match="HighBit is 15 and BitsStored 12"):
        high_bit(WORDS + 30_001, 12, 15)


def in_new_syntax(words, syntax):
    """Files in a syntax that pydicom does not write yet: the UID takes the place of another."""
    old, new = (uid.encode() + b"\0" * (len(uid) % 2) for uid in (JPEG_LS, syntax))
    files = {}
    for index, (name, blob) in enumerate(ct_series(words, transfer_syntax=JPEG_LS).items()):
        frame = encode(words[index], syntax)
        frame += b"\0" * (len(frame) % 2)
        start = blob.rindex(b"\xfe\xff\x00\xe0")
        item = blob[start : start + 4] + struct.pack("<I", len(frame))
        head = blob[:start].replace(
            struct.pack("<H", len(old)) + old, struct.pack("<H", len(new)) + new
        )
        files[name] = head + item + frame + END
    return files


@pytest.mark.parametrize("syntax", [JPEG_XL_LOSSLESS, DEFLATED_FRAME])
def test_new_transfer_syntaxes_are_exact_and_damage_is_named(syntax):
    files = in_new_syntax(WORDS, syntax)
    np.testing.assert_array_equal(load(files).stored, WORDS)
    name = min(files)
    damaged = bytearray(files[name])
    middle = len(damaged) - 200
    damaged[middle : middle + 40] = bytes(40)
    with pytest.raises(DecodeError):
        load({**files, name: bytes(damaged)})


def test_a_decoder_that_gives_zeros_for_a_frame_of_tissue_is_an_error(monkeypatch):
    files = ct_series(random_words((3, 64, 64)), transfer_syntax=JPEG_LS)
    monkeypatch.setattr(imagecodecs, "jpegls_decode", lambda _frame: np.zeros((64, 64), np.uint16))
    with pytest.raises(DecodeError, match="zeros only"):
        load(files)


@pytest.mark.parametrize("syntax", [JPEG_LS, JPEG_LOSSLESS_SV1, J2K_LOSSLESS, RLE, BIG_ENDIAN])
def test_a_slice_of_zeros_is_a_slice(syntax):
    words = np.zeros((3, 64, 64), np.uint16)
    np.testing.assert_array_equal(load(ct_series(words, transfer_syntax=syntax)).stored, words)
