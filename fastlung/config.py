"""
What a run is asked to do: `Config`, its presets, and its digest.

`Config` holds what changes voxels or names, and nothing else: its digest says whether two runs
would write the same bytes. How a run is carried out (workers, chunk size, memory) is `RunOptions`
and never enters the digest.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import shlex
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationError, model_validator

from fastlung.errors import ConfigError
from fastlung.limits import Limits, changed
from fastlung.presets import PRESETS

__all__ = [
    "PRESETS",
    "Config",
    "RunOptions",
    "StoreOptions",
    "build_config",
    "build_run_options",
    "build_store_options",
]

Model = TypeVar("Model", bound=BaseModel)
Millimetres = Annotated[float, Field(ge=0.1, le=20.0)]
Voxels = Annotated[int, Field(ge=1, le=4096)]

#: Left around what a volume is cropped to, in millimetres: room for a mask that is a little short.
DEFAULT_MARGIN_MM = 5.0

#: Where an S3 is, as a pattern.
ENDPOINT = r"^https?://[^\s/]+/?$"
#: How pydantic says what is wrong -> how we do.
PLAINER = {
    "Input should be greater than or equal to": "expected at least",
    "Input should be greater than": "expected more than",
    "Input should be less than or equal to": "expected at most",
    "Input should be": "expected",
    f"String should match pattern '{ENDPOINT}'": "expected http:// or https:// and a host",
}


class Config(BaseModel):
    """
    What decides the voxels and names that a run writes.

    Attributes
    ----------
    preset : str
        Preset this was built from; a record, the other fields are what counts.
    spacing_mm : tuple of float
        Target spacing along ``(z, y, x)``, in millimetres.
    order : int
        Spline order of the interpolation: 0 nearest, 1 linear, 3 cubic.
    antialias : bool
        Smooth first along each axis on which voxels become fewer.
    align : str
        ``centred``: voxels exactly `spacing_mm` apart, centred on the acquired extent.
        ``corners``: `scipy.ndimage.zoom`'s grid, corner voxel centres kept (tutorial only).
    hu_rule : str
        ``standard``: rounded, saturated, padding replaced by -1024.
        ``tutorial``: truncated, stored -2000 becomes stored 0.
        ``ras``: voxels exactly `spacing_mm` apart from the voxel that comes first in RAS order, as
        MONAI's ``Spacing`` lays them.
    recipe : str
        Order of the steps. ``standard``: resample, mask, crop, window. ``grt123``: mask and window
        in the acquired frame, all but the lungs painted over, then bytes interpolated.
    mask : str
        Which lung mask: ``default``, ``tutorial``, ``grt123`` or ``none``.
    airway : bool
        Trachea and main bronchi as label 3 of the default mask; otherwise they are background.
    mask_command : str or None
        A command that finds the lungs where our own mask is flagged. ``{image}`` and ``{mask}`` in
        it become the paths of a NIfTI file to read and one to write.
    mask_function : str or None
        The same by a Python function, as ``package.module:name``.
    mask_on : str
        Which scans these are asked about: ``flagged`` or ``all``.
    mask_timeout_seconds : float
        A command that takes longer is killed, in seconds.
    crop : str
        ``body`` or ``lungs``: keep only their bounding box; ``none``: the whole volume.
    margin_mm : float
        Left around the bounding box on every side, in millimetres; 5 where a crop is asked for.
    window_hu : tuple of float or None
        Hounsfield units mapped to 0 and 1 (float32) or 0 and 255 (uint8), clipped; None leaves HU.
    dtype : str
        ``int16``: HU, the default without a window. ``float32``: fractions of the window, the
        default with one, or HU. ``uint8``: 255ths of the window, rounded.
    zero_centre : float
        Subtracted after the window; needs a window, and float32.
    standardise : tuple of float or None
        Mean and standard deviation in Hounsfield units: what is clipped to the window becomes
        ``(HU - mean) / sd`` instead of a fraction of it. Constants of a data set, float32 only.
    size : tuple of int or None
        Shape ``(z, y, x)`` that every result is cropped or padded to, around its middle.
    format : str
        File format of image and mask: ``npy``, ``npz``, ``nifti``, ``mha`` or ``zarr``.
    preview : str
        ``png``: a picture beside every scan; or ``none``.
    names : str
        What outputs are called: ``series``, ``folder`` or ``hash``.
    group_by : str
        What one unit of work is: the files of one ``folder``, or of one ``series`` wherever its
        files are, which takes a look at every header first.
    on_gap, on_duplicate, on_tilt, on_variable_spacing, on_mixed_orientation : str
        What is done about irregular series; see `fastlung.dicom.checks.Policy`.
    min_slices : int
        Fewest slices that make a volume.
    force : bool
        Take files without the DICOM preamble or file meta, too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: Literal[
        "hu", "tutorial", "grt123", "luna16-monai", "sybil", "lungmask", "nnunet-ct"
    ] = "hu"
    spacing_mm: tuple[Millimetres, Millimetres, Millimetres] = (1.0, 1.0, 1.0)
    order: Literal[0, 1, 3] = 3
    antialias: bool = False
    align: Literal["centred", "corners", "ras"] = "centred"
    hu_rule: Literal["standard", "tutorial"] = "standard"
    recipe: Literal["standard", "grt123"] = "standard"
    mask: Literal["default", "tutorial", "grt123", "none"] = "default"
    airway: bool = False
    mask_command: Annotated[str, Field(min_length=1)] | None = None
    mask_function: Annotated[str, Field(pattern=r"^[\w.]+:[\w.]+$")] | None = None
    mask_on: Literal["flagged", "all"] = "flagged"
    mask_timeout_seconds: Annotated[float, Field(gt=0)] = 600.0
    crop: Literal["none", "body", "lungs"] = "none"
    margin_mm: Annotated[float, Field(ge=0.0, le=200.0)] = 0.0
    window_hu: tuple[float, float] | None = None
    dtype: Literal["int16", "float32", "uint8"] = "int16"
    zero_centre: float = 0.0
    standardise: tuple[float, Annotated[float, Field(gt=0.0)]] | None = None
    size: tuple[Voxels, Voxels, Voxels] | None = None
    format: Literal["npy", "npz", "nifti", "mha", "zarr"] = "npy"
    preview: Literal["png", "none"] = "png"
    names: Literal["series", "folder", "hash"] = "series"
    group_by: Literal["folder", "series"] = "folder"
    on_gap: Literal["interpolate", "nearest", "split", "fail"] = "interpolate"
    on_duplicate: Literal["drop-identical", "first", "split", "fail"] = "drop-identical"
    on_tilt: Literal["shear", "keep", "fail"] = "shear"
    on_variable_spacing: Literal["true-positions", "fail"] = "true-positions"
    on_mixed_orientation: Literal["largest", "split", "fail"] = "largest"
    min_slices: Annotated[int, Field(ge=1, le=5000)] = 3
    force: bool = False

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, fields: Any) -> Any:
        """Write out what follows from other fields: one digest for two ways of asking."""
        if not isinstance(fields, dict):
            return fields
        dtype = "int16" if fields.get("window_hu") is None else "float32"
        margin_mm = 0.0 if fields.get("crop", "none") == "none" else DEFAULT_MARGIN_MM
        return {"dtype": dtype, "margin_mm": margin_mm, **fields}

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if self.window_hu is not None and not self.window_hu[0] < self.window_hu[1]:
            raise ValueError("window_hu needs its lower bound below its upper one")
        if self.window_hu is None and self.zero_centre:
            raise ValueError("zero_centre needs a window_hu")
        if self.window_hu is not None and self.dtype == "int16":
            raise ValueError(
                "int16 holds Hounsfield units, and a window needs dtype float32 or uint8; "
                "window_hu 'none' leaves out the window"
            )
        if self.window_hu is None and self.dtype == "uint8":
            raise ValueError("dtype uint8 needs a window_hu, such as -1000,400")
        if self.dtype == "uint8" and self.zero_centre:
            raise ValueError("dtype uint8 holds no fractions; leave zero_centre at 0")
        if self.crop == "none" and self.margin_mm:
            raise ValueError("margin_mm needs a crop: body or lungs")
        if self.standardise is not None and (
            self.window_hu is None or self.dtype != "float32" or self.zero_centre
        ):
            raise ValueError(
                "standardise needs a window_hu to clip to, dtype float32 and no zero_centre"
            )
        if self.preset == "nnunet-ct" and self.standardise is None:
            raise ValueError(
                "preset nnunet-ct needs the data set's constants: window_hu (percentile_00_5, "
                "percentile_99_5) and standardise (mean, std), from "
                "foreground_intensity_properties_per_channel of its dataset_fingerprint.json"
            )
        if self.antialias and self.order == 0:
            raise ValueError(
                "antialias averages, and order 0 keeps values as they are; leave out one"
            )
        self._check_mask()
        self._check_recipe()
        self._check_segmenter()
        return self

    def _check_mask(self) -> None:
        if self.airway and self.mask != "default":
            raise ValueError("airway needs the default mask; no other one knows the airway")
        if self.crop == "lungs" and self.mask == "none":
            raise ValueError("a crop to the lungs needs a mask to find them")

    def _check_segmenter(self) -> None:
        named = [self.mask_command, self.mask_function]
        if all(named):
            raise ValueError("mask_command and mask_function: give one of them")
        if any(named) and self.mask == "none":
            raise ValueError("mask_command and mask_function need a mask of ours to fall back on")
        if self.mask_command is not None:
            try:
                words = shlex.split(self.mask_command)
            except ValueError:
                raise ValueError("mask_command has a quote that is never closed") from None
            if not all(any(place in word for word in words) for place in ("{image}", "{mask}")):
                raise ValueError(
                    "mask_command needs the places {image} and {mask} for the files that it reads "
                    "and writes, as in 'lungmask {image} {mask}'"
                )

    def _check_recipe(self) -> None:
        fixed = {"order": 1, "align": "corners", "dtype": "uint8"}
        if self.recipe == "grt123":
            for name, value in fixed.items():
                if getattr(self, name) != value:
                    raise ValueError(f"preset grt123 has {name} {value} and no other")
            if self.antialias:
                raise ValueError("preset grt123 has no antialias")
            if self.crop == "body":
                raise ValueError("preset grt123 crops to the lungs or not at all")

    @property
    def digest(self) -> str:
        """Sixteen hex digits; equal exactly where two runs would write the same bytes."""
        fields = self.model_dump(mode="json", exclude={"preset"})
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


