"""
The standard's own words for what a tag may hold; of a coded tag, nothing else is ever shown.

A value that only looks like a code, in capitals and digits, may be a name and a date of birth.
"""

from __future__ import annotations

import hashlib
import re

__all__ = [
    "DEFINED_TERMS",
    "MODALITIES",
    "PATIENT_POSITIONS",
    "PHOTOMETRIC_INTERPRETATIONS",
    "RESCALE_TYPES",
    "shown",
    "shown_syntax",
]

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
