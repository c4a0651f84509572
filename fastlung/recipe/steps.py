"""
The steps a recipe is made of, one class each: what they are called in TOML, and their fields.

Data only. `fastlung.pipeline` does them, `fastlung.recipe.order` says which may follow which.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "STEPS",
    "Channels",
    "Clip",
    "Crop",
    "Dtype",
    "Hu",
    "LungsOnly",
    "Mask",
    "Orient",
    "Pad",
    "Patches",
    "Resample",
    "Step",
    "Window",
    "ZScore",
]

Millimetres = Annotated[float, Field(ge=0.1, le=20.0)]
Voxels = Annotated[int, Field(ge=1, le=4096)]
Keep = Literal["keep"]
Triple = tuple[Voxels, Voxels, Voxels]
Range = tuple[float, float]

#: Opposite ends of the patient's axes; an orientation takes one of each pair.
ENDS = ("SI", "PA", "LR")


class _Step(BaseModel):
    """What steps have in common: they are frozen, and take no field that they do not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


def _ascending(what: str, low: float, high: float) -> None:
    if not low < high:
        raise ValueError(f"{what} needs its lower bound below its upper one, not {low:g}, {high:g}")


class Orient(_Step):
    """
    Which way the array runs for the steps that follow, and for `load_for`.

    Attributes
    ----------
    axes : str
        Where each axis runs to, the slowest first, as MONAI and nibabel spell it: ``RAS``.
        fastlung's own arrays are ``SPL``. Sinks stay that, whatever a recipe says: here it decides
        at which end a grid begins and an odd voxel goes.
    """

    do: Literal["orient"] = "orient"
    axes: str = "SPL"

    @model_validator(mode="after")
    def _one_of_each(self) -> Orient:
        if len(self.axes) != len(ENDS) or any(
            sum(letter in pair for letter in self.axes) != 1 for pair in ENDS
        ):
            raise ValueError(
                f"axes needs one letter each of S or I, P or A, L or R, as RAS, not {self.axes}"
            )
        return self


class Hu(_Step):
    """
    Stored words to Hounsfield units; a recipe without this step begins with it.

    Attributes
    ----------
    padding : str
        ``air``: what was never measured (the series' padding value, below -1500 HU) becomes -1024
        and is mixed with nothing. ``keep``: it counts as the Hounsfield units it says, as loaders
        that know no padding take it.
    rule : str
        ``standard``: rounded, saturated. ``tutorial``: truncated, stored -2000 becomes stored 0.
    """

    do: Literal["hu"] = "hu"
    padding: Literal["air", "keep"] = "air"
    rule: Literal["standard", "tutorial"] = "standard"


class Clip(_Step):
    """Hounsfield units outside become the nearest bound; before or after a resampling."""

    do: Literal["clip"] = "clip"
    low_hu: float
    high_hu: float

    @model_validator(mode="after")
    def _ordered(self) -> Clip:
        _ascending("clip", self.low_hu, self.high_hu)
        return self


class Resample(_Step):
    """
    Interpolate once.

    Attributes
    ----------
    spacing_mm : tuple of float or "keep", or None
        Wanted along ``(z, y, x)``, in millimetres; ``keep`` leaves an axis at what it is.
    shape : tuple of int or "keep", or None
        Voxels wanted along ``(z, y, x)``, in place of `spacing_mm`.
    order : int
        Spline order: 0 nearest, 1 linear, 3 cubic.
    align : str
        ``centred``: exactly `spacing_mm` apart, centred on the acquired extent. ``first``: exactly
        `spacing_mm` apart, from the voxel that comes first (see `Orient`), as MONAI's ``Spacing``.
        ``extent``: as many voxels as fill the extent, edge to edge, as PyTorch's ``interpolate``
        without ``align_corners``. ``corners``: first and last centre kept, as SciPy's ``zoom``.
    count : str
        How the number of voxels becomes whole: ``round``, ``floor`` (TorchIO, CT-CLIP), or
        ``monai``: ``first`` with ``round(steps + 1)``, which differs from ``round`` on ties.
    positions : str
        ``true``: where the slices are. ``even``: equally far apart and in line, as loaders that
        know one spacing take them; 0.1.0's ``tutorial`` and ``luna16-monai``.
    antialias : bool
        Smooth first along each axis on which voxels become fewer.
    """

    do: Literal["resample"] = "resample"
    spacing_mm: tuple[Millimetres | Keep, Millimetres | Keep, Millimetres | Keep] | None = None
    shape: tuple[Voxels | Keep, Voxels | Keep, Voxels | Keep] | None = None
    order: Literal[0, 1, 3] = 3
    align: Literal["centred", "corners", "first", "extent"] = "centred"
    count: Literal["round", "floor", "monai"] = "round"
    positions: Literal["true", "even"] = "true"
    antialias: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Resample:
        if (self.spacing_mm is None) == (self.shape is None):
            raise ValueError("resample needs spacing_mm or shape, one of them")
        if self.shape is not None and self.align not in ("extent", "corners"):
            raise ValueError("resample to a shape needs align extent or corners")
        if self.count == "monai" and self.align != "first":
            raise ValueError("count monai needs align first")
        if self.antialias and self.order == 0:
            raise ValueError(
                "antialias averages, and order 0 keeps values as they are; leave out one"
            )
        return self


