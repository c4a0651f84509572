"""Headers of NIfTI-1 and NIfTI-2 in one file, compressed or not; no pairs of .hdr and .img."""

from __future__ import annotations

import io

import numpy as np
from isal import isal_zlib
from nibabel import Nifti1Header, Nifti2Header
from nibabel.spatialimages import HeaderDataError

from fastlung.errors import FormatError, MetadataError, UnsupportedError
from fastlung.source.voxels import DAMAGED_STREAM, GZIP_MAGIC, VolumeHeader, grid_of

__all__ = ["is_nifti", "read_nifti_header"]

HEAD_BYTES = 540
GZIP_WINDOW_BITS = 31
MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}


def is_nifti(blob: bytes) -> bool:
    """Whether a file, or what a gzip file holds, begins as NIfTI does."""
    head = _head(blob)
    return head[344:348] == b"n+1\0" or head[4:8] == b"n+2\0"


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
        If it does not say where the voxels lie in the patient.
    UnsupportedError
        If it holds more than one volume, or voxels that are no numbers.
    ScanError
        As `grid_of` does.
    """
    head = _head(blob)
    kind = Nifti2Header if head[4:8] == b"n+2\0" else Nifti1Header
    try:
        header = kind.from_fileobj(io.BytesIO(head), check=False)
        shape = header.get_data_shape()
        dtype = header.get_data_dtype()
        slope, intercept = header.get_slope_inter()
        affine = header.get_best_affine()
        unit = header.get_xyzt_units()[0]
        offset = max(int(header.get_data_offset()), kind.single_vox_offset)
    except (HeaderDataError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise FormatError(f"the NIfTI header cannot be read ({type(error).__name__})") from None
    if int(header["sform_code"]) <= 0 and int(header["qform_code"]) <= 0:
        raise MetadataError(
            "a NIfTI file that does not say where it lies (sform_code and qform_code are 0), so "
            "that left and right cannot be told; convert the scan again from its DICOM files"
        )
    if any(n != 1 for n in shape[3:]) or dtype.kind not in "iuf":
        raise UnsupportedError("a NIfTI file of several volumes or of colours; expected one scan")
    affine_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    affine_lps[:3] *= MILLIMETRES.get(unit, 1.0)
    return VolumeHeader(
        grid=grid_of(tuple(int(n) for n in shape[:3]), affine_lps),
        dtype=dtype,
        deflated=blob.startswith(GZIP_MAGIC),
        offset=offset,
        slope=1.0 if slope is None else float(slope),
        intercept=0.0 if intercept is None else float(intercept),
    )


def _head(blob: bytes) -> bytes:
    if not blob.startswith(GZIP_MAGIC):
        return bytes(blob[:HEAD_BYTES])
    try:
        head: bytes = isal_zlib.decompressobj(GZIP_WINDOW_BITS).decompress(blob, HEAD_BYTES)
    except DAMAGED_STREAM:
        return b""
    return head
