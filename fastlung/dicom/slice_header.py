"""
Elements of one slice to what they mean, each value checked against what a scanner can write.

A slice without a sane size, position or orientation is an error; one whose pixels cannot be read
has the reason in `SliceHeader.pixel_format`, because it still has a place among the others.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fastlung.dicom.pixel_format import (
    CODED_TEXT,
    UID,
    PixelFormat,
    check_pixels,
    read_pixel_format,
    safe_uid,
)
from fastlung.dicom.tags import (
    ACQUISITION_NUMBERS,
    ACQUISITION_TEXTS,
    DEFINED_TERMS,
    shown_syntax,
)
from fastlung.errors import FormatError, MetadataError, ScanError
from fastlung.limits import beyond, limits_in_force

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from fastlung.dicom.elements import Elements, PixelElement

__all__ = ["CT_IMAGE", "TELLS", "SliceHeader", "make_slice_header", "next_slice", "sop_class_of"]


#: Finest and coarsest pixel taken, in millimetres: an inner ear of 50 mm and a body of 700 mm lie
#: within at any matrix. A spacing of 1e-12 mm would ask for an astronomical grid.
PIXEL_SPACING_MM = (0.05, 10.0)

#: Largest coordinate taken, in millimetres; no table is 100 m long.
MAX_COORDINATE_MM = 1e5

#: How far direction cosines may be from unit length and right angles. Files round them to two or
#: three decimals; more than this is not a rotation.
COSINE_TOLERANCE = 1e-2

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
#: What tells acquisitions apart that share a stretch: a name, and where it may stand. In the order
#: in which they are tried; how much each can be trusted is `acquisitions`'.
TELLS = {
    "series number": ("SeriesNumber",),
    "acquisition number": ("AcquisitionNumber", "FrameAcquisitionNumber"),
    "temporal position": ("TemporalPositionIdentifier", "TemporalPositionIndex"),
    "cardiac phase": ("NominalPercentageOfCardiacPhase", "NominalCardiacTriggerDelayTime"),
    "image type": ("ImageType",),
    "slice thickness": ("SliceThickness",),
    "contrast agent": ("ContrastBolusAgent",),
    "irradiation event": ("IrradiationEventUID",),
    "acquisition time": (
        "AcquisitionDateTime", "FrameAcquisitionDateTime", "AcquisitionDate", "AcquisitionTime",
    ),
    "series time": ("SeriesTime",),
    "study time": ("StudyTime",),
    "series description": ("SeriesDescription",),
    "content time": ("ContentTime",),
    "trigger time": ("TriggerTime",),
}  # fmt: skip
#: Those whose values are numbers, and equal as such however they are spelt.
_NUMBERS = {
    "series number", "acquisition number", "temporal position", "cardiac phase", "slice thickness",
    "trigger time",
}  # fmt: skip
#: What normally is another in each slice of a series.
DIFFERING = frozenset({
    "SOPInstanceUID", "InstanceNumber", "ImagePositionPatient", "AcquisitionNumber", "ContentTime",
    "TriggerTime", "ExposureTime", "XRayTubeCurrent", "AcquisitionTime", "AcquisitionDateTime",
})  # fmt: skip

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
    image_kind, stack_id, patient : str
        Digests of the third value of ImageType, of StackID and of PatientID; empty where absent.
    tells : mapping of str to str
        What may tell acquisitions apart, by the names of `TELLS`: numbers as texts that sort as
        they do, the time of acquisition as seconds, other times as they are, digests of the rest;
        empty where absent.
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
    pixel_format : PixelFormat or ScanError
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
    patient: str
    tells: Mapping[str, str]
    rows: int
    columns: int
    pixel_spacing_mm: tuple[float, float]
    position_mm: Triple | None
    orientation: tuple[float, ...] | None
    transfer_syntax: str
    pixel_format: PixelFormat | ScanError
    acquisition: Mapping[str, str | float]


def make_slice_header(
    key: str, size_bytes: int, elements: Elements, pixels: PixelElement, frame: int = 0
) -> SliceHeader:
    """
    Interpret the elements of one slice.

    Parameters
    ----------
    key, size_bytes
        As in `SliceHeader`.
    elements : Elements
        Values of the file, or of one of its frames.
    pixels : PixelElement
        Where the pixels of the slice lie.
    frame : int
        Number of the frame, from 1; 0 for a file of one slice.

    Raises
    ------
    ScanError
        Where it could stand nowhere in a volume.
    """
    sop_class = sop_class_of(elements)
    if not sop_class:
        raise FormatError("DICOM, but neither SOP Class nor Modality says of what kind")
    rows, columns = elements.unsigned("Rows"), elements.unsigned("Columns")
    if not rows or not columns:
        raise MetadataError(f"Rows x Columns is {rows} x {columns}; an image needs both")
    if max(rows, columns) > limits_in_force().rows_columns:
        raise beyond("rows_columns", f"Rows x Columns is {rows} x {columns}")
    try:
        pixel_format: PixelFormat | ScanError = read_pixel_format(elements, pixels, rows * columns)
    except ScanError as error:
        pixel_format = error
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
        patient=_digest(elements.text("PatientID")),
        tells=_tells(elements, TELLS),
        sop_class_uid=sop_class,
        frame_uid=safe_uid(elements.text("FrameOfReferenceUID")),
        rows=rows,
        columns=columns,
        pixel_spacing_mm=_pixel_spacing(elements),
        position_mm=_position(elements),
        orientation=_orientation(elements),
        transfer_syntax=shown_syntax(elements.transfer_syntax),
        pixel_format=pixel_format,
        acquisition=_acquisition(elements),
    )


def next_slice(
    first: SliceHeader, key: str, size_bytes: int, elements: Elements, differing: AbstractSet[str]
) -> SliceHeader | None:
    """
    Make a header of one before it, where only what differs from slice to slice is another.

    Parameters
    ----------
    first : SliceHeader
        Of a file of one slice.
    key, size_bytes
        As in `read_headers`.
    elements : Elements
        Values of this file.
    differing : set of str
        Keywords whose values may not be those of `first`.

    Returns
    -------
    SliceHeader or None
        None where more differs, or a value is not to be had: `slices_of` knows what to do.
    """
    pixels = elements.pixels
    if (
        pixels is None
        or isinstance(first.pixel_format, ScanError)
        or not DIFFERING.issuperset(differing)
    ):
        return None
    try:
        position = _position(elements)
        size = first.rows * first.columns * first.pixel_format.bits_allocated // 8
        check_pixels(elements.transfer_syntax, pixels, size)
    except ScanError:
        return None
    acquisition = dict(first.acquisition)
    for keyword in ACQUISITION_NUMBERS.keys() & differing:
        number = _acquisition_number(elements, keyword)
        if number is None or keyword not in acquisition:
            return None
        acquisition[keyword] = number
    again = {name: keys for name, keys in TELLS.items() if not differing.isdisjoint(keys)}
    return replace(
        first,
        key=key,
        size_bytes=size_bytes,
        instance_uid=safe_uid(elements.text("SOPInstanceUID")),
        instance_number=_instance_number(elements),
        tells={**first.tells, **_tells(elements, again)},
        position_mm=position,
        pixel_format=replace(first.pixel_format, pixels=pixels),
        acquisition=acquisition,
    )


def sop_class_of(elements: Elements) -> str:
    """SOP Class UID; where it was emptied or garbled the modality decides, or nothing does."""
    sop_class = elements.text("SOPClassUID") or elements.text("MediaStorageSOPClassUID")
    if UID.fullmatch(sop_class):
        return sop_class
    return CT_IMAGE if elements.text("Modality") == "CT" else ""


def _instance_number(elements: Elements) -> float:
    try:
        numbers = elements.numbers("InstanceNumber", 1)
    except MetadataError:  # it only breaks ties: a bad one is as good as none
        numbers = None
    return math.inf if numbers is None else numbers[0]


def _tells(elements: Elements, names: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    return {name: _tell(elements, name, keywords) for name, keywords in names.items()}


def _tell(elements: Elements, name: str, keywords: tuple[str, ...]) -> str:
    texts = [elements.text(keyword) for keyword in keywords if keyword in elements.values]
    if not any(texts):
        return ""
    if name == "acquisition time":
        return _seconds(texts)
    if name.endswith(" time") and name != "trigger time":
        return texts[0]  # of one form within a series, so that it sorts as it is
    if name in _NUMBERS:
        try:
            return _sortable(sum(float(text) for text in texts if text))
        except ValueError:  # it only tells slices apart: what it says does not matter
            pass
    return _digest("\\".join(texts))


def _seconds(texts: list[str]) -> str:
    """Date and time of day as seconds, for they may pass midnight; the first that has a time."""
    day = 0
    for text in texts:
        digits = text.replace(":", "").replace(".", "", 1)
        if not digits.isdigit():
            continue
        if len(digits) == 8 and "." not in text:  # noqa: PLR2004 -- a date alone
            day = int(digits)
            continue
        if len(digits) >= 14:  # noqa: PLR2004 -- date and time in one
            day, digits = int(digits[:8]), digits[8:]
        clock = digits.ljust(6, "0")
        fraction = float(f"0.{clock[6:] or 0}")
        of_day = int(clock[:2]) * 3600 + int(clock[2:4]) * 60 + int(clock[4:6]) + fraction
        # Days as their eight digits: longer apart than they are from month to month, never nearer.
        return _sortable(day * 86400 + of_day)
    return _sortable(day * 86400.0) if day else ""


def _sortable(number: float) -> str:
    """Write a number so that the texts sort as the numbers do."""
    return f"{number + 1e8:024.4f}" if math.isfinite(number) else ""


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
        terms = DEFINED_TERMS.get(keyword)
        if CODED_TEXT.fullmatch(text) if terms is None else text in terms:
            values[keyword] = text
    for keyword in ACQUISITION_NUMBERS:
        number = _acquisition_number(elements, keyword)
        if number is not None:
            values[keyword] = number
    for keyword in ("Rows", "Columns", "BitsStored"):
        if len(elements.values.get(keyword, b"")) == 2:  # noqa: PLR2004 -- US is two bytes
            values[keyword] = float(elements.unsigned(keyword))
    values["TransferSyntaxUID"] = shown_syntax(elements.transfer_syntax)
    return values


def _acquisition_number(elements: Elements, keyword: str) -> float | None:
    try:
        numbers = elements.numbers(keyword, 1)
    except MetadataError:  # nothing is computed from these: a bad one is left out
        return None
    return numbers[0] if numbers and abs(numbers[0]) < _MAX_ACQUISITION_NUMBER else None
