"""
Which source groups a store holds.

Covers the grouping of listed objects; opens none of them. A source group is a leaf: the objects
directly under one folder. A series spread over several folders is several groups here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastlung.io.objects import ObjectInfo, Store

__all__ = ["SourceGroup", "discover", "printable", "stable_id"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceGroup:
    """
    The objects directly under one folder: the unit of work.

    Attributes
    ----------
    id : str
        Sixteen hex digits, the same for the same label in every run.
    label : str
        Path of the folder below the source, ``.`` for the source itself; a pseudonym where
        output names are hashed. Safe to print.
    objects : tuple of ObjectInfo
        In order of their keys.
    unreadable : bool
        True for a folder that could not be listed; it has no objects.
    """

    id: str
    label: str
    objects: tuple[ObjectInfo, ...]
    unreadable: bool = False

    @property
    def size_bytes(self) -> int:
        """Bytes of all objects."""
        return sum(info.size_bytes for info in self.objects)

    @property
    def digest(self) -> str:
        """Sixteen hex digits that change with any object's name, size or ETag."""
        lines = (
            f"{info.key.rpartition('/')[2]}\0{info.size_bytes}\0{info.etag}\n"
            for info in self.objects
        )
        return stable_id("".join(lines))


def stable_id(text: str) -> str:
    """Sixteen hex digits of the SHA-256 of a text, which may hold undecodable file names."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def discover(
    store: Store,
    *,
    without: str = "",
    pseudonym: Callable[[str], str] = str,
) -> Iterator[SourceGroup]:
    """
    Source groups of a store, as they are listed and in the same order every time.

    Parameters
    ----------
    store : Store
        The source.
    without : str
        Key of a folder to leave out: a sink inside the source. Empty for none.
    pseudonym : callable
        From the path of a folder to what is recorded of it.

    Yields
    ------
    SourceGroup
        Folders that could not be listed come last.
    """
    hidden = f"{without}/"
    unreadable: list[str] = []
    listed = store.list(on_unreadable=unreadable.append)
    for folder, objects in groupby(listed, key=lambda info: info.key.rpartition("/")[0]):
        if without and f"{folder}/".startswith(hidden):
            continue
        yield _group(folder, tuple(objects), pseudonym)
    for folder in unreadable:
        yield _group(folder, (), pseudonym, unreadable=True)


def _group(
    folder: str,
    objects: tuple[ObjectInfo, ...],
    pseudonym: Callable[[str], str],
    *,
    unreadable: bool = False,
) -> SourceGroup:
    label = pseudonym(folder or ".")
    return SourceGroup(
        id=stable_id(label), label=printable(label), objects=objects, unreadable=unreadable
    )


def printable(text: str) -> str:
    """Text with line breaks, terminal escapes and undecodable bytes of file names spelt out."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
