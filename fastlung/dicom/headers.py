"""
Raw values of one file to the headers of the CT slices in it.

Every file becomes one of three things: a `SliceHeader` for each of its frames; `Skipped`, which is
fine (a localizer, a report, not DICOM at all); or `Broken`, a CT image that cannot take part in a
volume and must not vanish in silence. How slices form a series is `series`.
"""

from __future__ import annotations

import logging
import re
import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fastlung.dicom.elements import DEFLATED_LITTLE_ENDIAN, Elements, PixelElement, read_elements
from fastlung.dicom.pixel_format import check_excess, safe_uid
from fastlung.dicom.slice_header import CT_IMAGE, SliceHeader, make_slice_header, sop_class_of
from fastlung.dicom.tags import MODALITIES
from fastlung.errors import (
    FormatError,
    MetadataError,
    ScanError,
    TruncatedError,
)
from fastlung.limits import beyond, limits_in_force

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

__all__ = [
    "HEAD_BYTES",
    "LFS_POINTER",
    "NOT_DICOM",
    "Broken",
    "Lost",
    "Skipped",
    "naming_pattern",
    "pydicom_silenced",
    "read_headers",
    "slices_of",
    "split_frames",
    "walk",
]

#: Where the header of a CT slice nearly always ends; less is read of a file where this suffices.
HEAD_BYTES = 64 * 1024

#: Enhanced CT and Legacy Converted Enhanced CT.
MULTIFRAME_CT = {"1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"}

_OTHER_KINDS = {
    "1.2.840.10008.1.3.10": "a DICOMDIR",
    "1.2.840.10008.5.1.4.1.1.7": "a secondary capture",
    "1.2.840.10008.5.1.4.1.1.66": "a segmentation or registration",
    "1.2.840.10008.5.1.4.1.1.88": "a structured report",
    "1.2.840.10008.5.1.4.1.1.104": "an encapsulated document",
    "1.2.840.10008.5.1.4.1.1.481": "a radiotherapy object",
    "1.2.840.10008.5.1.4.1.1.11": "a presentation state",
}

