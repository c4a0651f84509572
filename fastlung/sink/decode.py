"""
From JSON that anybody may have written to our types, each field with its type and bounds.

A sink may be damaged, or somebody else's. What is read from it is believed only as far as it is
what fastlung writes; everything else is a `ValueError` that names the field and never its value.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, TypeVar

from fastlung.scan import Flag, Grid, Outcome, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Decoder = Callable[[Any], Any]

__all__ = [
    "count",
    "decoded",
    "grid",
    "mapping_of",
    "maybe",
    "outcome",
    "parsed",
    "text",
    "tuple_of",
]

Kind = TypeVar("Kind")

#: Far above what any field of ours has: a label is a path, escaped; a message some sentences.
LONGEST_TEXT = 100_000
#: Entries of one field; a Zarr array is one object a chunk.
MOST_ENTRIES = 1_000_000
MOST_BYTES, MOST_CRC, MOST_VOXELS = 2**63 - 1, 2**32 - 1, 2**31
#: What no measurement reaches; Python's integers do, and have no float.
FAR = 1e300
#: Names that may be a folder of a sink; see `fastlung.sink.names`.
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}")


def parsed(data: bytes) -> Any:
    """
    Parse JSON.

    Raises
    ------
    ValueError
        If it is none, or nested too deeply to be ours.
    """
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def decoded(kind: Callable[..., Kind], plain: Any, fields: Mapping[str, Decoder]) -> Kind:
    """
    Decode an object.

    Parameters
    ----------
    kind : callable
        Takes the fields by name.
    plain : object
        As parsed.
    fields : mapping of str to callable
        How each field is decoded.

    Raises
    ------
    ValueError
        If it is no object, or a field is unknown, absent or wrong.
    """
    found = _mapping(plain)
    if unknown := found.keys() - fields.keys():
        raise ValueError(f"{len(unknown)} fields that this version does not know")
    values = {}
    for name, value in found.items():
        try:
            values[name] = fields[name](value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    try:
        return kind(**values)
    except TypeError:
        raise ValueError("a field is absent") from None


def text(value: Any) -> str:
    """A text that is not too long."""
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise ValueError("expected a text")
    return value


def count(most: int = MOST_BYTES, least: int = 0) -> Decoder:
    """A whole number within bounds."""

    def decode(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError("expected a whole number within its bounds")
        return value

    return decode


def maybe(decode: Decoder) -> Decoder:
    """The same, or null."""
    return lambda value: None if value is None else decode(value)


def tuple_of(decode: Decoder, length: int | None = None) -> Decoder:
    """A list of the same, of this length where one is given."""

    def decode_all(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) > MOST_ENTRIES:
            raise ValueError("expected a list")
        if length is not None and len(value) != length:
            raise ValueError(f"expected a list of {length}")
        return tuple(map(decode, value))

    return decode_all


def mapping_of(decode: Decoder) -> Decoder:
    """An object whose values are the same."""
    return lambda value: {text(name): decode(item) for name, item in _mapping(value).items()}


def grid(value: Any) -> Grid:
    """A grid with a shape, and numbers that can be one."""
    return decoded(Grid, value, GRID)


def outcome(value: Any) -> Outcome:
    """
    An outcome, whose outputs lie in the folder of its name.

    Raises
    ------
    ValueError
        If it is none.
    """
    found = decoded(Outcome, value, OUTCOME)
    if found.outputs:
        if not NAME.fullmatch(found.name):
            raise ValueError("name: no name of a scan")
        folder = f"scans/{found.name}/"
        for key in found.outputs:
            parts = key.removeprefix(folder).split("/")
            if not key.startswith(folder) or {"", ".", ".."} & {*parts} or "\0" in key:
                raise ValueError("outputs: a key outside of the scan's folder")
    return found


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > MOST_ENTRIES:
        raise ValueError("expected an object")
    return value


def _flag(value: Any) -> bool:
    if value is not True and value is not False:
        raise ValueError("expected true or false")
    return value


def _number(value: Any) -> float:
    """A number; null is what JSON has for one that is not finite."""
    if value is None:
        return math.nan
    if type(value) not in (int, float) or not -FAR < value < FAR:
        raise ValueError("expected a number")
    return value  # type: ignore[no-any-return]


def _finite(value: Any) -> float:
    number = _number(value)
    if math.isnan(number):
        raise ValueError("expected a number")
    return number


def _length(value: Any) -> float:
    number = _finite(value)
    if number <= 0:
        raise ValueError("expected a number above 0")
    return number


def _tag(value: Any) -> str | float:
    return text(value) if isinstance(value, str) else _number(value)


def _status(value: Any) -> str:
    if value not in ("done", "failed", "skipped"):
        raise ValueError("expected done, failed or skipped")
    return str(value)


def _severity(value: Any) -> str:
    if value not in ("look", "note"):
        raise ValueError("expected look or note")
    return str(value)


def _facts(value: Any) -> tuple[int, int]:
    size_bytes, crc = tuple_of(count(), 2)(value)
    return size_bytes, count(MOST_CRC)(crc)


GRID = {
    "shape": tuple_of(count(MOST_VOXELS, least=1), 3),
    "spacing_mm": tuple_of(_length, 3),
    "origin_mm": tuple_of(_finite, 3),
    "direction": tuple_of(tuple_of(_finite, 3), 3),
}
VERDICT = {
    "classes": tuple_of(text),
    "numbers": mapping_of(_number),
    "actions": tuple_of(text),
}
FLAG = {"name": text, "value": _number, "text": text, "severity": _severity}
OUTCOME: dict[str, Decoder] = {
    "name": text,
    "group": text,
    "status": _status,
    "series_uid": text,
    "error": text,
    "message": text,
    "verdict": maybe(lambda value: decoded(Verdict, value, VERDICT)),
    "acquired": maybe(grid),
    "grid": maybe(grid),
    "acquisition": mapping_of(_tag),
    "figures": mapping_of(_number),
    "flags": tuple_of(lambda value: decoded(Flag, value, FLAG)),
    "outputs": mapping_of(_facts),
    "seconds": mapping_of(_number),
    "cpu_seconds": mapping_of(_number),
    "peak_rss_bytes": count(),
    "transient": _flag,
    "wished_name": text,
    "also_in": tuple_of(text),
}
