"""
Series spread over folders, put together again by their headers.

Reads the head of every DICOM file once before the run starts, which `discover` never does: some
archives sort slices by patient, by date or by nothing, and only headers say what belongs together.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from fastlung.dicom.headers import HEAD_BYTES
from fastlung.dicom.series import index_files
from fastlung.errors import StoreError
from fastlung.io.source import SourceGroup
from fastlung.text import printable, stable_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fastlung.dicom import SeriesIndex
    from fastlung.storage.base import ObjectInfo, Store

__all__ = ["join_series"]

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
                index = _index(group, store_of(group), pool)
            except StoreError:
                yield group  # whoever reads it next says what is wrong
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


def _index(group: SourceGroup, store: Store, pool: ThreadPoolExecutor) -> SeriesIndex:
    """Headers of a folder; read side by side, understood one after the other."""

    def head(info: ObjectInfo) -> bytes:
        return store.get(info.key, etag=info.etag, first_bytes=HEAD_BYTES)

    keys = [info.key for info in group.objects]
    heads = dict(zip(keys, pool.map(head, group.objects), strict=True))

    def read(key: str, count: int) -> bytes:
        return heads[key][:count] if count <= HEAD_BYTES else store.get(key, first_bytes=count)

    return index_files({info.key: info.size_bytes for info in group.objects}, read)