class Mask(_Step):
    """
    Find the lungs.

    Attributes
    ----------
    method : str
        ``default``, ``tutorial`` or ``grt123``.
    airway : bool
        Trachea and main bronchi as label 3 of the default mask.
    outside_hu : float or None
        What everything outside the lungs becomes; None leaves it.
    """

    do: Literal["mask"] = "mask"
    method: Literal["default", "tutorial", "grt123"] = "default"
    airway: bool = False
    outside_hu: Annotated[float, Field(ge=-32768, le=32767)] | None = None

    @model_validator(mode="after")
    def _knows_the_airway(self) -> Mask:
        if self.airway and self.method != "default":
            raise ValueError("airway needs the default mask; no other one knows the airway")
        return self


class LungsOnly(_Step):
    """
    What the winner of the Kaggle DSB 2017 does with a mask, see `fastlung.mask.grt123`.

    Attributes
    ----------
    spacing_mm : tuple of float
        Wanted along ``(z, y, x)``, in millimetres.
    low_hu, high_hu : float
        Hounsfield units that become 0 and 255.
    crop : bool
        Cut to the lungs.
    margin_mm : float
        Left before them, and twice behind.
    """

    do: Literal["lungs-only"] = "lungs-only"
    spacing_mm: tuple[Millimetres, Millimetres, Millimetres] = (1.0, 1.0, 1.0)
    low_hu: float
    high_hu: float
    crop: bool = True
    margin_mm: Annotated[float, Field(ge=0.0, le=200.0)] = 5.0

    @model_validator(mode="after")
    def _ordered(self) -> LungsOnly:
        _ascending("lungs-only", self.low_hu, self.high_hu)
        return self


class Crop(_Step):
    """
    Keep a box.

    Attributes
    ----------
    to : str
        ``body`` or ``lungs``: what surrounds them; ``foreground``: what surrounds all voxels
        `above` a value; ``centre``: the middle, of `size` or of the largest `multiple`.
    margin_mm, margin_voxels : float, int
        Left around it on every side, as far as the volume reaches.
    above : float or None
        In the units that the image has at this step.
    size, multiple : tuple of int or None
        ``(z, y, x)``; an axis that is shorter stays.
    odd : str
        Where an odd voxel goes: ``before`` takes ``ceil(n / 2)`` from the beginning (TorchIO),
        ``after`` ``floor(n / 2)``; ``monai`` begins at ``n // 2 - size // 2``.
    """

    do: Literal["crop"] = "crop"
    to: Literal["body", "lungs", "foreground", "centre"]
    margin_mm: Annotated[float, Field(ge=0.0, le=200.0)] = 0.0
    margin_voxels: Annotated[int, Field(ge=0, le=1000)] = 0
    above: float | None = None
    size: Triple | None = None
    multiple: Triple | None = None
    odd: Literal["before", "after", "monai"] = "before"

    @model_validator(mode="after")
    def _consistent(self) -> Crop:
        sizes = (self.size is not None) + (self.multiple is not None)
        if sizes != (self.to == "centre"):
            raise ValueError("size or multiple, one of them, goes with a crop to the centre only")
        if (self.above is None) == (self.to == "foreground"):
            raise ValueError("above goes with a crop to the foreground, and only with that")
        if self.to == "centre" and (self.margin_mm or self.margin_voxels):
            raise ValueError("a crop to the centre has no margin")
        return self


