"""
Recipes that flat options can say: from the fields of a `Config` to steps, and back.

0.1.0 knew two orders of steps, ``standard`` and ``grt123``, by these names in the configuration
of every sink. A list of steps that one of them makes of flat fields goes by its name, so that the
digest of such a configuration is what it always was; any other list is digested itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastlung.recipe.steps import (
    Clip,
    Crop,
    Dtype,
    Hu,
    LungsOnly,
    Mask,
    Orient,
    Pad,
    Resample,
    Window,
    ZScore,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastlung.recipe.steps import Step

__all__ = ["LAYOUTS", "flat_fields"]

#: Range of bytes.
BYTES = (0.0, 255.0)
#: Grey that grt123 paints outside the lungs, 0 HU in their window.
OUTSIDE = 170


def _standard(config: Any) -> tuple[Step, ...]:
    """Resample, mask, crop, window, size."""
    steps: list[Step] = [Hu(rule=config.hu_rule)]
    from_ras = config.align == "ras"
    if from_ras:
        steps.append(Orient(axes="RAS"))
    steps.append(
        Resample(
            spacing_mm=config.spacing_mm,
            order=config.order,
            align="first" if config.align == "ras" else config.align,
            positions="true" if config.align == "centred" else "even",
            antialias=config.antialias,
        )
    )
    if config.mask != "none":
        steps.append(Mask(method=config.mask, airway=config.airway))
    if config.crop != "none":
        steps.append(Crop(to=config.crop, margin_mm=config.margin_mm))
    steps.extend(_values(config))
    if config.size is not None:
        if from_ras:  # the odd voxel goes by fastlung's own axes
            steps.append(Orient())
        value = "air" if config.standardise is None else 0.0  # their mean, as TorchIO pads
        steps.append(Crop(to="centre", size=config.size))
        steps.append(Pad(size=config.size, value=value))
    return tuple(steps)


def _values(config: Any) -> list[Step]:
    """The steps that make the final numbers."""
    if config.window_hu is None:
        return [] if config.dtype == "int16" else [Dtype()]
    low, high = config.window_hu
    if config.standardise is not None:
        mean, deviation = config.standardise
        return [Clip(low_hu=low, high_hu=high), ZScore(mean_hu=mean, sd_hu=deviation)]
    if config.dtype == "uint8":
        return [Window(low_hu=low, high_hu=high, to=BYTES, dtype="uint8")]
    centre = config.zero_centre
    return [Window(low_hu=low, high_hu=high, to=(0.0 - centre, 1.0 - centre))]


def _grt123(config: Any) -> tuple[Step, ...]:
    """Mask and window in the acquired frame, all but the lungs painted over, then interpolate."""
    steps: list[Step] = [Hu(padding="keep")]
    if config.mask != "none":
        steps.append(Mask(method=config.mask, airway=config.airway))
    low, high = config.window_hu or BYTES
    steps.append(
        LungsOnly(
            spacing_mm=config.spacing_mm, low_hu=low, high_hu=high,
            crop=config.crop == "lungs", margin_mm=config.margin_mm,
        )
    )  # fmt: skip
    if config.size is not None:
        steps.append(Crop(to="centre", size=config.size))
        steps.append(Pad(size=config.size, value=float(OUTSIDE)))
    return tuple(steps)


#: Name in a configuration -> the steps that it makes of the other fields.
LAYOUTS: dict[str, Callable[[Any], tuple[Step, ...]]] = {
    "standard": _standard,
    "grt123": _grt123,
}


def flat_fields(steps: Sequence[Step]) -> dict[str, Any]:
    """
    What a list of steps says in the words of flat fields; for most lists that is not all of it.

    Parameters
    ----------
    steps : sequence of Step
        A checked recipe.

    Returns
    -------
    dict of str to object
        Fields of `Config` that differ from their defaults, as far as steps have such fields.
    """
    fields: dict[str, Any] = {"mask": "none"}
    clip: tuple[float, float] | None = None
    axes = "SPL"
    for step in steps:
        if isinstance(step, Orient):
            axes = step.axes
        elif isinstance(step, Clip):
            clip = step.low_hu, step.high_hu
        elif isinstance(step, ZScore):
            fields["window_hu"] = clip or (-32768.0, 32767.0)
            fields["standardise"] = step.mean_hu, step.sd_hu
        else:
            fields |= _said(step, axes)
    return fields


def _said(step: Step, axes: str) -> dict[str, Any]:
    """The flat fields of one step."""
    if isinstance(step, Resample):
        return _grid_fields(step, axes)
    say = SAID.get(type(step))
    return say(step) if say else {}


def _grid_fields(step: Resample, axes: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"order": step.order}
    if step.spacing_mm is not None and "keep" not in step.spacing_mm:
        fields["spacing_mm"] = step.spacing_mm
    if step.align == "corners":
        fields["align"] = "corners"
    elif step.align == "first" and sorted(axes) == sorted("RAS"):
        fields["align"] = "ras"
    if step.antialias:
        fields["antialias"] = True
    return fields


def _window_fields(step: Window) -> dict[str, Any]:
    """A window to any other range is a subtraction and a division of what it clips."""
    fields: dict[str, Any] = {"window_hu": (step.low_hu, step.high_hu)}
    low, high = step.to
    if step.dtype == "uint8":
        return fields | {"dtype": "uint8"}
    if high == 1.0 + low:
        return fields | ({"zero_centre": -low} if low else {})
    deviation = (step.high_hu - step.low_hu) / (high - low)
    return fields | {"standardise": (step.low_hu - low * deviation, deviation)}


def _lungs_only_fields(step: LungsOnly) -> dict[str, Any]:
    cut = {"crop": "lungs", "margin_mm": step.margin_mm} if step.crop else {}
    return cut | {
        "recipe": "grt123",
        "spacing_mm": step.spacing_mm,
        "order": 1,
        "align": "corners",
        "dtype": "uint8",
        "window_hu": (step.low_hu, step.high_hu),
    }


def _crop_fields(step: Crop) -> dict[str, Any]:
    if step.to in ("body", "lungs"):
        return {"crop": step.to, "margin_mm": step.margin_mm}
    return {} if step.size is None else {"size": step.size}


#: Step -> the flat fields that say what it does.
SAID: dict[type, Callable[[Any], dict[str, Any]]] = {
    Hu: lambda step: {} if step.rule == "standard" else {"hu_rule": step.rule},
    Mask: lambda step: {"mask": step.method} | ({"airway": True} if step.airway else {}),
    LungsOnly: _lungs_only_fields,
    Crop: _crop_fields,
    Pad: lambda step: {} if step.size is None else {"size": step.size},
    Window: _window_fields,
    Dtype: lambda step: {"dtype": "float32"},  # noqa: ARG005 - the only one it has
}
