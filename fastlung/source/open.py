"""
From what was typed as SOURCE to the source groups there.

SOURCE is a folder or prefix, one archive or volume, or a list of such; whichever it is, what comes
out are source groups. How the objects of one store form groups is `fastlung.source.groups`'.
"""

from __future__ import annotations

import shlex
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fastlung.errors import (
    AccessError,
    ConfigError,
    CredentialsError,
    NothingFoundError,
    ObjectNotFoundError,
    StoreError,
)
from fastlung.source.archives import ARCHIVE_SUFFIXES
from fastlung.source.groups import (
    DATA_SUFFIXES,
    HEADER_SUFFIX,
    VOLUME_SUFFIXES,
    SourceGroup,
    discover,
    group_objects,
)
from fastlung.storage import Store, open_store
from fastlung.text import byte_size, printable, stable_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fastlung.config import StoreOptions
    from fastlung.storage.base import ObjectInfo

__all__ = ["LIST_SUFFIXES", "Place", "Source", "open_source", "read_list", "store_of"]


#: Objects that are a source group by themselves.
WHOLE_SUFFIXES = (*ARCHIVE_SUFFIXES, *VOLUME_SUFFIXES)

#: Names that stand for an object where nothing local says whether they are a folder.
OBJECT_SUFFIXES = (*WHOLE_SUFFIXES, ".dcm", ".ima")

#: A list of a million entries has some 100 MB; what is longer is another file.
LIST_BYTES = 2**28
#: Places of a list that are listed at a time: 30 ms each, and manifests name 200,000.
LISTED_AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """
    Somewhere to look.

    Attributes
    ----------
    store : Store
        A folder or prefix.
    label : str
        Stands before the labels of its groups; empty where the source is this place alone.
    only : tuple of str
        Names of the objects directly in it that count; empty for all below it.
    """

    store: Store
    label: str = ""
    only: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """
    Everywhere a run looks for scans.

    Attributes
    ----------
    places : tuple of Place
        At least one.
    """

    places: tuple[Place, ...]

    @property
    def store(self) -> Store:
        """Where groups are that name no store of their own."""
        return self.places[0].store

    def check(self) -> None:
        """
        Refuse a source that cannot be read, before any work is done.

        Of a list, each bucket is asked once, for what every entry would meet: no credentials, or
        nobody there. A prefix that is missing, or may not be listed, fails by itself, later.

        Raises
        ------
        ConfigError, StoreError
            With the cause.
        """
        if not self.places[0].label:
            self.store.check_source()
            return
        buckets: dict[str, Store] = {}
        for place in self.places:
            if place.store.url.startswith("s3://"):
                buckets.setdefault(place.store.url.split("/")[2], place.store)
        unanswered: list[StoreError] = []
        for store in buckets.values():
            try:
                store.check_source()
            except CredentialsError:
                raise
            except (AccessError, ObjectNotFoundError):
                continue
            except StoreError as error:
                unanswered.append(error)
        if unanswered and len(unanswered) == len(buckets):
            raise unanswered[0]

    def hidden(self, message: str) -> str:
        """Words of a store without the entries of a list, which nobody typed."""
        named = {place.store.url for place in self.places} | {place.label for place in self.places}
        for name in sorted(named - {""}, key=len, reverse=True) if self.places[0].label else ():
            message = message.replace(name, "an entry of the list")
        return message

    def groups(
        self, *, sink: Store | None = None, pseudonym: Callable[[str], str] = str
    ) -> Iterator[SourceGroup]:
        """
        Source groups of all places, each once, in the same order every time.

        Parameters
        ----------
        sink : Store, optional
            Left out where it lies in a place.
        pseudonym : callable
            From the path of a group to what is recorded of it.

        Raises
        ------
        ConfigError
            If the sink is one of the places.
        StoreError
            If the source's only place cannot be listed.
        """
        if len(self.places) == 1:
            yield from _groups_of_one(self.places[0], sink, pseudonym)
            return

        def look(place: Place) -> list[SourceGroup]:
            return _groups_of_many(place, sink, pseudonym)

        seen: set[str] = set()
        with ThreadPoolExecutor(LISTED_AT_ONCE, "fastlung-lister") as pool:
            for groups in pool.map(look, self.places):
                # A list may name a folder and what is in it.
                yield from (group for group in groups if group.id not in seen)
                seen |= {group.id for group in groups}


