"""Text for people: names made printable and stable, numbers with their unit."""

from __future__ import annotations

import hashlib

__all__ = ["byte_size", "count", "duration", "printable", "stable_id"]


def stable_id(text: str) -> str:
    """Sixteen hex digits of the SHA-256 of a text, which may hold undecodable file names."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def printable(text: str) -> str:
    """Text with line breaks, terminal escapes and undecodable bytes of file names spelt out."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def count(number: int, noun: str) -> str:
    """
    Join a number and its noun.

    Parameters
    ----------
    number : int
        How many.
    noun : str
        One of them; an s makes it many.

    Returns
    -------
    str
        Such as ``1 scan`` or ``1,595 scans``.
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """
    Write a time for a reader.

    Parameters
    ----------
    seconds : float
        Zero or more.

    Returns
    -------
    str
        Such as ``4.2 s``, ``3 min 12 s`` or ``2 h 05 min``.
    """
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004 - seconds in a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:  # noqa: PLR2004 - minutes in an hour
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def byte_size(number_bytes: float) -> str:
    """
    Write a number of bytes for a reader.

    Parameters
    ----------
    number_bytes : float
        Zero or more.

    Returns
    -------
    str
        In powers of 1000, such as ``512 B``, ``66.3 MB`` or ``1.2 GB``.
    """
    for unit in ("B", "kB", "MB", "GB"):
        if number_bytes < 1000:  # noqa: PLR2004 - the step from unit to unit
            return f"{number_bytes:.0f} B" if unit == "B" else f"{number_bytes:.1f} {unit}"
        number_bytes /= 1000
    return f"{number_bytes:.1f} TB"
