"""
From what a TOML file says to a list of steps that fit together, or one sentence on why they do not.

Each sentence names the step by its number and its name.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pydantic import ValidationError

from fastlung.errors import ConfigError
from fastlung.recipe.steps import (
    STEPS,
    Channels,
    Clip,
    Crop,
    Dtype,
    Hu,
    LungsOnly,
    Mask,
    Orient,
    Pad,
    Patches,
    Resample,
    Window,
    ZScore,
)

if TYPE_CHECKING:
    from fastlung.recipe.steps import Step

__all__ = ["checked_steps", "plainer"]

#: Steps of which a recipe has one at most.
ONCE = (Hu, Resample, Mask, LungsOnly, Window, ZScore, Dtype, Channels, Patches)
#: Steps that are given Hounsfield units, and steps after which there are none any more.
NEED_HU = (Clip, Mask, LungsOnly, Window, ZScore, Dtype, Channels)
END_HU = (LungsOnly, Window, ZScore, Channels)
#: Steps that make more than a volume; nothing but one another may follow.
BEYOND_A_VOLUME = (Channels, Patches)


class _Here(NamedTuple):
    """What a step finds: the kinds of steps before it, and whether the image is still in HU."""

    kinds: set[type]
    in_hu: bool


#: What no step may find, and the sentence for it.
MISPLACED: tuple[tuple[Callable[[Any, _Here], bool], str], ...] = (
    (
        lambda step, here: _crops_to(step, "lungs") and Mask not in here.kinds,
        "a crop to the lungs needs a mask to find them: a mask step before it",
    ),
    (
        lambda step, here: _crops_to(step, "body") and not here.in_hu,
        "a crop to the body needs Hounsfield units; put it before the window",
    ),
    (
        lambda step, here: isinstance(step, Mask) and Dtype in here.kinds,
        "it needs whole Hounsfield units; put it before dtype",
    ),
    (
        lambda step, here: isinstance(step, Dtype) and Resample not in here.kinds,
        "it makes the final numbers; put it after resample",
    ),
    (
        lambda step, here: isinstance(step, LungsOnly) and Resample in here.kinds,
        "it interpolates by itself, and takes slices as acquired; leave out resample",
    ),
    (
        lambda step, here: isinstance(step, Resample) and LungsOnly in here.kinds,
        "lungs-only has interpolated already; leave out one",
    ),
    (
        lambda step, here: (
            isinstance(step, Pad)
            and isinstance(step.value, float)
            and not (step.value.is_integer() and abs(step.value) < BEYOND_INT16)
            and here.in_hu
            and Dtype not in here.kinds
        ),
        "the image is whole Hounsfield units here; value needs a whole number above -32768",
    ),
)

#: No int16 is as large.
BEYOND_INT16 = 32768


def _crops_to(step: Step, what: str) -> bool:
    return isinstance(step, Crop) and step.to == what


#: How pydantic says what is wrong -> how we do.
PLAINER = {
    "Value error, ": "",
    "Input should be greater than or equal to": "expected at least",
    "Input should be greater than": "expected more than",
    "Input should be less than or equal to": "expected at most",
    "Input should be": "expected",
    "Field required": "is missing",
}


def checked_steps(listed: Any) -> tuple[Step, ...]:
    """
    Read a list of steps, and see whether they fit together.

    Parameters
    ----------
    listed : sequence of mapping or of Step
        Each with its name as ``do`` and its fields.

    Returns
    -------
    tuple of Step
        Beginning with `Hu`, which may be left out.

    Raises
    ------
    ConfigError
        With the number and the name of the step that does not fit.
    """
    if not isinstance(listed, Sequence) or isinstance(listed, str) or not listed:
        raise ConfigError(
            "a recipe needs a list of steps, such as steps = [{do = 'resample', spacing_mm = "
            "[1.0, 1.0, 1.0]}]"
        )
    steps = [_step(number, given) for number, given in enumerate(listed, 1)]
    for number, step in enumerate(steps, 1):
        problem = _problem(step, steps[: number - 1])
        if problem:
            raise ConfigError(f"step {number}, {step.do}: {problem}")
    if not any(isinstance(step, Hu) for step in steps):
        steps.insert(0, Hu())
    return tuple(steps)


def _step(number: int, given: Any) -> Step:
    if isinstance(given, tuple(STEPS.values())):
        return cast("Step", given)
    if not isinstance(given, Mapping) or not isinstance(given.get("do"), str):
        raise ConfigError(
            f"step {number} needs its name as do, such as {{do = 'resample', spacing_mm = "
            f"[1.0, 1.0, 1.0]}}, and says {given!r}"
        )
    name = given["do"]
    if name not in STEPS:
        raise ConfigError(f"step {number}: unknown step {name!r}; {_hint(name, STEPS)}")
    kind = STEPS[name]
    for field in given:
        if field not in kind.model_fields:
            known = [other for other in kind.model_fields if other != "do"]
            raise ConfigError(
                f"step {number}, {name}: unknown field {field!r}; {_hint(str(field), known)}"
            )
    try:
        return cast("Step", kind.model_validate(given))
    except ValidationError as error:
        raise ConfigError(f"step {number}, {name}: {plainer(error)}") from None


def plainer(error: ValidationError) -> str:
    """What is wrong with the first field that is wrong, in one sentence."""
    first = error.errors()[0]
    said = first["msg"]
    for words, plain in PLAINER.items():
        said = said.replace(words, plain)
    if not first["loc"]:  # fields that do not go together; the sentence names them
        return said
    field = first["loc"][0]
    if first["type"] == "missing":
        return f"{field} {said}"
    return f"{field}: {said} (given: {first['input']!r})"


def _hint(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"


def _problem(step: Step, before: list[Step]) -> str:
    """Why a step cannot follow those before it; empty where it can."""
    kinds = [type(other) for other in before]
    if isinstance(step, ONCE) and type(step) in kinds:
        return "a recipe has one such step at most"
    if isinstance(step, Hu) and any(kind is not Orient for kind in kinds):
        return "stored words become Hounsfield units first; only orient may come before"
    if any(kind in BEYOND_A_VOLUME for kind in kinds) and not isinstance(step, Patches):
        return "nothing but patches may follow channels, and nothing patches"
    ended = next((other for other in before if isinstance(other, END_HU)), None)
    if isinstance(step, NEED_HU) and ended is not None:
        return f"it needs Hounsfield units, and {ended.do} before it has made values of them"
    here = _Here(kinds=set(kinds), in_hu=ended is None)
    return next((sentence for wrong, sentence in MISPLACED if wrong(step, here)), "")
