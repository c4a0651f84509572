"""
Where the voxels of a volume file are, how they are stored, and taking them out.

Shared by the formats of one header and one array. What a header declares is checked by arithmetic
before anything is allocated, and nothing inflates further than it says.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from isal import igzip, isal_zlib
from isal.igzip_lib import IsalError

from fastlung.errors import FormatError, GeometryError, LimitError, MetadataError, TruncatedError
from fastlung.scan import Grid

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["DAMAGED_STREAM", "FROM_THE_END", "GZIP_MAGIC", "VolumeHeader", "grid_of", "voxels_of"]


GZIP_MAGIC = b"\x1f\x8b"
#: As HeaderSize in MetaImage.
FROM_THE_END = -1

#: As for DICOM: finer or coarser is a header in other units; nothing scanned has more voxels.
SPACING_MM = (0.05, 20.0)

LONGEST_AXIS = 5000

#: How far axes may be from right angles; headers round direction cosines.
COSINE_TOLERANCE = 1e-2

#: What isal raises over a damaged stream; its own stub calls the class an instance.
DAMAGED_STREAM: tuple[type[Exception], ...] = (IsalError, EOFError, OSError)  # type: ignore[assignment]


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeHeader:
    """
    What the header of a volume file says.

    Attributes
    ----------
    grid : Grid
        Where the voxels lie.
    dtype : dtype
        Of the stored voxels, byte order included.
    deflated : bool
        Whether they are compressed.
    starts_at : int
        Bytes of the file before the voxels, or before the compressed stream that holds them;
        `FROM_THE_END` where the voxels are the last bytes of it.
    offset : int
        Bytes of the inflated stream before the voxels.
    beside : bool
        Whether they are in a file of their own.
    slope, intercept : float
        From a stored voxel to its value.
    """

    grid: Grid
    dtype: np.dtype[np.generic]
    deflated: bool = False
    starts_at: int = 0
    offset: int = 0
    beside: bool = False
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def scaled(self) -> bool:
        """Whether voxels are more than what is stored."""
        return (self.slope, self.intercept) != (1.0, 0.0)

    @property
    def voxel_bytes(self) -> int:
        """Bytes of all voxels, inflated."""
        return math.prod(self.grid.shape) * self.dtype.itemsize


def grid_of(shape_xyz: tuple[int, ...], affine_lps: npt.NDArray[np.float64]) -> Grid:
    """
    Make a grid of what a header declares.

    Parameters
    ----------
    shape_xyz : tuple of int
        Voxels along the x, y and z index.
    affine_lps : ndarray of float64, shape (4, 4)
        From voxel index ``(x, y, z, 1)`` to LPS millimetres.

    Raises
    ------
    LimitError
        For an axis that is empty or longer than any scan.
    MetadataError
        For a spacing that no scan has, or numbers that are not finite.
    GeometryError
        If the axes are not at right angles.
    """
    if len(shape_xyz) != 3 or not all(1 <= n <= LONGEST_AXIS for n in shape_xyz):  # noqa: PLR2004
        raise LimitError(f"{shape_xyz} voxels; expected three axes of 1 to {LONGEST_AXIS:,}")
    spacing = np.linalg.norm(affine_lps[:3, :3], axis=0)
    low, high = SPACING_MM
    # Written so that NaN, which compares as False, is refused too.
    if not (np.isfinite(affine_lps).all() and (low <= spacing).all() and (spacing <= high).all()):
        raise MetadataError(
            f"spacing {tuple(round(float(s), 6) for s in spacing)} mm; expected {low} to {high} mm "
            "along x, y and z, and finite numbers"
        )
    direction = affine_lps[:3, :3] / spacing
    if np.abs(direction.T @ direction - np.eye(3)).max() > COSINE_TOLERANCE:
        raise GeometryError("the axes are not at right angles; resample it to a grid that is")
    rows = [(float(row[0]), float(row[1]), float(row[2])) for row in direction]
    origin = affine_lps[:3, 3].tolist()
    x, y, z = shape_xyz
    return Grid(
        shape=(z, y, x),
        spacing_mm=(float(spacing[2]), float(spacing[1]), float(spacing[0])),
        origin_mm=(origin[0], origin[1], origin[2]),
        direction=(rows[0], rows[1], rows[2]),
    )


def voxels_of(header: VolumeHeader, data: bytes) -> npt.NDArray[np.generic]:
    """
    Take the voxels out of a file.

    Parameters
    ----------
    header : VolumeHeader
        What they are.
    data : bytes
        The file that holds them.

    Returns
    -------
    ndarray, shape (z, y, x)
        Values: float32 where they are scaled, as stored otherwise.

    Raises
    ------
    TruncatedError
        If the file holds fewer than its header declares.
    FormatError
        If a compressed file does not inflate.
    """
    start, wanted = header.starts_at, header.offset + header.voxel_bytes
    if start == FROM_THE_END:
        start = max(0, len(data) - wanted)
    plain = memoryview(data)[start:]
    if header.deflated:
        plain = memoryview(_inflated(plain, wanted))
    if len(plain) < wanted:
        raise TruncatedError(
            f"{header.grid.shape} voxels take {header.voxel_bytes:,} bytes; the file holds "
            f"{max(0, len(plain) - header.offset):,} of them"
        )
    count = math.prod(header.grid.shape)
    stored = np.frombuffer(plain, header.dtype, count, header.offset).reshape(header.grid.shape)
    if not header.scaled:
        return stored
    return stored * np.float32(header.slope) + np.float32(header.intercept)


def _inflated(data: memoryview, limit: int) -> bytes:
    try:
        if data[:2] == GZIP_MAGIC:
            # Several streams one after the other count as one: bgzip writes those.
            with igzip.IGzipFile(fileobj=io.BytesIO(data)) as file:
                plain: bytes = file.read(limit)
        else:
            plain = isal_zlib.decompressobj().decompress(data, limit)
    except DAMAGED_STREAM as error:
        raise FormatError(
            f"the compressed voxels are damaged ({type(error).__name__}); fetch the file again"
        ) from None
    return plain
