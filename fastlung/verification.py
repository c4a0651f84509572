"""
What a sink holds: how far it has come, and whether all of it is sound.

`verify` looks for one valid result, or a recorded failure, for each series of the source, and
checks all it can: objects are listed anew on both sides, outputs read back, checksums recomputed.
Only `forget` changes anything: it removes the records of damaged groups.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from isal import isal_zlib

from fastlung.config import StoreOptions
from fastlung.errors import ConfigError, FormatError, StoreError
from fastlung.sink.contents import key_fingerprint, read_run_file, source_groups
from fastlung.sink.names import claim_key, load_names_key
from fastlung.sink.older import OlderScans
from fastlung.sink.reader import stored_scan
from fastlung.sink.records import RECORDS, load_outcome, outcome_key, read_records, record_key
from fastlung.source.open import open_source
from fastlung.storage import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fastlung.scan import Outcome
    from fastlung.sink.contents import RunFile
    from fastlung.sink.records import Record
    from fastlung.source.groups import SourceGroup
    from fastlung.storage.base import Store

__all__ = ["Finding", "SinkStatus", "Verification", "forget", "sink_status", "verify"]


#: Outputs are read by so many threads; checksums release the interpreter.
MOST_READERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    One thing that is not as it should be.

    Attributes
    ----------
    kind : str
        ``missing`` (not done, or an output is gone), ``damaged`` (an output or record is not what
        was written), ``stale`` (the source or the configuration has changed since) or ``orphaned``
        (in the sink, and of nothing in the source).
    place : str
        Source folder, or key in the sink.
    text : str
        What was expected and found.
    group : str
        Id of the source group; empty where none is known.
    """

    kind: str
    place: str
    text: str
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """
    What became of a source in a sink.

    Attributes
    ----------
    groups : int
        Source groups looked for.
    series : mapping of str to int
        Status -> series of the groups that are as they should be; ``skipped`` counts folders
        without CT.
    failures : mapping of str to int
        Class -> recorded failures among them.
    findings : tuple of Finding
        What is not as it should be; empty where all is well.
    older : OlderScans
        What other revisions than today's have made; whole, and no finding.
    """

    groups: int
    series: Mapping[str, int]
    failures: Mapping[str, int]
    findings: tuple[Finding, ...]
    older: OlderScans

    @property
    def exit_code(self) -> int:
        """0 if every series has one valid result or a recorded failure, else 1."""
        return int(bool(self.findings))


def verify(
    source: str, sink: str, *, read_outputs: bool = True, storage: StoreOptions | None = None
) -> Verification:
    """
    Compare a sink with the source it was made from.

    Parameters
    ----------
    source, sink : str
        As they were given to `fastlung.process`.
    read_outputs : bool
        Whether outputs are read, their CRC-32 recomputed and decoded; otherwise only sizes are
        compared.
    storage : StoreOptions, optional
        How s3:// is reached.

    Returns
    -------
    Verification
        With a finding for each thing that is not as it should be.

    Raises
    ------
    ConfigError
        If the sink is none of ours, or was written with another key of hashed names.
    StoreError
        If source or sink cannot be listed.
    """
    options = storage or StoreOptions()
    places, sink_store = open_source(source, options), open_store(sink, options)
    run_file = read_run_file(sink_store)
    groups = tuple(
        source_groups(
            places,
            sink_store,
            group_by=run_file.config.get("group_by", "folder"),
            names_key=_names_key(run_file),
            storage=options,
        )
    )
    records = {record.group: record for record in read_records(sink_store)}
    sizes = {info.key: info.size_bytes for info in sink_store.list("scans")}
    unread = {info.key for info in sink_store.list(RECORDS)} - set(map(record_key, records))

    findings = [*_not_done(groups, records, unread, run_file)]
    odd = {finding.group for finding in findings}
    current = [records[group.id] for group in groups if group.id not in odd]
    findings += _bad_outputs(sink_store, current, sizes, read_outputs=read_outputs)
    findings += _orphans(sink_store, groups, records, sizes, odd)
    odd = {finding.group for finding in findings}
    older = OlderScans()
    for record in current:
        older.add(record, run_file.config, run_file.config_digest)
    sound = [o for record in current if record.group not in odd for o in record.outcomes]
    return Verification(
        groups=len(groups),
        series=dict(Counter(outcome.status for outcome in sound)),
        failures=dict(Counter(outcome.error for outcome in sound if outcome.status == "failed")),
        findings=tuple(findings),
        older=older,
    )


