"""
What a run is asked to do: `Config`, its presets, and its digest.

`Config` holds what changes voxels or names, and nothing else: its digest says whether two runs
would write the same bytes. How a run is carried out (workers, chunk size, memory) is `RunOptions`
and never enters the digest. The only module that knows pydantic.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationError, model_validator

from fastlung.errors import ConfigError

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

#: What each preset sets; anything else stays at the default, and options override both.
PRESETS: dict[str, dict[str, Any]] = {
    "hu": {},
    # The Kaggle DSB 2017 "Full Preprocessing Tutorial", number for number.
    "tutorial": {
        "hu_rule": "tutorial",
        "align": "corners",
        "mask": "tutorial",
        "window_hu": (-1000.0, 400.0),
        "zero_centre": 0.25,
    },
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
    align : str
        ``centred``: voxels exactly `spacing_mm` apart, centred on the acquired extent.
        ``corners``: `scipy.ndimage.zoom`'s grid, corner voxel centres kept (tutorial only).
    hu_rule : str
        ``standard``: rounded, saturated, padding replaced by -1024.
        ``tutorial``: truncated, stored -2000 becomes stored 0.
    mask : str
        Which lung mask: ``default``, ``tutorial`` or ``none``.
    window_hu : tuple of float or None
        Hounsfield units mapped to 0 and 1, clipped; None leaves int16 HU.
    zero_centre : float
        Subtracted after the window; needs a window.
    format : str
        File format of image and mask: ``npy`` or ``nifti``.
    names : str
        What outputs are called: ``series``, ``folder`` or ``hash``.
    group_by : str
        What one unit of work is: the files of one ``folder``, or of one ``series`` wherever its
        files are, which takes a look at every header first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: Literal["hu", "tutorial"] = "hu"
    spacing_mm: tuple[Millimetres, Millimetres, Millimetres] = (1.0, 1.0, 1.0)
    order: Literal[0, 1, 3] = 3
    align: Literal["centred", "corners"] = "centred"
    hu_rule: Literal["standard", "tutorial"] = "standard"
    mask: Literal["default", "tutorial", "none"] = "default"
    window_hu: tuple[float, float] | None = None
    zero_centre: float = 0.0
    format: Literal["npy", "nifti"] = "npy"
    names: Literal["series", "folder", "hash"] = "series"
    group_by: Literal["folder", "series"] = "folder"

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if self.window_hu is not None and not self.window_hu[0] < self.window_hu[1]:
            raise ValueError("window_hu needs its lower bound below its upper one")
        if self.window_hu is None and self.zero_centre:
            raise ValueError("zero_centre needs a window_hu")
        return self

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

    endpoint_url: Annotated[str, Field(pattern=r"^https?://[^\s/]+/?$")] | None = None
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
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    workers: Annotated[int, Field(ge=0, le=1024)] | None = None
    chunk_size: Annotated[int, Field(ge=1, le=10_000)] | None = None
    memory_limit_bytes: ByteSize | None = None
    scan_timeout_seconds: Annotated[float, Field(gt=0)] = 1800.0
    overwrite: bool = False
    retry_failed: bool = False
    storage: StoreOptions = Field(default_factory=StoreOptions)


def build_config(preset: str = "hu", **options: Any) -> Config:
    """
    Resolve a preset and options into a `Config`.

    Parameters
    ----------
    preset : str
        A key of `PRESETS`.
    **options
        Fields of `Config`; None means "not given". A single `spacing_mm` is taken as isotropic;
        ``window_hu="none"`` leaves Hounsfield units whatever the preset says.

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
    if given.get("window_hu") == "none":
        given |= {"window_hu": None, "zero_centre": given.get("zero_centre", 0.0)}
    return _validated(Config, {"preset": preset, **PRESETS[preset], **given})


def build_run_options(**options: Any) -> RunOptions:
    """
    Check the options of how a run is carried out.

    Raises
    ------
    ConfigError
        For an unknown field or a value out of range.
    """
    given = {name: value for name, value in options.items() if value is not None}
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


def _validated(model: type[Model], fields: dict[str, Any]) -> Model:
    for name in fields:
        if name not in model.model_fields:
            raise ConfigError(_unknown("option", name, model.model_fields))
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = first["loc"][0] if first["loc"] else "configuration"
        raise ConfigError(f"{where}: {first['msg']} (given: {first['input']!r})") from None


def _unknown(kind: str, name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
    return f"unknown {kind} {name!r}{hint}"