def open_source(url: str, options: StoreOptions) -> Source:
    """
    Find out what kind of source was typed.

    Parameters
    ----------
    url : str
        A folder or prefix, an archive, a volume, or a list of these.
    options : StoreOptions
        How s3:// is reached.

    Raises
    ------
    ConfigError
        For a kind of URL, or a line of a list, that cannot be understood.
    StoreError
        If a list cannot be read.
    """
    folder, name = _parted(url)
    if _names_object(url, WHOLE_SUFFIXES):
        return Source(places=(Place(store=open_store(folder, options), only=(name,)),))
    if _names_object(url, LIST_SUFFIXES):
        text = open_store(folder, options).get(name, first_bytes=LIST_BYTES + 1)
        if len(text) > LIST_BYTES:
            raise ConfigError(f"{name}: a list of more than {byte_size(LIST_BYTES)}; cut it in two")
        return Source(
            places=_places(read_list(text.decode("utf-8-sig", "surrogateescape")), options)
        )
    return Source(places=(Place(store=open_store(url, options)),))


def store_of(group: SourceGroup, source: Store, options: StoreOptions) -> Store:
    """
    Where the objects of a group are.

    Parameters
    ----------
    group : SourceGroup
        The group.
    source : Store
        Where they are unless the group says otherwise.
    options : StoreOptions
        How s3:// is reached.
    """
    return open_store(group.store_url, options) if group.store_url else source


def _places(entries: Sequence[str], options: StoreOptions) -> tuple[Place, ...]:
    """Places of the entries of a list; loose files of one folder are one place."""
    found: dict[tuple[str, str], list[str]] = {}
    for entry in entries:
        if _names_object(entry, OBJECT_SUFFIXES) or _local_file(entry):
            folder, name = _parted(entry)
            alone = name if name.lower().endswith(WHOLE_SUFFIXES) else "loose files"
            found.setdefault((folder, alone), []).append(name)
        else:
            found.setdefault((entry.rstrip("/") or "/", ""), [])
    return tuple(
        Place(store=open_store(folder, options), label=folder, only=tuple(names))
        for (folder, _), names in found.items()
    )


def _parted(url: str) -> tuple[str, str]:
    """Folder and name; the folder of a bare name is where we are."""
    folder, _, name = url.rpartition("/")
    return folder or ("/" if url.startswith("/") else "."), name


def _names_object(url: str, suffixes: tuple[str, ...]) -> bool:
    if not url.lower().endswith(suffixes):
        return False
    return _local_file(url) or url.startswith("s3://")


def _local_file(url: str) -> bool:
    path = url.removeprefix("file://")
    if "://" in path:
        return False
    try:
        return Path(path).expanduser().is_file()
    except (OSError, RuntimeError):  # forbidden, or no home: whoever opens it says so
        return False


def _groups(
    place: Place, sink: Store | None, pseudonym: Callable[[str], str]
) -> Iterator[SourceGroup]:
    if place.only:
        objects = [info for name in place.only for info in _objects(place.store, name)]
        url = place.store.url if place.label else ""
        return group_objects("", objects, pseudonym=pseudonym, place=place.label, store_url=url)
    inside = None if sink is None else place.store.key_of(sink)
    if inside == "":
        raise ConfigError(
            f"source and sink are the same folder {place.store.url}; give another sink"
        )
    return discover(place.store, without=inside or "", pseudonym=pseudonym, place=place.label)


def _groups_of_many(
    place: Place, sink: Store | None, pseudonym: Callable[[str], str]
) -> list[SourceGroup]:
    """Groups of one place of a list; one that cannot be read fails as a group of its own."""
    try:
        return list(_groups(place, sink, pseudonym)) or [_unreadable(place, pseudonym)]
    except StoreError as error:
        return [_unreadable(place, pseudonym, error)]


def _groups_of_one(
    place: Place, sink: Store | None, pseudonym: Callable[[str], str]
) -> Iterator[SourceGroup]:
    """Groups of the only place, as they are found; of a list, it too fails as a group."""
    groups = iter(_groups(place, sink, pseudonym))
    try:
        first = next(groups, None)
    except StoreError as error:
        if not place.label:
            raise
        first = _unreadable(place, pseudonym, error)
    if first is not None:
        yield first
        yield from groups


def _unreadable(
    place: Place, pseudonym: Callable[[str], str], error: StoreError | None = None
) -> SourceGroup:
    """Group that stands for a place of a list which cannot be listed, or holds nothing."""
    name = place.only[0] if len(place.only) == 1 else ""
    label = pseudonym("/".join(filter(None, (place.label, name))))
    # The store's words, but for the name of the place, which may have to be hidden.
    problem = "" if error is None else str(error).replace(place.store.url, label)
    if name and name in problem:
        problem = ""
    return SourceGroup(
        id=stable_id(label),
        label=printable(label),
        objects=(),
        unreadable=True,
        problem=printable(problem),
    )


def _objects(store: Store, name: str) -> list[ObjectInfo]:
    """One named object, and the data file of a header without voxels."""
    found = [store.stat(name)]
    if name.lower().endswith(HEADER_SUFFIX):
        for suffix in DATA_SUFFIXES:
            try:
                found.append(store.stat(name[: -len(HEADER_SUFFIX)] + suffix))
            except ObjectNotFoundError:
                continue
    return found


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