def forget(sink: str, verification: Verification, storage: StoreOptions | None = None) -> int:
    """
    Remove the records of damaged source groups, so that the next run does them again.

    A run that resumes compares sizes only; damage that keeps the size would stay.

    Parameters
    ----------
    sink : str
        As verified.
    verification : Verification
        What was found there.
    storage : StoreOptions, optional
        How s3:// is reached.

    Returns
    -------
    int
        Records removed.

    Raises
    ------
    StoreError
        If one cannot be removed.
    """
    store = open_store(sink, storage or StoreOptions())
    damaged = {f.group for f in verification.findings if f.group and f.kind != "orphaned"}
    keys = {record_key(group) for group in damaged} & {info.key for info in store.list(RECORDS)}
    for key in keys:
        store.delete(key)
    return len(keys)


def _names_key(run_file: RunFile) -> bytes:
    names_key = load_names_key() if run_file.config.get("names") == "hash" else b""
    if key_fingerprint(names_key) != run_file.names_key:
        raise ConfigError(
            "the sink was written with another key of hashed names, so its folders cannot be told; "
            "set FASTLUNG_NAMES_KEY as it was for that run"
        )
    return names_key


def _not_done(
    groups: Sequence[SourceGroup],
    records: Mapping[str, Record],
    unread: set[str],
    run_file: RunFile,
) -> Iterator[Finding]:
    """Groups without a record that is of today's source and configuration."""
    for group in groups:
        record = records.get(group.id)
        if record is None and record_key(group.id) in unread:
            kind, text = "damaged", f"its record {record_key(group.id)} cannot be read"
        elif record is None:
            kind, text = "missing", "not done yet: the sink has no record of it"
        elif record.config_digest != run_file.config_digest:
            kind, text = "stale", "done with another configuration than the sink's last run"
        elif record.objects_digest != group.digest:
            kind, text = "stale", "its files have changed since they were processed"
        else:
            continue
        yield Finding(kind=kind, place=group.label, text=text, group=group.id)


def _bad_outputs(
    sink: Store, records: Sequence[Record], sizes: Mapping[str, int], *, read_outputs: bool
) -> Iterator[Finding]:
    seen: set[str] = set()
    to_read: list[Outcome] = []
    for outcome in (outcome for record in records for outcome in record.outcomes):
        if outcome.status != "done":
            continue
        if not outcome.outputs:
            yield _damaged(record_key(outcome.group), "it names no output of a done scan", outcome)
            continue
        keys = (*outcome.outputs, outcome_key(outcome.name))
        listed = [
            _listing_finding(outcome, key, sizes.get(key), claimed=key in seen) for key in keys
        ]
        seen.update(keys)
        yield from filter(None, listed)
        if not any(listed):
            to_read.append(outcome)
    if not read_outputs:
        return
    with ThreadPoolExecutor(min(MOST_READERS, os.cpu_count() or 1)) as readers:
        for findings in readers.map(lambda outcome: _read_back(sink, outcome), to_read):
            yield from findings


def _listing_finding(
    outcome: Outcome, key: str, found_bytes: int | None, *, claimed: bool
) -> Finding | None:
    """What is wrong with an output by the listing alone."""
    if claimed:
        return _damaged(key, "two source folders claim it", outcome)
    if found_bytes is None:
        return Finding(kind="missing", place=key, text="it is gone", group=outcome.group)
    expected, _crc = outcome.outputs.get(key, (found_bytes, 0))
    if found_bytes != expected:
        return _damaged(key, f"expected {expected:,} bytes, found {found_bytes:,}", outcome)
    return None


def _damaged(place: str, text: str, outcome: Outcome) -> Finding:
    return Finding(kind="damaged", place=place, text=text, group=outcome.group)


def _read_back(sink: Store, outcome: Outcome) -> list[Finding]:
    """Read all of a scan: checksums first, then whether it opens as a scan."""
    files: dict[str, bytes] = {}
    findings = []
    folder = f"scans/{outcome.name}/"
    for key, (_size, expected) in outcome.outputs.items():
        try:
            data = sink.get(key)
        except StoreError:
            text = "cannot be read, or was removed meanwhile"
            findings.append(_damaged(key, text, outcome))
            continue
        found = isal_zlib.crc32(data)
        if found != expected:
            text = f"expected CRC-32 {expected:08x}, found {found:08x}"
            findings.append(_damaged(key, text, outcome))
        files[key.removeprefix(folder)] = data
    if not findings:
        try:
            stored_scan(outcome.name, files.__getitem__)
        except (FormatError, KeyError) as error:
            text = "files that its metadata names are missing from its record"
            text = str(error) if isinstance(error, FormatError) else text
            findings.append(_damaged(folder.rstrip("/"), text, outcome))
    key = outcome_key(outcome.name)
    try:
        owner = load_outcome(sink.get(key)).group
    except (StoreError, ValueError):
        return [*findings, _damaged(key, "cannot be read as an outcome", outcome)]
    if owner != outcome.group:
        findings.append(_damaged(key, "it is of another source folder", outcome))
    return findings


