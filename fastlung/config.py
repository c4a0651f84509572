"""
What a run is asked to do: `Config`, its presets, and its digest.

`Config` holds what changes voxels or names, and nothing else: its digest says whether two runs
would write the same bytes. How a run is carried out (workers, chunk size, memory) is `RunOptions`
and never enters the digest.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationError, model_validator

from fastlung.errors import ConfigError
from fastlung.limits import Limits, changed
from fastlung.presets import PRESETS, Recipe, preset_recipe, recipe_file
from fastlung.recipe.layouts import LAYOUTS, flat_fields
from fastlung.recipe.order import checked_steps, plainer
from fastlung.recipe.steps import (
    Channels,
    Clip,
    Hu,
    LungsOnly,
    Mask,
    Orient,
    Resample,
    Step,
    Window,
)

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

#: Fields that say what steps do, and that a list of steps therefore decides.
FLAT = (
    "spacing_mm", "order", "antialias", "align", "hu_rule", "mask", "airway", "crop", "margin_mm",
    "window_hu", "dtype", "zero_centre", "standardise", "size",
)  # fmt: skip

#: All of them enter every digest. A field that came later enters where it is not at its default,
#: which must be what was done before there was the field: so an older sink is resumed, not refused.
FIELDS_OF_0_1_0 = frozenset({
    "spacing_mm", "order", "antialias", "align", "hu_rule", "recipe", "mask", "airway",
    "mask_command", "mask_function", "mask_on", "mask_timeout_seconds", "crop", "margin_mm",
    "window_hu", "dtype", "zero_centre", "standardise", "size", "format", "preview", "names",
    "group_by", "on_gap", "on_duplicate", "on_tilt", "on_variable_spacing", "on_mixed_orientation",
    "min_slices", "force",
})  # fmt: skip

#: Where an S3 is, as a pattern.
ENDPOINT = r"^https?://[^\s/]+/?$"
#: How pydantic says what no http address is -> how we do.
NO_ENDPOINT = f"String should match pattern '{ENDPOINT}'"


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
        ``ras``: voxels exactly `spacing_mm` apart from the voxel that comes first in RAS order, as
        MONAI's ``Spacing`` lays them.
    hu_rule : str
        ``standard``: rounded, saturated, padding replaced by -1024.
        ``tutorial``: truncated, stored -2000 becomes stored 0.
    recipe : str or tuple of Step
        Order of the steps: ``standard`` or ``grt123`` where the other fields say all of it, as in
        0.1.0; otherwise the steps themselves, which the other fields then repeat as far as they
        can.
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
    on_frame_of_reference, on_series_uid : str
        Whether UIDs that are another in each file part an even row; see the same.
    only : str
        ``chest``: scans flagged ``not_chest`` or ``reformat`` are skipped; or ``all``.
    min_slices : int
        Fewest slices that make a volume.
    force : bool
        Take files without the DICOM preamble or file meta, too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str = "hu"
    spacing_mm: tuple[Millimetres, Millimetres, Millimetres] = (1.0, 1.0, 1.0)
    order: Literal[0, 1, 3] = 3
    antialias: bool = False
    align: Literal["centred", "corners", "ras"] = "centred"
    hu_rule: Literal["standard", "tutorial"] = "standard"
    recipe: Literal["standard", "grt123"] | tuple[Step, ...] = "standard"
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
    on_frame_of_reference: Literal["join", "split"] = "join"
    on_series_uid: Literal["fail", "join"] = "fail"
    only: Literal["all", "chest"] = "all"
    min_slices: Annotated[int, Field(ge=1, le=5000)] = 3
    force: bool = False

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, fields: Any) -> Any:
        """Write out what follows from other fields: one digest for two ways of asking."""
        if not isinstance(fields, dict):
            return fields
        if not isinstance(fields.get("recipe", ""), str):
            fields = _repeated(fields)
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
        if self.antialias and self.order == 0:
            raise ValueError(
                "antialias averages, and order 0 keeps values as they are; leave out one"
            )
        self._check_mask()
        self._check_layout()
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

    def _check_layout(self) -> None:
        """A field whose value is not what its layout does with it cannot be had there."""
        if self.recipe != "grt123":
            return
        said = _usual() | flat_fields(self.steps)
        for name in ("order", "align", "antialias", "dtype", "crop"):
            if getattr(self, name) != said[name]:
                raise ValueError(f"recipe {self.recipe} has no {name} {getattr(self, name)}")

    @property
    def steps(self) -> tuple[Step, ...]:
        """What is done to a scan, in order."""
        return LAYOUTS[self.recipe](self) if isinstance(self.recipe, str) else self.recipe

    @property
    def as_acquired(self) -> tuple[Step, ...]:
        """Steps that are done to voxels as they were acquired, before a resampling or without."""
        early = itertools.takewhile(lambda step: not isinstance(step, Resample), self.steps)
        return tuple(step for step in early if not isinstance(step, (Orient, Hu, Clip)))

    def target_spacing_mm(
        self, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]
    ) -> tuple[float, float, float]:
        """Spacing along ``(z, y, x)`` that a scan of a shape and spacing is resampled to."""
        laid = [step for step in self.steps if isinstance(step, (Resample, LungsOnly))]
        if not laid:
            return spacing_mm
        if isinstance(laid[0], Resample) and laid[0].shape is not None:
            wanted = [
                "keep" if count == "keep" else have * n / count
                for count, n, have in zip(laid[0].shape, shape, spacing_mm, strict=True)
            ]
        else:
            wanted = list(laid[0].spacing_mm or spacing_mm)
        z, y, x = (
            have if isinstance(target, str) else target
            for target, have in zip(wanted, spacing_mm, strict=True)
        )
        return z, y, x

    @property
    def digest(self) -> str:
        """Sixteen hex digits; equal exactly where two runs would write the same bytes."""
        dumped = self.model_dump(mode="json", exclude={"preset"})
        fields = {name: value for name, value in dumped.items() if self._counts(name)}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]

    def _counts(self, name: str) -> bool:
        """Whether a field enters the digest."""
        default = type(self).model_fields[name].get_default(call_default_factory=True)
        return name in FIELDS_OF_0_1_0 or getattr(self, name) != default


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
    redo : str or None
        ``older``: do scans again that other revisions of fastlung's own work have made.
    keep_older : bool
        Leave those scans as they are and go on beside them, knowingly.
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
    redo: Literal["older"] | None = None
    keep_older: bool = False
    storage: StoreOptions = Field(default_factory=StoreOptions)
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _consistent(self) -> RunOptions:
        if self.redo == "older" and self.keep_older:
            raise ValueError("redo older and keep_older contradict each other: give one of them")
        return self


def build_config(preset: str = "hu", **options: Any) -> Config:
    """
    Resolve a preset, or a recipe of the user's, and options into a `Config`.

    Parameters
    ----------
    preset : str
        One of `PRESETS`.
    **options
        Fields of `Config`; None means "not given". A single `spacing_mm` is taken as isotropic;
        ``"none"`` empties a field that may be empty whatever the preset says:
        ``window_hu="none"`` leaves Hounsfield units. `recipe` takes the path of a TOML file, or a
        list of steps, in place of a preset.

    Raises
    ------
    ConfigError
        For an unknown preset or field (with a suggestion), a value out of range, or a recipe whose
        steps do not fit together.
    """
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
    if given.get("recipe") in list(LAYOUTS):  # the other fields say all of it
        return _validated(Config, {"preset": preset, **given})
    recipe = _chosen_recipe(preset, given.pop("recipe", None))
    if any(given.get(name) is None for name in recipe.needed):
        raise ConfigError(recipe.needs)
    said = flat_fields(recipe.volume_steps)
    if not _is_all(said, recipe.volume_steps):
        steps = _edited(recipe, {name: given.pop(name) for name in FLAT if name in given})
        said = {"recipe": steps}
    return _validated(Config, {"preset": recipe.name, **said, **recipe.options, **given})


def _chosen_recipe(preset: str, recipe: Any) -> Recipe:
    """The recipe that a preset, a file or a list of steps stands for."""
    if recipe is None:
        chosen = preset_recipe(preset)
    elif isinstance(recipe, Recipe):
        chosen = recipe
    elif not isinstance(recipe, (str, os.PathLike)):
        name = preset if preset in PRESETS and preset != "hu" else "recipe"
        chosen = Recipe(name=name, steps=checked_steps(recipe))
    elif preset != "hu":
        raise ConfigError(f"preset {preset} and a recipe of your own: give one of them")
    else:
        chosen = recipe_file(recipe)
    if any(isinstance(step, Channels) for step in chosen.steps):
        raise ConfigError(
            f"recipe {chosen.name} makes channels, and a volume has none: fastlung.load_for gives "
            "them; leave the step out for a run"
        )
    return chosen


def _is_all(said: Mapping[str, Any], steps: Sequence[Step]) -> bool:
    """Whether flat fields say all that steps do."""
    try:
        return Config.model_validate(dict(said)).steps == tuple(steps)
    except ValidationError:
        return False


def _repeated(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields whose recipe is a list of steps, those that it decides saying the same."""
    steps = checked_steps(fields["recipe"])
    others = {name: value for name, value in fields.items() if name not in FLAT}
    return {**others, **flat_fields(steps), "recipe": steps}


