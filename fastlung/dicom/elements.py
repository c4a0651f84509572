"""
Bytes of one DICOM file to the raw values of the tags on our list.

Covers file meta, transfer syntax, the deflated syntax within bounds, and where the pixels lie. The
values stay bytes until one of the typed readers here is asked for them: pydicom walks the elements
but converts none, so its warnings, which quote values, have nothing to say. What a value means,
and whether it is sane, is `headers`.
"""

from __future__ import annotations

import io
import math
import re
import zlib
from dataclasses import dataclass, field
from typing import Any

from pydicom.filereader import data_element_generator

from fastlung.dicom.tags import FRAME_GROUPS, KEYWORDS, SHARED_GROUPS, Groups
from fastlung.errors import FormatError, MetadataError, ScanError, TruncatedError
from fastlung.limits import beyond, limits_in_force

__all__ = [
    "Elements",
    "Outline",
    "PixelElement",
    "inflate",
    "read_elements",
]

IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"

UNDEFINED_LENGTH = 0xFFFFFFFF
#: Where a sequence of undefined length opens, an item being next, and where one closes; in either
#: byte order.
_SEQUENCE_MARKS = re.compile(
    rb"\xff{4}(?=\xfe\xff\x00\xe0|\xff\xfe\xe0\x00)"
    rb"|(?P<closed>(?:\xfe\xff\xdd\xe0|\xff\xfe\xe0\xdd)\x00{4})",
)

_TAGS = (*KEYWORDS, SHARED_GROUPS, FRAME_GROUPS)
_PIXEL_TAGS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: ""}

#: What may stand around a text: writers end values with a NUL or a line feed, not spaces alone.
_AROUND = " \0\t\r\n"
# Python's own float() also takes "1_0", "nan" and "infinity", which no DS or IS may hold.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


