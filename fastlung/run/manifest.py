"""
The manifest of a sink, from its records and nothing else.

Whatever interrupted a run, the records say what is committed; so does the manifest made of them.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from fastlung.errors import ObjectNotFoundError, StoreError
from fastlung.io.records import read_records
from fastlung.report.manifest import manifest_csv, manifest_parquet, manifest_row, writes_parquet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastlung.storage.base import Store

__all__ = ["MANIFEST_CSV", "MANIFEST_PARQUET", "manifest_afterwards", "write_manifest"]

MANIFEST_CSV = "manifest.csv"
MANIFEST_PARQUET = "manifest.parquet"


def write_manifest(sink: Store) -> int:
    """
    Bring the manifest of a sink up to date.

    Parameters
    ----------
    sink : Store
        A sink that holds records.

    Returns
    -------
    int
        Rows.

    Raises
    ------
    StoreError
        If the sink cannot be read or written.
    """
    rows = (
        manifest_row(
            outcome,
            {
                "source": record.label,
                "skipped_files": sum(record.skipped_files.values()),
                "config_digest": record.config_digest,
                "fastlung": record.fastlung,
                "written_at": record.written_at,
            },
        )
        for record in read_records(sink)
        for outcome in record.outcomes
    )
    table = manifest_csv(rows)
    _put_if_new(sink, MANIFEST_CSV, table)
    if writes_parquet():
        _put_if_new(sink, MANIFEST_PARQUET, manifest_parquet(table))
    else:
        # A machine with pyarrow wrote it; from now on it would be out of date.
        sink.delete(MANIFEST_PARQUET)
    return table.count(b"\n") - 1  # no field holds a line feed


@contextmanager
def manifest_afterwards(sink: Store) -> Iterator[None]:
    """
    Bring the manifest up to date however a run ends, an interrupt included.

    Parameters
    ----------
    sink : Store
        Where the run writes.

    Raises
    ------
    StoreError
        If the sink cannot be read or written; never in place of the error that ended the run.
    """
    try:
        yield
    except BaseException:
        with suppress(StoreError):
            write_manifest(sink)
        raise
    write_manifest(sink)


def _put_if_new(sink: Store, key: str, data: bytes) -> None:
    """Write unless the same bytes are there: a finished sink may be read-only by now."""
    with suppress(ObjectNotFoundError):
        if sink.get(key) == data:
            return
    sink.put(key, [data])
