"""Every codec gives back the words that went in, and nothing but a DecodeError comes of rubbish."""

import io
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from dicom_writer import (
    HTJ2K_LOSSLESS,
    J2K_LOSSLESS,
    JPEG_BASELINE,
    JPEG_LOSSLESS,
    JPEG_LS,
    LOSSLESS,
    RLE,
    ct_slice,
    encode,
    random_words,
)
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastlung.dicom.codecs import CODECS, decode_frame
from fastlung.dicom.headers import read_headers
from fastlung.dicom.pixels import read_words
from fastlung.dicom.slice_header import SliceHeader
from fastlung.errors import DecodeError, FormatError, ScanError, TruncatedError


def decode(frame, syntax, shape, *, bits=16, stored=16, signed=False):
    out = np.full(shape, 0xABCD, np.uint16)
    decode_frame(CODECS[syntax], frame, out, bits_allocated=bits, bits_stored=stored, signed=signed)
    return out


def words_of(blob):
    """Words of one file, through header and pixels, with no series around it."""
    found = read_headers("file", len(blob), lambda count: blob[:count])
    assert isinstance(found, list), found
    (header,) = found
    assert isinstance(header, SliceHeader)
    if isinstance(header.pixel_format, ScanError):
        raise header.pixel_format
    out = np.empty((header.rows, header.columns), np.uint16)
    read_words(header.pixel_format, header.transfer_syntax, memoryview(blob), out)
    return out, header


@pytest.mark.parametrize("syntax", LOSSLESS)
@given(
    words=hnp.arrays(
        np.uint16,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=8, max_side=24),
        elements=st.sampled_from([0, 1, 0x7FFF, 0x8000, 0xFFFF, 1000]) | st.integers(0, 0xFFFF),
    )
)
def test_lossless_words_come_back(syntax, words):
    np.testing.assert_array_equal(decode(encode(words, syntax), syntax, words.shape), words)


@pytest.mark.parametrize("syntax", [*LOSSLESS, JPEG_BASELINE])
def test_eight_bit_pixels_are_widened(syntax):
    pixels = (np.add.outer(np.arange(16), np.arange(32)) * 5).astype(np.uint8)
    out = decode(encode(pixels, syntax), syntax, pixels.shape, bits=8, stored=8)
    tolerance = 3 if syntax == JPEG_BASELINE else 0
    assert np.abs(out.astype(int) - pixels).max() <= tolerance


@pytest.mark.parametrize("predictor", range(1, 8))
@pytest.mark.parametrize("bits", [12, 16])
def test_jpeg_lossless_takes_every_predictor(predictor, bits):
    words = random_words((20, 30), seed=predictor, bits=bits)
    frame = imagecodecs.jpeg8_encode(words, lossless=True, predictor=predictor, bitspersample=bits)
    oracle = imagecodecs.jpegsof3_decode(frame)
    np.testing.assert_array_equal(oracle, words)
    np.testing.assert_array_equal(decode(frame, JPEG_LOSSLESS, words.shape), words)


def test_the_second_decoder_stands_in(monkeypatch):
    def refuse(*_args, **_options):
        raise ValueError("not today")

    monkeypatch.setattr("fastlung.dicom.codecs.imagecodecs.jpeg8_decode", refuse, raising=False)
    words = random_words((16, 16))
    np.testing.assert_array_equal(
        decode(encode(words, JPEG_LOSSLESS), JPEG_LOSSLESS, words.shape), words
    )


@pytest.mark.parametrize("syntax", [J2K_LOSSLESS, HTJ2K_LOSSLESS])
@pytest.mark.parametrize("signed_in_header", [True, False])
@pytest.mark.parametrize("signed_in_frame", [True, False])
def test_sign_of_codestream_and_header_may_differ(syntax, signed_in_header, signed_in_frame):
    values = np.linspace(-2048, 2047, 16 * 16).astype(np.int16).reshape(16, 16)
    given_to_encoder = values if signed_in_frame else values.view(np.uint16)
    out = decode(encode(given_to_encoder, syntax), syntax, values.shape, signed=signed_in_header)
    # Whatever either says, the stored words are what went in.
    np.testing.assert_array_equal(out.view(np.int16), values)


