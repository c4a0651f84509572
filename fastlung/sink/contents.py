"""
What a sink already holds of a source, and what is left to do.

Nothing but the sink's own records counts, and no DICOM is opened.
"""

from __future__ import annotations

import platform
import secrets
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastlung.config import Config
from fastlung.errors import (
    ConfigError,
    NothingFoundError,
    ObjectNotFoundError,
    SinkConflictError,
    StoreError,
)
from fastlung.sink import decode
from fastlung.sink.commit import Task
from fastlung.sink.identity import RUN_FILE, RUN_FILE_BYTES, check_identity, sink_id_of
from fastlung.sink.names import holder_of, pseudonym
from fastlung.sink.older import OlderScans, refuse_mixture
from fastlung.sink.records import RECORDS, is_done, read_record, record_key, to_json
from fastlung.sink.shared_names import legacy_wish
from fastlung.source.open import store_of
from fastlung.source.read import join_series
from fastlung.storage.prefetch import map_ahead

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fastlung.config import RunOptions, StoreOptions
    from fastlung.plan.machine import Machine
    from fastlung.plan.plan import Plan
    from fastlung.scan import Outcome
    from fastlung.sink.records import Record
    from fastlung.source.groups import SourceGroup
    from fastlung.source.open import Source
    from fastlung.storage.base import Store

__all__ = [
    "RunFile",
    "SinkContents",
    "check_sink",
    "key_fingerprint",
    "read_run_file",
    "source_groups",
    "write_run_file",
]

#: Packages whose version may change a voxel or a byte.
MOST_OPTIONS = 1000
RECORDED_PACKAGES = ("numpy", "numba", "scipy", "pydicom", "imagecodecs", "nibabel", "isal")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFile:
    """
    What the last run said of itself in the sink.

    Attributes
    ----------
    config : mapping
        Its configuration, resolved; fields of the version that wrote it.
    config_digest : str
        `Config.digest` of it.
    names_key : str
        Fingerprint of the key of hashed names; empty where names are not hashed.
    source_groups : int or None
        Source groups it found; None in sinks of early versions.
    fastlung : str
        Version that wrote it.
    """

    config: Mapping[str, Any]
    config_digest: str
    names_key: str
    source_groups: int | None
    fastlung: str


def check_sink(sink: Store, config: Config, names_key: bytes, options: RunOptions) -> None:
    """
    Refuse a sink that was written with another configuration.

    Raises
    ------
    SinkConflictError
        If it was, unless it may be overwritten.
    """
    if options.overwrite:
        return
    try:
        found = _run_file(sink)
    except (ObjectNotFoundError, ValueError):
        return  # new, or not ours; each record names its configuration once more
    if (found.config_digest, found.names_key) == (config.digest, key_fingerprint(names_key)):
        return
    fields = found.config
    now = config.model_dump(mode="json")
    # What the version that wrote it did not know yet was done as the default does it.
    fields = {**Config().model_dump(mode="json"), **fields}
    changed = [
        f"{name} {repr(fields[name])[:80]} -> {now[name]!r}"
        for name in sorted(now)
        if name != "preset" and fields[name] != now[name]
    ]
    before = f"--config {sink.url}/{RUN_FILE}"
    if any(fields.get(name) for name in ("mask_command", "mask_function")):
        before += ", and --allow-commands if you know what it would run"
    raise SinkConflictError(
        f"{sink.url}: the sink was written with another configuration "
        f"({'; '.join(changed) or 'another key of hashed names'}); give another sink, the "
        f"options of before ({before}), or --overwrite to replace what is there"
    )


