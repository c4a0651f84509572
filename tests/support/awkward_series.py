"""
Awkward series as the field knows them, written when a test asks, each with its right answer.

The answers are worked out here, from how the files were made; nothing of the reader is used. Every
fixture is a `Fixture`; `FIXTURES` are their names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from dicom_writer import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    HTJ2K_LOSSLESS,
    IMPLICIT,
    J2K_LOSSLESS,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    RLE,
    ct_series,
    ct_slice,
    enhanced_file,
    name_of,
    random_words,
)

from fastlung.errors import FormatError, GeometryError, TruncatedError

if TYPE_CHECKING:
    from collections.abc import Callable

WORDS = random_words((8, 16, 20), seed=5)
HU = WORDS.astype(float) - 1024
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
ORIGIN = np.array([-10.0, -20.0, 30.0])


@dataclass(frozen=True, kw_only=True)
class Right:
    """
    The right answer for one series.

    `hu` is in ascending order along the normal; None where the series must be refused, with
    `error`. `points_mm` says where voxel [0, 0] of each slice lies.
    """

    classes: tuple[str, ...] = ("regular",)
    slices: int = 8
    step_mm: float | None = 2.0
    hu: Any = None
    points_mm: Any = None
    error: type[Exception] | None = None


@dataclass(frozen=True, kw_only=True)
class Fixture:
    """Files, and the right answer for each series in them, most slices first."""

    files: dict[str, bytes]
    series: tuple[Right, ...]
    skipped: dict[str, int] = field(default_factory=dict)


def heights(values: Any) -> Any:
    """Points straight above one another at these heights."""
    return ORIGIN + np.multiply.outer(np.asarray(values, float), [0.0, 0.0, 1.0])


STRAIGHT = heights(np.arange(8) * 2.0)


def put(**values: Any) -> Callable[[Any], None]:
    """Edit that sets elements of a slice."""

    def edit(ds: Any) -> None:
        for keyword, value in values.items():
            setattr(ds, keyword, value)

    return edit


def plain(**options: Any) -> Fixture:
    """Eight slices 2 mm apart, written with some options that must change nothing."""
    return Fixture(files=ct_series(WORDS, **options), series=(Right(hu=HU, points_mm=STRAIGHT),))


def at(values: Any, classes: tuple[str, ...], step_mm: float) -> Fixture:
    """Slices at these heights."""
    points = heights(values)
    words = np.resize(WORDS, (len(points), 16, 20))
    return Fixture(
        files=ct_series(words, positions_mm=points),
        series=(
            Right(
                classes=classes,
                slices=len(points),
                step_mm=step_mm,
                hu=words.astype(float) - 1024,
                points_mm=points,
            ),
        ),
    )


def shuffled_names() -> Fixture:
    files = ct_series(WORDS)
    names = sorted(files, key=lambda name: name[::-1])
    return Fixture(
        files={f"{n * 5 % 8}": files[name] for n, name in enumerate(names)},
        series=(Right(hu=HU, points_mm=STRAIGHT),),
    )


def repeated() -> Fixture:
    files = ct_series(WORDS)
    copy = ct_slice(WORDS[3], position_mm=STRAIGHT[3], instance_uid="1.2.3.99")
    return Fixture(
        files={**files, "copy": copy},
        series=(Right(classes=("duplicate",), hu=HU, points_mm=STRAIGHT),),
    )


def other_instances(files: dict[str, bytes]) -> dict[str, bytes]:
    """Same files under other names and instance UIDs: one UID twice is one instance sent twice."""
    return {f"b{name}": blob.replace(b".498.1.3.", b".498.1.4.") for name, blob in files.items()}


def two_acquisitions() -> Fixture:
    first = ct_series(WORDS, edits=dict.fromkeys(range(8), put(AcquisitionNumber=1)))
    second = ct_series(WORDS + 1, edits=dict.fromkeys(range(8), put(AcquisitionNumber=2)))
    kind = {"classes": ("multi_acquisition",), "points_mm": STRAIGHT}
    return Fixture(
        files={**first, **other_instances(second)},
        series=(Right(hu=HU, **kind), Right(hu=HU + 1, **kind)),
    )


def two_kernels() -> Fixture:
    other = ct_series(WORDS + 1, edits=dict.fromkeys(range(8), put(ConvolutionKernel="B31f")))
    kind = {"classes": ("multi_acquisition",), "points_mm": STRAIGHT}
    return Fixture(
        files={**ct_series(WORDS), **{f"b{name}": blob for name, blob in other.items()}},
        series=(Right(hu=HU, **kind), Right(hu=HU + 1, **kind)),
    )


def nothing_tells_apart() -> Fixture:
    return Fixture(
        files={**ct_series(WORDS), **other_instances(ct_series(WORDS + 1))},
        series=(Right(classes=("multi_acquisition",), error=GeometryError),),
    )


def tilted(degrees: float) -> Fixture:
    """A gantry turned about the row axis while the table moves along z; the tag is absent."""
    angle = math.radians(degrees)
    files = ct_series(
        WORDS,
        positions_mm=STRAIGHT,
        orientation=(1.0, 0.0, 0.0, 0.0, math.cos(angle), math.sin(angle)),
    )
    right = Right(classes=("tilted",), step_mm=2.0 * math.cos(angle), hu=HU, points_mm=STRAIGHT)
    return Fixture(files=files, series=(right,))


def with_odd(odd: bytes, reason: str) -> Fixture:
    """A plain series with one file that does not belong."""
    classes = ("mixed_orientation",) if "orientation" in reason else ("regular",)
    return Fixture(
        files={**ct_series(WORDS), "odd": odd},
        series=(Right(classes=classes, hu=HU, points_mm=STRAIGHT),),
        skipped={reason: 1},
    )


def turned(orientation: tuple[float, ...], classes: tuple[str, ...] = ("regular",)) -> Fixture:
    normal = np.cross(orientation[:3], orientation[3:])
    points = ORIGIN + np.multiply.outer(np.arange(8) * 2.0, normal)
    return Fixture(
        files=ct_series(WORDS, orientation=orientation),
        series=(Right(classes=classes, hu=HU, points_mm=points),),
    )


def scaled(slope: float, intercept: float, **options: Any) -> Fixture:
    expected = np.rint(np.float32(slope) * WORDS.astype(np.float32) + np.float32(intercept))
    return Fixture(
        files=ct_series(WORDS, slope=slope, intercept=intercept, **options),
        series=(Right(hu=expected, points_mm=STRAIGHT),),
    )


def scaled_by_slice() -> Fixture:
    slopes = [1.0, 0.5, 2.0, 1.5, 1.0, 0.25, 1.0, 3.0]
    edits = {z: put(RescaleSlope=str(slope)) for z, slope in enumerate(slopes)}
    expected = np.rint(np.array(slopes)[:, None, None] * WORDS - 1024)
    return Fixture(
        files=ct_series(WORDS, edits=edits), series=(Right(hu=expected, points_mm=STRAIGHT),)
    )


def padded(values: Any, expected: Any, **options: Any) -> Fixture:
    """Two rows of padding around stored values; -1024 HU is right for them."""
    words = np.array(WORDS)
    words[:, :2] = np.asarray(values).astype(np.int64).astype(np.uint16)
    hu = words.view(np.int16).astype(float) if options.get("signed") else words.astype(float)
    hu += options.get("intercept", -1024.0)
    hu[:, :2] = expected
    return Fixture(files=ct_series(words, **options), series=(Right(hu=hu, points_mm=STRAIGHT),))


def twelve_bit_signed() -> Fixture:
    values = WORDS.astype(int) - 2048
    right = np.where(values < -1500, -1024, values)  # no tissue is darker
    words = (values & 0x0FFF).astype(np.uint16)  # not sign-extended
    return Fixture(
        files=ct_series(words, signed=True, bits_stored=12, intercept=0.0, padding=-2048),
        series=(Right(hu=right, points_mm=STRAIGHT),),
    )


def beyond_fifteen_bits() -> Fixture:
    words = (WORDS + 40_000).astype(np.uint16)
    return Fixture(
        files=ct_series(words, intercept=-40_000.0),
        series=(Right(hu=words.astype(float) - 40_000, points_mm=STRAIGHT),),
    )


def enhanced() -> Fixture:
    return Fixture(
        files={"one": enhanced_file(WORDS[::-1], STRAIGHT[::-1])},
        series=(Right(hu=HU, points_mm=STRAIGHT),),
    )


def truncated() -> Fixture:
    files = ct_series(WORDS)
    name = name_of(files, 4)
    return Fixture(files={**files, name: files[name][:-100]}, series=(Right(error=TruncatedError),))


def no_preamble() -> Fixture:
    files = {name: blob[132:] for name, blob in ct_series(WORDS).items()}
    return Fixture(
        files=files,
        series=(Right(classes=("unreadable",), slices=0, step_mm=None, error=FormatError),),
    )


def other_matrix() -> Fixture:
    odd = ct_slice(np.ones((10, 20), np.uint16), position_mm=STRAIGHT[3], instance_uid="1.2.3.99")
    short = Right(classes=("short", "split"), slices=1, step_mm=1.25, error=GeometryError)
    return Fixture(
        files={**ct_series(WORDS), "odd": odd},
        series=(Right(classes=("split",), hu=HU, points_mm=STRAIGHT), short),
    )


def no_position() -> Fixture:
    def edit(ds: Any) -> None:
        del ds.ImagePositionPatient
        ds.SliceLocation = "1.0"

    right = Right(classes=("no_position",), step_mm=None, error=GeometryError)
    return Fixture(files=ct_series(WORDS, edits=dict.fromkeys(range(8), edit)), series=(right,))


def whole_body() -> Fixture:
    words = random_words((1747, 2, 2), seed=6)
    points = heights(np.arange(1747) * 0.625)
    return Fixture(
        files=ct_series(words, positions_mm=points),
        series=(
            Right(slices=1747, step_mm=0.625, hu=words.astype(float) - 1024, points_mm=points),
        ),
    )


def study_with_radiographs() -> Fixture:
    digital = put(SOPClassUID="1.2.840.10008.5.1.4.1.1.1.1", Modality="DX")
    radiographs = ct_series(WORDS[:2], series_uid="1.2.3", edits=dict.fromkeys(range(2), digital))
    return Fixture(
        files={**ct_series(WORDS), **{f"b{name}": blob for name, blob in radiographs.items()}},
        series=(Right(hu=HU, points_mm=STRAIGHT),),
        skipped={"modality DX": 2},
    )


def junk() -> Fixture:
    files = ct_series(WORDS)
    for number in range(300):
        files[f"notes-{number}.json"] = b'{"slices": 8}'
        files[f"thumb-{number}"] = b"\xff\xd8\xff\xe0" + bytes(number)
        files[f"empty-{number}"] = b""
    files["DICOMDIR"] = ct_slice(WORDS[0], edit=put(SOPClassUID="1.2.840.10008.1.3.10"))
    return Fixture(
        files=files,
        series=(Right(hu=HU, points_mm=STRAIGHT),),
        skipped={"not DICOM": 600, "an empty file": 300, "a DICOMDIR": 1},
    )


def two_series_of_empty_uids() -> Fixture:
    """Told apart by their number; without, they would be one series with a gap."""

    def numbered(number: int) -> Callable[[Any], None]:
        def edit(ds: Any) -> None:
            EMPTY(ds)
            ds.SeriesNumber = number

        return edit

    above = STRAIGHT + np.array([0.0, 0.0, 20.0])
    first = ct_series(WORDS, edits=dict.fromkeys(range(8), numbered(3)))
    second = ct_series(
        WORDS[:7] + 1, positions_mm=above, edits=dict.fromkeys(range(7), numbered(4))
    )
    rights = (
        Right(hu=HU, points_mm=STRAIGHT),
        Right(slices=7, hu=HU[:7] + 1, points_mm=above[:7]),
    )
    return Fixture(files={**first, **other_instances(second)}, series=rights)


def guids() -> Fixture:
    guid = b"{3F2504E0-4F89-11D3-9A0C-0305E82C3301}"
    uid = b"1." + b"7" * (len(guid) - 2)  # pydicom writes no GUID as a UID
    plain_one = plain(series_uid=uid.decode())
    files = {name: blob.replace(uid, guid) for name, blob in plain_one.files.items()}
    return Fixture(files=files, series=plain_one.series)


def localizer() -> bytes:
    return ct_slice(
        WORDS[0],
        orientation=CORONAL,
        instance_uid="1.2.3.99",
        edit=put(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
    )


EMPTY = put(SeriesInstanceUID="", StudyInstanceUID="", SOPInstanceUID="", FrameOfReferenceUID="")
TEN = math.radians(10)
SYNTAXES = {
    "implicit": IMPLICIT, "explicit": EXPLICIT, "big endian": BIG_ENDIAN, "deflated": DEFLATED,
    "rle": RLE, "jpeg lossless": JPEG_LOSSLESS, "jpeg lossless sv1": JPEG_LOSSLESS_SV1,
    "jpeg ls": JPEG_LS, "jpeg 2000": J2K_LOSSLESS, "htj2k": HTJ2K_LOSSLESS,
}  # fmt: skip
HALF_MISSING = [0, 2, 4, 6, 8, 10, 20, 22, 24, 26]

_MAKERS: dict[str, Callable[[], Fixture]] = {
    "regular": plain,
    "oblong pixels": lambda: plain(pixel_spacing_mm=(0.9, 0.5)),
    "instance numbers descend": plain,  # `ct_series` always writes them so
    "file names are shuffled": shuffled_names,
    "one instance number": lambda: plain(number=1),
    "a slice lies there twice": repeated,
    "two acquisitions": two_acquisitions,
    "two kernels": two_kernels,
    "two images everywhere": nothing_tells_apart,
    "one slice missing": lambda: at([0, 2, 4, 8, 10, 12], ("gap",), 2.0),
    "a block missing": lambda: at(HALF_MISSING, ("gap",), 2.0),
    "two protocols": lambda: at([0, 2.5, 5, 7.5, 15, 22.5, 30, 37.5], ("variable",), 7.5),
    "rounded steps": lambda: at(
        np.arange(8) * 2 + np.array([0, 1, -1, 0, 1, 0, -1, 0]) / 1000, ("regular",), 2.0
    ),
    "tilted": lambda: tilted(13.5),
    "tilted back": lambda: tilted(-13.5),
    "a localizer inside": lambda: with_odd(localizer(), "a localizer"),
    "a sagittal slice inside": lambda: with_odd(
        ct_slice(WORDS[0], orientation=SAGITTAL, instance_uid="1.2.3.99"), "another orientation"
    ),
    "oblique": lambda: turned((1.0, 0.0, 0.0, 0.0, math.cos(TEN), math.sin(TEN)), ("not_axial",)),
    "sagittal": lambda: turned(SAGITTAL, ("not_axial",)),
    "coronal": lambda: turned(CORONAL, ("not_axial",)),
    "feet first": lambda: turned((-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)),
    "prone": lambda: turned((-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)),
    "decubitus": lambda: turned((0.0, 1.0, 0.0, -1.0, 0.0, 0.0)),
    "slope 0.5": lambda: scaled(0.5, -1024.0),
    "slope 1.000061": lambda: scaled(1.000061, -1000.5),
    "a slope each": scaled_by_slice,
    "undeclared padding": lambda: padded(-2000, -1024, signed=True, intercept=0.0),
    "padding range": lambda: padded(
        -2500, -1024, signed=True, intercept=0.0, padding=-3024, padding_limit=-2000
    ),
    "padding unsigned": lambda: padded(63536, -1024, padding=63536, intercept=-1024.0),
    "12 bits signed": twelve_bit_signed,
    "16 bits unsigned": beyond_fifteen_bits,
    "enhanced": enhanced,
    "truncated": truncated,
    "no preamble": no_preamble,
    "another matrix": other_matrix,
    "two slices": lambda: Fixture(
        files=ct_series(WORDS[:2]),
        series=(Right(classes=("short",), slices=2, error=GeometryError),),
    ),
    "no position": no_position,
    "1747 slices": whole_body,
    "radiographs beside": study_with_radiographs,
    "900 other files": junk,
    "empty UIDs": lambda: plain(edits=dict.fromkeys(range(8), EMPTY)),
    "two series of empty UIDs": two_series_of_empty_uids,
    "GUIDs": guids,
    **{
        f"syntax {name}": lambda syntax=syntax: plain(transfer_syntax=syntax)
        for name, syntax in SYNTAXES.items()
    },
}
FIXTURES = tuple(_MAKERS)


@cache
def fixture(name: str) -> Fixture:
    """One of `FIXTURES`, written once."""
    return _MAKERS[name]()