class StoreOptions(BaseModel):
    """
    How s3:// is reached, as the AWS command line spells it; local folders need none of it.

    Attributes
    ----------
    endpoint_url : str or None
        Address of an S3 that is not Amazon's; None takes AWS_ENDPOINT_URL, or Amazon's.
    profile : str or None
        Named profile of the AWS configuration.
    region : str or None
        Region of the buckets; None asks each bucket.
    no_sign_request : bool
        Send no credentials: public buckets.
    request_payer : str or None
        ``requester`` where whoever downloads agrees to pay for it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint_url: Annotated[str, Field(pattern=ENDPOINT)] | None = None
    profile: Annotated[str, Field(min_length=1)] | None = None
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")] | None = None
    no_sign_request: bool = False
    request_payer: Literal["requester"] | None = None


class RunOptions(BaseModel):
    """
    How a run is carried out; never changes a voxel.

    Attributes
    ----------
    workers : int or None
        Worker processes; 0 works in this process, None lets the plan decide.
    chunk_size : int or None
        Source groups handed to a worker at once; None lets the plan decide.
    auto_tune : bool
        Measure while the run goes on, and adjust workers, reading ahead and requests.
    remember : bool
        Keep what was measured for the next run on such a machine.
    memory_limit_bytes : int or None
        Memory all workers together may plan with; None takes the machine's limit.
    scan_timeout_seconds : float
        A worker that holds one source group longer than this is killed, in seconds.
    overwrite : bool
        Redo everything, and take over a sink written with another configuration.
    retry_failed : bool
        Try scans again whose own bytes made them fail before.
    storage : StoreOptions
        How s3:// is reached.
    limits : Limits
        The largest input that is taken; fields that differ may be given by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    workers: Annotated[int, Field(ge=0, le=1024)] | None = None
    chunk_size: Annotated[int, Field(ge=1, le=10_000)] | None = None
    auto_tune: bool = False
    remember: bool = True
    memory_limit_bytes: ByteSize | None = None
    scan_timeout_seconds: Annotated[float, Field(gt=0)] = 1800.0
    overwrite: bool = False
    retry_failed: bool = False
    storage: StoreOptions = Field(default_factory=StoreOptions)
    limits: Limits = Limits()


