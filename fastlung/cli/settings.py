"""
Settings in layers, weakest first: preset, file, environment, command line; the command `config`.

Covers finding and layering them, and writing them as a file for ``--config``; which values are
right is `fastlung.config`'s.
"""

from __future__ import annotations

import difflib
import json
import os
import sys
import tomllib
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastlung.config import (
    Config,
    RunOptions,
    StoreOptions,
    build_config,
    build_run_options,
    build_store_options,
)
from fastlung.errors import ConfigError
from fastlung.presets import preset_recipe, steps_as_toml
from fastlung.recipe import PRESETS
from fastlung.report.summary import shorten
from fastlung.sink.names import KEY_VARIABLE
from fastlung.text import printable

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Mapping


__all__ = ["Settings", "as_toml", "print_config", "resolve"]


PREFIX = "FASTLUNG_"

#: Names a file in place of ``--config``.
FILE_VARIABLE = "FASTLUNG_CONFIG"

#: Options whose value is carried out.
RUN_CODE = ("mask_command", "mask_function")
#: Options are spelt without the unit of their field.
UNIT_SUFFIXES = ("_mm", "_hu", "_bytes", "_seconds")

FIELDS = (*Config.model_fields, *RunOptions.model_fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    Every option of a run, and where its value comes from.

    Attributes
    ----------
    config : Config
        What is done to a scan.
    options : RunOptions
        How the run is carried out.
    origins : mapping of str to str
        Field -> file, variable or option that set it; absent for presets and defaults.
    """

    config: Config
    options: RunOptions
    origins: Mapping[str, str]


def resolve(args: Namespace, environment: Mapping[str, str]) -> Settings:
    """
    Add up what was typed, the environment, and a file.

    Parameters
    ----------
    args : Namespace
        What was typed; options that were not are None or False.
    environment : mapping of str to str
        Variables of this process.

    Returns
    -------
    Settings
        Checked.

    Raises
    ------
    ConfigError
        For a file that cannot be read, an unknown name (with a suggestion), or a wrong value (with
        where it came from).
    """
    given: dict[str, Any] = {}
    origins: dict[str, str] = {}
    file = args.config or environment.get(FILE_VARIABLE)
    if file:
        from_file = _from_file(Path(file))
        if not getattr(args, "allow_commands", False):
            _refuse_commands(from_file, Path(file))
        _add(given, origins, from_file)
    _add(given, origins, _from_environment(environment))
    _add(given, origins, _from_command_line(args))
    preset = given.get("preset", "hu")
    try:
        config = build_config(preset, **_part(given, Config, without="preset"))
        options = build_run_options(**_part(given, RunOptions))
    except ConfigError as error:
        origin = origins.get(str(error).partition(":")[0], "")
        where = "" if origin.startswith("--") or not origin else f", from {origin}"
        raise ConfigError(f"{error}{where}") from None
    return Settings(config=config, options=options, origins=origins)


def as_toml(settings: Settings) -> str:
    """
    Write settings as a file that ``--config`` takes, which gives the same digest again.

    Parameters
    ----------
    settings : Settings
        What `resolve` returns.

    Returns
    -------
    str
        TOML; each line says where its value comes from. A default is a comment, so that options
        stronger than the file still decide what follows from them.
    """
    config, options = settings.config, settings.options
    lines = [
        f"# fastlung {version('fastlung')}, options {config.digest}",
        "",
        *_about(settings),
        "",
        "# What is written.",
        *(_line(settings, name, value, "none") for name, value in config.model_dump().items()),
        "",
        "# How it is carried out; changes no voxel.",
        *(_line(settings, name, value, "auto") for name, value in options.model_dump().items()),
    ]
    return "\n".join(lines) + "\n"


def _line(settings: Settings, name: str, value: Any, absent: str) -> str:
    if name == "recipe" and not isinstance(value, str):
        text = f"recipe = {steps_as_toml(settings.config.steps)}"
        origin = settings.origins.get(name)
        return f"{text}  # {origin}" if origin else "# recipe: the steps above"
    # JSON's numbers, texts, booleans and lists of them are TOML's, too; its objects are not.
    if isinstance(value, dict):
        # What is absent has no word in TOML.
        given = {key: json.dumps(item) for key, item in value.items() if item is not None}
        text = "{ " + ", ".join(f"{key} = {item}" for key, item in given.items()) + " }"
    else:
        text = json.dumps(absent if value is None else value)
    if name in settings.origins:
        return f"{f'{name} = {text}':<40}# {settings.origins[name]}"
    field = Config.model_fields.get(name)
    by_preset = field is not None and name != "preset" and value != field.default
    usual = f"preset {settings.config.preset}" if by_preset else "default"
    return f"{f'# {name} = {text}':<40}# {usual}"


def _about(settings: Settings) -> list[str]:
    """Where a recipe is from, and its steps: without the comment signs a file for --recipe."""
    config = settings.config
    known = preset_recipe(config.preset) if config.preset in PRESETS else None
    lines = [f"# Recipe {config.preset}" + (f": {known.title}." if known else "")]
    if known is not None:
        said = {
            "source": known.source,
            "commit": known.commit,
            "licence": known.licence,
            "checked": known.checked or "not checked: written from the source named above",
        }
        lines += [f"#   {what} = {json.dumps(text)}" for what, text in said.items() if text]
        lines += [f"#   {step}" for step in f"steps = {steps_as_toml(known.steps)}".split("\n")]
    return lines


def _add(
    given: dict[str, Any], origins: dict[str, str], layer: Mapping[str, tuple[Any, str]]
) -> None:
    for name, (value, origin) in layer.items():
        given[name] = value
        origins[name] = origin


def _part(given: Mapping[str, Any], model: type, *, without: str = "") -> dict[str, Any]:
    fields = model.model_fields  # type: ignore[attr-defined]
    return {name: value for name, value in given.items() if name in fields and name != without}


def _from_file(path: Path) -> dict[str, tuple[Any, str]]:
    try:
        text = path.read_text("utf-8-sig")  # Windows editors begin it with a byte order mark
    except OSError as error:
        raise ConfigError(
            f"{path}: the configuration file cannot be read ({error.strerror})"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: expected TOML, and found something that is no text") from None
    values = _run_file_values(path, text) if path.suffix == ".json" else _toml_values(path, text)
    _refuse_unknown(values, FIELDS, f"{path}: unknown option")
    return {name: (value, str(path)) for name, value in values.items()}


def _refuse_commands(values: Mapping[str, tuple[Any, str]], path: Path) -> None:
    """A sink says what was run to make it; that is no reason to run it here."""
    if path.suffix != ".json":
        return
    for name in RUN_CODE:
        value, _ = values.get(name, ("none", ""))
        if value not in ("none", None, ""):
            raise ConfigError(
                f"{path}: {name} would run {shorten(printable(repr(value)))}, and a sink may be "
                f"anybody's; give --allow-commands if you know it, or --{name.replace('_', '-')} "
                "yourself"
            )


def _toml_values(path: Path, text: str) -> dict[str, Any]:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{path}: expected TOML such as 'spacing_mm = 1.5': {error}; texts need quotes"
        ) from None
    return values


def _run_file_values(path: Path, text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)["config"]
        return {name: "none" if value is None else value for name, value in values.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(
            f"{path}: expected the run.json of a sink, or a file that ends in .toml"
        ) from None


def _from_environment(environment: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    fields = {PREFIX + name.upper(): name for name in FIELDS}
    ours = {
        variable: text
        for variable, text in environment.items()
        if variable.startswith(PREFIX) and variable not in (KEY_VARIABLE, FILE_VARIABLE)
    }
    _refuse_unknown(ours, (*fields, FILE_VARIABLE), "unknown environment variable")
    return {fields[variable]: (_value(text), variable) for variable, text in ours.items()}


def _value(text: str) -> Any:
    """Numbers, booleans, JSON objects, several values between commas; anything else is a text."""
    if "," in text and not text.startswith("{"):
        return [_value(part.strip()) for part in text.strip("[]").split(",")]
    try:
        return json.loads(text)
    except ValueError:
        return text


def _from_command_line(args: Namespace) -> dict[str, tuple[Any, str]]:
    typed: dict[str, tuple[Any, str]] = {}
    if args.auto_tune:
        typed |= dict.fromkeys(("workers", "chunk_size"), ("auto", "--auto-tune"))
    if getattr(args, "no_remember", False):
        typed["remember"] = (False, "--no-remember")
    if storage := storage_typed(args):
        options = ", ".join(f"--{name.replace('_', '-')}" for name in storage)
        typed["storage"] = (build_store_options(**storage), options)
    if args.limit:
        typed["limits"] = (dict(args.limit), "--limit")
    for name in FIELDS:
        option = name
        for suffix in UNIT_SUFFIXES:
            option = option.removesuffix(suffix)
        value = getattr(args, option, None)
        if value is not None and value is not False:
            typed[name] = (value, f"--{option.replace('_', '-')}")
    return typed


def storage_typed(args: Namespace) -> dict[str, Any]:
    """
    Options of s3:// that were typed.

    Parameters
    ----------
    args : Namespace
        Of a command that `fastlung.cli.parser.describe_storage` described.

    Returns
    -------
    dict
        Fields of `StoreOptions`.
    """
    typed = {name: getattr(args, name, None) for name in StoreOptions.model_fields}
    return {name: value for name, value in typed.items() if value}


def _refuse_unknown(given: Iterable[str], known: Iterable[str], what: str) -> None:
    known = list(known)
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            raise ConfigError(f"{what} {name!r}; {hint}")


def print_config(args: Namespace) -> int:
    """Carry out ``fastlung config``; always 0."""
    settings = resolve(args, os.environ)
    if not args.quiet:
        sys.stdout.write(as_toml(settings))
    return 0
