"""
One compressed frame to the 16-bit words of one slice.

Covers the choice of decoder per transfer syntax (by measurement, see `CODECS`) and what keeps a
hostile or damaged frame from doing harm: the size written in the frame is compared with the one in
the header before any decoder, which allocates what the frame asks for, sees it. Cutting frames out
of files is `pixels`.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
from rle import rle

from fastlung.errors import DecodeError, UnsupportedError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "CODECS",
    "MARKED_FRAMES",
    "Codec",
    "decode_frame",
    "ends_with_marker",
    "is_installed",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """
    How one transfer syntax is decoded.

    Attributes
    ----------
    name : str
        What messages call it.
    family : str
        ``jpeg``, ``j2k``, ``jxl``, ``rle`` or ``deflate``: how a frame says its own size.
    decoders : tuple of str
        Codecs of imagecodecs to try, in this order; empty for RLE and deflate.
    """

    name: str
    family: str
    decoders: tuple[str, ...] = ()


#: Chosen by milliseconds for a 512 x 512 slice of real CT on one core, all bit-identical, and by
#: what they do with damaged frames. JPEG Lossless: jpeg8 (libjpeg-turbo 3) 1.5, ljpeg 2.5, jpegsof3
#: 3.4; jpegsof3 stands by for precisions that libjpeg-turbo before 3.1 refuses, and ljpeg is out
#: because it answers another kind of JPEG with an empty array. JPEG-LS 4.6. JPEG 2000 31.
#: HTJ2K: jpeg2k (OpenJPEG) 2.1; htj2k (OpenJPH) takes 1.1 but gives a wrong image, and no error,
#: for a frame cut in half. .53 and .55 are here because jpeg8 gives the same pixels for them as for
#: the same image in .51.
CODECS = {
    "1.2.840.10008.1.2.4.50": Codec(name="JPEG Baseline", family="jpeg", decoders=("jpeg8",)),
    "1.2.840.10008.1.2.4.51": Codec(name="JPEG Extended", family="jpeg", decoders=("jpeg8",)),
    "1.2.840.10008.1.2.4.53": Codec(
        name="JPEG Spectral Selection", family="jpeg", decoders=("jpeg8",)
    ),
    "1.2.840.10008.1.2.4.55": Codec(
        name="JPEG Full Progression", family="jpeg", decoders=("jpeg8",)
    ),
    "1.2.840.10008.1.2.4.57": Codec(
        name="JPEG Lossless", family="jpeg", decoders=("jpeg8", "jpegsof3")
    ),
    "1.2.840.10008.1.2.4.70": Codec(
        name="JPEG Lossless SV1", family="jpeg", decoders=("jpeg8", "jpegsof3")
    ),
    "1.2.840.10008.1.2.4.80": Codec(name="JPEG-LS Lossless", family="jpeg", decoders=("jpegls",)),
    "1.2.840.10008.1.2.4.81": Codec(
        name="JPEG-LS Near-Lossless", family="jpeg", decoders=("jpegls",)
    ),
    "1.2.840.10008.1.2.4.90": Codec(name="JPEG 2000 Lossless", family="j2k", decoders=("jpeg2k",)),
    "1.2.840.10008.1.2.4.91": Codec(name="JPEG 2000", family="j2k", decoders=("jpeg2k",)),
    "1.2.840.10008.1.2.4.201": Codec(name="HTJ2K Lossless", family="j2k", decoders=("jpeg2k",)),
    "1.2.840.10008.1.2.4.202": Codec(
        name="HTJ2K Lossless RPCL", family="j2k", decoders=("jpeg2k",)
    ),
    "1.2.840.10008.1.2.4.203": Codec(name="HTJ2K", family="j2k", decoders=("jpeg2k",)),
    "1.2.840.10008.1.2.4.110": Codec(name="JPEG XL Lossless", family="jxl", decoders=("jpegxl",)),
    "1.2.840.10008.1.2.4.112": Codec(name="JPEG XL", family="jxl", decoders=("jpegxl",)),
    "1.2.840.10008.1.2.5": Codec(name="RLE Lossless", family="rle"),
    "1.2.840.10008.1.2.8.1": Codec(name="Deflated Image Frame", family="deflate"),
}


#: How frames begin that close with an end marker: JPEG, JPEG-LS and JPEG 2000.
MARKED_FRAMES = {b"\xff\xd8", b"\xff\x4f"}
_END_MARKER = b"\xff\xd9"
#: The end marker comes last but for so much, or for padding.
_END_WITHIN_BYTES = 64
#: Different byte values in the second half of a compressed image that is all zeros: codes for
#: nothing, again and again. Whole frames of zeros have at most 40, a slice of tissue has 200.
_BYTES_OF_ZEROS = 96
#: A count of segments and where each of at most fifteen begins.
_RLE_HEADER_BYTES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Declared:
    """What a frame says of itself."""

    rows: int
    columns: int
    components: int
    bits: int
    signed: bool = False


def decode_frame(
    codec: Codec,
    frame: bytes | memoryview,
    out: npt.NDArray[np.uint16],
    *,
    bits_allocated: int,
    bits_stored: int,
    signed: bool,
) -> None:
    """
    Decode one frame into the 16-bit words of one slice.

    Parameters
    ----------
    codec : Codec
        One of `CODECS`.
    frame : bytes or memoryview
        The frame, its fragments joined.
    out : ndarray of uint16, shape (y, x)
        Filled with the words as they were stored before compression.
    bits_allocated, bits_stored : int
        As in the header.
    signed : bool
        Pixel Representation.

    Raises
    ------
    DecodeError
        Where the frame is not the image that the header promises.
    UnsupportedError
        Where this installation lacks the decoder.
    """
    if codec.family == "rle":
        out[:] = _decode_rle(frame, out.shape, bits_allocated)
        return
    if codec.family == "deflate":
        out[:] = _inflated(frame, out.shape, bits_allocated)
        return
    declared = _DECLARED[codec.family](frame)
    if declared is None:
        raise DecodeError(f"{codec.name}: the frame does not begin as such a frame must")
    found = (declared.rows, declared.columns, declared.components)
    if found != (*out.shape, 1) or declared.bits > bits_allocated:
        raise DecodeError(
            f"{codec.name}: expected {out.shape[0]} x {out.shape[1]} x 1 of at most "
            f"{bits_allocated} bits, the frame holds {' x '.join(map(str, found))} of "
            f"{declared.bits} bits"
        )
    if not any(map(is_installed, codec.decoders)):
        raise UnsupportedError(
            f"{codec.name}: the imagecodecs installed here lacks its decoder, "
            f"{' or '.join(codec.decoders)}; pip install --force-reinstall imagecodecs"
        )
    decoded = _decode(codec, frame, out.shape)
    if decoded.dtype == np.int8:
        decoded = decoded.astype(np.int16)
    out[:] = decoded.view(np.uint16) if decoded.dtype == np.int16 else decoded
    if codec.family == "j2k" and signed and not declared.signed and declared.bits < bits_stored:
        # The encoder took two's complement words for unsigned ones of fewer bits than the header
        # says: the sign sits at the codestream's top bit, not at BitsStored's.
        spare = 16 - declared.bits
        np.right_shift(np.left_shift(out, spare).view(np.int16), spare, out=out.view(np.int16))


def ends_with_marker(frame: bytes | memoryview) -> bool:
    """Whether the end marker of JPEG and JPEG 2000 comes last, but for padding."""
    if _END_MARKER in bytes(frame[-_END_WITHIN_BYTES:]):
        return True
    data = bytes(frame)
    behind = data[data.rfind(_END_MARKER) + len(_END_MARKER) :]
    return len(behind) < len(data) - 1 and not behind.strip(behind[:1])


def _is_nothing(decoded: npt.NDArray[Any]) -> bool:
    """Whether an image is all zeros; the middle row, which nearly always knows, is asked first."""
    return not decoded[len(decoded) // 2].any() and not decoded.any()


def is_installed(decoder: str) -> bool:
    """
    Whether a codec of imagecodecs can be used; some builds leave some out.

    Parameters
    ----------
    decoder : str
        Its name, as in `Codec.decoders`.
    """
    return bool(getattr(imagecodecs, decoder.upper()).available)


def _decode(codec: Codec, frame: bytes | memoryview, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Decode a frame and hold what comes out to what the header promises."""
    # libjpeg fills what is missing with grey and raises nothing; no end marker occurs inside.
    cut = codec.family == "jpeg" and not ends_with_marker(frame)
    decoded = None if cut else _by_first(codec, frame)
    if decoded is None:
        raise DecodeError(f"{codec.name}: the frame is damaged and does not decode")
    if decoded.shape != shape or decoded.dtype.kind not in "iu" or decoded.dtype.itemsize > 2:  # noqa: PLR2004 -- 16-bit words
        raise DecodeError(
            f"{codec.name}: expected {shape} 16-bit words, "
            f"decoded to {decoded.shape} of {decoded.dtype}"
        )
    if _is_nothing(decoded) and len(set(bytes(frame[len(frame) // 2 :]))) > _BYTES_OF_ZEROS:
        raise DecodeError(
            f"{codec.name}: decoded to zeros only, and the frame holds more than that"
        )
    return decoded


def _by_first(codec: Codec, frame: bytes | memoryview) -> npt.NDArray[Any] | None:
    """Image of the first decoder that gives one."""
    for name in codec.decoders:
        # One thread: the plan hands out cores, and a decoder must not take more.
        options = {"numthreads": 1} if name in ("jpeg2k", "jpegxl") else {}
        try:
            decoded = getattr(imagecodecs, f"{name}_decode")(frame, **options)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001, S112 -- every codec raises its own; the next may do
            continue
        return np.asarray(decoded)
    return None


def _decode_rle(
    frame: bytes | memoryview, shape: tuple[int, ...], bits_allocated: int
) -> npt.NDArray[np.uint16]:
    """Decode the byte planes, most significant first; each must hold one byte for every pixel."""
    # Plane by plane (1.4 ms a slice of 512 x 512) and not by rle.decode_frame (0.7 ms), which cuts
    # a frame of a larger image down to size and says nothing.
    planes = bits_allocated // 8
    pixels = shape[0] * shape[1]
    starts = np.frombuffer(bytes(frame[:_RLE_HEADER_BYTES]).ljust(_RLE_HEADER_BYTES, b"\0"), "<u4")
    ends = [*map(int, starts[2 : planes + 1]), len(frame)]
    # Runs at worst add a byte to 128; a much longer frame would only inflate to be refused.
    if starts[0] != planes or len(frame) > 2 * pixels * planes + _RLE_HEADER_BYTES:
        raise DecodeError(f"RLE Lossless: expected {planes} segments for {pixels:,} pixels")
    words = np.zeros(pixels, np.uint16)
    for start, end in zip(map(int, starts[1 : planes + 1]), ends, strict=True):
        segment = bytes(frame[start:end])
        if not segment:  # the decoder would panic, and print a backtrace
            raise DecodeError("RLE Lossless: a segment is empty")
        try:
            plane = np.frombuffer(rle.decode_segment(segment), np.uint8)
        except (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
            raise
        except BaseException:  # noqa: BLE001 -- Rust panics arrive as BaseException
            raise DecodeError("RLE Lossless: the frame is damaged and does not decode") from None
        # Encoders pad segments, and some write runs beyond the image; a whole row more is an image
        # of another size.
        if not pixels <= len(plane) < pixels + max(2, shape[1]):
            raise DecodeError(
                f"RLE Lossless: expected {pixels:,} bytes a segment, found {len(plane):,}"
            )
        words <<= 8
        words |= plane[:pixels]
    return words.reshape(shape)


def _inflated(
    frame: bytes | memoryview, shape: tuple[int, ...], bits_allocated: int
) -> npt.NDArray[np.uint16]:
    """Inflate a frame of Deflated Image Frame Compression: native words as one deflate stream."""
    count = shape[0] * shape[1] * bits_allocated // 8
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        plain = stream.decompress(frame, count + 2)
    except zlib.error:
        plain = b""
    # The stream must end, and with the image: its length is all that tells a damaged one.
    if not stream.eof or not count <= len(plain) <= count + count % 2:
        raise DecodeError(
            f"Deflated Image Frame: expected a deflate stream of {count:,} bytes, found "
            f"{'more' if len(plain) > count else f'{len(plain):,}'}; the frame is damaged"
        )
    words = np.frombuffer(plain, "<u2" if bits_allocated == 16 else "u1", shape[0] * shape[1])  # noqa: PLR2004 -- bits
    return words.astype(np.uint16).reshape(shape)


def _declared_jpeg(frame: bytes | memoryview) -> _Declared | None:
    """Read the frame header (SOFn, or SOF55 of JPEG-LS); None where there is none."""
    start_of_scan, jpeg_ls = 0xDA, 0xF7
    not_frames = {0xC4, 0xC8, 0xCC}  # Huffman tables, reserved, arithmetic conditioning
    if bytes(frame[:2]) != b"\xff\xd8":
        return None
    at = 2
    while at + 4 <= len(frame) and frame[at] == 0xFF:  # noqa: PLR2004 -- every marker begins so
        marker = frame[at + 1]
        if marker == 0xFF:  # noqa: PLR2004 -- fill byte
            at += 1
            continue
        if marker == start_of_scan:
            return None
        if (0xC0 <= marker <= 0xCF and marker not in not_frames) or marker == jpeg_ls:  # noqa: PLR2004 -- SOFn
            header = bytes(frame[at + 4 : at + 10])
            if len(header) < 6:  # noqa: PLR2004 -- bits, rows, columns, components
                return None
            return _Declared(
                bits=header[0],
                rows=int.from_bytes(header[1:3], "big"),
                columns=int.from_bytes(header[3:5], "big"),
                components=header[5],
            )
        at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None


def _declared_j2k(frame: bytes | memoryview) -> _Declared | None:
    """Read the image size (SIZ); None where there is none. A JP2 wrapper, forbidden, is skipped."""
    wrapper_bytes = 512
    head = bytes(frame[: wrapper_bytes + 43])
    start = head.find(b"\xff\x4f\xff\x51")
    size = head[start + 8 : start + 43]
    if start < 0 or len(size) < 35:  # noqa: PLR2004 -- from Xsiz to the first Ssiz
        return None
    right, bottom, left, top = (int.from_bytes(size[i : i + 4], "big") for i in (0, 4, 8, 12))
    return _Declared(
        rows=bottom - top,
        columns=right - left,
        components=int.from_bytes(size[32:34], "big"),
        bits=(size[34] & 0x7F) + 1,
        signed=bool(size[34] & 0x80),
    )


def _declared_jxl(frame: bytes | memoryview) -> _Declared | None:
    """Read the size header of JPEG XL (ISO/IEC 18181-1 5.2), bare or in its container."""
    head = bytes(frame[:512])
    start = 0 if head.startswith(b"\xff\x0a") else head.find(b"\xff\x0a", 12)
    in_container = head.startswith(b"\0\0\0\x0cJXL \r\n\x87\n")
    if start < 0 or (start and not in_container) or len(head) < start + 16:
        return None
    bits = _Bits(int.from_bytes(head[start + 2 : start + 16], "little"))
    small = bits.take(1)
    rows = 8 * (bits.take(5) + 1) if small else bits.size()
    ratio = bits.take(3)
    if ratio:
        above, below = _JXL_RATIOS[ratio - 1]
        columns = rows * above // below
    else:
        columns = 8 * (bits.take(5) + 1) if small else bits.size()
    # Channels and depth stand in a header full of conditions; the decoded array is held to them.
    return _Declared(rows=rows, columns=columns, components=1, bits=0)


_JXL_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


class _Bits:
    """Bits of a number, lowest first."""

    def __init__(self, number: int) -> None:
        self._number = number

    def take(self, count: int) -> int:
        """Take so many bits as an unsigned number."""
        value = self._number & ((1 << count) - 1)
        self._number >>= count
        return value

    def size(self) -> int:
        """Take a length of 9, 13, 18 or 30 bits, which two bits before it choose."""
        return 1 + self.take((9, 13, 18, 30)[self.take(2)])


_DECLARED = {"jpeg": _declared_jpeg, "j2k": _declared_j2k, "jxl": _declared_jxl}