_EMPTY, _FOREIGN, _NIFTI = "an empty file", "not DICOM", "NIfTI, not DICOM"
_LFS = "a Git LFS pointer"
#: Reasons to skip a file that say it is no DICOM at all.
NOT_DICOM = {_EMPTY, _FOREIGN, _NIFTI, _LFS}
#: Names that only slices have: what else is called so is one that was lost on its way.
SLICE_SUFFIXES = (".dcm", ".dicom", ".ima")
#: How the stand-in begins that Git LFS leaves where the file itself was not fetched.
LFS_POINTER = b"version https://git-lfs.github.com/"
_PAGE = re.compile(rb"[\s\xef\xbb\xbf]*<(!doctype|html|head|body|\?xml|error)", re.IGNORECASE)
#: Numbers in a name, and the sixteen hex digits that stand for one where names are hashed.
_DIGITS = re.compile(r"^[0-9a-f]{16}(?=\.|$)|\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A file that is no CT slice, and why."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """
    A file that is no DICOM and may stand where a slice was.

    Attributes
    ----------
    key : str
        Key of the file.
    reason : str
        Why it is skipped where its name is not that of a slice.
    error : ScanError
        What is wrong with it where it is.
    """

    key: str
    reason: str
    error: ScanError

    def is_slice(self, patterns: Container[str]) -> bool:
        """Whether it is called as only slices are, or as the slices beside it are."""
        return self.key.lower().endswith(SLICE_SUFFIXES) or naming_pattern(self.key) in patterns


def naming_pattern(key: str) -> str:
    """How a file is named but for its numbers; empty for a name without any."""
    name = key.rpartition("/")[2].lower()
    pattern = _DIGITS.sub("#", name)
    return pattern if pattern != name else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """
    A CT image that cannot stand in a volume.

    Attributes
    ----------
    key : str
        Key of the file.
    series_uid : str or None
        Its series; None where that cannot be read.
    error : ScanError
        What is wrong with it.
    shape : tuple of int or None
        Rows and columns, as far as they can be read.
    placed : bool
        Whether it says where it lies, or breaks off before it could.
    """

    key: str
    series_uid: str | None
    error: ScanError
    shape: tuple[int, int] | None = None
    placed: bool = True

    def may_be_slice_of(self, shapes: Container[tuple[int, int]]) -> bool:
        """Whether it may belong to a stack of slices of one of these shapes."""
        return self.placed and (self.shape is None or self.shape in shapes)


def read_headers(
    key: str, size_bytes: int, read: Callable[[int], bytes], *, force: bool = False
) -> list[SliceHeader] | Skipped | Broken | Lost:
    """
    Read the headers of the slices in one file: one, or as many as it has frames.

    Parameters
    ----------
    key : str
        What the file is called in the answer.
    size_bytes : int
        Its size.
    read : callable
        Gives the first so many bytes of it. Asked for `HEAD_BYTES`, and for all of them only where
        the header is longer or deflated.
    force : bool
        Take a file without preamble or file meta, too.
    """
    head = read(min(HEAD_BYTES, size_bytes)) if size_bytes else b""
    return slices_of(key, size_bytes, walk(head, size_bytes, read), head, force=force)


def walk(head: bytes, size_bytes: int, read: Callable[[int], bytes]) -> Elements | None:
    """
    Walk the elements of one file; parameters and further reading as in `read_headers`.

    Parameters
    ----------
    head : bytes
        The first `HEAD_BYTES` of it.
    size_bytes : int
        Its size.
    read : callable
        Gives the first so many bytes of it.
    """
    elements = read_elements(head, size_bytes)
    if elements is not None and elements.pixels is None and size_bytes > HEAD_BYTES:
        deflated = elements.transfer_syntax == DEFLATED_LITTLE_ENDIAN
        longest = size_bytes if deflated else limits_in_force().header_bytes
        elements = read_elements(read(min(longest, size_bytes)), size_bytes)
    return elements


def slices_of(
    key: str, size_bytes: int, elements: Elements | None, head: bytes = b"", *, force: bool
) -> list[SliceHeader] | Skipped | Broken | Lost:
    """Make the headers of the slices in one file of its elements; parameters as `read_headers`."""
    if elements is None:
        return foreign(key, head)
    if reason := _why_no_slice(elements):
        return Skipped(key=key, reason=reason)
    # A header that broke off before its UID leaves the series unknown; a CT without one does not.
    whole = elements.failure is None and elements.pixels is not None and sop_class_of(elements)
    known = whole or "SeriesInstanceUID" in elements.values
    series_uid = safe_uid(elements.text("SeriesInstanceUID")) if known else None
    try:
        pixels = _pixels_of(elements, size_bytes, force=force)
        if sop_class_of(elements) not in MULTIFRAME_CT:
            return [make_slice_header(key, size_bytes, elements, pixels)]
        return [
            make_slice_header(key, size_bytes, frame, frame.pixels or pixels, number)
            for number, frame in enumerate(split_frames(elements, pixels), start=1)
        ]
    except ScanError as error:
        shape = None
        if all(len(elements.values.get(name, b"")) == 2 for name in ("Rows", "Columns")):  # noqa: PLR2004 -- US is two bytes
            shape = elements.unsigned("Rows"), elements.unsigned("Columns")
        # Elements ascend: a header that got as far as the matrix has passed the position.
        placed = shape is None or "ImagePositionPatient" in elements.values or bool(elements.frames)
        return Broken(key=key, series_uid=series_uid, error=error, shape=shape, placed=placed)


def foreign(key: str, head: bytes) -> Skipped | Lost:
    """
    Say what a file that is no DICOM holds; it may stand in place of a slice that was lost.

    Parameters
    ----------
    key : str
        What the file is called.
    head : bytes
        Its first part.
    """
    if not head:
        what, reason = "empty, as a download that broke off leaves it", _EMPTY
    elif not head.strip(b"\0"):
        what, reason = "zeros only, as a transfer that broke off leaves it", _FOREIGN
    elif head.startswith(LFS_POINTER):
        what, reason = "a Git LFS pointer, not the file itself: `git lfs pull` fetches it", _LFS
    elif _PAGE.match(head[:256]):
        what, reason = "a web page or an error message, saved in place of the file", _FOREIGN
    elif key.lower().endswith((".nii", ".nii.gz")):
        return Skipped(key=key, reason=_NIFTI)
    else:
        what, reason = "not DICOM, whatever its name says", _FOREIGN
    return Lost(key=key, reason=reason, error=TruncatedError(f"the file is {what}"))


def _pixels_of(elements: Elements, size_bytes: int, *, force: bool) -> PixelElement:
    """Where the pixels are, in a header that can be used; raises a ScanError where it cannot."""
    cut = elements.failure is None or isinstance(elements.failure, TruncatedError)
    if cut and elements.pixels is None and size_bytes > limits_in_force().header_bytes:
        raise beyond("header_bytes", f"no pixels at the start of {size_bytes:,} bytes")
    if elements.failure is not None:
        raise elements.failure
    if elements.pixels is None:
        raise TruncatedError("the file ends before its Pixel Data")
    if not force and not elements.whole:
        raise FormatError(
            "a DICOM data set without the preamble or file meta that files must have; --force "
            "reads it all the same"
        )
    return elements.pixels


def _why_no_slice(elements: Elements) -> str:
    """Why a file takes no part in any CT volume; empty where it does or should."""
    sop_class, modality = sop_class_of(elements), elements.text("Modality")
    if not sop_class and not modality:
        return "" if elements.marked else _FOREIGN
    if sop_class != CT_IMAGE and sop_class not in MULTIFRAME_CT:
        return f"{_kind(sop_class, modality)}, not a CT image"
    if "LOCALIZER" in [part.strip() for part in elements.text("ImageType").split("\\")]:
        return "a localizer"
    samples = elements.values.get("SamplesPerPixel", b"")
    if len(samples) == 2 and elements.unsigned("SamplesPerPixel") != 1:  # noqa: PLR2004
        return "a colour picture, not a CT slice"
    return ""


def _kind(sop_class: str, modality: str) -> str:
    for root, kind in _OTHER_KINDS.items():
        if f"{sop_class}.".startswith(f"{root}."):
            return kind
    return f"modality {modality}" if modality in MODALITIES else "of unknown modality"


def split_frames(elements: Elements, pixels: PixelElement) -> list[Elements]:
    """
    Give the elements of each frame: its own before those of all frames before those of the file.

    Parameters
    ----------
    elements : Elements
        Values of an enhanced or legacy converted CT file.
    pixels : PixelElement
        Where the pixels of all its frames lie.

    Raises
    ------
    LimitError
        For too many frames, known before anything is made for any of them.
    ScanError
        Where the number of frames, their functional groups and the pixels do not agree.
    """
    numbers = elements.numbers("NumberOfFrames", 1)
    if numbers is None or numbers[0] != int(numbers[0]) or numbers[0] < 1:
        raise MetadataError("NumberOfFrames is absent or no count; a multi-frame file needs it")
    count = int(numbers[0])
    if count > limits_in_force().frames:
        raise beyond("frames", f"NumberOfFrames is {count:,}")
    if len(elements.frames) != count:
        raise FormatError(
            f"NumberOfFrames is {count:,}, and functional groups describe {len(elements.frames):,}"
        )
    common = {name: value for name, value in elements.values.items() if name != "NumberOfFrames"}
    split = []
    for own, part in zip(elements.frames, _frame_pixels(elements, pixels, count), strict=True):
        values = {**common, **elements.shared, **own}
        if "FrameType" in values:
            values["ImageType"] = values["FrameType"]
        split.append(replace(elements, values=values, pixels=part, shared={}, frames=()))
    return split


def _frame_pixels(elements: Elements, pixels: PixelElement, count: int) -> list[PixelElement]:
    if pixels.length is None:
        return [replace(pixels, frame=number, frames=count) for number in range(count)]
    rows, columns = elements.unsigned("Rows"), elements.unsigned("Columns")
    size = rows * columns * elements.unsigned("BitsAllocated") // 8
    total = size * count
    if min(pixels.length, pixels.available) < total:
        raise TruncatedError(
            f"{count:,} frames take {total:,} bytes; Pixel Data claims {pixels.length:,} and the "
            f"file holds {pixels.available:,}"
        )
    check_excess(pixels, total, size)
    return [
        replace(pixels, offset=pixels.offset + number * size, length=size, available=size)
        for number in range(count)
    ]


_changing = threading.Lock()

_inside = 0

_before = warnings.catch_warnings()


@contextmanager
def pydicom_silenced() -> Iterator[None]:
    """
    Keep pydicom's warnings and log records, which quote element values, from getting out.

    Warnings are silenced for the whole process, and headers are read in several threads. So the
    first thread that enters silences and the last one that leaves restores: with
    `warnings.catch_warnings` in each, the first to leave let the warnings of the others out.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _inside, _before  # noqa: PLW0603 - the filters of a process are global, too
    with _changing:
        _inside += 1
        if _inside == 1:
            _before = warnings.catch_warnings()
            _before.__enter__()
            warnings.simplefilter("ignore")
            logging.getLogger("pydicom").addFilter(_drop)


def _leave() -> None:
    global _inside  # noqa: PLW0603
    with _changing:
        _inside -= 1
        if _inside == 0:
            logging.getLogger("pydicom").removeFilter(_drop)
            _before.__exit__(None, None, None)


def _drop(_record: logging.LogRecord) -> bool:
    return False
