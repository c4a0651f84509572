"""
Whether an output still decodes to what its record says.

Covers the formats that `fastlung.io.writer` writes. Sizes and checksums are compared elsewhere;
this finds what was wrong before they were taken.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
from isal import igzip

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["decoding_problem"]


def decoding_problem(key: str, data: bytes, shape: tuple[int, int, int]) -> str:
    """
    Say what keeps an output from being read.

    Parameters
    ----------
    key : str
        Its key; the ending tells the format.
    data : bytes
        Its contents.
    shape : tuple of int
        Shape ``(z, y, x)`` that an array must have.

    Returns
    -------
    str
        Empty where it decodes, or where the ending is none of ours.
    """
    check = next((check for ending, check in _CHECKS.items() if key.endswith(ending)), None)
    if check is None:
        return ""
    try:
        found = check(data)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - every reader raises its own
        return "does not decode"
    return "" if found in (shape, ()) else f"holds {found} voxels, expected {shape}"


def _npy(data: bytes) -> tuple[int, ...]:
    shape: tuple[int, ...] = np.load(io.BytesIO(data), allow_pickle=False).shape
    return shape


def _nifti(data: bytes) -> tuple[int, ...]:
    image = nib.Nifti1Image.from_bytes(igzip.decompress(data))
    shape: tuple[int, ...] = np.asanyarray(image.dataobj).shape[::-1]
    return shape


def _json(data: bytes) -> tuple[int, ...]:
    json.loads(data)
    return ()


#: Ending -> what raises for bytes that do not decode, and says the shape of an array.
_CHECKS: dict[str, Callable[[bytes], tuple[int, ...]]] = {
    ".npy": _npy,
    ".nii.gz": _nifti,
    ".json": _json,
}