def _orphans(
    sink: Store,
    groups: Sequence[SourceGroup],
    records: Mapping[str, Record],
    sizes: Mapping[str, int],
    odd: set[str],
) -> Iterator[Finding]:
    """Records of folders that are gone, and objects below ``scans`` that no record names."""
    known = {group.id for group in groups}
    for record in records.values():
        if record.group not in known:
            text = f"its source folder {record.label} is not in the source any more"
            yield Finding(
                kind="orphaned", place=record_key(record.group), text=text, group=record.group
            )
    named = {
        key
        for record in records.values()
        for outcome in record.outcomes
        if outcome.outputs
        for key in (*outcome.outputs, outcome_key(outcome.name), claim_key(outcome.name))
    }
    spare: dict[str, list[str]] = defaultdict(list)
    for key in sizes.keys() - named:
        spare[key.split("/")[1]].append(key)
    for name, keys in sorted(spare.items()):
        try:
            owner = sink.get(claim_key(name)).decode("ascii", "replace")
        except StoreError:
            owner = ""
        # Leftovers of a killed attempt are removed when its folder is done, which is a finding
        # of its own.
        if owner not in odd:
            text = f"{len(keys)} files here that no record names, such as {min(keys)}"
            yield Finding(kind="orphaned", place=f"scans/{name}", text=text)


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkStatus:
    """
    How far a sink is, as far as it knows itself.

    Attributes
    ----------
    series : mapping of str to int
        Status -> series; ``skipped`` counts folders without CT.
    failures : mapping of str to int
        Class -> failed series.
    retried : int
        Failed series that the next run tries again.
    flags : mapping of str to int
        Flag -> series.
    groups : int
        Source groups committed with the configuration below.
    groups_other : int
        Source groups committed with another one; the next run does them again.
    older : OlderScans
        What other revisions than today's have made.
    groups_total : int or None
        Source groups that the last run found; None if it did not say.
    written_at : str
        When the last record was written, UTC; empty where there is none.
    config : mapping
        Configuration of the last run, resolved.
    config_digest : str
        Its digest.
    fastlung : str
        Version of the last run.
    """

    series: Mapping[str, int]
    failures: Mapping[str, int]
    retried: int
    flags: Mapping[str, int]
    groups: int
    groups_other: int
    older: OlderScans
    groups_total: int | None
    written_at: str
    config: Mapping[str, Any]
    config_digest: str
    fastlung: str

    @property
    def groups_left(self) -> int | None:
        """Source groups that the last run found and that are not committed; None if unknown."""
        return None if self.groups_total is None else max(0, self.groups_total - self.groups)


def sink_status(sink: str, storage: StoreOptions | None = None) -> SinkStatus:
    """
    Sum up a sink from its records; no source and no output is opened.

    Parameters
    ----------
    sink : str
        A sink of `fastlung.process`.
    storage : StoreOptions, optional
        How s3:// is reached.

    Raises
    ------
    ConfigError
        If it is none.
    StoreError
        If it cannot be read.
    """
    store = open_store(sink, storage or StoreOptions())
    run_file = read_run_file(store)
    series: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    flags: Counter[str] = Counter()
    groups: Counter[bool] = Counter()
    older, retried, written_at = OlderScans(), 0, ""
    for record in read_records(store):
        groups[record.config_digest == run_file.config_digest] += 1
        older.add(record, run_file.config, run_file.config_digest)
        written_at = max(written_at, record.written_at)
        for outcome in record.outcomes:
            series[outcome.status] += 1
            flags.update(flag.name for flag in outcome.flags)
            if outcome.status == "failed":
                failures[outcome.error] += 1
                retried += outcome.transient
    return SinkStatus(
        series=dict(series),
        failures=dict(failures),
        retried=retried,
        flags=dict(flags),
        groups=groups[True],
        groups_other=groups[False],
        older=older,
        groups_total=run_file.source_groups,
        written_at=written_at,
        config=run_file.config,
        config_digest=run_file.config_digest,
        fastlung=run_file.fastlung,
    )
