"""NIfTI-1, one gzipped file an array: what nibabel, ITK, MONAI, nnU-Net and viewers read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from fastlung.sink.formats.deflate import GZIP, deflated, inflated

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    from typing_extensions import Buffer

    from fastlung.scan import Grid

__all__ = ["decode", "encode", "file_names"]

SUFFIX = ".nii.gz"
#: Characters that the header has for a description.
DESCRIPTION = 79


def file_names(arrays: Sequence[str]) -> tuple[str, ...]:
    """``image.nii.gz``, ``mask.nii.gz``."""
    return tuple(name + SUFFIX for name in arrays)


def encode(
    arrays: Mapping[str, npt.NDArray[Any]], grid: Grid, meanings: Mapping[str, str]
) -> dict[str, Sequence[Buffer]]:
    """Arrays as files; see `Format`. The affine is RAS, as the format has it."""
    return {
        name + SUFFIX: deflated(
            # The first index runs fastest: a (z, y, x) C array already lies there as (x, y, z).
            [_header(array, grid, meanings[name]), np.ascontiguousarray(array).data.cast("B")],
            GZIP,
        )
        for name, array in arrays.items()
    }


def _header(array: npt.NDArray[Any], grid: Grid, meaning: str) -> bytes:
    header = nib.Nifti1Header()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape[::-1])
    header.set_zooms(grid.spacing_mm[::-1])
    header.set_xyzt_units("mm")
    header.set_qform(grid.affine_ras, code="scanner")
    header.set_sform(grid.affine_ras, code="scanner")
    header.set_slope_inter(1.0, 0.0)
    header["descrip"] = meaning[:DESCRIPTION].encode("ascii")
    header["magic"] = b"n+1"  # one file: header, four bytes "no extensions", voxels
    header["vox_offset"] = header.sizeof_hdr + 4
    block: bytes = header.binaryblock
    return block + bytes(4)


def decode(files: Mapping[str, bytes]) -> dict[str, npt.NDArray[Any]]:
    """Files as arrays; see `Format`."""
    arrays = {}
    for name, data in files.items():
        image = nib.Nifti1Image.from_bytes(inflated(data, GZIP))
        arrays[name.removesuffix(SUFFIX)] = np.array(image.dataobj.get_unscaled().T, order="C")
    return arrays
