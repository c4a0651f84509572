"""
Headers of MetaImage: text, and voxels behind it (.mha) or beside it (.mhd with .raw or .zraw).

Read as ITK reads them: the rows of TransformMatrix are the LPS directions of the x, y and z index.
"""

from __future__ import annotations

import re

import numpy as np

from fastlung.errors import FormatError, MetadataError, UnsupportedError
from fastlung.source.voxels import FROM_THE_END, VolumeHeader, grid_of

__all__ = ["is_metaimage", "read_metaimage_header"]

#: ITK writes less than 1 kB; other tools add comments.
LONGEST_HEADER = 16 * 1024
DTYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2",
    "MET_INT": "i4", "MET_UINT": "u4", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
    "MET_LONG": "i4", "MET_ULONG": "u4",
}  # fmt: skip
#: Words for the same thing, the strongest first as MetaIO ranks them, whatever their order in the
#: file. ElementSize is the extent of a voxel, which stands in only where its distance is absent.
SYNONYMS = {
    "offset": ("origin", "offset", "position"),
    "transformmatrix": ("transformmatrix", "rotation", "orientation"),
    "elementspacing": ("elementspacing", "elementsize"),
    "binarydatabyteordermsb": ("binarydatabyteordermsb", "elementbyteordermsb"),
}


def is_metaimage(blob: bytes) -> bool:
    """Whether a file begins as a MetaImage header does."""
    return re.match(rb"\s*(ObjectType|NDims|Comment|ObjectSubType)\s*[=:]", blob[:64]) is not None


def read_metaimage_header(blob: bytes) -> VolumeHeader:
    """
    Read a header.

    Parameters
    ----------
    blob : bytes
        The file, or its first 16 KiB.

    Raises
    ------
    FormatError
        If it is no MetaImage header.
    UnsupportedError
        If the voxels are text, of several channels, or in more than one file.
    ScanError
        As `grid_of` does.
    """
    end = re.search(rb"(?:^|\n)[ \t]*ElementDataFile[ \t]*[=:][^\n]*(\n|$)", blob[:LONGEST_HEADER])
    if end is None:
        raise FormatError("a MetaImage header without ElementDataFile; fetch the file again")
    fields: dict[str, str] = {}
    for line in blob[: end.end()].decode("latin-1").split("\n"):
        name, _, value = line.partition("=" if "=" in line else ":")
        fields[name.strip().lower()] = value.strip()
    for meant, names in SYNONYMS.items():
        found = next((fields[name] for name in names if name in fields), None)
        if found is not None:
            fields[meant] = found
    _refuse_odd(fields)
    shape = tuple(int(n) for n in _numbers(fields, "dimsize", 3))
    direction = np.array(_numbers(fields, "transformmatrix", 9, "1 0 0 0 1 0 0 0 1"))
    affine = np.eye(4)
    affine[:3, :3] = direction.reshape(3, 3).T * _numbers(fields, "elementspacing", 3)
    affine[:3, 3] = _numbers(fields, "offset", 3, "0 0 0")
    beside = fields["elementdatafile"].upper() != "LOCAL"
    order = ">" if _true(fields, "binarydatabyteordermsb") else "<"
    return VolumeHeader(
        grid=grid_of(shape, affine),
        dtype=np.dtype(order + DTYPES[fields["elementtype"].upper()]),
        deflated=_true(fields, "compresseddata"),
        starts_at=_starts_at(fields) if beside else end.end(),
        beside=beside,
    )


def _refuse_odd(fields: dict[str, str]) -> None:
    """Refuse what ITK can write and no CT volume is."""
    data_file = fields["elementdatafile"]
    if data_file.upper().startswith("LIST") or "%" in data_file:
        raise UnsupportedError("a MetaImage over several data files; expected one")
    if fields.get("ndims", "3") != "3" or fields.get("elementnumberofchannels", "1") != "1":
        raise UnsupportedError("a MetaImage of other than 3 axes and 1 channel; expected a volume")
    if not _true(fields, "binarydata", "true"):
        raise UnsupportedError("a MetaImage of text; write it again with ITK")
    if fields.get("headersize", "0") == "-1" and _true(fields, "compresseddata"):
        raise UnsupportedError(
            "a MetaImage whose compressed voxels begin nowhere (HeaderSize -1); write it again "
            "with ITK"
        )
    if fields.get("elementtype", "").upper() not in DTYPES:
        raise UnsupportedError(f"a MetaImage of another ElementType than {', '.join(DTYPES)}")


def _starts_at(fields: dict[str, str]) -> int:
    """Bytes before the voxels in a file of their own; -1 where they are the last ones of it."""
    (size,) = _numbers(fields, "headersize", 1, "0")
    if size != int(size) or size < FROM_THE_END:
        raise MetadataError("a MetaImage whose HeaderSize is no number of bytes")
    return int(size)


def _true(fields: dict[str, str], name: str, default: str = "false") -> bool:
    return fields.get(name, default).lower() in ("true", "1")


def _numbers(fields: dict[str, str], name: str, count: int, default: str = "") -> list[float]:
    try:
        numbers = [float(word) for word in fields.get(name, default).split()]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise MetadataError(f"a MetaImage whose {name} is not {count} numbers")
    return numbers