def write_run_file(
    sink: Store,
    *,
    config: Config,
    names_key: bytes,
    groups: int | None,
    machine: Machine,
    plan: Plan,
    sink_id: str = "",
) -> str:
    """
    Write what this run is, for whoever finds the sink later.

    Parameters
    ----------
    sink : Store
        Where.
    config, names_key, machine, plan
        Of the run.
    groups : int or None
        Source groups; None if they are not counted yet.
    sink_id : str
        As returned before, where it must still be that sink; empty to find out.

    Returns
    -------
    str
        Id of the sink, the same for all runs in it.

    Raises
    ------
    SinkLostError
        If it is not that sink any more.
    StoreError
        If it cannot be written.
    """
    if sink_id:
        check_identity(sink, sink_id)
    found = sink_id or sink_id_of(sink)
    facts: dict[str, Any] = {
        "sink_id": found or secrets.token_hex(8),
        "fastlung": version("fastlung"),
        "config": config.model_dump(mode="json"),
        "config_digest": config.digest,
        "names_key": key_fingerprint(names_key),
        "source_groups": groups,
        # Whether of two runs at this sink each scan is committed by one: some stores do not care.
        "conditional_create": sink.enforces_create(),
        "machine": machine,
        "plan": plan,
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in RECORDED_PACKAGES},
        },
    }
    # Of two first runs at once, one says what the sink is called.
    if found is None and not sink.create(RUN_FILE, to_json(facts)):
        facts["sink_id"] = sink_id_of(sink) or facts["sink_id"]
        found = ""
    if found is not None:
        sink.put(RUN_FILE, [to_json(facts)])
    return str(facts["sink_id"])


def read_run_file(sink: Store) -> RunFile:
    """
    Read what the last run in a sink was.

    Raises
    ------
    ConfigError
        If this is no sink.
    StoreError
        If it cannot be read.
    """
    try:
        return _run_file(sink)
    except ObjectNotFoundError:
        raise ConfigError(
            f"{sink.url}: expected a sink, and found no {RUN_FILE} in it; give the folder that "
            "`fastlung process SOURCE SINK` wrote to"
        ) from None
    except ValueError:
        raise ConfigError(
            f"{sink.url}: its {RUN_FILE} cannot be read; run the same `fastlung process` command "
            "again, which writes it anew"
        ) from None


def _run_file(sink: Store) -> RunFile:
    """Read what is needed of it; ValueError for what none of ours is."""
    plain = decode.parsed(sink.get(RUN_FILE, first_bytes=RUN_FILE_BYTES))
    known = {name: plain[name] for name in RUN_FIELDS if isinstance(plain, dict) and name in plain}
    found = decode.decoded(RunFile, {"source_groups": None} | known, RUN_FIELDS)
    # `config` is shown, and decides by which rules `verify` lists; it is never carried out.
    if found.config.get("group_by", "folder") not in ("folder", "series"):
        raise ValueError("group_by: expected folder or series")
    return found


