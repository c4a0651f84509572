"""
Values of options: names, numbers, sizes, and the message for anything else.

Covers single values; whether they fit together is `fastlung.config`'s.
"""

from __future__ import annotations

import argparse
import difflib
import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "OneOf",
    "count",
    "limit",
    "number",
    "number_or_auto",
    "pair",
    "size",
    "slice_asked",
    "spacing",
    "speed",
    "suggestion",
    "voxels",
    "window",
]

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
#: Bytes a second; links are sold in bits, disks in bytes.
SPEED_UNITS = {"MBPS": 125e3, "GBPS": 125e6, "MB/S": 1e6, "GB/S": 1e9}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def suggestion(name: str, known: Iterable[str]) -> str:
    """What may have been meant by a name that is not known."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"


class OneOf:
    """
    Checks a name; argparse's own ``choices`` would not say which one was meant.

    Parameters
    ----------
    *known : str
        Names it takes.
    """

    def __init__(self, *known: str) -> None:
        self.known = known

    def __call__(self, text: str) -> str:
        """Return a name that is known."""
        if text not in self.known:
            hint = suggestion(text, self.known)
            raise argparse.ArgumentTypeError(f"unknown name {text!r}; {hint}")
        return text


def _numbers(text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        return ()
    return numbers if all(map(math.isfinite, numbers)) else ()


def number(text: str) -> float:
    """One finite number."""
    numbers = _numbers(text)
    if len(numbers) != 1:
        raise argparse.ArgumentTypeError(f"expected one number, and found {text!r}")
    return numbers[0]


def spacing(text: str) -> tuple[float, float, float]:
    """A spacing in millimetres, along (z, y, x)."""
    numbers = _numbers(text)
    if len(numbers) == 1:
        return numbers * 3
    if len(numbers) == 3:  # noqa: PLR2004 - z, y, x
        return numbers
    raise argparse.ArgumentTypeError(
        f"expected one number in mm, or three as Z,Y,X, and found {text!r}"
    )


def window(text: str) -> tuple[float, float] | str:
    """Two Hounsfield units, or the word none."""
    if text == "none":
        return text
    numbers = _numbers(text)
    if len(numbers) != 2:  # noqa: PLR2004 - low, high
        raise argparse.ArgumentTypeError(
            f"expected two numbers in HU as LOW,HIGH, such as -1000,400, and found {text!r}"
        )
    return numbers[0], numbers[1]


def pair(text: str) -> tuple[float, float]:
    """Two numbers."""
    numbers = _numbers(text)
    if len(numbers) != 2:  # noqa: PLR2004 - mean, standard deviation
        raise argparse.ArgumentTypeError(
            f"expected two numbers in HU as MEAN,SD, such as -158.6,324.7, and found {text!r}"
        )
    return numbers[0], numbers[1]


def slice_asked(text: str) -> dict[str, float]:
    """An axial slice, by its index or by its height in the patient."""
    if re.fullmatch(r"[0-9]{1,5}", text):
        return {"slice_number": int(text)}
    heights = _numbers(text[:-2]) if text.endswith("mm") else ()
    if len(heights) != 1:
        raise argparse.ArgumentTypeError(
            f"expected an index such as 120, or a height such as -85.5mm, and found {text!r}"
        )
    return {"slice_mm": heights[0]}


def voxels(text: str) -> tuple[int, int, int]:
    """A shape, in voxels along (z, y, x)."""
    if re.fullmatch(r"[0-9]{1,4}(,[0-9]{1,4}){2}", text) is None:
        raise argparse.ArgumentTypeError(
            f"expected whole numbers up to 9999 as Z,Y,X, such as 200,256,256, and found {text!r}"
        )
    z, y, x = map(int, text.split(","))
    return z, y, x


def number_or_auto(text: str) -> int | str:
    """A whole number, or the word auto."""
    if text == "auto":
        return text
    if re.fullmatch(r"[0-9]{1,6}", text) is None:
        raise argparse.ArgumentTypeError(
            f"expected a whole number up to 999,999, or auto, and found {text!r}"
        )
    return int(text)


def count(text: str) -> int:
    """A whole number."""
    if re.fullmatch(r"[0-9]{1,6}", text) is None:
        raise argparse.ArgumentTypeError(
            f"expected a whole number up to 999,999, and found {text!r}"
        )
    return int(text)


def limit(text: str) -> tuple[str, int]:
    """A limit by name, ``NAME=N``; N may be a size."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(
            f"expected NAME=N, such as slices=8000, and found {text!r}"
        )
    if re.fullmatch(r"[0-9]{1,18}", value):
        return name, int(value)
    return name, size(value)


def size(text: str) -> int:
    """Bytes, written with a unit."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT]?I?B)", text.strip().upper())
    if match is None or match[2] not in UNITS:
        raise argparse.ArgumentTypeError(
            f"expected a number with its unit, such as 8GiB or 500MB, and found {text!r}"
        )
    return int(float(match[1]) * UNITS[match[2]])


def speed(text: str) -> float:
    """Bytes a second, written with a unit of bits or bytes."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([MG](?:BPS|BIT/S|B/S))", text.strip().upper())
    unit = match[2].replace("BIT/S", "BPS") if match else ""
    if match is None or unit not in SPEED_UNITS or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(
            f"expected a number with its unit, such as 2.5Gbps or 300MB/s, and found {text!r}"
        )
    return float(match[1]) * SPEED_UNITS[unit]
