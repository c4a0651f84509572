"""
Small valid CT series, written with pydicom when a test asks for them.

`ct_slice` gives the bytes of one file, `ct_series` those of a series. Pixels are *stored words*:
nothing here applies a slope. Values that should differ from one slice to the next, or break one,
go through `edit`, which gets the data set before it is written.
"""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage
from rle.utils import encode_array

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.70"
JPEG_LS = "1.2.840.10008.1.2.4.80"
J2K_LOSSLESS = "1.2.840.10008.1.2.4.90"
HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"
RLE = "1.2.840.10008.1.2.5"
JPEG_XL_LOSSLESS = "1.2.840.10008.1.2.4.110"
DEFLATED_FRAME = "1.2.840.10008.1.2.8.1"
NATIVE = (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED)
LOSSLESS = (JPEG_LOSSLESS, JPEG_LOSSLESS_SV1, JPEG_LS, J2K_LOSSLESS, HTJ2K_LOSSLESS, RLE)

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SERIES_UID = "1.2.826.0.1.3680043.8.498.1"


def encode(words: Any, transfer_syntax: str) -> bytes:
    """One compressed frame of stored words, shape (y, x), uint16 or uint8."""
    words = np.ascontiguousarray(words)
    bits = 8 * words.itemsize
    if transfer_syntax == RLE:
        return next(
            iter(
                encode_array(
                    words,
                    rows=words.shape[0],
                    columns=words.shape[1],
                    samples_per_pixel=1,
                    bits_allocated=bits,
                    number_of_frames=1,
                    byteorder="<",
                )
            )
        )
    encoders = {
        JPEG_BASELINE: lambda: imagecodecs.jpeg8_encode(words, level=95),
        # Two independent encoders, so that the decoder is not only held against its own kin.
        JPEG_LOSSLESS: lambda: imagecodecs.jpeg8_encode(
            words, lossless=True, predictor=4, bitspersample=bits
        ),
        JPEG_LOSSLESS_SV1: lambda: imagecodecs.ljpeg_encode(words, bitspersample=bits),
        JPEG_LS: lambda: imagecodecs.jpegls_encode(words),
        J2K_LOSSLESS: lambda: imagecodecs.jpeg2k_encode(
            words, level=0, reversible=True, codecformat="J2K"
        ),
        HTJ2K_LOSSLESS: lambda: imagecodecs.htj2k_encode(words),
        JPEG_XL_LOSSLESS: lambda: imagecodecs.jpegxl_encode(words, lossless=True),
        DEFLATED_FRAME: lambda: zlib.compress(words.tobytes(), wbits=-15),
    }
    return bytes(encoders[transfer_syntax]())


def ct_slice(
    words: Any,
    *,
    position_mm: Sequence[float] | None = (0.0, 0.0, 0.0),
    orientation: Sequence[float] | None = AXIAL,
    pixel_spacing_mm: Sequence[float] = (0.7, 0.6),
    slope: float = 1.0,
    intercept: float = -1024.0,
    signed: bool = False,
    bits_stored: int | None = None,
    high_bit: int | None = None,
    padding: int | None = None,
    padding_limit: int | None = None,
    transfer_syntax: str = EXPLICIT,
    fragments: int = 1,
    series_uid: str = SERIES_UID,
    instance_uid: str = "1.2.3.4.1",
    number: int = 1,
    edit: Callable[[Dataset], None] | None = None,
) -> bytes:
    """Bytes of one CT file; `words` has shape (y, x) and dtype uint16 or uint8."""
    words = np.ascontiguousarray(words)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = instance_uid
    meta.TransferSyntaxUID = transfer_syntax
    ds = Dataset()
    ds.file_meta = meta
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = instance_uid
    ds.Modality = "CT"
    ds.Manufacturer = "SYNTHETIC"
    ds.SliceThickness = 1.25
    ds.KVP = 120
    ds.ConvolutionKernel = "B70f"
    ds.PatientPosition = "HFS"
    ds.SeriesInstanceUID = series_uid
    ds.FrameOfReferenceUID = f"{SERIES_UID}.2"
    ds.InstanceNumber = number
    if position_mm is not None:
        ds.ImagePositionPatient = [_decimal(value) for value in position_mm]
    if orientation is not None:
        ds.ImageOrientationPatient = [_decimal(value) for value in orientation]
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = words.shape
    ds.PixelSpacing = [_decimal(value) for value in pixel_spacing_mm]
    ds.BitsAllocated = 8 * words.itemsize
    ds.BitsStored = bits_stored or ds.BitsAllocated
    ds.HighBit = ds.BitsStored - 1 if high_bit is None else high_bit
    ds.PixelRepresentation = int(signed)
    vr = "SS" if signed else "US"
    if padding is not None:
        ds.add_new("PixelPaddingValue", vr, padding)
    if padding_limit is not None:
        ds.add_new("PixelPaddingRangeLimit", vr, padding_limit)
    ds.RescaleIntercept = _decimal(intercept)
    ds.RescaleSlope = _decimal(slope)
    _add_pixels(ds, words, transfer_syntax, fragments)
    if edit is not None:
        edit(ds)
    buffer = io.BytesIO()
    ds.save_as(
        buffer,
        implicit_vr=transfer_syntax == IMPLICIT,
        little_endian=transfer_syntax != BIG_ENDIAN,
        enforce_file_format=True,
    )
    return buffer.getvalue()


