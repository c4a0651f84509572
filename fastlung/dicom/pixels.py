"""
Pixels of a series into one volume of stored words.

Covers native words of either byte order, 8-bit pixels, deflated files, and the fragments of an
encapsulated frame. Decoding a frame is `codecs`; sizes were checked by `headers`.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np

from fastlung.dicom.codecs import CODECS, MARKED_FRAMES, decode_frame, ends_with_marker
from fastlung.dicom.elements import EXPLICIT_BIG_ENDIAN, inflate
from fastlung.dicom.pixel_format import settled_shift
from fastlung.errors import FormatError, MetadataError, ScanError, TruncatedError
from fastlung.scan import RawScan, SliceScale

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from fastlung.dicom.elements import PixelElement
    from fastlung.dicom.pixel_format import PixelFormat
    from fastlung.dicom.series import SeriesHeaders
    from fastlung.dicom.slice_header import SliceHeader

__all__ = [
    "Files",
    "Frames",
    "decode_words",
    "load_from",
    "load_series",
    "pixel_bytes",
    "read_words",
]

_ITEM = b"\xfe\xff\x00\xe0"
_SEQUENCE_END = b"\xfe\xff\xdd\xe0"
#: What stands where the end of the sequence should, in files of some scanners: the end of an item,
#: zeros, or the data set's trailing padding.
_OTHER_ENDS = (b"\xfe\xff\x0d\xe0", b"\0\0\0\0", b"\xfc\xff\xfc\xff")


class Files(Protocol):
    """Where the bytes of a series come from. Called from several threads at once."""

    def whole(self, key: str) -> bytes | memoryview:
        """All bytes of one file; they may change with the next call from the same thread."""
        ...

    def fill(self, key: str, offset: int, out: npt.NDArray[np.uint8]) -> int:
        """Fill `out` with what stands in one file from an offset on; gives how much there was."""
        ...


class FilesInMemory:
    """Files that have been read."""

    def __init__(self, blobs: Mapping[str, bytes | memoryview]) -> None:
        self._blobs = blobs

    def whole(self, key: str) -> bytes | memoryview:
        """As `Files`."""
        return self._blobs[key]

    def fill(self, key: str, offset: int, out: npt.NDArray[np.uint8]) -> int:
        """As `Files`."""
        found = memoryview(self._blobs[key])[offset : offset + out.size]
        out[: len(found)] = found
        return len(found)


def load_series(
    series: SeriesHeaders, blobs: Mapping[str, bytes | memoryview], *, threads: int = 1
) -> RawScan:
    """
    Read the pixels of one series.

    Parameters
    ----------
    series : SeriesHeaders
        From `index_series` over the same files.
    blobs : mapping of str to bytes or memoryview
        Key to the bytes of one file; asked for the keys of `series.headers` only.
    threads : int
        How many slices are decoded at once; the result does not depend on it.

    Raises
    ------
    ScanError
        `series.problem`, or a subclass for pixels that are truncated or do not decode.
    """
    return load_from(series, FilesInMemory(blobs), threads=threads)


def load_from(series: SeriesHeaders, files: Files, *, threads: int = 1) -> RawScan:
    """Read the pixels of one series from files, as `load_series` does."""
    if series.problem is not None:
        raise type(series.problem)(str(series.problem))
    if series.grid is None:  # the geometry would have refused it
        raise ScanError("the series has no grid")
    stored = np.empty(series.grid.shape, np.uint16)
    count = len(series.headers)
    parts = min(threads, count)
    if parts <= 1:
        _load(series, files, range(count), stored)
    else:
        edges = [count * part // parts for part in range(parts + 1)]
        with ThreadPoolExecutor(parts) as pool:
            # Limits stand in the context, which threads do not inherit. Parts ascend, and each
            # stops at its first bad slice: the first error is the one a single thread would meet.
            loads = [
                pool.submit(copy_context().run, _load, series, files, range(low, high), stored)
                for low, high in pairwise(edges)
            ]
            for load in loads:
                load.result()
    pixel_formats = [
        h.pixel_format for h in series.headers if not isinstance(h.pixel_format, ScanError)
    ]
    return RawScan(
        series_uid=series.series_uid,
        stored=stored,
        scale=_scale(pixel_formats, _shifts(pixel_formats, stored)),
        grid=series.grid,
        slice_positions_mm=series.slice_positions_mm,
        verdict=series.verdict,
        acquisition=series.acquisition,
        slice_shifts_mm=series.slice_shifts_mm,
        slice_breaks=series.slice_breaks,
        flags=series.flags,
    )


def _load(
    series: SeriesHeaders, files: Files, numbers: range, stored: npt.NDArray[np.uint16]
) -> None:
    """Fill some slices of the volume."""
    opened, frames = "", Frames(b"")
    for number in numbers:
        header = series.headers[number]
        try:
            if isinstance(header.pixel_format, ScanError):
                raise header.pixel_format
            if _is_plain(header.pixel_format, header.transfer_syntax):
                _fill(files, header, header.pixel_format.pixels.offset, stored[number])
                continue
            # Frames of one file mostly follow one another: it is opened once for all of them.
            if header.key != opened or not opened:
                opened, frames = header.key, Frames(files.whole(header.key))
            data = frames.of(header.pixel_format.pixels)
            decode_words(header.pixel_format, header.transfer_syntax, data, stored[number])
        except ScanError as error:
            raise type(error)(f"slice {number + 1} of {len(series.headers)}: {error}") from None


def _is_plain(pixel_format: PixelFormat, transfer_syntax: str) -> bool:
    """Whether the file holds the words as memory does."""
    return (
        sys.byteorder == "little"
        and pixel_format.bits_allocated == 16  # noqa: PLR2004 -- bits
        and pixel_format.pixels.length is not None
        and pixel_format.pixels.deflated_from is None
        and transfer_syntax != EXPLICIT_BIG_ENDIAN
    )


def _fill(files: Files, header: SliceHeader, offset: int, out: npt.NDArray[np.uint16]) -> None:
    """Fill a slice with words from where they lie, with no copy in between."""
    found = files.fill(header.key, offset, out.reshape(-1).view(np.uint8))
    if found < out.nbytes:
        raise _too_few(out.nbytes, found)


def _too_few(expected: int, found: int) -> TruncatedError:
    return TruncatedError(f"Pixel Data takes {expected:,} bytes; the file holds {found:,} of them")


def read_words(
    pixel_format: PixelFormat,
    transfer_syntax: str,
    blob: bytes | memoryview,
    out: npt.NDArray[np.uint16],
) -> None:
    """
    Fill one slice with the words of one file.

    Parameters
    ----------
    pixel_format : PixelFormat
        What the header of the file says.
    transfer_syntax : str
        Transfer Syntax UID.
    blob : bytes or memoryview
        The whole file.
    out : ndarray of uint16, shape (y, x)
        Filled with the stored words; 8-bit pixels are widened.

    Raises
    ------
    ScanError
        Where the file holds fewer bytes than its header promised, or a frame does not decode.
    """
    decode_words(pixel_format, transfer_syntax, pixel_bytes(pixel_format, blob), out)


def decode_words(
    pixel_format: PixelFormat,
    transfer_syntax: str,
    data: bytes | memoryview,
    out: npt.NDArray[np.uint16],
) -> None:
    """Fill one slice with the words of one frame; as `read_words`."""
    codec = CODECS.get(transfer_syntax)
    if codec is not None:
        decode_frame(
            codec,
            data,
            out,
            bits_allocated=pixel_format.bits_allocated,
            bits_stored=pixel_format.bits_stored,
            signed=pixel_format.signed,
        )
        return
    expected = out.size * pixel_format.bits_allocated // 8
    if len(data) < expected:
        raise _too_few(expected, len(data))
    big_endian = transfer_syntax == EXPLICIT_BIG_ENDIAN
    if pixel_format.bits_allocated == 16:  # noqa: PLR2004 -- bits
        words = np.frombuffer(data, ">u2" if big_endian else "<u2", out.size)
    elif big_endian and pixel_format.pixels.vr == "OW":
        # Two 8-bit pixels make one big-endian word, and the first pixel is its low byte.
        pairs = np.frombuffer(bytes(data) + b"\0" * (len(data) % 2), "u1").reshape(-1, 2)
        words = pairs[:, ::-1].reshape(-1)[: out.size]
    else:
        words = np.frombuffer(data, "u1", out.size)
    out[:] = words.reshape(out.shape)


def pixel_bytes(pixel_format: PixelFormat, blob: bytes | memoryview) -> bytes | memoryview:
    """
    Bytes of the pixels of one frame: native ones, or its joined fragments.

    Parameters
    ----------
    pixel_format : PixelFormat
        What the header of the file says.
    blob : bytes or memoryview
        The whole file.

    Raises
    ------
    FormatError
        Where the frame is not a sequence of fragments, or a deflated file does not inflate;
        `TruncatedError` where a fragment is cut short.
    """
    return Frames(blob).of(pixel_format.pixels)


class Frames:
    """The frames of one file, inflated and cut into fragments once for all of them."""

    def __init__(self, blob: bytes | memoryview) -> None:
        self._blob = blob
        self._inflated: bytes | None = None
        self._cut: list[list[memoryview]] | None = None

    def of(self, pixels: PixelElement) -> bytes | memoryview:
        """
        Bytes of one frame.

        Raises
        ------
        FormatError
            As `pixel_bytes`.
        """
        data = self._blob
        if pixels.deflated_from is not None:
            if self._inflated is None:
                self._inflated = inflate(data, pixels.deflated_from)
            data = self._inflated
        view = memoryview(data)[pixels.offset :]
        if pixels.length is not None:
            return view[: pixels.length]
        if self._cut is None:
            self._cut = _by_frame(view, pixels.frames)
        fragments = self._cut[pixels.frame]
        return fragments[0] if len(fragments) == 1 else b"".join(fragments)


def _by_frame(view: memoryview, count: int) -> list[list[memoryview]]:
    """Deal fragments out to frames: all to a single one, one to each, or by the offset table."""
    table, *fragments = _fragments(view)
    while fragments and not fragments[-1]:  # writers that end with an empty item
        fragments.pop()
    if not fragments:
        raise FormatError("Pixel Data holds no fragment")
    if count == 1:
        return [fragments]
    if len(fragments) == count:
        return [[fragment] for fragment in fragments]
    starts = [int.from_bytes(table[at : at + 4], "little") for at in range(0, len(table), 4)]
    places = accumulate((8 + len(fragment) for fragment in fragments), initial=0)
    numbers = {place: number for number, place in enumerate(places)}
    if len(starts) != count or starts[0] != 0 or not all(start in numbers for start in starts):
        raise FormatError(
            f"{count:,} frames in {len(fragments):,} fragments, and no offset table that says "
            "which is whose"
        )
    edges = [*(numbers[start] for start in starts), len(fragments)]
    if any(low >= high for low, high in pairwise(edges)):
        raise FormatError("the offset table of Pixel Data does not ascend")
    return [fragments[low:high] for low, high in pairwise(edges)]


def _fragments(view: memoryview) -> list[memoryview]:
    """Items of encapsulated Pixel Data; the first is the offset table."""
    fragments: list[memoryview] = []
    at = 0
    while bytes(view[at : at + 4]) == _ITEM:
        length = int.from_bytes(view[at + 4 : at + 8], "little")
        fragment = view[at + 8 : at + 8 + length]
        if len(fragment) < length:
            raise TruncatedError(
                f"fragment {len(fragments)} of the frame claims {length:,} bytes; "
                f"{len(fragment):,} are left"
            )
        fragments.append(fragment)
        at += 8 + length
    end = bytes(view[at : at + 4])
    if end != _SEQUENCE_END:
        _check_end(end, fragments)
    if not fragments:
        raise FormatError("Pixel Data holds no fragment")
    return fragments


def _check_end(end: bytes, fragments: list[memoryview]) -> None:
    """
    Check fragments that no sequence delimiter closes: each is whole by its own length.

    Some scanners leave the delimiter out. That the last frame is whole, too, must then show in its
    own end marker, for those pixel_formats that have one; the others are decoded to the last byte.
    """
    if end.strip(b"\0") and end not in _OTHER_ENDS:
        if len(end) < len(_SEQUENCE_END):
            raise TruncatedError("the file ends within the fragments of its frame")
        raise FormatError("Pixel Data is not a sequence of fragments")
    frames = [fragment for fragment in fragments[1:] if fragment]
    marked = bool(frames) and bytes(frames[0][:2]) in MARKED_FRAMES
    if marked and not ends_with_marker(frames[-1]):
        raise TruncatedError("the file ends within the fragments of its frame")


def _shifts(pixel_formats: list[PixelFormat], stored: npt.NDArray[np.uint16]) -> list[int]:
    """By how many bits the words of each slice stand too high; slices of one pixel_format agree."""
    found: dict[tuple[int, int, bool], set[int]] = {}
    kinds = [(c.high_bit, c.bits_stored, c.signed) for c in pixel_formats]
    for kind, pixel_format, words in zip(kinds, pixel_formats, stored, strict=True):
        if pixel_format.high_bit != pixel_format.bits_stored - 1:
            shift = settled_shift(pixel_format, words)
            found.setdefault(kind, set()).update(() if shift is None else (shift,))
    for high_bit, bits_stored, _ in (kind for kind, shifts in found.items() if len(shifts) > 1):
        raise MetadataError(
            f"HighBit is {high_bit} and BitsStored {bits_stored}, which do not belong together; by "
            "their words some slices follow the one and some the other"
        )
    return [
        next(
            iter(found.get(kind, ())), max(0, pixel_format.high_bit + 1 - pixel_format.bits_stored)
        )
        for kind, pixel_format in zip(kinds, pixel_formats, strict=True)
    ]


def _scale(pixel_formats: list[PixelFormat], shifts: list[int]) -> SliceScale:
    def column(name: str) -> list[float]:
        return [getattr(pixel_format, name) for pixel_format in pixel_formats]

    return SliceScale(
        shift=np.array(shifts, np.uint8),
        bits_stored=np.array(column("bits_stored"), np.uint8),
        signed=np.array(column("signed"), np.bool_),
        slope=np.array(column("slope"), np.float32),
        intercept=np.array(column("intercept"), np.float32),
        padding_low=np.array(column("padding_low"), np.int32),
        padding_high=np.array(column("padding_high"), np.int32),
    )
