"""
Which source groups a store holds.

Covers the grouping of listed objects. A source group is a leaf: the objects directly under one
folder, but each archive, and each volume file, stands for itself. A series spread over several
folders is several groups; `read.join_series` makes one of them. No object is opened here.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from fastlung.source.archives import ARCHIVE_SUFFIXES
from fastlung.text import count, printable, stable_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fastlung.storage.base import ObjectInfo, Store

    Members = tuple[ObjectInfo, ...]

__all__ = [
    "DATA_SUFFIXES",
    "HEADER_SUFFIX",
    "VOLUME_SUFFIXES",
    "Kind",
    "SourceGroup",
    "discover",
    "group_objects",
]


logger = logging.getLogger(__name__)

#: What is said of links to folders, by what became of them; and how many are named.
_LINKS = {
    "followed": "%s to a folder outside the source followed: %s",
    "seen": "%s to a folder that is part of the source already not followed: %s",
}
NAMED_LINKS = 5

#: A folder with both holds what fastlung made of a scan. Taken for a source, the same patient would
#: turn up twice in the training data.
_RESULT_FILES = {"metadata.json", "outcome.json"}

#: Names of MetaImage and NIfTI volumes; a header without voxels has them in a file of its name.
HEADER_SUFFIX = ".mhd"

VOLUME_SUFFIXES = (HEADER_SUFFIX, ".mha", ".nii", ".nii.gz")

DATA_SUFFIXES = (".raw", ".zraw")

#: What the objects of a group are: DICOM files; one archive of them; one MetaImage or NIfTI.
Kind = Literal["files", "archive", "volume"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceGroup:
    """
    The objects directly under one folder, or one archive or volume: the unit of work.

    Attributes
    ----------
    id : str
        Sixteen hex digits, the same for the same label in every run.
    label : str
        Path of the folder, archive or volume below the source, ``.`` for the source itself; a
        pseudonym where output names are hashed. Safe to print.
    objects : tuple of ObjectInfo
        In order of their keys.
    unreadable : bool
        True for a folder that could not be listed; it has no objects.
    problem : str
        Why not, where the store said so.
    kind : str
        ``files``, ``archive`` or ``volume``.
    store_url : str
        Where the objects are, if the source names more than one place; else empty.
    """

    id: str
    label: str
    objects: tuple[ObjectInfo, ...]
    unreadable: bool = False
    problem: str = ""
    kind: Kind = "files"
    store_url: str = ""

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


def discover(
    store: Store,
    *,
    without: str = "",
    pseudonym: Callable[[str], str] = str,
    place: str = "",
) -> Iterator[SourceGroup]:
    """
    Source groups of a store, as they are listed and in the same order every time.

    Parameters
    ----------
    store : Store
        The source, or one place of it.
    without : str
        Key of a folder to leave out: a sink inside the source. Empty for none.
    pseudonym : callable
        From the path of a folder to what is recorded of it.
    place : str
        Stands before every label; empty where the source is one place.

    Yields
    ------
    SourceGroup
        Folders that could not be listed come last.
    """
    hidden = f"{without}/"
    unreadable: list[str] = []
    links: dict[str, list[str]] = {}

    def note(key: str, became: str) -> None:
        links.setdefault(became, []).append(printable(pseudonym(_joined(place, key))))

    listed = store.list(on_unreadable=unreadable.append, on_link=note)
    url = store.url if place else ""
    for folder, found in groupby(listed, key=lambda info: info.key.rpartition("/")[0]):
        if without and f"{folder}/".startswith(hidden):
            continue
        objects = list(found)
        if {info.key.rpartition("/")[2] for info in objects} >= _RESULT_FILES:
            continue
        yield from group_objects(folder, objects, pseudonym=pseudonym, place=place, store_url=url)
    for became, keys in links.items():
        logger.warning(_LINKS[became], count(len(keys), "link"), ", ".join(keys[:NAMED_LINKS]))
    for folder in unreadable:
        label = pseudonym(_joined(place, folder))
        yield SourceGroup(
            id=stable_id(label), label=printable(label), objects=(), unreadable=True, store_url=url
        )


def group_objects(
    folder: str,
    objects: Iterable[ObjectInfo],
    *,
    pseudonym: Callable[[str], str] = str,
    place: str = "",
    store_url: str = "",
) -> Iterator[SourceGroup]:
    """
    Groups of the objects directly under one folder.

    Parameters
    ----------
    folder : str
        Key of the folder.
    objects : iterable of ObjectInfo
        What is directly in it.
    pseudonym, place
        As in `discover`.
    store_url : str
        As in `SourceGroup`.

    Yields
    ------
    SourceGroup
        The DICOM files, then each archive, then each volume.
    """
    found = tuple(objects)
    apart = tuple(_apart(found))
    taken = {info for _, members in apart for info in members}
    files = tuple(info for info in found if info not in taken)
    together: tuple[tuple[Kind, Members], ...] = (("files", files),) if files else ()
    for kind, members in (*together, *apart):
        label = pseudonym(_joined(place, folder if kind == "files" else members[0].key))
        yield SourceGroup(
            id=stable_id(label),
            label=printable(label),
            objects=members,
            kind=kind,
            store_url=store_url,
        )


def _apart(objects: Members) -> Iterator[tuple[Kind, Members]]:
    """Archives, and volumes with their data files."""
    by_name = {info.key.lower(): info for info in objects}
    for info in objects:
        name = info.key.lower()
        if name.endswith(ARCHIVE_SUFFIXES):
            yield "archive", (info,)
        elif name.endswith(HEADER_SUFFIX):
            stem = name.removesuffix(HEADER_SUFFIX)
            data = (by_name[stem + end] for end in DATA_SUFFIXES if stem + end in by_name)
            yield "volume", (info, *data)
        elif name.endswith(VOLUME_SUFFIXES):
            yield "volume", (info,)


def _joined(place: str, path: str) -> str:
    return "/".join(filter(None, (place, path))) or "."