def _options(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > MOST_OPTIONS:
        raise ValueError("expected options")
    return {decode.text(name): item for name, item in value.items()}


#: How each field of a run file is decoded.
RUN_FIELDS = {
    "config": _options,
    "config_digest": decode.text,
    "names_key": decode.text,
    "source_groups": decode.maybe(decode.count()),
    "fastlung": decode.text,
}


def source_groups(
    source: Source, sink: Store | None, *, group_by: str, names_key: bytes, storage: StoreOptions
) -> Iterator[SourceGroup]:
    """
    List what a source holds, as a run takes it.

    Parameters
    ----------
    source : Source
        Where to look.
    sink : Store or None
        Left out where it lies in the source; None where nothing is to be written.
    group_by : str
        As in `Config`.
    names_key : bytes
        Key of hashed names; empty where names are not hashed.
    storage : StoreOptions
        How s3:// is reached.

    Yields
    ------
    SourceGroup
        As they are found.

    Raises
    ------
    ConfigError
        If the sink is the source, or one of them cannot be one.
    NothingFoundError
        If there are no files at all.
    StoreError
        If one of them cannot be reached, or the source cannot be listed.
    """
    source.check()
    if sink is not None:
        sink.check_sink()

    def shown(path: str) -> str:
        return pseudonym(names_key, path) if names_key else path

    groups = source.groups(sink=sink, pseudonym=shown)
    if group_by == "series":
        groups = join_series(groups, lambda group: store_of(group, source.store, storage), shown)
    nothing = True
    for group in groups:
        nothing = False
        yield group
    if nothing:
        raise NothingFoundError(
            f"{source.store.url}: expected CT slices, and found no files in or below it; hidden "
            "files do not count"
        )


class SinkContents:
    """
    What a sink holds, read once, to tell which source groups are done.

    Parameters
    ----------
    sink : Store
        Where results are; may not exist yet.
    config : Config
        What is asked for.
    options : RunOptions
        Whether to redo what is there, or what failed.

    Attributes
    ----------
    earlier : list of Outcome
        Outcomes of the groups that were found to be done, without what only their records tell.
    already_done : int
        How many these are.
    older : OlderScans
        What other revisions have made, in groups of this source and any other.
    wishes : tuple of Wish
        Names that scans of early versions would have, were they not another group's.

    Raises
    ------
    SinkConflictError
        If there is such and nothing was said of it: two revisions are not mixed in silence.
    StoreError
        If the sink cannot be listed.
    """

    def __init__(self, sink: Store, config: Config, options: RunOptions) -> None:
        self._config = config
        self._options = options
        self._sizes = {info.key: info.size_bytes for info in sink.list("scans")}
        listed = [info.key for info in sink.list(RECORDS)]
        self._committed = set(listed)  # damaged ones included
        found = map_ahead(lambda key: read_record(sink, key), listed)
        self._records = {record.group: _slim(record) for record in found if record is not None}
        self.wishes = tuple(
            wish
            for record in self._records.values()
            for outcome in record.outcomes
            if (wish := legacy_wish(outcome)) is not None
        )
        self._disown(sink)
        self.older = OlderScans()
        fields, digest = config.model_dump(), config.digest
        self._older = {
            record.group
            for record in self._records.values()
            if self.older.add(record, fields, digest)
        }
        if self.older and not options.overwrite:
            refuse_mixture(sink.url, self.older, options)
        self._under: dict[str, list[str]] = defaultdict(list)
        for key in self._sizes:
            self._under[key.split("/")[1]].append(key)
        self._unowned = self._claimed(sink)
        self.earlier: list[Outcome] = []
        self.already_done = 0

    def task(self, group: SourceGroup) -> Task | None:
        """
        What is to be done about a group.

        Returns
        -------
        Task or None
            None if nothing is left to do.
        """
        record = self._records.pop(group.id, None)
        redo = self._options.redo == "older" and group.id in self._older
        if record is not None and not redo and not self._options.overwrite:
            retry = self._options.retry_failed
            digest = self._config.digest
            if is_done(record, group, digest, self._sizes, retry_failed=retry):
                self.earlier += record.outcomes
                self.already_done += 1
                return None
        own = () if record is None else _owned(record)
        leftovers = [
            *self._unowned.get(group.id, ()),
            *(k for name in own for k in self._under[name]),
        ]
        committed = record_key(group.id) in self._committed
        return Task(group=group, leftovers=tuple(leftovers), committed=committed)

    def _disown(self, sink: Store) -> None:
        """Believe no record that names another group's scan: its group is to be done again."""
        owners: dict[str, list[str]] = defaultdict(list)
        for record in self._records.values():
            for name in _owned(record):
                owners[name].append(record.group)
        for name, groups in owners.items():
            if len(groups) > 1:
                holder = holder_of(sink, name)
                for group in set(groups) - {holder}:
                    self._records.pop(group, None)

    def _claimed(self, sink: Store) -> dict[str, list[str]]:
        """
        Keys under names that no record owns, by the group that claims the name.

        Claims are written before anything else under a name, so that what a killed run or another
        format has left behind is found, and goes when its group is done again.
        """
        owned = {name for record in self._records.values() for name in _owned(record)}
        claimed: dict[str, list[str]] = defaultdict(list)

        def claim(name: str) -> tuple[str, str]:
            with suppress(StoreError):
                return name, holder_of(sink, name)
            return name, ""  # no claim: not ours to remove

        unowned = [name for name in self._under if name not in owned]
        for name, group in map_ahead(claim, unowned):
            claimed[group] += self._under[name]
        claimed.pop("", None)
        return claimed


def _owned(record: Record) -> tuple[str, ...]:
    return tuple(outcome.name for outcome in record.outcomes if outcome.outputs)


def _slim(record: Record) -> Record:
    """Record without what only the end of a run reads: a tenth of the memory."""
    outcomes = tuple(outcome.in_short() for outcome in record.outcomes)
    return replace(record, outcomes=outcomes, skipped_files={})


def key_fingerprint(names_key: bytes) -> str:
    """Tell one key of hashed names from another, without giving it away."""
    return pseudonym(names_key, "fastlung names key") if names_key else ""
