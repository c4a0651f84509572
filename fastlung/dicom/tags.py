"""
The tags that are read: by keyword, where multi-frame files keep them, and what they may hold.

Of a coded tag, nothing but the standard's own terms is ever shown: a value that only looks like a
code, in capitals and digits, may be a name and a date of birth.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydicom.filereader import read_sequence

from fastlung.limits import beyond, limits_in_force

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom.dataset import Dataset


__all__ = [
    "ACQUISITION_NUMBERS",
    "ACQUISITION_TEXTS",
    "DEFINED_TERMS",
    "FRAME_GROUPS",
    "FRAME_KEYWORDS",
    "KEYWORDS",
    "MACROS",
    "MODALITIES",
    "PATIENT_POSITIONS",
    "PHOTOMETRIC_INTERPRETATIONS",
    "RESCALE_TYPES",
    "SHARED_GROUPS",
    "Groups",
    "shown",
    "shown_syntax",
]


#: Technical tags that may leave this package, as numbers and as short coded texts.
ACQUISITION_NUMBERS = {
    "SliceThickness": 0x00180050,
    "KVP": 0x00180060,
    "ReconstructionDiameter": 0x00181100,
    "GantryDetectorTilt": 0x00181120,
    "ExposureTime": 0x00181150,
    "XRayTubeCurrent": 0x00181151,
}

ACQUISITION_TEXTS = {
    "Modality": 0x00080060,
    "Manufacturer": 0x00080070,
    "ManufacturerModelName": 0x00081090,
    "ConvolutionKernel": 0x00181210,
    "PatientPosition": 0x00185100,
    "RescaleType": 0x00281054,
}

#: Tag to keyword of everything that is read at all.
KEYWORDS = {
    tag: keyword
    for keyword, tag in {
        **ACQUISITION_NUMBERS,
        **ACQUISITION_TEXTS,
        "MediaStorageSOPClassUID": 0x00020002,
        "TransferSyntaxUID": 0x00020010,
        "ImageType": 0x00080008,
        "AcquisitionDate": 0x00080022,
        "AcquisitionDateTime": 0x0008002A,
        "StudyTime": 0x00080030,
        "SeriesTime": 0x00080031,
        "AcquisitionTime": 0x00080032,
        "ContentTime": 0x00080033,
        "SeriesDescription": 0x0008103E,
        "IrradiationEventUID": 0x00083010,
        "FrameType": 0x00089007,
        "PatientID": 0x00100020,
        "ContrastBolusAgent": 0x00180010,
        "TriggerTime": 0x00181060,
        "FrameAcquisitionDateTime": 0x00189074,
        "StudyInstanceUID": 0x0020000D,
        "SeriesNumber": 0x00200011,
        "AcquisitionNumber": 0x00200012,
        "InstanceNumber": 0x00200013,
        "TemporalPositionIdentifier": 0x00200100,
        "StackID": 0x00209056,
        "TemporalPositionIndex": 0x00209128,
        "NominalCardiacTriggerDelayTime": 0x00209153,
        "FrameAcquisitionNumber": 0x00209156,
        "NominalPercentageOfCardiacPhase": 0x00209241,
        "SOPClassUID": 0x00080016,
        "SOPInstanceUID": 0x00080018,
        "SeriesInstanceUID": 0x0020000E,
        "ImagePositionPatient": 0x00200032,
        "ImageOrientationPatient": 0x00200037,
        "FrameOfReferenceUID": 0x00200052,
        "SamplesPerPixel": 0x00280002,
        "PhotometricInterpretation": 0x00280004,
        "NumberOfFrames": 0x00280008,
        "Rows": 0x00280010,
        "Columns": 0x00280011,
        "PixelSpacing": 0x00280030,
        "BitsAllocated": 0x00280100,
        "BitsStored": 0x00280101,
        "HighBit": 0x00280102,
        "PixelRepresentation": 0x00280103,
        "PixelPaddingValue": 0x00280120,
        "PixelPaddingRangeLimit": 0x00280121,
        "RescaleIntercept": 0x00281052,
        "RescaleSlope": 0x00281053,
        "ModalityLUTSequence": 0x00283000,
    }.items()
}

#: What a frame of a multi-frame file may say for itself, in one of the sequences below.
FRAME_KEYWORDS = {
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness",
    "RescaleSlope", "RescaleIntercept", "RescaleType", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "FrameType", "StackID", "TemporalPositionIndex",
    "FrameAcquisitionNumber", "AcquisitionNumber", "InstanceNumber", "ContentTime",
    "ConvolutionKernel", "KVP", "ReconstructionDiameter", "FrameAcquisitionDateTime",
    "AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime", "TriggerTime", "ImageType",
    "TemporalPositionIdentifier", "NominalCardiacTriggerDelayTime",
    "NominalPercentageOfCardiacPhase", "IrradiationEventUID", "ContrastBolusAgent",
}  # fmt: skip

SHARED_GROUPS, FRAME_GROUPS = 0x52009229, 0x52009230

#: Functional groups that hold them; the last two are those of legacy converted files.
MACROS = {
    0x00189118: "Cardiac Synchronization",
    0x00189314: "CT Reconstruction",
    0x00189325: "CT X-Ray Details",
    0x00189329: "CT Image Frame Type",
    0x00209111: "Frame Content",
    0x00189477: "Irradiation Event Identification",
    0x00209113: "Plane Position",
    0x00209116: "Plane Orientation",
    0x00289110: "Pixel Measures",
    0x00289145: "Pixel Value Transformation",
    0x00209170: "Unassigned Shared Converted Attributes",
    0x00209171: "Unassigned Per-Frame Converted Attributes",
}

#: Items that functional groups may hold for each frame allowed: itself and a dozen groups. Counted
#: before an object is made for any of them.
ITEMS_A_FRAME = 13


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Reader of functional groups, which are sequences of sequences."""

    implicit: bool
    little_endian: bool

    def read(self, element: Any) -> tuple[dict[str, bytes], ...]:
        """Listed values of each item."""
        return tuple(self._flat(item) for item in self._items(element))

    def _flat(self, item: Dataset) -> dict[str, bytes]:
        values: dict[str, bytes] = {}
        for tag in item.keys():  # noqa: SIM118 -- iterating a Dataset converts its values
            element: Any = item.get_item(tag)
            keyword = KEYWORDS.get(tag, "")
            if tag in MACROS:
                for inner in self._items(element)[:1]:
                    values |= self._flat(inner)
            elif keyword in FRAME_KEYWORDS and isinstance(element.value, bytes):
                values[keyword] = element.value
        return values

    def _items(self, element: Any) -> Sequence[Dataset]:
        value = element.value
        if not isinstance(value, bytes):  # of undefined length: pydicom has read it, or empty
            return value or ()
        order = "<" if self.little_endian else ">"
        count = value.count(struct.pack(f"{order}HH", 0xFFFE, 0xE000))
        if count > ITEMS_A_FRAME * limits_in_force().frames:
            raise beyond("frames", f"functional groups hold {count:,} items")
        items: Sequence[Dataset] = read_sequence(
            io.BytesIO(value), self.implicit, self.little_endian, len(value), "iso8859"
        )
        return items


