"""
The nouns that packages hand to one another: grid, raw scan, verdict, mask, result, outcome.

Frozen dataclasses; arrays stay plain NumPy, ordered ``(z, y, x)``, C-contiguous. Nothing here
reads, computes on voxels, or writes.

Two coordinate systems meet here. Array indices run ``(z, y, x)``. Patient points are millimetres
in DICOM's LPS: x grows to the patient's left, y to the back, z to the head.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

__all__ = [
    "Crop",
    "Flag",
    "Grid",
    "LungMask",
    "Outcome",
    "RawScan",
    "ScanResult",
    "SliceScale",
    "Verdict",
]

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """
    Where the voxels of an array lie in the patient.

    Attributes
    ----------
    shape : tuple of int
        Array shape ``(z, y, x)``.
    spacing_mm : tuple of float
        Distance between voxel centres along ``(z, y, x)``, in millimetres.
    origin_mm : tuple of float
        LPS point ``(x, y, z)`` of the centre of voxel ``[0, 0, 0]``, in millimetres.
    direction : tuple of tuple of float
        3 x 3 matrix, rows LPS ``x, y, z``, columns the unit vectors along which the array's
        x, y and z index grow (ITK's convention).
    """

    shape: tuple[int, int, int]
    spacing_mm: Triple
    origin_mm: Triple
    direction: tuple[Triple, Triple, Triple] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))

    @property
    def affine_lps(self) -> npt.NDArray[np.float64]:
        """4 x 4 matrix from voxel index ``(x, y, z, 1)`` to LPS millimetres."""
        affine = np.eye(4)
        affine[:3, :3] = np.asarray(self.direction) * self.spacing_mm[::-1]
        affine[:3, 3] = self.origin_mm
        return affine

    @property
    def affine_ras(self) -> npt.NDArray[np.float64]:
        """4 x 4 matrix from voxel index ``(x, y, z, 1)`` to RAS millimetres (NIfTI's)."""
        return np.diag([-1.0, -1.0, 1.0, 1.0]) @ self.affine_lps

    @property
    def voxel_litres(self) -> float:
        """Volume of one voxel, in litres."""
        return float(np.prod(self.spacing_mm)) * 1e-6

    def to_patient(self, index_zyx: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """
        Patient points of voxel indices.

        Parameters
        ----------
        index_zyx : array_like, shape (..., 3)
            Voxel indices ``(z, y, x)``; fractions are allowed.

        Returns
        -------
        ndarray of float64, shape (..., 3)
            LPS points ``(x, y, z)``, in millimetres.
        """
        index_xyz = np.asarray(index_zyx, dtype=np.float64)[..., ::-1]
        affine = self.affine_lps
        return index_xyz @ affine[:3, :3].T + affine[:3, 3]

    def to_index(self, point_mm: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """
        Voxel indices of patient points; the inverse of `to_patient`.

        Parameters
        ----------
        point_mm : array_like, shape (..., 3)
            LPS points ``(x, y, z)``, in millimetres.

        Returns
        -------
        ndarray of float64, shape (..., 3)
            Voxel indices ``(z, y, x)``, not rounded.
        """
        inverse = np.linalg.inv(self.affine_lps)
        points: npt.NDArray[np.float64] = np.asarray(point_mm, dtype=np.float64)
        index_xyz: npt.NDArray[np.float64] = points @ inverse[:3, :3].T + inverse[:3, 3]
        return index_xyz[..., ::-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """
    What fastlung says of the geometry of a series.

    Attributes
    ----------
    classes : tuple of str
        ``("regular",)``, or every irregularity seen: ``duplicate``, ``gap``, ``variable``,
        ``tilted``, ``shifted``, ``mixed_orientation``, ``multi_acquisition``, ``interleaved``,
        ``split``, ``not_axial``, ``short``, ``no_position``; ``unreadable`` where no slice could
        be placed.
    numbers : mapping of str to float
        The measurements behind the classes, units in the names.
    actions : tuple of str
        What was done about it, one sentence each; empty for a regular series.
    """

    classes: tuple[str, ...] = ("regular",)
    numbers: Mapping[str, float] = field(default_factory=dict)
    actions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SliceScale:
    """
    How the stored words of each slice become Hounsfield units.

    All arrays have shape ``(z,)``. Of a stored word the lowest `shift` bits are dropped, the next
    `bits_stored` are the value, and what lies above is not part of it.

    Attributes
    ----------
    shift : ndarray of uint8
        HighBit + 1 - BitsStored; mostly 0.
    bits_stored : ndarray of uint8
        BitsStored, 1 to 16.
    signed : ndarray of bool
        Pixel Representation: whether the top bit of the value is its sign.
    slope, intercept : ndarray of float32
        Rescale Slope (HU per stored unit) and Rescale Intercept (HU).
    padding_low, padding_high : ndarray of int32
        Stored values in this closed range are padding; an empty range (low > high) means none.
    """

    shift: npt.NDArray[np.uint8]
    bits_stored: npt.NDArray[np.uint8]
    signed: npt.NDArray[np.bool_]
    slope: npt.NDArray[np.float32]
    intercept: npt.NDArray[np.float32]
    padding_low: npt.NDArray[np.int32]
    padding_high: npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RawScan:
    """
    One series as acquired: stored words, how to scale them, where they lie.

    Attributes
    ----------
    series_uid : str
        SeriesInstanceUID; may be empty.
    stored : ndarray of uint16, shape (z, y, x)
        The 16-bit words as stored, slices ascending along the slice normal. Whether a word is
        signed is said by `scale`.
    scale : SliceScale
        Stored words to Hounsfield units, per slice.
    grid : Grid
        The acquired frame; its z spacing is the step of the straight line through the slices, or
        the median step where they lie on none.
    slice_positions_mm : ndarray of float64, shape (z,)
        Position of each slice along the normal, from the first one, in millimetres.
    verdict : Verdict
        What the geometry is, and what was done about it.
    acquisition : mapping
        Allow-listed technical tags only, by DICOM keyword.
    slice_shifts_mm : ndarray of float64, shape (z, 2), or None
        How far each slice lies along (y, x) of the plane from straight above the first one, in
        millimetres: a tilted gantry. None where the slices lie straight above one another.
    slice_breaks : tuple of int
        Numbers of slices below which nothing is interpolated: up to the middle of the gap there,
        the nearer slice counts.
    flags : tuple of Flag
        Reasons to look twice that were known before any pixel was.
    """

    series_uid: str
    stored: npt.NDArray[np.uint16]
    scale: SliceScale
    grid: Grid
    slice_positions_mm: npt.NDArray[np.float64]
    verdict: Verdict
    acquisition: Mapping[str, str | float]
    slice_shifts_mm: npt.NDArray[np.float64] | None = None
    slice_breaks: tuple[int, ...] = ()
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """
    One reason to look twice at a result.

    Attributes
    ----------
    name : str
        What tables count, such as ``no_lung``.
    value : float
        The number behind it.
    text : str
        What was seen, and what to try.
    severity : {'look', 'note'}
        Whether a person should look, or may want to know.
    """

    name: str
    value: float
    text: str
    severity: str = "look"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LungMask:
    """
    The lungs of one scan.

    Attributes
    ----------
    mask : ndarray of uint8, shape (z, y, x)
        0 background, 1 right lung, 2 left lung; 3 airway, where it was asked for.
    litres_right, litres_left : float
        Volume of each lung, in litres.
    flags : tuple of Flag
        Why the mask should not be trusted; empty if nothing was seen.
    confidence : float
        From 0 to 1; at most 0.5 where a flag says that something is wrong with the mask.
    figures : mapping of str to float
        What the confidence was made from; units stand in the names.
    """

    mask: npt.NDArray[np.uint8]
    litres_right: float
    litres_left: float
    flags: tuple[Flag, ...] = ()
    confidence: float = 0.0
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """
    The part of a volume that was kept.

    Attributes
    ----------
    offset : tuple of int
        Index ``(z, y, x)`` of its first voxel in the whole volume; negative where it was padded.
    full_shape : tuple of int
        Shape ``(z, y, x)`` of the whole volume.
    """

    offset: tuple[int, int, int]
    full_shape: tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScanResult:
    """
    One processed scan, ready to be written.

    Attributes
    ----------
    image : ndarray of int16, float32 or uint8, shape (z, y, x)
        Hounsfield units (int16, float32), or where `window_hu` is given fractions of the window
        (float32) or 255ths of it (uint8).
    mask : ndarray of uint8, shape (z, y, x), or None
        0 background, 1 right lung, 2 left lung. The tutorial mask has label 1 only.
    grid : Grid
        Where the voxels of both lie.
    window_hu : tuple of float or None
        Hounsfield units that became 0 and 1, or 0 and 255; None where the image is in HU.
    zero_centre : float
        Constant subtracted after the window was applied; 0 where none was.
    standardise : tuple of float or None
        Mean and standard deviation, in Hounsfield units, of the data set: the image is
        ``(HU clipped to the window - mean) / sd`` then.
    figures : mapping of str to float
        Measurements of the whole volume: HU percentiles, litres, padding. Units stand in the
        names.
    flags : tuple of Flag
        Reasons to look twice.
    crop : Crop or None
        Which part of the volume this is; None where it is the whole.
    """

    image: npt.NDArray[Any]
    mask: npt.NDArray[np.uint8] | None
    grid: Grid
    window_hu: tuple[float, float] | None = None
    zero_centre: float = 0.0
    standardise: tuple[float, float] | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    flags: tuple[Flag, ...] = ()
    crop: Crop | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """
    The record of one series: small, picklable, and free of patient data.

    Attributes
    ----------
    name : str
        Name of the scan in the sink; for a group that could not be read, the group's label.
    group : str
        Id of the source group it came from.
    status : str
        ``done``, ``failed`` or ``skipped``.
    series_uid : str
        SeriesInstanceUID, or a hash of it where that is malformed or names are hashed; empty for
        none.
    error, message : str
        Class and sentence of the failure, or of why it was skipped; empty for a done scan.
    verdict : Verdict or None
        Geometry of the series, where it could be read.
    acquired, grid : Grid or None
        Geometry before and after.
    acquisition : mapping
        Allow-listed technical tags.
    figures : mapping of str to float
        Measurements, units in the names.
    flags : tuple of Flag
        Reasons to look twice.
    outputs : mapping of str to (int, int)
        Key in the sink -> (bytes, CRC-32).
    seconds : mapping of str to float
        Wall seconds per stage: read, hu, resample, mask, crop, normalise, encode, picture,
        store.
    cpu_seconds : mapping of str to float
        Processor seconds of the same stages, those of their own thread only; ``process`` is what
        all threads of the worker took since it began this scan, reading the next one and writing
        the last one included; those of a chunk add up to all of it.
    peak_rss_bytes : int
        Highest resident memory of the worker up to the end of this scan.
    transient : bool
        True for a failure that another run may not have.
    wished_name : str
        The name it would have if no other source group came first with a series of that name;
        empty where it has it.
    also_in : tuple of str
        Labels of the other source groups that hold a series of that name.
    """

    name: str
    group: str
    status: str
    series_uid: str = ""
    error: str = ""
    message: str = ""
    verdict: Verdict | None = None
    acquired: Grid | None = None
    grid: Grid | None = None
    acquisition: Mapping[str, str | float] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    flags: tuple[Flag, ...] = ()
    outputs: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)
    peak_rss_bytes: int = 0
    transient: bool = False
    wished_name: str = ""
    also_in: tuple[str, ...] = ()

    def in_short(self) -> Outcome:
        """Return it without geometry, tags, figures and seconds, which its record has."""
        return replace(
            self,
            verdict=None,
            acquired=None,
            grid=None,
            acquisition={},
            figures={},
            seconds={},
            cpu_seconds={},
        )
