"""
What a sink remembers: outcomes of scans, and the commit record of each source group.

A record is written last. It names what the group's objects were, which configuration was asked
for, and every output with size and CRC-32. Whoever trusts records only never meets half a scan.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlung.errors import StoreError
from fastlung.sink import decode
from fastlung.storage.prefetch import map_ahead

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastlung.scan import Grid, Outcome
    from fastlung.source.groups import SourceGroup
    from fastlung.storage.base import Store

__all__ = [
    "RECORDS",
    "RECORD_BYTES",
    "Record",
    "grid_from_json",
    "is_done",
    "load_outcome",
    "load_record",
    "outcome_key",
    "read_record",
    "read_records",
    "record_key",
    "to_json",
]

#: Folder of the commit records.
RECORDS = "records"
#: Raised when the fields below change their meaning; other formats count as "not done".
FORMAT = 1
#: Longer ones are not ours, and cut off here: one outcome has 7.5 kB, a Zarr array 100 B a chunk.
RECORD_BYTES = 2**25


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """
    The commit of one source group.

    Attributes
    ----------
    group : str
        Id of the source group.
    label : str
        Its label: a path below the source, or a pseudonym.
    objects_digest : str
        `SourceGroup.digest` of the objects that were read.
    config_digest : str
        `Config.digest` in force.
    outcomes : tuple of Outcome
        One per series; a single one for a group that could not be read.
    skipped_files : mapping of str to int
        Reason -> number of files that belong to no series.
    writer : str
        Random token of the run that wrote it.
    fastlung : str
        Version that wrote it.
    written_at : str
        When, UTC, to the second; empty in records of early versions.
    revisions : mapping of str to int
        What of `fastlung.revisions` had a hand in it; empty in records of 0.1.0.
    """

    group: str
    label: str
    objects_digest: str
    config_digest: str
    outcomes: tuple[Outcome, ...]
    skipped_files: Mapping[str, int] = field(default_factory=dict)
    writer: str = ""
    fastlung: str = field(default_factory=lambda: version("fastlung"))
    written_at: str = ""
    revisions: Mapping[str, int] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def outputs(self) -> dict[str, tuple[int, int]]:
        """Every payload of the group: key -> (bytes, CRC-32)."""
        return {key: facts for outcome in self.outcomes for key, facts in outcome.outputs.items()}


def record_key(group_id: str) -> str:
    """Key of the commit record of a source group."""
    return f"{RECORDS}/{group_id}.json"


def outcome_key(name: str) -> str:
    """Key of the outcome of a scan."""
    return f"scans/{name}/outcome.json"


def to_json(value: Any) -> bytes:
    """
    Encode dataclasses, mappings and numbers as JSON, the same bytes every time.

    Numbers that are not finite become null: JSON has no other word for them.
    """
    plain = _plain(value)
    return (json.dumps(plain, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def load_outcome(data: bytes) -> Outcome:
    """
    Decode the outcome of a scan.

    Raises
    ------
    ValueError
        If the bytes are no outcome.
    """
    return decode.outcome(decode.parsed(data))


def load_record(data: bytes) -> Record:
    """
    Decode a commit record.

    Raises
    ------
    ValueError
        If the bytes are no record of this format.
    """
    plain = decode.parsed(data)
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        raise ValueError("another format")
    return decode.decoded(Record, plain, FIELDS)


def grid_from_json(plain: Any) -> Grid:
    """
    Grid that `to_json` has written.

    Raises
    ------
    ValueError
        If it is none.
    """
    return decode.grid(plain)


#: How each field of a record is decoded.
FIELDS = {
    "group": decode.text,
    "label": decode.text,
    "objects_digest": decode.text,
    "config_digest": decode.text,
    "outcomes": decode.tuple_of(decode.outcome),
    "skipped_files": decode.mapping_of(decode.count()),
    "writer": decode.text,
    "fastlung": decode.text,
    "written_at": decode.text,
    "revisions": decode.mapping_of(decode.count()),
    "format": decode.count(),
}


def read_records(sink: Store) -> Iterator[Record]:
    """
    Commit records of a sink; a damaged one is passed over, so that its group is done again.

    Parameters
    ----------
    sink : Store
        A sink, or a folder that does not exist yet.

    Yields
    ------
    Record
        In order of the group ids.

    Raises
    ------
    StoreError
        If the sink cannot be listed.
    """
    keys = (info.key for info in sink.list(RECORDS))
    for record in map_ahead(lambda key: read_record(sink, key), keys):
        if record is not None:
            yield record


def read_record(sink: Store, key: str) -> Record | None:
    """Read the commit record under a key; None if it is damaged, gone, or another group's."""
    try:
        record = load_record(sink.get(key, first_bytes=RECORD_BYTES))
    except (ValueError, StoreError):
        return None
    return record if key == record_key(record.group) else None


def is_done(
    record: Record,
    group: SourceGroup,
    config_digest: str,
    sizes: Mapping[str, int],
    *,
    retry_failed: bool,
) -> bool:
    """
    Whether nothing is left to do for a source group.

    Parameters
    ----------
    record : Record
        Its commit record.
    group : SourceGroup
        The group as it is now.
    config_digest : str
        `Config.digest` of this run.
    sizes : mapping of str to int
        Keys in the sink -> bytes, as listed.
    retry_failed : bool
        Whether a scan whose own bytes made it fail is to be tried again.

    Returns
    -------
    bool
        True if objects and configuration are the same, every output is there with its size, and
        nothing failed that may succeed now.
    """
    if (record.objects_digest, record.config_digest) != (group.digest, config_digest):
        return False
    if any(sizes.get(key) != size for key, (size, _crc) in record.outputs.items()):
        return False
    failed = [outcome for outcome in record.outcomes if outcome.status == "failed"]
    return not any(outcome.transient or retry_failed for outcome in failed)
