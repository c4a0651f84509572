"""
The files of a source group as series, whatever kind of group it is.

The one place that tells kinds of groups apart: an archive is unpacked, and its files are DICOM; a
volume is one header and one array. What comes out is a `SeriesIndex` either way, whose series know
how to load themselves. What a store holds, and which objects form a group, is `groups`'.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from fastlung.dicom.checks import Policy
from fastlung.dicom.headers import HEAD_BYTES
from fastlung.dicom.series import index_files
from fastlung.errors import StoreError
from fastlung.limits import check_listing
from fastlung.source import volumes
from fastlung.source.archives import MAX_INFLATED_BYTES, unpack
from fastlung.source.groups import SourceGroup
from fastlung.text import printable, stable_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from fastlung.dicom import SeriesIndex
    from fastlung.storage.base import ObjectInfo, Store

    Blobs = Mapping[str, bytes | memoryview]

__all__ = ["fetch", "index_blobs", "index_headers", "index_sample", "join_series", "unpacked"]

_DEFAULT = Policy()


def index_blobs(group: SourceGroup, blobs: Blobs, policy: Policy = _DEFAULT) -> SeriesIndex:
    """
    Say which series are in a group whose files are in memory.

    Parameters
    ----------
    group : SourceGroup
        The group.
    blobs : mapping of str to bytes or memoryview
        Its files, as `unpacked` gives them; keys may be pseudonyms.
    policy : Policy
        What to do about irregular series.
    """

    def first(key: str, count: int) -> bytes:
        return bytes(memoryview(blobs[key])[:count])

    return _index(group, {key: len(blob) for key, blob in blobs.items()}, first, policy)


def index_headers(group: SourceGroup, store: Store, policy: Policy = _DEFAULT) -> SeriesIndex:
    """
    Say which series are in a group, reading headers only; an archive must be read whole.

    Parameters
    ----------
    group : SourceGroup
        The group.
    store : Store
        Where its objects are.
    policy : Policy
        What to do about irregular series.

    Raises
    ------
    LimitError
        For more or larger files than any series has.
    StoreError
        Where an object cannot be read.
    ScanError, InsufficientMemoryError
        As `unpack`, for an archive.
    """
    if group.kind == "archive":
        return index_blobs(group, fetch(group, store), policy)
    sizes = {info.key: info.size_bytes for info in group.objects}
    if group.kind == "files":
        check_listing(sizes.values())
    return _index(group, sizes, lambda key, count: store.get(key, first_bytes=count), policy)


def index_sample(group: SourceGroup, store: Store) -> SeriesIndex | None:
    """
    Read the header of a volume, or of the largest file: a slice, where there is one.

    Parameters
    ----------
    group : SourceGroup
        The group.
    store : Store
        Where its objects are.

    Returns
    -------
    SeriesIndex or None
        None for an archive, which would have to be unpacked, and for a group without files.

    Raises
    ------
    LimitError, StoreError
        As `index_headers`.
    """
    if not group.objects or group.kind == "archive":
        return None
    if group.kind == "files":
        largest = max(group.objects, key=lambda info: (info.size_bytes, info.key))
        group = replace(group, objects=(largest,))
    return index_headers(group, store)


def _index(
    group: SourceGroup,
    sizes: Mapping[str, int],
    first: Callable[[str, int], bytes],
    policy: Policy,
) -> SeriesIndex:
    if group.kind == "volume":
        return volumes.index_volume({key: first(key, volumes.HEAD_BYTES) for key in sizes})
    return index_files(sizes, first, policy)


def fetch(
    group: SourceGroup, store: Store, *, memory_bytes: int = MAX_INFLATED_BYTES
) -> dict[str, bytes | memoryview]:
    """
    Read all files of a group.

    Parameters
    ----------
    group : SourceGroup
        The group.
    store : Store
        Where its objects are.
    memory_bytes : int
        What the files of an archive may take together, in bytes.

    Raises
    ------
    StoreError
        Where an object cannot be read, or is no longer the one that was listed.
    ScanError, InsufficientMemoryError
        As `unpack`, for an archive.
    """
    blobs = {info.key: store.get(info.key, etag=info.etag) for info in group.objects}
    return unpacked(group, dict(blobs), memory_bytes=memory_bytes)


def unpacked(
    group: SourceGroup, blobs: dict[str, bytes | memoryview], *, memory_bytes: int
) -> dict[str, bytes | memoryview]:
    """
    Files of a group out of its objects: of an archive what is in it, else the objects themselves.

    Parameters
    ----------
    group : SourceGroup
        The group.
    blobs : dict of str to bytes or memoryview
        Its objects.
    memory_bytes : int
        What the files of an archive may take together, beside the archive itself, in bytes.

    Raises
    ------
    ScanError, InsufficientMemoryError
        As `unpack`, for an archive.
    """
    if group.kind != "archive":
        return blobs
    (archive,) = blobs.values()
    return dict(unpack(bytes(archive), memory_bytes=memory_bytes))


#: Heads that are read at a time; from a bucket each takes some 30 ms of waiting.
READ_AT_ONCE = 16


def join_series(
    groups: Iterable[SourceGroup],
    store_of: Callable[[SourceGroup], Store],
    pseudonym: Callable[[str], str] = str,
) -> Iterator[SourceGroup]:
    """
    Make one source group of each series, wherever its files are.

    Parameters
    ----------
    groups : iterable of SourceGroup
        As discovered, one a folder.
    store_of : callable
        Where the objects of a group are.
    pseudonym : callable
        From a SeriesInstanceUID to what is recorded of it.

    Yields
    ------
    SourceGroup
        Archives, volumes, and what has no SeriesInstanceUID, as they were; then the series. Files
        that are no CT slices are left out.
    """
    spread: dict[tuple[str, str], dict[str, ObjectInfo]] = {}
    with ThreadPoolExecutor(READ_AT_ONCE, "fastlung-crawler") as pool:
        for group in groups:
            if group.kind != "files" or group.unreadable:
                yield group
                continue
            try:
                index = _index_together(group, store_of(group), pool)
            except StoreError:
                yield group  # its reader reports what is wrong
                continue
            objects = {info.key: info for info in group.objects}
            alone = set(index.broken)
            for series in index.series:
                if series.series_uid:
                    members = spread.setdefault((group.store_url, series.series_uid), {})
                    members.update((key, objects[key]) for key in series.keys)
                else:
                    alone.update(series.keys)
            if alone:
                yield replace(group, objects=tuple(i for i in group.objects if i.key in alone))
    for (store_url, uid), found in sorted(spread.items()):
        label = pseudonym("/".join(filter(None, (store_url, uid))))
        yield SourceGroup(
            id=stable_id(f"series {label}"),
            label=printable(label),
            objects=tuple(found[key] for key in sorted(found)),
            store_url=store_url,
        )


def _index_together(group: SourceGroup, store: Store, pool: ThreadPoolExecutor) -> SeriesIndex:
    """Headers of a folder; read side by side, understood one after the other."""

    def head(info: ObjectInfo) -> bytes:
        return store.get(info.key, etag=info.etag, first_bytes=HEAD_BYTES)

    keys = [info.key for info in group.objects]
    heads = dict(zip(keys, pool.map(head, group.objects), strict=True))

    def read(key: str, count: int) -> bytes:
        return heads[key][:count] if count <= HEAD_BYTES else store.get(key, first_bytes=count)

    return index_files({info.key: info.size_bytes for info in group.objects}, read)