def _usual() -> dict[str, Any]:
    """What the fields are that steps decide, where no step does."""
    return {name: Config.model_fields[name].default for name in FLAT}


def _edited(recipe: Recipe, given: Mapping[str, Any]) -> tuple[Step, ...]:
    """Steps of a recipe with the options that were given put into the steps they belong to."""
    steps = list(recipe.volume_steps)
    usual = Config.model_validate({"recipe": recipe.volume_steps})
    for name, value in given.items():
        if (tuple(value) if isinstance(value, list) else value) == getattr(usual, name):
            continue
        kind, fields = _where(name, value)
        place = next((i for i, step in enumerate(steps) if isinstance(step, kind)), None)
        if kind is Mask and name == "mask":
            steps = [step for step in steps if not isinstance(step, Mask)]
            after = max(i for i, step in enumerate(steps) if isinstance(step, (Hu, Resample)))
            if value != "none":
                steps.insert(after + 1, Mask.model_construct(**fields))
        elif place is None or not fields:
            raise ConfigError(
                f"recipe {recipe.name} has no step that {name} belongs to; a copy of it can be "
                f"changed: fastlung config --preset {recipe.name}"
            )
        else:
            steps[place] = steps[place].model_copy(update=fields)
    return checked_steps([step.model_dump(warnings=False) for step in steps])


def _where(name: str, value: Any) -> tuple[type, dict[str, Any]]:
    """The step that a flat field belongs to, and what it says there; nothing for some."""
    if name in ("spacing_mm", "order", "antialias"):
        return Resample, {name: value}
    if name == "mask":
        return Mask, {"method": value}
    if name == "airway":
        return Mask, {"airway": value}
    if name == "window_hu" and value is not None:
        return Window, {"low_hu": value[0], "high_hu": value[1]}
    return Hu, {}


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
        said = plainer(error).replace(NO_ENDPOINT, "expected http:// or https:// and a host")
        raise ConfigError(said) from None


def _unknown(kind: str, name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
    return f"unknown {kind} {name!r}{hint}"
