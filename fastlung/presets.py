"""
Recipes by name: those that come with fastlung, one TOML file each, and a user's own.

What each reproduces and how that was checked is said in ``docs/reference/presets.md``.
"""

from __future__ import annotations

import difflib
import functools
import json
import tomllib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastlung.errors import ConfigError
from fastlung.recipe import PRESETS
from fastlung.recipe.order import checked_steps
from fastlung.recipe.steps import Channels, Patches

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from fastlung.recipe.steps import Step

__all__ = ["PRESETS", "Recipe", "preset_recipe", "recipe_file", "steps_as_toml"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """
    A list of steps and where it is from.

    Attributes
    ----------
    name : str
        What it is called.
    steps : tuple of Step
        What is done to stored words, in order.
    title, source, commit, licence : str
        What it is, the file that states it, at which commit or version, and the licence of that
        code (weights may have another).
    checked : str
        How equality to its authors' code was checked; empty where it was not.
    needs : str
        The sentence for what the user has to give, where a recipe is not complete; empty for
        nothing.
    needed : tuple of str
        Options that have to be given, by the names of `Config`.
    options : mapping of str to object
        What else it sets, by the names of `Config`: what is done about irregular series.
    """

    name: str
    steps: tuple[Step, ...]
    title: str = ""
    source: str = ""
    commit: str = ""
    licence: str = ""
    checked: str = ""
    needs: str = ""
    needed: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def volume_steps(self) -> tuple[Step, ...]:
        """The steps that end in one volume, as a sink takes it."""
        return tuple(step for step in self.steps if not isinstance(step, (Channels, Patches)))

    @property
    def tensor_steps(self) -> tuple[Step, ...]:
        """The steps after those, which make more than a volume: `load_for` only."""
        return tuple(step for step in self.steps if isinstance(step, (Channels, Patches)))


@functools.cache
def preset_recipe(name: str) -> Recipe:
    """
    Find a recipe that comes with fastlung.

    Parameters
    ----------
    name : str
        One of `PRESETS`.

    Raises
    ------
    ConfigError
        For another name, with a suggestion.
    """
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}; {_hint(name, PRESETS)}")
    text = resources.files("fastlung.recipe").joinpath(f"{name}.toml").read_text("utf-8")
    return _recipe(name, tomllib.loads(text))


def recipe_file(path: str | os.PathLike[str]) -> Recipe:
    """
    Read a user's own recipe.

    Parameters
    ----------
    path : str or path-like
        A TOML file with ``steps``, and if wanted ``name``, ``title``, ``source``, ``commit`` and
        ``licence``.

    Raises
    ------
    ConfigError
        If it cannot be read, or a step of it does not fit; the sentence names the step.
    """
    try:
        fields = tomllib.loads(Path(path).read_text("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"recipe {path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(
            f"recipe {path}: expected TOML, and found something that is no text"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"recipe {path}: expected TOML, and found something else: {error}; texts need quotes"
        ) from None
    try:
        return _recipe("recipe", fields)
    except ConfigError as error:
        raise ConfigError(f"recipe {path}: {error}") from None


def _recipe(name: str, fields: Mapping[str, Any]) -> Recipe:
    kinds: dict[str, type] = dict.fromkeys(Recipe.__dataclass_fields__, str)
    kinds |= {"steps": list, "needed": list, "options": dict}
    for what, value in fields.items():
        if what not in kinds:
            raise ConfigError(f"unknown field {what!r}; {_hint(what, list(kinds))}")
        if what != "steps" and not isinstance(value, kinds[what]):
            words = {"str": "a text in quotes", "list": "a list", "dict": "a table"}
            raise ConfigError(f"{what} needs {words[kinds[what].__name__]}, and says {value!r}")
    said = {"name": name, **fields, "needed": tuple(fields.get("needed", ()))}
    return Recipe(**said | {"steps": checked_steps(fields.get("steps"))})


def steps_as_toml(steps: Sequence[Step]) -> str:
    """
    Write steps as the array that a recipe file has, one a line.

    Parameters
    ----------
    steps : sequence of Step
        A recipe's.

    Returns
    -------
    str
        TOML; fields at their defaults are left out.
    """
    lines = []
    for step in steps:
        fields = {"do": step.do} | step.model_dump(mode="json", exclude_defaults=True)
        # JSON's numbers, texts, booleans and lists of them are TOML's, too.
        said = ", ".join(f"{name} = {json.dumps(value)}" for name, value in fields.items())
        lines.append(f"  {{{said}}},")
    return "\n".join(["[", *lines, "]"])


def _hint(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