#: PS3.3 C.7.3.1.1.1, retired ones included.
MODALITIES = frozenset(
    (
        "ANN", "AR", "ASMT", "AU", "BDUS", "BI", "BMD", "CFM", "CR", "CT", "CTPROTOCOL",
        "DMS", "DG", "DOC", "DX", "ECG", "EEG", "EMG", "EOG", "EPS", "ES", "FID", "GM",
        "HC", "HD", "IO", "IOL", "IVOCT", "IVUS", "KER", "KO", "LEN", "LS", "M3D", "MG",
        "MR", "NM", "OAM", "OCT", "OP", "OPM", "OPT", "OPTBSV", "OPTENF", "OPV", "OSS",
        "OT", "PA", "PLAN", "POS", "PR", "PT", "PX", "REG", "RESP", "RF", "RG", "RTDOSE",
        "RTIMAGE", "RTINTENT", "RTPLAN", "RTRAD", "RTRECORD", "RTSEGANN", "RTSTRUCT", "RWV",
        "SEG", "SM", "SMR", "SR", "SRF", "STAIN", "TEXTUREMAP", "TG", "US", "VA", "XA",
        "XAPROTOCOL", "XC", "AS", "CD", "CF", "CP", "CS", "DD", "DF", "DM", "DS", "EC",
        "FA", "FS", "LP", "MA", "MS", "OPR", "ST", "VF",
    )
)  # fmt: skip
#: PS3.3 C.7.6.3.1.2, retired ones included.
PHOTOMETRIC_INTERPRETATIONS = frozenset(
    (
        "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "HSV", "ARGB", "CMYK", "YBR_FULL",
        "YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT", "XYB",
    )
)  # fmt: skip
#: PS3.3 C.11.1.1.2.
RESCALE_TYPES = frozenset(
    ("OD", "HU", "US", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT"),
)
#: PS3.3 C.7.3.1.1.2.
PATIENT_POSITIONS = frozenset(
    (
        "HFP", "HFS", "HFDR", "HFDL", "FFDR", "FFDL", "FFP", "FFS", "LFP", "LFS", "RFP",
        "RFS", "AFDR", "AFDL", "PFDR", "PFDL", "SITTING", "HFV", "FFV",
    )
)  # fmt: skip
#: Coded tags that leave the reader, and what they may hold then.
DEFINED_TERMS = {
    "Modality": MODALITIES,
    "PatientPosition": PATIENT_POSITIONS,
    "RescaleType": RESCALE_TYPES,
}
#: Transfer syntaxes of the standard have at most three numbers of three digits after this.
SYNTAX = re.compile(r"1\.2\.840\.10008\.1\.2(\.\d{1,3}){0,3}")
#: Of no standard, and met all the same: General Electric's.
PRIVATE_SYNTAXES = frozenset(("1.2.840.113619.5.2",))


def shown(value: str, terms: frozenset[str]) -> str:
    """Give a value as it is if it is one of the standard's terms; what it is not, otherwise."""
    return value if value in terms else "none of the standard's terms"


def shown_syntax(uid: str) -> str:
    """Give a Transfer Syntax UID of the standard as it is, a hash of any other, empty for none."""
    if not uid or SYNTAX.fullmatch(uid) or uid in PRIVATE_SYNTAXES:
        return uid
    return "unknown-" + hashlib.sha256(uid.encode("utf-8", "surrogateescape")).hexdigest()[:16]
