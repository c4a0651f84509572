"""Headers of NIfTI-1 and NIfTI-2 in one file, compressed or not; no pairs of .hdr and .img."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from isal import isal_zlib
from nibabel import Nifti1Header, Nifti2Header
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from fastlung.errors import FormatError, MetadataError, UnsupportedError
from fastlung.source.voxels import DAMAGED_STREAM, GZIP_MAGIC, VolumeHeader, grid_of

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["is_nifti", "read_nifti_header"]

HEAD_BYTES = 540
GZIP_WINDOW_BITS = 31
#: sform_code of a file that says where voxels lie in the scanner.
SCANNER = 1
#: How far axes may be from right angles, as products of unit vectors, for an sform beside a qform.
ROTATION_TOLERANCE = 1e-3
#: Axes of sform and qform whose cosines differ by less are the same, and origins in millimetres.
SIMILAR = 1e-4
ORIGIN_TOLERANCE_MM = 0.1
#: Sizes of voxels that differ by less are one, relative to the largest.
SIZE_TOLERANCE = 1e-3
MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}


def is_nifti(blob: bytes) -> bool:
    """Whether a file, or what a gzip file holds, begins as NIfTI does."""
    head = _head(blob)
    return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] == b"n+2\0"


def read_nifti_header(blob: bytes) -> VolumeHeader:
    """
    Read a header.

    Parameters
    ----------
    blob : bytes
        The file, or its first 16 KiB.

    Raises
    ------
    FormatError
        If the header cannot be read.
    MetadataError
        If it does not say where the voxels lie in the patient, or says two things.
    UnsupportedError
        If it holds more than one volume, or voxels that are no numbers.
    ScanError
        As `grid_of` does.
    """
    head = _head(blob)
    kind = Nifti2Header if head[4:8] == b"n+2\0" else Nifti1Header
    try:
        # Without what follows it: an extension may be longer than the part of the file at hand.
        header = kind(head[: kind.template_dtype.itemsize], check=False)
        shape = header.get_data_shape()
        dtype = header.get_data_dtype()
        slope, intercept = (float(header[name]) for name in ("scl_slope", "scl_inter"))
        affine = _affine(header)
        unit = header.get_xyzt_units()[0]
        offset = max(int(header["vox_offset"]), kind.single_vox_offset)
    except (
        HeaderDataError,
        WrapStructError,
        ValueError,
        KeyError,
        TypeError,
        OverflowError,
    ) as error:
        raise FormatError(f"the NIfTI header cannot be read ({type(error).__name__})") from None
    if any(n != 1 for n in shape[3:]) or dtype.kind not in "iuf":
        raise UnsupportedError("a NIfTI file of several volumes or of colours; expected one scan")
    scaled = math.isfinite(slope) and slope != 0  # 0 stands for "not scaled"
    affine_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    affine_lps[:3] *= MILLIMETRES.get(unit, 1.0)
    return VolumeHeader(
        grid=grid_of(tuple(int(n) for n in shape[:3]), affine_lps),
        dtype=dtype,
        deflated=blob.startswith(GZIP_MAGIC),
        offset=offset,
        slope=slope if scaled else 1.0,
        intercept=intercept if scaled and math.isfinite(intercept) else 0.0,
    )


def _affine(header: Nifti1Header) -> npt.NDArray[np.float64]:
    """
    From voxel index to RAS millimetres, as ITK 5.4 chooses it: sizes from pixdim, in every case.

    Axes come from the sform where it is a rotation, and comes from the scanner, or says nearly what
    the qform says but for the sense of axes, or nothing else is there; else from the qform.
    """
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    sizes = np.array(header["pixdim"][1:4], np.float64)
    if sform_code <= 0 and qform_code <= 0:
        raise MetadataError(
            "a NIfTI file that does not say where it lies (sform_code and qform_code are 0), so "
            "that left and right cannot be told; convert the scan again from its DICOM files"
        )
    if not (np.isfinite(sizes).all() and (sizes > 0).all()):
        raise MetadataError(
            f"pixdim holds {', '.join(f'{size:g}' for size in sizes)}, expected three sizes of a "
            "voxel; convert the scan again from its DICOM files"
        )
    sform: npt.NDArray[np.float64] = np.array(header.get_sform(), np.float64)
    from_sform = sform_code > 0 and (
        qform_code <= 0
        or (
            _is_rotation(sform)
            and (sform_code == SCANNER or _is_similar(sform, header.get_qform()))
        )
    )
    if from_sform:
        lengths = np.linalg.norm(sform[:3, :3], axis=0)
        if np.abs(lengths - sizes).max() <= SIZE_TOLERANCE * sizes.max():
            return sform
        _check_sizes(lengths, sizes, qform_code)
        axes = sform[:3, :3] / lengths
        sform[:3, :3] = axes * sizes
        return sform
    qform: npt.NDArray[np.float64] = np.array(header.get_qform(), np.float64)
    return qform


def _is_rotation(affine: npt.NDArray[np.float64]) -> bool:
    """Whether axes stand at right angles, and none is missing."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.isfinite(affine).all() and (lengths > 0).all()):
        return False
    axes = affine[:3, :3] / lengths
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() < ROTATION_TOLERANCE)


def _is_similar(sform: npt.NDArray[np.float64], qform: npt.NDArray[np.float64]) -> bool:
    """Whether two have one origin, and the same axes whichever way these run."""
    of_sform, other = (
        form[:3, :3] / np.linalg.norm(form[:3, :3], axis=0) for form in (sform, qform)
    )
    turned = np.abs(np.abs(of_sform.T @ other) - np.eye(3)).max()
    apart_mm = np.abs(sform[:3, 3] - qform[:3, 3]).max()
    return bool(turned < SIMILAR and apart_mm < ORIGIN_TOLERANCE_MM)


def _check_sizes(
    lengths: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64], qform_code: int
) -> None:
    """Refuse a header whose sform has other voxels than pixdim, unless a qform bears pixdim out."""
    if qform_code > 0 and not (sizes == 1.0).all():
        return
    told, other = (" x ".join(f"{n:.4g}" for n in numbers) for numbers in (lengths, sizes))
    raise MetadataError(
        f"the sform has voxels of {told} mm and pixdim of {other}: which is right cannot be told; "
        "convert the scan again from its DICOM files"
    )


def _head(blob: bytes) -> bytes:
    if not blob.startswith(GZIP_MAGIC):
        return bytes(blob[:HEAD_BYTES])
    try:
        head: bytes = isal_zlib.decompressobj(GZIP_WINDOW_BITS).decompress(blob, HEAD_BYTES)
    except DAMAGED_STREAM:
        return b""
    return head