def build_config(preset: str = "hu", **options: Any) -> Config:
    """
    Resolve a preset and options into a `Config`.

    Parameters
    ----------
    preset : str
        A key of `PRESETS`.
    **options
        Fields of `Config`; None means "not given". A single `spacing_mm` is taken as isotropic;
        ``"none"`` empties a field that may be empty whatever the preset says:
        ``window_hu="none"`` leaves Hounsfield units.

    Raises
    ------
    ConfigError
        For an unknown preset or field (with a suggestion) or a value out of range.
    """
    if preset not in PRESETS:
        raise ConfigError(_unknown("preset", preset, PRESETS))
    given = {name: value for name, value in options.items() if value is not None}
    if isinstance(given.get("spacing_mm"), (int, float)):
        given["spacing_mm"] = (given["spacing_mm"],) * 3
    emptied = [name for name, value in given.items() if _is_none(name, value)]
    given |= dict.fromkeys(emptied)
    if "window_hu" in emptied:
        given.setdefault("zero_centre", 0.0)
        given.setdefault("standardise", None)
    if given.get("crop") == "none":
        given.setdefault("margin_mm", 0.0)
    return _validated(Config, {"preset": preset, **PRESETS[preset], **given})


def build_run_options(**options: Any) -> RunOptions:
    """
    Check the options of how a run is carried out.

    Parameters
    ----------
    **options
        Fields of `RunOptions`; None and ``"auto"`` mean "not given".

    Raises
    ------
    ConfigError
        For an unknown field or a value out of range.
    """
    given = {name: value for name, value in options.items() if value not in (None, "auto")}
    limits = given.get("limits", {})
    if isinstance(limits, Mapping):
        given["limits"] = changed(Limits(), limits)
    return _validated(RunOptions, given)


def build_store_options(**options: Any) -> StoreOptions:
    """
    Check the options of how s3:// is reached.

    Raises
    ------
    ConfigError
        For an unknown field or a value out of range.
    """
    given = {name: value for name, value in options.items() if value is not None}
    return _validated(StoreOptions, given)


def _is_none(name: str, value: Any) -> bool:
    """Whether a value is the word for an empty field, and the field may be empty."""
    field = Config.model_fields.get(name)
    return value == "none" and field is not None and type(None) in get_args(field.annotation)


def _validated(model: type[Model], fields: dict[str, Any]) -> Model:
    for name in fields:
        if name not in model.model_fields:
            raise ConfigError(_unknown("option", name, model.model_fields))
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        said = first["msg"].removeprefix("Value error, ")
        for words, plainer in PLAINER.items():
            said = said.replace(words, plainer)
        if not first["loc"]:  # fields that do not go together; the sentence names them
            raise ConfigError(said) from None
        raise ConfigError(f"{first['loc'][0]}: {said} (given: {first['input']!r})") from None


def _unknown(kind: str, name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
    return f"unknown {kind} {name!r}{hint}"