def test_unsigned_codestream_of_fewer_bits_is_sign_extended():
    values = np.linspace(-2048, 2047, 16 * 16).astype(np.int16).reshape(16, 16)
    twelve = values.view(np.uint16) & 0xFFF
    frame = imagecodecs.jpeg2k_encode(
        twelve, level=0, reversible=True, codecformat="J2K", bitspersample=12
    )
    out = decode(frame, J2K_LOSSLESS, values.shape, stored=16, signed=True)
    np.testing.assert_array_equal(out.view(np.int16), values)
    # With as many bits stored, the header's own rule extends the sign: nothing to do here.
    out = decode(frame, J2K_LOSSLESS, values.shape, stored=12, signed=True)
    np.testing.assert_array_equal(out & 0xFFF, twelve)


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_a_frame_in_several_fragments_is_joined(syntax):
    words = random_words((24, 24), seed=5)
    out, _ = words_of(ct_slice(words, transfer_syntax=syntax, fragments=3))
    np.testing.assert_array_equal(out, words)


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("shape", [(16, 17), (17, 16), (32, 8), (8, 8)])
def test_a_frame_of_another_size_is_refused(syntax, shape):
    if syntax == RLE and shape == (32, 8):
        pytest.skip("an RLE frame says how many pixels it holds, not in how many rows")
    with pytest.raises(DecodeError, match="expected"):
        decode(encode(random_words((16, 16)), syntax), syntax, shape)


@pytest.mark.parametrize("syntax", sorted(CODECS))
@pytest.mark.parametrize(
    "frame", [b"", b"\0" * 80, b"\xff\xd8", b"\xff\xd8\xff\xda\0\x04\0\0", b"\xff\x4f\xff\x51\0"]
)
def test_rubbish_is_a_decode_error(syntax, frame):
    with pytest.raises(DecodeError, match=CODECS[syntax].name):
        decode(frame, syntax, (16, 16))


@pytest.mark.parametrize("syntax", [s for s in LOSSLESS if s != RLE])
def test_a_bomb_is_refused_before_its_decoder_sees_it(syntax, monkeypatch):
    frame = bytearray(encode(random_words((16, 16)), syntax))
    if syntax in (J2K_LOSSLESS, HTJ2K_LOSSLESS):
        at = frame.find(b"\xff\x51") + 6
        frame[at : at + 8] = b"\0\0\xff\xff" * 2
    else:
        at = frame.find(b"\xff\xf7" if syntax == JPEG_LS else b"\xff\xc3") + 5
        frame[at : at + 4] = b"\xff" * 4
    monkeypatch.setattr("fastlung.dicom.codecs._decode", None)  # calling it would be a TypeError
    with pytest.raises(DecodeError, match="65535 x 65535"):
        decode(bytes(frame), syntax, (16, 16))


@pytest.mark.parametrize("syntax", [*LOSSLESS, JPEG_BASELINE])
@pytest.mark.parametrize("part", [0.3, 0.5, 0.9])
def test_a_frame_that_breaks_off_is_a_decode_error(syntax, part):
    # Inside a whole fragment: OpenJPH and libjpeg make up the rest of such an image.
    bits = 8 if syntax == JPEG_BASELINE else 16
    words = random_words((64, 64), bits=bits).astype(f"u{bits // 8}")
    frame = encode(words, syntax)
    with pytest.raises(DecodeError, match="damaged"):
        decode(frame[: int(len(frame) * part)], syntax, (64, 64), bits=bits, stored=bits)


def test_a_damaged_frame_is_a_decode_error():
    frame = bytearray(encode(random_words((32, 32)), J2K_LOSSLESS))
    frame[60:] = b"\0" * len(frame[60:])
    with pytest.raises(DecodeError, match="damaged"):
        decode(bytes(frame), J2K_LOSSLESS, (32, 32))


