"""
How the pixels of one slice are stored, and how its words become Hounsfield units.

Everything here is checked before a byte of pixels is touched: sizes by arithmetic, values against
bounds that no scanner reaches. Values are quoted in errors as numbers or as coded texts only.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastlung.dicom.codecs import CODECS
from fastlung.dicom.elements import (
    DEFLATED_LITTLE_ENDIAN,
    EXPLICIT_BIG_ENDIAN,
    EXPLICIT_LITTLE_ENDIAN,
    IMPLICIT_LITTLE_ENDIAN,
    Elements,
    PixelElement,
)
from fastlung.dicom.tags import (
    PHOTOMETRIC_INTERPRETATIONS,
    RESCALE_TYPES,
    shown,
    shown_syntax,
)
from fastlung.errors import (
    FormatError,
    MetadataError,
    TruncatedError,
    UnsupportedError,
)
from fastlung.limits import beyond, limits_in_force

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "CODED_TEXT",
    "UID",
    "PixelFormat",
    "check_excess",
    "check_pixels",
    "read_pixel_format",
    "safe_uid",
    "settled_shift",
]

#: Bounds of Rescale Slope (magnitude) and Rescale Intercept (magnitude, HU), far outside any use.
RESCALE_SLOPE = (1e-6, 1e4)
MAX_INTERCEPT_HU = 1e6

#: Stored value that General Electric put outside the circle before Pixel Padding Value was used.
UNDECLARED_PADDING = -2000

_NATIVE = {
    IMPLICIT_LITTLE_ENDIAN,
    EXPLICIT_LITTLE_ENDIAN,
    EXPLICIT_BIG_ENDIAN,
    DEFLATED_LITTLE_ENDIAN,
}
#: Syntaxes that are met and not read, to name them; the last is of no standard.
NOT_READ = {
    "1.2.840.10008.1.2.4.92": "JPEG 2000 Part 2 Lossless",
    "1.2.840.10008.1.2.4.93": "JPEG 2000 Part 2",
    "1.2.840.10008.1.2.4.94": "JPIP, pixels are elsewhere",
    "1.2.840.10008.1.2.4.95": "JPIP, pixels are elsewhere",
    "1.2.840.10008.1.2.4.100": "MPEG-2 video",
    "1.2.840.10008.1.2.4.102": "MPEG-4 video",
    "1.2.840.10008.1.2.4.107": "HEVC video",
    "1.2.840.10008.1.2.4.111": "JPEG XL made of JPEG",
    "1.2.840.113619.5.2": "GE private, implicit VR with big-endian pixels",
}
#: What a UID, and a short technical text, may consist of to be shown.
UID = re.compile(r"[0-9.]{1,64}")
CODED_TEXT = re.compile(r"[A-Za-z0-9 ._/\-+^]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelFormat:
    """
    How the pixels of one slice are stored, and how its words become Hounsfield units.

    Attributes
    ----------
    pixels : PixelElement
        Where they lie.
    bits_allocated, bits_stored, high_bit : int
        As in DICOM; 8 or 16 bits allocated. A high bit other than `bits_stored` - 1 is a claim that
        `settled_shift` holds against the words.
    signed : bool
        Pixel Representation.
    slope, intercept : float
        HU per stored unit, and HU of stored 0.
    padding_low, padding_high : int
        Stored values in this closed range are padding; none where low > high.
    """

    pixels: PixelElement
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    slope: float
    intercept: float
    padding_low: int
    padding_high: int


def read_pixel_format(elements: Elements, pixels: PixelElement, pixel_count: int) -> PixelFormat:
    """
    Check everything that turns bytes into Hounsfield units.

    Parameters
    ----------
    elements : Elements
        Values of the file.
    pixels : PixelElement
        Where its pixels lie.
    pixel_count : int
        Rows times columns.

    Raises
    ------
    ScanError
        The first thing wrong; each cause has its own subclass.
    """
    if pixels.foreign:
        raise UnsupportedError(f"{pixels.foreign} is not read; CT words are integers")
    frames = elements.numbers("NumberOfFrames", 1)
    if frames is not None and frames[0] > limits_in_force().frames:
        raise beyond("frames", f"NumberOfFrames is {frames[0]:,.0f}")
    if frames is not None and frames[0] not in (0, 1):  # 0 is written for "not a multi-frame file"
        raise FormatError(f"NumberOfFrames is {frames[0]:,.0f}; a CT Image holds one frame")
    photometric = elements.text("PhotometricInterpretation")
    if not photometric:
        raise MetadataError("PhotometricInterpretation is absent; expected MONOCHROME2")
    if photometric != "MONOCHROME2":
        named = shown(photometric, PHOTOMETRIC_INTERPRETATIONS)
        raise UnsupportedError(f"PhotometricInterpretation is {named}; expected MONOCHROME2")
    if elements.values.get("ModalityLUTSequence"):  # an empty one says nothing
        raise UnsupportedError("ModalityLUTSequence is not read; expected a slope and an intercept")
    bits_allocated, bits_stored, high_bit, signed = _bits(elements)
    check_pixels(elements.transfer_syntax, pixels, pixel_count * bits_allocated // 8)
    slope, intercept = _rescale(elements)
    low, high = _padding(elements, signed=signed, bits_stored=bits_stored)
    return PixelFormat(
        pixels=pixels,
        bits_allocated=bits_allocated,
        bits_stored=bits_stored,
        high_bit=high_bit,
        signed=signed,
        slope=slope,
        intercept=intercept,
        padding_low=low,
        padding_high=high,
    )


def _bits(elements: Elements) -> tuple[int, int, int, bool]:
    allocated = elements.unsigned("BitsAllocated")
    if allocated not in (8, 16):
        raise UnsupportedError(f"BitsAllocated is {allocated}; 8 and 16 are read")
    stored = elements.unsigned("BitsStored")
    if not 1 <= stored <= allocated:
        raise MetadataError(f"BitsStored is {stored}; expected 1 to BitsAllocated, {allocated}")
    high = elements.unsigned("HighBit") if "HighBit" in elements.values else stored - 1
    if high >= allocated:
        raise MetadataError(f"HighBit is {high}; expected {stored - 1}, BitsStored - 1")
    representation = elements.unsigned("PixelRepresentation")
    if representation not in (0, 1):
        raise MetadataError(f"PixelRepresentation is {representation}; expected 0 or 1")
    return allocated, stored, high, bool(representation)


def check_pixels(syntax: str, pixels: PixelElement, expected_bytes: int) -> None:
    """
    Check that the pixels are as many bytes as the image takes, or encapsulated where they must be.

    Parameters
    ----------
    syntax : str
        Transfer Syntax UID.
    pixels : PixelElement
        Where they lie.
    expected_bytes : int
        What an uncompressed image takes.

    Raises
    ------
    ScanError
        Each cause has its own subclass.
    """
    if syntax in CODECS:
        if pixels.length is not None:
            raise FormatError(f"{CODECS[syntax].name}, but Pixel Data is not encapsulated")
        return
    if syntax not in _NATIVE:
        name = NOT_READ.get(syntax, "which no decoder here knows")
        raise UnsupportedError(
            f"transfer syntax {shown_syntax(syntax)} ({name}) is not read; convert the files to an "
            "uncompressed or lossless one, with `gdcmconv --raw` or dcm4che's dcm2dcm"
        )
    if pixels.length is None:
        raise FormatError("Pixel Data is encapsulated, but the transfer syntax is uncompressed")
    if pixels.length < expected_bytes:
        raise TruncatedError(
            f"Pixel Data claims {pixels.length:,} bytes; the image takes {expected_bytes:,}"
        )
    if pixels.available < expected_bytes:
        raise TruncatedError(
            f"Pixel Data takes {expected_bytes:,} bytes; the file holds {pixels.available:,}"
        )
    check_excess(pixels, expected_bytes, expected_bytes)


def check_excess(pixels: PixelElement, expected_bytes: int, frame_bytes: int) -> None:
    """
    Take padding behind native pixels, as PS3.5 8.1.1 asks, and refuse what is none.

    Parameters
    ----------
    pixels : PixelElement
        Where they lie; at least `expected_bytes` of them.
    expected_bytes, frame_bytes : int
        What all frames take, and one of them.

    Raises
    ------
    FormatError
        For whole frames more than the header knows of; `TruncatedError` where the padding is
        claimed and not there.
    """
    length = pixels.length or 0
    excess = length - expected_bytes
    if excess <= expected_bytes % 2:
        return
    if length > pixels.available:
        raise TruncatedError(
            f"Pixel Data claims {length:,} bytes; the file holds {pixels.available:,} of them"
        )
    if excess >= frame_bytes and excess % frame_bytes <= 1:
        raise FormatError(
            f"Pixel Data holds {length:,} bytes, {length // frame_bytes:,} images, and the header "
            f"says {expected_bytes // frame_bytes:,}; whose slices the others are, nobody knows"
        )


def settled_shift(pixel_format: PixelFormat, words: npt.NDArray[np.uint16]) -> int | None:
    """
    By how many bits the words of a slice stand above where they belong.

    HighBit must be BitsStored - 1 (PS3.5 8.1.1), and some writers put 15 whatever they store. The
    words know better: the low bits are empty only where they really stand higher.

    Parameters
    ----------
    pixel_format : PixelFormat
        What the header says.
    words : ndarray of uint16
        The words of the slice.

    Returns
    -------
    int or None
        0 or HighBit + 1 - BitsStored; None for a slice that fits both.

    Raises
    ------
    MetadataError
        Where the words fit neither.
    """
    shift = pixel_format.high_bit + 1 - pixel_format.bits_stored
    used = int(np.bitwise_or.reduce(words, axis=None))
    low_bits = (1 << max(shift, 0)) - 1
    fits = used < 1 << pixel_format.bits_stored or (
        pixel_format.signed and _is_extended(pixel_format, words)
    )
    if shift < 0:
        # Fewer bits than are stored, by HighBit: of no matter unless a sign would stand there.
        doubtful = pixel_format.signed and used >> pixel_format.high_bit == 1
        if not doubtful:
            return 0
    elif not used & low_bits:
        return None if fits else shift
    elif fits:
        return 0
    raise MetadataError(
        f"HighBit is {pixel_format.high_bit} and BitsStored {pixel_format.bits_stored}, which do "
        "not belong together, and the stored words fit neither; convert the files again"
    )


def _is_extended(pixel_format: PixelFormat, words: npt.NDArray[np.uint16]) -> bool:
    """Whether signed words repeat their sign in the bits above the stored ones."""
    values = words.view(np.int16)
    limit = 1 << (pixel_format.bits_stored - 1)
    return -limit <= int(values.min()) and int(values.max()) < limit


def _rescale(elements: Elements) -> tuple[float, float]:
    kind = elements.text("RescaleType").upper()
    if kind not in ("", "HU", "US"):  # US is "unspecified", which old CT writers put
        named = shown(kind, RESCALE_TYPES)
        raise UnsupportedError(f"RescaleType is {named}; expected HU")
    values = []
    for keyword in ("RescaleSlope", "RescaleIntercept"):
        numbers = elements.numbers(keyword, 1)
        if numbers is None:
            raise MetadataError(f"{keyword} is absent; without it stored words are not HU")
        values.append(numbers[0])
    slope, intercept = values
    low, high = RESCALE_SLOPE
    if not low <= abs(slope) <= high:
        raise MetadataError(f"RescaleSlope is {slope:g}; expected {low:g} to {high:g}")
    if abs(intercept) > MAX_INTERCEPT_HU:
        raise MetadataError(
            f"RescaleIntercept is {intercept:g}; expected at most {MAX_INTERCEPT_HU:g} HU"
        )
    return slope, intercept


def _padding(elements: Elements, *, signed: bool, bits_stored: int) -> tuple[int, int]:
    """Closed range of stored values that are padding; low > high where there is none."""
    value = elements.values.get("PixelPaddingValue", b"")
    if not value:
        holds_it = signed and -(1 << (bits_stored - 1)) <= UNDECLARED_PADDING
        return (UNDECLARED_PADDING, UNDECLARED_PADDING) if holds_it else (0, -1)
    bounds = []
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        if not elements.values.get(keyword):
            continue
        # Two bytes whatever VR the writer chose: Pixel Representation alone says the sign.
        word = elements.unsigned(keyword)
        # A word that was not sign-extended beyond BitsStored means the same value.
        sign_bit = 1 << (bits_stored - 1) if signed and word < 1 << bits_stored else 1 << 15
        bounds.append(((word ^ sign_bit) - sign_bit) if signed else word)
    return min(bounds), max(bounds)


def safe_uid(text: str) -> str:
    """Give a UID as it is, or a hash of what stands in its place: that may be anything."""
    if not text or UID.fullmatch(text):
        return text
    return "uid-" + hashlib.sha256(text.encode()).hexdigest()[:16]