#: Elements outlined of one header: a CT slice has 50 to 300, a flood of empty ones a million.
MAX_OUTLINE = 1000
#: Top-level elements as walked, file meta included: tag, VR, where the value is, and its length.
Outline = list[tuple[int, str | None, int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelElement:
    """
    Where the pixels of a file lie.

    Attributes
    ----------
    offset : int
        First byte of the value; in the inflated data set where `deflated_from` is given.
    length : int or None
        Bytes of the value; None where they are encapsulated (undefined length).
    available : int
        Bytes from `offset` to the end of the file or of the inflated data set.
    vr : str
        Value Representation; empty in implicit VR, where it is OW.
    foreign : str
        Keyword of the element where it is not Pixel Data but a floating-point kind of it.
    deflated_from : int or None
        First byte of the deflated data set; None where nothing is deflated.
    frame, frames : int
        Which of the frames that are encapsulated together, from 0, and how many there are.
    """

    offset: int
    length: int | None
    available: int
    vr: str = ""
    foreign: str = ""
    deflated_from: int | None = None
    frame: int = 0
    frames: int = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Elements:
    """
    Raw values of the listed tags of one file.

    Attributes
    ----------
    values : dict of str to bytes
        Keyword to value as stored; of a sequence only whether it is empty.
    transfer_syntax : str
        Transfer Syntax UID, found out where the file does not say.
    marked : bool
        Whether the file says it is DICOM (``DICM`` after the preamble).
    whole : bool
        Whether it is marked, and file meta names the transfer syntax.
    little_endian : bool
        Byte order of the data set.
    pixels : PixelElement or None
        None where the walk ended before the pixels.
    failure : ScanError or None
        Why the walk ended early; `values` holds what was seen until then.
    shared : dict of str to bytes
        What the functional groups of a multi-frame file say of all frames.
    frames : tuple of dict of str to bytes
        What they say of each frame.
    outline : list of tuple
        Top-level elements up to the pixels, in the order of the file; the first `MAX_OUTLINE`.
    """

    values: dict[str, bytes]
    transfer_syntax: str = ""
    marked: bool = True
    whole: bool = True
    little_endian: bool = True
    pixels: PixelElement | None = None
    failure: ScanError | None = None
    shared: dict[str, bytes] = field(default_factory=dict)
    frames: tuple[dict[str, bytes], ...] = ()
    outline: Outline = field(default_factory=list)

    def text(self, keyword: str) -> str:
        """Value as text without padding; empty where absent."""
        return _text(self.values.get(keyword, b""))

    def unsigned(self, keyword: str) -> int:
        """
        Value of a 16-bit unsigned element.

        Raises
        ------
        MetadataError
            Where it is absent or does not hold two bytes.
        """
        value = self.values.get(keyword, b"")
        if len(value) != 2:  # noqa: PLR2004 -- US is two bytes
            found = f"holds {len(value)} bytes" if value else "is absent"
            raise MetadataError(f"{keyword} {found}; a CT image needs one 16-bit number there")
        return int.from_bytes(value, "little" if self.little_endian else "big")

    def numbers(self, keyword: str, count: int) -> tuple[float, ...] | None:
        """
        Values of a decimal or integer string.

        Parameters
        ----------
        keyword : str
            Which element.
        count : int
            How many values it must hold.

        Returns
        -------
        tuple of float or None
            None where the element is absent or empty.

        Raises
        ------
        MetadataError
            Where it does not hold `count` finite numbers. The text itself is never quoted.
        """
        text = self.text(keyword)
        if not text:
            return None
        parts = [part.strip(_AROUND) for part in text.split("\\")]
        if len(parts) != count:
            raise MetadataError(f"{keyword} holds {len(parts)} values, expected {count}")
        numbers = tuple(float(p) if _NUMBER.fullmatch(p) else math.nan for p in parts)
        if not all(map(math.isfinite, numbers)):
            raise MetadataError(f"{keyword} holds something that is not a finite number")
        return numbers


def read_elements(data: bytes, size_bytes: int) -> Elements | None:
    """
    Read the listed tags of one file, up to its pixels.

    Parameters
    ----------
    data : bytes
        The file, or its first part: then the walk may end before `pixels`.
    size_bytes : int
        Size of the whole file.

    Returns
    -------
    Elements or None
        None for bytes that are not DICOM.
    """
    marked = data[128:132] == b"DICM"
    # Without the preamble a data set starts with group 0002 or 0008, elements below 0x0100.
    if not marked and not (data[:2] in (b"\x02\x00", b"\x08\x00") and data[3:4] == b"\x00"):
        return None
    meta = _Walk(data, 132 if marked else 0, size_bytes)
    meta.run(implicit=False, little_endian=True, file_meta=True)
    syntax = _text(meta.values.get("TransferSyntaxUID", b""))
    walk = meta
    if meta.failure is None:
        try:
            if syntax == DEFLATED_LITTLE_ENDIAN:
                inflated = inflate(data, meta.offset)
                head = inflated[: limits_in_force().header_bytes]
                walk = _Walk(head, 0, len(inflated), deflated_from=meta.offset)
            else:
                walk = _Walk(data, meta.offset, size_bytes)
            implicit = _is_implicit(walk.data, walk.offset)
            syntax = syntax or (IMPLICIT_LITTLE_ENDIAN if implicit else EXPLICIT_LITTLE_ENDIAN)
            walk.run(implicit=implicit, little_endian=syntax != EXPLICIT_BIG_ENDIAN)
        except ScanError as failure:
            walk.failure = failure
    return Elements(
        values={**meta.values, **walk.values},
        transfer_syntax=syntax,
        marked=marked,
        whole=marked and "TransferSyntaxUID" in meta.values,
        little_endian=syntax != EXPLICIT_BIG_ENDIAN,
        pixels=walk.pixels,
        failure=walk.failure,
        shared=walk.shared,
        frames=walk.frames,
        outline=[*meta.outline, *walk.outline],
    )


def inflate(data: bytes | memoryview, start: int) -> bytes:
    """
    Inflate a deflated data set, within bounds.

    Parameters
    ----------
    data : bytes or memoryview
        The file.
    start : int
        First byte of the deflated data set.

    Raises
    ------
    LimitError
        Where it grows beyond the limits in force; pydicom would allocate all of it.
    FormatError
        Where it is not a deflate stream, or ends early (`TruncatedError`).
    """
    limits = limits_in_force()
    limit = limits.inflate_ratio * len(data) + limits.inflate_spare_bytes
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = stream.decompress(memoryview(data)[start:], limit)
    except zlib.error:
        raise FormatError("the deflated data set is not a valid deflate stream") from None
    if stream.eof:
        return inflated
    if len(inflated) >= limit:
        raise beyond(
            "inflate_ratio",
            f"a deflated file of {len(data):,} bytes inflates beyond {limit:,} bytes",
        )
    raise TruncatedError("the deflated data set ends early")


@dataclass(slots=True, eq=False)
class _Walk:
    """One pass of pydicom over the elements of `data`, the start of a stream, from `offset` on."""

    data: bytes
    offset: int
    size_bytes: int
    deflated_from: int | None = None
    values: dict[str, bytes] = field(default_factory=dict)
    pixels: PixelElement | None = None
    failure: ScanError | None = None
    shared: dict[str, bytes] = field(default_factory=dict)
    frames: tuple[dict[str, bytes], ...] = ()
    outline: Outline = field(default_factory=list)

    def run(self, *, implicit: bool, little_endian: bool, file_meta: bool = False) -> None:
        groups = Groups(implicit=implicit, little_endian=little_endian)
        stream = io.BytesIO(self.data)
        stream.seek(self.offset)

        def stop_when(tag: int, vr: str | None, length: int) -> bool:
            if file_meta:
                return self._after_meta(tag, vr, stream.tell(), length)
            return self._at_pixels(tag, vr, stream.tell(), length)

        elements = data_element_generator(
            stream, implicit, little_endian, stop_when, specific_tags=_TAGS
        )
        try:
            for element in elements:
                self._keep(element, groups)
        except MemoryError:
            raise
        except ScanError as failure:
            self.failure = failure
        except RecursionError:
            self.failure = FormatError("sequences are nested too deeply to be read")
        except Exception:  # noqa: BLE001 -- whatever pydicom raises, and its texts quote values
            at_end = stream.tell() >= len(self.data)
            self.failure = (
                TruncatedError(f"the header breaks off at byte {len(self.data):,}")
                if at_end
                else FormatError(f"the header cannot be read beyond byte {stream.tell():,}")
            )
        self.offset = stream.tell()
        if self.failure is None and self.offset > len(self.data):
            self.failure = TruncatedError(
                f"an element reaches to byte {self.offset:,}; the file ends at {len(self.data):,}"
            )

    def _after_meta(self, tag: int, vr: str | None, value_at: int, length: int) -> bool:
        if tag >> 16 != 2:  # noqa: PLR2004 -- file meta is group 0002
            return True
        self._note(tag, vr, value_at, length)
        return False

    def _at_pixels(self, tag: int, vr: str | None, value_at: int, length: int) -> bool:
        self._note(tag, vr, value_at, length)
        if tag not in _PIXEL_TAGS:
            _refuse_nesting(self.data, value_at, length)
            return False
        self.pixels = PixelElement(
            offset=value_at,
            length=None if length == UNDEFINED_LENGTH else length,
            available=self.size_bytes - value_at,
            vr=vr or "",
            foreign=_PIXEL_TAGS[tag],
            deflated_from=self.deflated_from,
        )
        return True

    def _note(self, tag: int, vr: str | None, value_at: int, length: int) -> None:
        if len(self.outline) < MAX_OUTLINE:
            self.outline.append((tag, vr, value_at, length))

    def _keep(self, element: Any, groups: Groups) -> None:
        if element.tag == SHARED_GROUPS:
            self.shared = next(iter(groups.read(element)), {})
        elif element.tag == FRAME_GROUPS:
            self.frames = groups.read(element)
        keyword = KEYWORDS.get(element.tag)
        if keyword is None:  # Specific Character Set, which pydicom always adds
            return
        value = element.value
        if not isinstance(value, bytes):  # a sequence of undefined length, or an empty element
            value = b"items" if value else b""
        elif len(value) != element.length:
            raise TruncatedError(
                f"{keyword} claims {element.length:,} bytes, {len(value):,} are left"
            )
        self.values[keyword] = value


def _refuse_nesting(data: bytes, start: int, length: int) -> None:
    """
    Raise where sequences of undefined length stand in each other deeper than the limit in force.

    pydicom reads these one inside the other, and a file of 4 kB can nest a hundred. Where one
    opens and closes shows without parsing, by the tags of items and of the end.
    """
    if length != UNDEFINED_LENGTH:
        return
    limit = limits_in_force().sequence_depth
    items = data.count(b"\xfe\xff\x00\xe0", start) + data.count(b"\xff\xfe\xe0\x00", start)
    if items < limit:
        return  # nearly always: not even so many items
    depth = 0
    for match in _SEQUENCE_MARKS.finditer(data, start - 4):
        depth = max(0, depth - 1) if match.lastgroup == "closed" else depth + 1
        if depth > limit:
            raise beyond("sequence_depth", "sequences within sequences within sequences")


def _is_implicit(data: bytes, offset: int) -> bool:
    # What the first element looks like outranks what the file meta claims, as in pydicom: some
    # writers convert the one and forget the other. A length cannot look like a VR below 16 kB.
    vr = data[offset + 4 : offset + 6]
    return not (vr.isalpha() and vr.isupper())


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace").strip(_AROUND)