def test_rle_that_holds_too_much_or_too_little_is_a_decode_error():
    frame = encode(random_words((64, 64)), RLE)
    with pytest.raises(DecodeError, match="expected 3,900 bytes a segment, found 4,096"):
        decode(frame, RLE, (60, 65))
    with pytest.raises(DecodeError, match="damaged"):
        decode(frame[: len(frame) // 2], RLE, (64, 64))
    with pytest.raises(DecodeError, match="expected 2 segments"):
        decode(frame + bytes(20_000), RLE, (64, 64))


def test_a_panic_of_the_rust_decoder_is_a_decode_error(monkeypatch):
    # Panics are no `Exception`. The one that is known, for an empty segment, is kept from it.
    def panicking(_segment):
        raise type("PanicException", (BaseException,), {})("index out of bounds")

    monkeypatch.setattr("fastlung.dicom.codecs.rle.decode_segment", panicking)
    with pytest.raises(DecodeError, match="damaged"):
        decode(encode(random_words((16, 16)), RLE), RLE, (16, 16))


def test_rle_lets_an_interrupt_through(monkeypatch):
    def interrupted(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr("fastlung.dicom.codecs.rle.decode_segment", interrupted)
    with pytest.raises(KeyboardInterrupt):
        decode(encode(random_words((16, 16)), RLE), RLE, (16, 16))


def test_a_colour_frame_is_refused():
    rgb = np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(DecodeError, match="16 x 16 x 3"):
        decode(imagecodecs.jpeg8_encode(rgb), JPEG_BASELINE, (16, 16), bits=8, stored=8)


@pytest.mark.parametrize("cut", [5, 9, 30, 100])
def test_a_frame_cut_short_is_truncated(cut):
    blob = ct_slice(random_words((24, 24)), transfer_syntax=RLE)
    with pytest.raises((TruncatedError, DecodeError)):
        words_of(blob[:-cut])


def test_pixels_that_are_no_fragments_are_a_format_error():
    blob = ct_slice(random_words((24, 24)), transfer_syntax=RLE)
    with pytest.raises(FormatError, match="fragment"):
        words_of(blob.replace(b"\xfe\xff\x00\xe0", b"\xfe\xff\x00\xe1"))


@pytest.mark.data
@pytest.mark.parametrize("suffix", ["57", "70", "80", "90"])
def test_real_lossless_files_equal_the_original(data_dir: Path, suffix):
    _real_equals_original(data_dir, f"*1.2.4.{suffix}.dcm")


@pytest.mark.data
@pytest.mark.parametrize("suffix", ["1.2", "1.2.1", "1.2.2", "1.2.1.99", "1.2.5"])
def test_real_uncompressed_and_rle_files_equal_the_original(data_dir: Path, suffix):
    _real_equals_original(data_dir, f"*1.2.840.10008.{suffix}.dcm")


@pytest.mark.data
def test_real_lossy_files_decode_near_the_original(data_dir: Path):
    folder = data_dir / "awkward" / "transfer-syntaxes"
    decoded = {
        suffix: words_of(next(folder.glob(f"*1.2.4.{suffix}.dcm")).read_bytes())[0]
        for suffix in ("50", "51", "53", "55", "81", "91")
    }
    original = words_of((folder / "CTImage.dcm").read_bytes())[0].view(np.int16)
    # .53 and .55 hold the coefficients of .51 in another order: the pixels must be the same.
    np.testing.assert_array_equal(decoded["53"], decoded["51"])
    np.testing.assert_array_equal(decoded["55"], decoded["51"])
    for suffix, slope, intercept, worst in (
        ("50", 32.1216, -4047, 60),
        ("51", 2.0002442, -4047, 20),
        ("81", 1, -1024, 3),
        ("91", 1, -1024, 15),
    ):
        words = decoded[suffix]
        values = words.view(np.int16) if slope == 1 else words
        error = np.abs(values * slope + intercept - (original - 1024.0))
        assert np.percentile(error, 99) <= worst, suffix


def _real_equals_original(data_dir, pattern):
    folder = data_dir / "awkward" / "transfer-syntaxes"
    original = pydicom.dcmread(io.BytesIO((folder / "CTImage.dcm").read_bytes())).pixel_array
    (path,) = folder.glob(pattern)
    words, header = words_of(path.read_bytes())
    np.testing.assert_array_equal(words.view(np.int16), original)
    assert (header.pixel_format.slope, header.pixel_format.intercept) == (1, -1024)
