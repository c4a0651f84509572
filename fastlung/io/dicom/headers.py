"""
Raw values of one file to the headers of the CT slices in it.

Every file becomes one of three things: a `SliceHeader` for each of its frames; `Skipped`, which is
fine (a localizer, a report, not DICOM at all); or `Broken`, a CT image that cannot take part in a
volume and must not vanish in silence. How slices form a series is `series`.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastlung.errors import (
    FormatError,
    MetadataError,
    ScanError,
    TruncatedError,
)
from fastlung.io.dicom.coding import CODED_TEXT, UID, Coding, read_coding, safe_uid
from fastlung.io.dicom.elements import DEFLATED_LITTLE_ENDIAN, Elements, read_elements
from fastlung.io.dicom.frames import split_frames
from fastlung.io.dicom.tags import ACQUISITION_NUMBERS, ACQUISITION_TEXTS
from fastlung.limits import beyond, limits_in_force

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fastlung.io.dicom.elements import PixelElement

__all__ = ["NOT_DICOM", "TELLS", "Broken", "Skipped", "SliceHeader", "read_headers"]

#: Where the header of a CT slice nearly always ends; less is read of a file where this suffices.
HEAD_BYTES = 64 * 1024

#: Finest and coarsest pixel taken, in millimetres: an inner ear of 50 mm and a body of 700 mm lie
#: within at any matrix. A spacing of 1e-12 mm would ask for an astronomical grid.
PIXEL_SPACING_MM = (0.05, 10.0)
#: Largest coordinate taken, in millimetres; no table is 100 m long.
MAX_COORDINATE_MM = 1e5
#: How far direction cosines may be from unit length and right angles. Files round them to two or
#: three decimals; more than this is not a rotation.
COSINE_TOLERANCE = 1e-2

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
#: Enhanced CT and Legacy Converted Enhanced CT.
MULTIFRAME_CT = {"1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"}
#: What tells acquisitions apart that share positions: a name, and where it may stand. In the order
#: in which they are tried.
TELLS = {
    "series number": ("SeriesNumber",),
    "acquisition number": ("AcquisitionNumber", "FrameAcquisitionNumber"),
    "temporal position": ("TemporalPositionIdentifier", "TemporalPositionIndex"),
    "image type": ("ImageType",),
    "content time": ("ContentTime",),
    "trigger time": ("TriggerTime",),
}
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
#: Reasons to skip a file that say it is no DICOM at all.
NOT_DICOM = {_EMPTY, _FOREIGN, _NIFTI}
_MODALITY = re.compile(r"[A-Z0-9]{1,16}")
_MAX_ACQUISITION_NUMBER = 1e6

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceHeader:
    """
    One CT slice, without its pixels.

    Attributes
    ----------
    key : str
        Key of the file it came from.
    size_bytes : int
        Size of that file.
    study_uid, series_uid, instance_uid, sop_class_uid, frame_uid : str
        StudyInstanceUID, SeriesInstanceUID, SOPInstanceUID, SOPClassUID and FrameOfReferenceUID;
        empty where the file holds none. One that is not made of digits and dots stands as a hash.
        The frames of one file are instances of their own, with a number after ``#``.
    instance_number : float
        InstanceNumber, or the frame's number; infinite where absent.
    image_kind, stack_id : str
        Digests of the third value of ImageType, and of StackID; empty where absent.
    tells : mapping of str to str
        Digests of what may tell acquisitions apart, by the names of `TELLS`.
    rows, columns : int
        In-plane shape.
    pixel_spacing_mm : tuple of float
        Distance between rows, and between columns, in millimetres.
    position_mm : tuple of float or None
        ImagePositionPatient, LPS, in millimetres; None where absent.
    orientation : tuple of float or None
        ImageOrientationPatient: row cosines, column cosines; None where absent.
    transfer_syntax : str
        Transfer Syntax UID.
    coding : Coding or ScanError
        How to read the pixels, or why they cannot be used.
    acquisition : mapping
        Allow-listed technical tags, by keyword.
    """

    key: str
    size_bytes: int
    study_uid: str
    series_uid: str
    instance_uid: str
    sop_class_uid: str
    frame_uid: str
    instance_number: float
    image_kind: str
    stack_id: str
    tells: Mapping[str, str]
    rows: int
    columns: int
    pixel_spacing_mm: tuple[float, float]
    position_mm: Triple | None
    orientation: tuple[float, ...] | None
    transfer_syntax: str
    coding: Coding | ScanError
    acquisition: Mapping[str, str | float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A file that is no CT slice, and why."""

    key: str
    reason: str


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
    """

    key: str
    series_uid: str | None
    error: ScanError


def read_headers(
    key: str, size_bytes: int, read: Callable[[int], bytes], *, force: bool = False
) -> list[SliceHeader] | Skipped | Broken:
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
    if not size_bytes:
        return Skipped(key=key, reason=_EMPTY)
    elements = read_elements(read(min(HEAD_BYTES, size_bytes)), size_bytes)
    if elements is not None and elements.pixels is None and size_bytes > HEAD_BYTES:
        deflated = elements.transfer_syntax == DEFLATED_LITTLE_ENDIAN
        longest = size_bytes if deflated else limits_in_force().header_bytes
        elements = read_elements(read(min(longest, size_bytes)), size_bytes)
    if elements is None:
        nifti = key.lower().endswith((".nii", ".nii.gz"))
        return Skipped(key=key, reason=_NIFTI if nifti else _FOREIGN)
    if reason := _why_no_slice(elements):
        return Skipped(key=key, reason=reason)
    # A header that broke off before its UID leaves the series unknown; a CT without one does not.
    whole = elements.failure is None and elements.pixels is not None and _sop_class(elements)
    known = whole or "SeriesInstanceUID" in elements.values
    series_uid = safe_uid(elements.text("SeriesInstanceUID")) if known else None
    try:
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
        if _sop_class(elements) not in MULTIFRAME_CT:
            return [_slice_header(key, size_bytes, elements, elements.pixels)]
        return [
            _slice_header(key, size_bytes, frame, frame.pixels or elements.pixels, number)
            for number, frame in enumerate(split_frames(elements, elements.pixels), start=1)
        ]
    except ScanError as error:
        return Broken(key=key, series_uid=series_uid, error=error)


def _why_no_slice(elements: Elements) -> str:
    """Why a file takes no part in any CT volume; empty where it does or should."""
    sop_class, modality = _sop_class(elements), elements.text("Modality")
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


def _sop_class(elements: Elements) -> str:
    """SOP Class UID; where it was emptied or garbled the modality decides, or nothing does."""
    sop_class = elements.text("SOPClassUID") or elements.text("MediaStorageSOPClassUID")
    if UID.fullmatch(sop_class):
        return sop_class
    return CT_IMAGE if elements.text("Modality") == "CT" else ""


def _kind(sop_class: str, modality: str) -> str:
    for root, kind in _OTHER_KINDS.items():
        if f"{sop_class}.".startswith(f"{root}."):
            return kind
    return f"modality {modality}" if _MODALITY.fullmatch(modality) else "of unknown modality"


def _slice_header(
    key: str, size_bytes: int, elements: Elements, pixels: PixelElement, frame: int = 0
) -> SliceHeader:
    sop_class = _sop_class(elements)
    if not sop_class:
        raise FormatError("DICOM, but neither SOP Class nor Modality says of what kind")
    rows, columns = elements.unsigned("Rows"), elements.unsigned("Columns")
    if not rows or not columns:
        raise MetadataError(f"Rows x Columns is {rows} x {columns}; an image needs both")
    if max(rows, columns) > limits_in_force().rows_columns:
        raise beyond("rows_columns", f"Rows x Columns is {rows} x {columns}")
    try:
        coding: Coding | ScanError = read_coding(elements, pixels, rows * columns)
    except ScanError as error:
        coding = error
    instance_uid = safe_uid(elements.text("SOPInstanceUID"))
    image_type = elements.text("ImageType").split("\\")
    return SliceHeader(
        key=key,
        size_bytes=size_bytes,
        study_uid=safe_uid(elements.text("StudyInstanceUID")),
        series_uid=safe_uid(elements.text("SeriesInstanceUID")),
        instance_uid=f"{instance_uid}#{frame}" if frame else instance_uid,
        instance_number=float(frame) if frame else _instance_number(elements),
        image_kind=_digest(image_type[2].strip()) if len(image_type) > 2 else "",  # noqa: PLR2004
        stack_id=_digest(elements.text("StackID")),
        tells={
            name: _digest("".join(elements.values.get(k, b"").hex() for k in keywords))
            for name, keywords in TELLS.items()
        },
        sop_class_uid=sop_class,
        frame_uid=safe_uid(elements.text("FrameOfReferenceUID")),
        rows=rows,
        columns=columns,
        pixel_spacing_mm=_pixel_spacing(elements),
        position_mm=_position(elements),
        orientation=_orientation(elements),
        transfer_syntax=safe_uid(elements.transfer_syntax),
        coding=coding,
        acquisition=_acquisition(elements),
    )


def _instance_number(elements: Elements) -> float:
    try:
        numbers = elements.numbers("InstanceNumber", 1)
    except MetadataError:  # it only breaks ties: a bad one is as good as none
        numbers = None
    return math.inf if numbers is None else numbers[0]


def _digest(text: str) -> str:
    """Stand in for a text that is compared and never shown."""
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""


def _pixel_spacing(elements: Elements) -> tuple[float, float]:
    spacing = elements.numbers("PixelSpacing", 2)
    if spacing is None:
        raise MetadataError("PixelSpacing is absent; without it nothing has a size")
    low, high = PIXEL_SPACING_MM
    if not all(low <= value <= high for value in spacing):
        raise MetadataError(
            f"PixelSpacing is {spacing[0]:g} x {spacing[1]:g} mm; expected {low:g} to {high:g} mm"
        )
    return spacing[0], spacing[1]


def _position(elements: Elements) -> Triple | None:
    position = elements.numbers("ImagePositionPatient", 3)
    if position is None:
        return None
    if max(map(abs, position)) > MAX_COORDINATE_MM:
        raise MetadataError(
            f"ImagePositionPatient lies beyond {MAX_COORDINATE_MM:g} mm from the origin"
        )
    return position[0], position[1], position[2]


def _orientation(elements: Elements) -> tuple[float, ...] | None:
    cosines = elements.numbers("ImageOrientationPatient", 6)
    if cosines is None:
        return None
    row, column = cosines[:3], cosines[3:]
    lengths = [sum(c * c for c in vector) for vector in (row, column)]
    across = sum(a * b for a, b in zip(row, column, strict=True))
    if max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(across)) > 2 * COSINE_TOLERANCE:
        raise MetadataError(
            "ImageOrientationPatient does not hold two unit vectors at right angles "
            f"(squared lengths {lengths[0]:g} and {lengths[1]:g}, product {across:g})"
        )
    return cosines


def _acquisition(elements: Elements) -> dict[str, str | float]:
    values: dict[str, str | float] = {}
    for keyword in ACQUISITION_TEXTS:
        text = elements.text(keyword).split("\\")[0].strip()  # newer kernels hold two values
        if CODED_TEXT.fullmatch(text):
            values[keyword] = text
    for keyword in ACQUISITION_NUMBERS:
        try:
            numbers = elements.numbers(keyword, 1)
        except MetadataError:  # nothing is computed from these: a bad one is left out
            continue
        if numbers is not None and abs(numbers[0]) < _MAX_ACQUISITION_NUMBER:
            values[keyword] = numbers[0]
    for keyword in ("Rows", "Columns", "BitsStored"):
        if len(elements.values.get(keyword, b"")) == 2:  # noqa: PLR2004 -- US is two bytes
            values[keyword] = float(elements.unsigned(keyword))
    values["TransferSyntaxUID"] = safe_uid(elements.transfer_syntax)
    return values
