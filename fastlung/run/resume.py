"""
What a sink already holds of a source, and what is left to do.

Nothing but the sink's own records counts, and no DICOM is opened.
"""

from __future__ import annotations

import json
import platform
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastlung.errors import (
    ConfigError,
    NothingFoundError,
    ObjectNotFoundError,
    SinkConflictError,
    StoreError,
)
from fastlung.io.crawl import join_series
from fastlung.io.locate import store_of
from fastlung.io.names import claim_key, pseudonym
from fastlung.io.records import RECORDS, is_done, read_records, record_key, to_json
from fastlung.run.commit import Task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastlung.config import Config, RunOptions, StoreOptions
    from fastlung.io.locate import Source
    from fastlung.io.objects import Store
    from fastlung.io.records import Record
    from fastlung.io.source import SourceGroup
    from fastlung.run.machine import Machine
    from fastlung.run.plan import Plan
    from fastlung.scan import Outcome

__all__ = [
    "RunFile",
    "Survey",
    "check_sink",
    "key_fingerprint",
    "read_run_file",
    "source_groups",
    "survey",
    "write_run_file",
]

RUN_FILE = "run.json"
#: Packages whose version may change a voxel or a byte.
RECORDED_PACKAGES = ("numpy", "numba", "scipy", "pydicom", "imagecodecs", "nibabel", "isal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """
    What is left of a source.

    Attributes
    ----------
    tasks : tuple of Task
        Source groups that are to be done.
    earlier : tuple of Outcome
        Outcomes of the groups that are left alone.
    already_done : int
        How many groups are left alone.
    """

    tasks: tuple[Task, ...]
    earlier: tuple[Outcome, ...]
    already_done: int


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
        found = json.loads(sink.get(RUN_FILE))
        before = (found["config_digest"], found["names_key"])
        fields = dict(found["config"])
    except (ObjectNotFoundError, ValueError, KeyError, TypeError):
        return  # new, or not ours; each record names its configuration once more
    if before == (config.digest, key_fingerprint(names_key)):
        return
    now = config.model_dump(mode="json")
    differing = [
        f"{name} {fields.get(name)!r} -> {now[name]!r}"
        for name in sorted(now)
        if name != "preset" and fields.get(name) != now[name]
    ]
    raise SinkConflictError(
        f"{sink.url}: the sink was written with another configuration "
        f"({'; '.join(differing) or 'another key of hashed names'}); give another sink, the "
        f"options of before (--config {sink.url}/{RUN_FILE}), or --overwrite to replace what is "
        "there"
    )


def write_run_file(
    sink: Store,
    *,
    config: Config,
    names_key: bytes,
    groups: int,
    machine: Machine,
    plan: Plan,
) -> None:
    """Write what this run is, for whoever finds the sink later."""
    facts: dict[str, Any] = {
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
    sink.put(RUN_FILE, [to_json(facts)])


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
        found = json.loads(sink.get(RUN_FILE))
        return RunFile(
            config=dict(found["config"]),
            config_digest=found["config_digest"],
            names_key=found["names_key"],
            source_groups=found.get("source_groups"),
            fastlung=found["fastlung"],
        )
    except ObjectNotFoundError:
        raise ConfigError(
            f"{sink.url}: expected a sink, and found no {RUN_FILE} in it; give the folder that "
            "`fastlung process SOURCE SINK` wrote to"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(
            f"{sink.url}: its {RUN_FILE} cannot be read; run the same `fastlung process` command "
            "again, which writes it anew"
        ) from None


def source_groups(
    source: Source, sink: Store | None, *, group_by: str, names_key: bytes, storage: StoreOptions
) -> tuple[SourceGroup, ...]:
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

    Returns
    -------
    tuple of SourceGroup
        In the order they were found.

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
        groups = join_series(groups, lambda one: store_of(one, source.store, storage), shown)
    found = tuple(groups)
    if not found:
        raise NothingFoundError(
            f"{source.store.url}: expected CT slices, and found no files in or below it; hidden "
            "files do not count"
        )
    return found


def survey(
    groups: Sequence[SourceGroup], sink: Store, config: Config, options: RunOptions
) -> Survey:
    """
    Sort source groups into done and not done.

    Parameters
    ----------
    groups : sequence of SourceGroup
        What the source holds now.
    sink : Store
        Where results are; may not exist yet.
    config : Config
        What is asked for.
    options : RunOptions
        Whether to redo what is there, or what failed.

    Raises
    ------
    StoreError
        If the sink cannot be listed.
    """
    records = {record.group: record for record in read_records(sink)}
    committed = {info.key for info in sink.list(RECORDS)}  # damaged ones included
    sizes = {info.key: info.size_bytes for info in sink.list("scans")}
    done = {
        group.id: records[group.id]
        for group in groups
        if not options.overwrite
        and group.id in records
        and is_done(
            records[group.id], group, config.digest, sizes, retry_failed=options.retry_failed
        )
    }
    left = [group for group in groups if group.id not in done]
    leftovers = _leftovers(sink, sizes, done) if left else {}
    return Survey(
        tasks=tuple(
            Task(
                group=group,
                leftovers=tuple(leftovers.get(group.id, ())),
                committed=record_key(group.id) in committed,
            )
            for group in left
        ),
        earlier=tuple(outcome for record in done.values() for outcome in record.outcomes),
        already_done=len(done),
    )


def _leftovers(
    sink: Store, sizes: Mapping[str, int], done: Mapping[str, Record]
) -> dict[str, list[str]]:
    """
    Keys under names that no finished group owns, by the group that claims the name.

    Claims are written before anything else under a name, so that what a killed run or another
    format has left behind is found, and goes when its group is done again.
    """
    owned = {o.name for record in done.values() for o in record.outcomes if o.outputs}
    names: dict[str, list[str]] = defaultdict(list)
    for key in sizes:
        name = key.split("/")[1]
        if name not in owned:
            names[name].append(key)
    leftovers: dict[str, list[str]] = defaultdict(list)
    for name, keys in names.items():
        with suppress(StoreError):  # no claim: not ours to remove
            leftovers[sink.get(claim_key(name)).decode("ascii", "replace")] += keys
    return leftovers


def key_fingerprint(names_key: bytes) -> str:
    """Tell one key of hashed names from another, without giving it away."""
    return pseudonym(names_key, "fastlung names key") if names_key else ""