class Pad(_Step):
    """
    Make short axes longer.

    Attributes
    ----------
    size, multiple : tuple of int or None
        ``(z, y, x)`` at least, or to the next multiple.
    value : float or str
        In the units that the image has at this step; ``air`` is what -1024 HU has become by then,
        ``minimum`` the smallest value of the image.
    odd : str
        Where an odd voxel goes: ``before`` (TorchIO) or ``after`` (MONAI, CT-CLIP, SPECTRE).
    """

    do: Literal["pad"] = "pad"
    size: Triple | None = None
    multiple: Triple | None = None
    value: float | Literal["air", "minimum"] = "air"
    odd: Literal["before", "after"] = "before"

    @model_validator(mode="after")
    def _consistent(self) -> Pad:
        if (self.size is None) == (self.multiple is None):
            raise ValueError("pad needs size or multiple, one of them")
        return self


class Window(_Step):
    """
    Hounsfield units to fractions, clipped.

    Attributes
    ----------
    low_hu, high_hu : float
        Become the two ends of `to`.
    to : tuple of float
        The range of the values.
    dtype : str
        ``float32``; or ``uint8``, rounded, with a range of 0 to 255.
    """

    do: Literal["window"] = "window"
    low_hu: float
    high_hu: float
    to: Range = (0.0, 1.0)
    dtype: Literal["float32", "uint8"] = "float32"

    @model_validator(mode="before")
    @classmethod
    def _bytes(cls, fields: object) -> object:
        if isinstance(fields, dict) and fields.get("dtype") == "uint8":
            return {"to": (0.0, 255.0), **fields}
        return fields

    @model_validator(mode="after")
    def _ordered(self) -> Window:
        _ascending("window", self.low_hu, self.high_hu)
        _ascending("to", *self.to)
        if self.dtype == "uint8" and self.to != (0.0, 255.0):
            raise ValueError("dtype uint8 goes with the range 0 to 255")
        return self


class ZScore(_Step):
    """Less a mean, divided by a standard deviation: constants of a data set, float32."""

    do: Literal["z-score"] = "z-score"
    mean_hu: float
    sd_hu: Annotated[float, Field(gt=0.0)]


class Dtype(_Step):
    """Hounsfield units as float32."""

    do: Literal["dtype"] = "dtype"
    dtype: Literal["float32"] = "float32"


class Channels(_Step):
    """
    Several windows of the same Hounsfield units as channels; `load_for` only.

    Attributes
    ----------
    windows_hu : tuple of pairs of float
        One a channel.
    to : tuple of float
        The range of the values.
    """

    do: Literal["channels"] = "channels"
    windows_hu: Annotated[tuple[Range, ...], Field(min_length=1, max_length=16)]
    to: Range = (0.0, 1.0)

    @model_validator(mode="after")
    def _ordered(self) -> Channels:
        for low, high in self.windows_hu:
            _ascending("windows_hu", low, high)
        _ascending("to", *self.to)
        return self


class Patches(_Step):
    """
    Side by side parts of one size, the last axis of the orientation fastest; `load_for` only.

    Attributes
    ----------
    size : tuple of int
        ``(z, y, x)``.
    """

    do: Literal["patches"] = "patches"
    size: Triple


Step = Annotated[
    Orient
    | Hu
    | Clip
    | Resample
    | Mask
    | LungsOnly
    | Crop
    | Pad
    | Window
    | ZScore
    | Dtype
    | Channels
    | Patches,
    Field(discriminator="do"),
]

#: Name in TOML -> class.
STEPS: dict[str, type[_Step]] = {
    str(kind.model_fields["do"].default): kind
    for kind in (
        Orient, Hu, Clip, Resample, Mask, LungsOnly, Crop, Pad, Window, ZScore, Dtype, Channels,
        Patches,
    )
}  # fmt: skip
