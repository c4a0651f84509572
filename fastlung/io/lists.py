"""
A text file that names sources, one a line: paths, URLs, or the commands of an s5cmd manifest.

Covers the text only; whether what it names exists is found out when it is listed.
"""

from __future__ import annotations

import shlex

from fastlung.errors import ConfigError, NothingFoundError

__all__ = ["LIST_SUFFIXES", "read_list"]

LIST_SUFFIXES = (".txt", ".lst", ".s5cmd")

#: s5cmd's commands that name a source; whatever options stand around it change no byte of it.
COPYING = {"cp", "sync"}


def read_list(text: str) -> tuple[str, ...]:
    """
    Paths and URLs named in a list, each once, in order.

    Parameters
    ----------
    text : str
        One path or URL a line, or a line of an s5cmd manifest such as
        ``cp s3://bucket/prefix/* .``. Empty lines and lines that begin with ``#`` are left out.

    Returns
    -------
    tuple of str
        Folders end in ``/`` where the line said so, by a slash or by ``/*``.

    Raises
    ------
    ConfigError
        For a line that cannot be understood; it is named by its number.
    NothingFoundError
        If no line names anything.
    """
    found: dict[str, None] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            found[_source_of(stripped, number)] = None
    if not found:
        raise NothingFoundError("the list names nothing; expected one path or URL a line")
    return tuple(found)


def _source_of(line: str, number: int) -> str:
    words = line.split(maxsplit=1)
    source = line
    if len(words) > 1 and words[0] in {*COPYING, "s5cmd"}:
        source = _copied(line, number)
    if source.endswith("/*"):
        source = source[:-1]
    if "*" in source or "?" in source:
        raise ConfigError(
            f"line {number} of the list: a wildcard other than one /* at the end; expected a "
            "folder, a prefix or a file"
        )
    return source


def _copied(line: str, number: int) -> str:
    """First s3:// URL of an s5cmd command."""
    try:
        words = shlex.split(line)
    except ValueError:
        words = []
    urls = [word for word in words if word.startswith("s3://")]
    if not urls or not COPYING.intersection(words):
        raise ConfigError(
            f"line {number} of the list: not understood; expected a path, a URL, or a command "
            "such as 'cp s3://bucket/prefix/* .'"
        )
    return urls[0]
