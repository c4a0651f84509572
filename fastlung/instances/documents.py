"""
JSON documents that people keep, edit and send around: catalogues of instances, and profiles.

Covers naming a format and its version, reading with limits, and one sentence for whatever is wrong.
What a document holds is its own module's business.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from fastlung.errors import ConfigError

__all__ = ["LARGEST_BYTES", "Part", "parse_document", "read_document"]

#: No document of ours is a hundredth of this long.
LARGEST_BYTES = 50_000_000


class Part(BaseModel):
    """A part of a document: unchangeable, unknown keys refused, NaN and infinity too."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Model = TypeVar("Model", bound=Part)


def read_document(path: str | Path, model: type[Model], *, form: str, version: int) -> Model:
    """
    Read a document from a file.

    Parameters
    ----------
    path : str or Path
        The file.
    model : type of Part
        What it must be like.
    form : str
        Format that its key ``format`` must name.
    version : int
        What its key ``version`` must be.

    Returns
    -------
    Part
        An instance of `model`.

    Raises
    ------
    ConfigError
        If the file cannot be read, is something else, or holds what cannot be.
    """
    try:
        if Path(path).stat().st_size > LARGEST_BYTES:
            raise ConfigError(f"{path}: too long for a {form} document; give another file")
        text = Path(path).read_text("utf-8", errors="replace")
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise ConfigError(f"{path}: cannot be read ({why}); check the name") from None
    return parse_document(text, str(path), model, form=form, version=version)


def parse_document(text: str, name: str, model: type[Model], *, form: str, version: int) -> Model:
    """
    Check a document.

    Parameters
    ----------
    text : str
        The document.
    name : str
        What it is called in a complaint.
    model : type of Part
        What it must be like.
    form : str
        Format that its key ``format`` must name.
    version : int
        What its key ``version`` must be.

    Returns
    -------
    Part
        An instance of `model`.

    Raises
    ------
    ConfigError
        If it is something else, or holds what cannot be.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigError(f"{name}: expected JSON of format {form!r}, this is not JSON") from None
    said = found.get("format") if isinstance(found, dict) else None
    if said != form:
        raise ConfigError(f"{name}: expected a document of format {form!r}, found {said!r}"[:300])
    if found.get("version") != version:
        raise ConfigError(
            f"{name}: version {found.get('version')!r} of format {form!r}, and this fastlung reads "
            f"version {version}; make the document again, or use the fastlung that made it"
        )
    try:
        return model.model_validate(found)
    except ValidationError as error:
        raise ConfigError(f"{name}: {_first_complaint(error)}") from None


def _first_complaint(error: ValidationError) -> str:
    first: Any = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    said = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    given = repr(first["input"]) if isinstance(first["input"], str | int | float) else ""
    found = f" (found: {given[:80]})" if given else ""
    return f"{where}: {said}{found}" if where else said
