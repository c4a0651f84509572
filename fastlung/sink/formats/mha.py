"""
MetaImage, one file an array: ITK's own format, read by SimpleITK, 3D Slicer and LUNA16's tools.

Points are LPS as in DICOM, so the grid's numbers stand in the header as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastlung.sink.formats.deflate import ZLIB, deflated, inflated

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt
    from typing_extensions import Buffer

    from fastlung.scan import Grid

__all__ = ["decode", "encode", "file_names"]

ELEMENT_TYPES = {"int16": "MET_SHORT", "float32": "MET_FLOAT", "uint8": "MET_UCHAR"}
DTYPES = {element: dtype for dtype, element in ELEMENT_TYPES.items()}
#: The last line of every header; voxels follow.
LAST_LINE = b"ElementDataFile = LOCAL\n"


def file_names(arrays: Sequence[str]) -> tuple[str, ...]:
    """``image.mha``, ``mask.mha``."""
    return tuple(f"{name}.mha" for name in arrays)


def encode(
    arrays: Mapping[str, npt.NDArray[Any]], grid: Grid, meanings: Mapping[str, str]
) -> dict[str, Sequence[Buffer]]:
    """Arrays as files; see `Format`."""
    files: dict[str, Sequence[Buffer]] = {}
    for name, array in arrays.items():
        packed = deflated([np.ascontiguousarray(array).data.cast("B")], ZLIB)
        header = _header(array, grid, meanings[name], sum(map(len, packed)))
        files[f"{name}.mha"] = [header, *packed]
    return files


def _header(array: npt.NDArray[Any], grid: Grid, meaning: str, packed_size: int) -> bytes:
    fields = {
        "ObjectType": "Image",
        "NDims": "3",
        "Comment": meaning,
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "True",
        "CompressedDataSize": str(packed_size),
        # One axis after the other: the columns of `direction`.
        "TransformMatrix": _numbers(np.transpose(grid.direction).ravel().tolist()),
        "Offset": _numbers(grid.origin_mm),
        "CenterOfRotation": "0 0 0",
        "ElementSpacing": _numbers(grid.spacing_mm[::-1]),
        "DimSize": " ".join(map(str, array.shape[::-1])),
        "ElementType": ELEMENT_TYPES[array.dtype.name],
    }
    return "".join(f"{name} = {value}\n" for name, value in fields.items()).encode() + LAST_LINE


def _numbers(values: Iterable[float]) -> str:
    return " ".join(repr(float(value)) for value in values)


def decode(files: Mapping[str, bytes]) -> dict[str, npt.NDArray[Any]]:
    """Files as arrays; see `Format`."""
    arrays = {}
    for name, data in files.items():
        end = data.index(LAST_LINE)
        lines = data[:end].decode().splitlines()
        fields = dict(line.split(" = ", 1) for line in lines)
        shape = tuple(int(size) for size in reversed(fields["DimSize"].split()))
        voxels = inflated(memoryview(data)[end + len(LAST_LINE) :], ZLIB)
        flat = np.frombuffer(voxels, DTYPES[fields["ElementType"]])
        arrays[name.removesuffix(".mha")] = flat.reshape(shape).copy()
    return arrays