def ct_series(
    volume: Any,
    *,
    positions_mm: Sequence[Sequence[float]] | None = None,
    step_mm: float = 2.0,
    origin_mm: Sequence[float] = (-10.0, -20.0, 30.0),
    orientation: Sequence[float] = AXIAL,
    edits: dict[int, Callable[[Dataset], None]] | None = None,
    **options: Any,
) -> dict[str, bytes]:
    """
    Files of a series by name, one for each slice of `volume`, shape (z, y, x).

    Slices lie `step_mm` apart along the normal unless `positions_mm` says otherwise. Names do not
    sort like positions, and instance numbers run against them. `edits` goes by slice.
    """
    normal = np.cross(orientation[:3], orientation[3:])
    names = {}
    for index, words in enumerate(volume):
        position = (
            np.asarray(origin_mm) + index * step_mm * normal
            if positions_mm is None
            else positions_mm[index]
        )
        slice_options = {
            "instance_uid": f"{SERIES_UID}.3.{index + 1}",
            "number": len(volume) - index,
            "edit": (edits or {}).get(index),
            **options,
        }
        name = f"{index * 7919 % 1000:03d}-{index}.dcm"
        names[name] = ct_slice(
            words, position_mm=position, orientation=orientation, **slice_options
        )
    return names


def enhanced_file(
    volume: Any,
    positions_mm: Sequence[Sequence[float]],
    *,
    orientation: Sequence[float] = AXIAL,
    slopes: Sequence[float] | None = None,
    stacks: Sequence[str] | None = None,
    legacy: bool = False,
    transfer_syntax: str = EXPLICIT,
    fragments: int = 1,
    edit: Callable[[Dataset], None] | None = None,
) -> bytes:
    """
    Bytes of a multi-frame file: position and slope of each frame stand in its functional groups.

    What all frames share stands in the shared groups, and at the top level nothing but the matrix.
    `legacy` writes a Legacy Converted file, whose padding stands among unassigned attributes.
    """

    def frames(ds: Dataset) -> None:
        ds.SOPClassUID = f"{CTImageStorage}.{2 if legacy else 1}"
        ds.NumberOfFrames = len(volume)
        shared = _items(PixelMeasures=_values(PixelSpacing=ds.PixelSpacing))
        shared.PlaneOrientationSequence = [_values(ImageOrientationPatient=list(orientation))]
        if legacy:
            padding = Dataset()
            padding.add_new("PixelPaddingValue", "US", 7)
            shared.UnassignedSharedConvertedAttributesSequence = [padding]
        ds.SharedFunctionalGroupsSequence = [shared]
        groups = []
        for number, position in enumerate(positions_mm):
            item = _items(PlanePosition=_values(ImagePositionPatient=list(map(_decimal, position))))
            slope = 1.0 if slopes is None else slopes[number]
            item.PixelValueTransformationSequence = [
                _values(RescaleSlope=slope, RescaleIntercept=-1024, RescaleType="HU")
            ]
            if stacks is not None:
                item.FrameContentSequence = [_values(StackID=stacks[number])]
            groups.append(item)
        ds.PerFrameFunctionalGroupsSequence = groups
        for keyword in (
            "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope",
            "RescaleIntercept",
        ):  # fmt: skip
            if keyword in ds:
                delattr(ds, keyword)
        if transfer_syntax in NATIVE:
            order = ">" if transfer_syntax == BIG_ENDIAN else "<"
            ds.PixelData = np.asarray(volume).astype(f"{order}u2").tobytes()
        else:
            encoded = [encode(words, transfer_syntax) for words in volume]
            ds.PixelData = encapsulate(encoded, fragments_per_frame=fragments)
        if edit is not None:
            edit(ds)

    return ct_slice(volume[0], transfer_syntax=transfer_syntax, edit=frames)


def _values(**values: Any) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _items(**groups: Dataset) -> Dataset:
    return _values(**{f"{name}Sequence": [item] for name, item in groups.items()})


def name_of(files: dict[str, bytes], index: int) -> str:
    """Name under which `ct_series` put slice `index`."""
    return next(name for name in files if name.endswith(f"-{index}.dcm"))


def random_words(shape: tuple[int, ...], seed: int = 0, bits: int = 12) -> Any:
    """Stored words that no codec can guess."""
    return np.random.default_rng(seed).integers(0, 1 << bits, shape).astype(np.uint16)


def _add_pixels(ds: Dataset, words: Any, transfer_syntax: str, fragments: int) -> None:
    if transfer_syntax not in NATIVE:
        frame = encode(words, transfer_syntax)
        ds.PixelData = encapsulate([frame], fragments_per_frame=fragments)
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
        return
    order = ">" if transfer_syntax == BIG_ENDIAN else "<"
    data = words.astype(f"{order}u2").tobytes() if words.itemsize == 2 else words.tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OW" if words.itemsize == 2 or transfer_syntax == IMPLICIT else "OB"


def _decimal(value: float) -> str:
    """As many digits as a decimal string of DICOM, 16 characters, can hold."""
    for digits in range(15, 0, -1):
        text = f"{value:.{digits}g}"
        if len(text) <= 16:
            return text
    raise ValueError(value)
