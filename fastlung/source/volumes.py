"""
Volumes that are one array already, MetaImage and NIfTI files, as scans.

From here on they go the way of a DICOM series: an index of what is there, then a `RawScan`, whose
stored words are Hounsfield units. The formats themselves are `metaimage` and `nifti`.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import numpy as np

from fastlung.dicom.headers import LFS_POINTER
from fastlung.dicom.series import SeriesHeaders, SeriesIndex
from fastlung.errors import FormatError, MetadataError, ScanError
from fastlung.limits import beyond, limits_in_force
from fastlung.scan import RawScan, SliceScale, Verdict
from fastlung.source.metaimage import is_metaimage, read_metaimage_header
from fastlung.source.nifti import is_nifti, read_nifti_header
from fastlung.source.voxels import voxels_of
from fastlung.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from fastlung.source.voxels import VolumeHeader

__all__ = ["HEAD_BYTES", "index_volume", "load_volume"]


#: Enough of a file for its header; headers are a few hundred bytes.
HEAD_BYTES = 16 * 1024

#: A chest holds air. Without a voxel this dark it is a mask or a picture, or not in HU.
AIR_HU = -200

SMALLEST_HU, LARGEST_HU = -32767, 32767  # -32768 marks voxels that were never measured


def index_volume(blobs: Mapping[str, bytes]) -> SeriesIndex:
    """
    Read the header of a volume.

    Parameters
    ----------
    blobs : mapping of str to bytes
        Key to bytes: one file, or a header and its data. The first `HEAD_BYTES` of each suffice.

    Returns
    -------
    SeriesIndex
        One series without slice headers, its SeriesInstanceUID from a file name that is one (as
        in LUNA16); or none, and why.
    """
    key = _header_key(blobs)
    try:
        header = _header(blobs[key])
    except ScanError as error:
        loss = type(error)(f"{printable(key.rpartition('/')[2])} cannot be read: {error}")
        return SeriesIndex(series=(), skipped={key: str(error)}, broken=(key,), loss=loss)
    if header.dtype.itemsize == 1 and not header.scaled:
        reason = "a volume of 8-bit voxels: a mask or a picture, not Hounsfield units"
        return SeriesIndex(series=(), skipped=dict.fromkeys(blobs, reason))
    grid, problem = header.grid, None
    size_bytes = 2 * math.prod(grid.shape)
    if size_bytes > limits_in_force().scan_bytes:
        problem = beyond("scan_bytes", f"{grid.shape} voxels, {size_bytes:,} bytes")
    uid = re.search(r"(?:^|/)([0-9][0-9.]{0,63})\.[a-z]+(?:\.gz)?$", key.lower())
    series = SeriesHeaders(
        series_uid=uid[1] if uid else "",
        headers=(),
        verdict=Verdict(),
        grid=grid,
        slice_positions_mm=np.arange(grid.shape[0], dtype=np.float64) * grid.spacing_mm[0],
        acquisition={},
        transfer_syntaxes={},
        keys=tuple(blobs),
        problem=problem,
        loader=load_volume,
    )
    return SeriesIndex(series=(series,), skipped={})


def load_volume(
    series: SeriesHeaders,
    blobs: Mapping[str, bytes | memoryview],
    *,
    threads: int = 1,  # noqa: ARG001 -- one array is read by one thread
) -> RawScan:
    """
    Read the voxels of a volume.

    Parameters
    ----------
    series : SeriesHeaders
        From `index_volume`.
    blobs : mapping of str to bytes or memoryview
        The same files, whole.
    threads : int
        As `SeriesHeaders.load`.

    Returns
    -------
    RawScan
        Its 16-bit words are Hounsfield units, rounded half to even, whatever the file held.

    Raises
    ------
    ScanError
        `series.problem`, or a subclass for voxels that are missing, damaged or no Hounsfield
        units.
    """
    if series.problem is not None:
        raise type(series.problem)(str(series.problem))
    files = {key: bytes(blob) for key, blob in blobs.items()}
    key = _header_key(files)
    header = _header(files[key])
    beside = [blob for other, blob in files.items() if other != key]
    if header.beside and len(beside) != 1:
        raise FormatError(
            f"{len(beside)} data files beside the header; expected one .raw or .zraw of its name"
        )
    hu = _hounsfield(voxels_of(header, beside[0] if header.beside else files[key]))
    slices = len(hu)
    scale = SliceScale(
        shift=np.zeros(slices, np.uint8),
        bits_stored=np.full(slices, 16, np.uint8),
        signed=np.ones(slices, np.bool_),
        slope=np.ones(slices, np.float32),
        intercept=np.zeros(slices, np.float32),
        padding_low=np.ones(slices, np.int32),  # an empty range: no padding value is known
        padding_high=np.zeros(slices, np.int32),
    )
    return RawScan(
        series_uid=series.series_uid,
        stored=hu.view(np.uint16),
        scale=scale,
        grid=header.grid,
        slice_positions_mm=series.slice_positions_mm,
        verdict=series.verdict,
        acquisition=series.acquisition,
    )


def _header_key(blobs: Mapping[str, bytes]) -> str:
    """Key of the file with the header; by content, because keys may be pseudonyms."""
    found = [key for key, blob in blobs.items() if is_metaimage(blob) or is_nifti(blob)]
    return found[0] if found else next(iter(blobs))


def _header(blob: bytes) -> VolumeHeader:
    if is_metaimage(blob):
        return read_metaimage_header(blob)
    if is_nifti(blob):
        return read_nifti_header(blob)
    if blob.startswith(LFS_POINTER):
        raise FormatError("a Git LFS pointer, not the volume itself; `git lfs pull` fetches it")
    if not blob.strip(b"\0"):
        what = "zeros only" if blob else "an empty file"
        raise FormatError(f"{what}, as a transfer that broke off leaves it; fetch it again")
    raise FormatError(
        "neither MetaImage nor NIfTI in one file, whatever its name says; fetch or convert it again"
    )


def _hounsfield(voxels: npt.NDArray[np.generic]) -> npt.NDArray[np.int16]:
    """Voxels as int16, rounded half to even and saturated; refused if nothing is air."""
    darkest = float(voxels.min())
    if not darkest <= AIR_HU:  # NaN compares as False
        raise MetadataError(
            f"the darkest voxel is {darkest:g}, expected air below {AIR_HU} HU: a mask, another "
            "modality, or values that are not Hounsfield units"
        )
    hu = np.empty(voxels.shape, np.int16)
    for out, plane in zip(hu, voxels, strict=True):  # by slice, to need no second volume
        out[:] = np.clip(np.rint(plane), SMALLEST_HU, LARGEST_HU)
    return hu
