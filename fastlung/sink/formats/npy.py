"""NumPy's own format, one file an array: the fastest to write and to read, and the largest."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    from typing_extensions import Buffer

    from fastlung.scan import Grid

__all__ = ["decode", "encode", "file_names", "pieces_of"]


def file_names(arrays: Sequence[str]) -> tuple[str, ...]:
    """``image.npy``, ``mask.npy``."""
    return tuple(f"{name}.npy" for name in arrays)


def encode(
    arrays: Mapping[str, npt.NDArray[Any]], _grid: Grid, _meanings: Mapping[str, str]
) -> dict[str, Sequence[Buffer]]:
    """Arrays as files; see `Format`. The format has no place for a grid."""
    return {f"{name}.npy": pieces_of(array) for name, array in arrays.items()}


def decode(files: Mapping[str, bytes]) -> dict[str, npt.NDArray[Any]]:
    """Files as arrays; see `Format`."""
    return {
        name.removesuffix(".npy"): np.load(io.BytesIO(data), allow_pickle=False)
        for name, data in files.items()
    }


def pieces_of(array: npt.NDArray[Any]) -> list[Buffer]:
    """Header, and the voxels without a copy where they are C-contiguous (as results are)."""
    whole = np.ascontiguousarray(array)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(whole))
    return [header.getvalue(), whole.data.cast("B")]
