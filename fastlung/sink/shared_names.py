"""
Which source group a name belongs to where several would have it: the first by label.

While a run goes on, whoever claims a name first has it. That may be decided by a race, or by what
another run had found already, so that it must not be the last word: once the groups in question
are committed, the scan of the first of them in order of their labels gets the name, and the others
carry a suffix. So names follow from the source alone, for any number of workers, shards and runs.

Nobody is asked to stand still meanwhile. A scan is copied before its record names the copy, and a
record is replaced whole; whoever is killed on the way leaves every record true, and the next run
goes on. Who writes under a name looks afterwards whether it still has it. If not, what it wrote
may have spoilt the new holder's files: that one's record goes, so that it is done again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from isal import isal_zlib

from fastlung.errors import StoreError
from fastlung.scan import Flag
from fastlung.sink.names import SHARED_NAMES, claim_key, holder_of, other_names, wish_key
from fastlung.sink.records import outcome_key, read_record, record_key, to_json
from fastlung.text import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fastlung.scan import Outcome
    from fastlung.sink.records import Record
    from fastlung.storage.base import Store

__all__ = ["Wish", "keep_if_ours", "legacy_wish", "settle_names"]

#: A wish: a name, and the id of the source group that would have it.
Wish = tuple[str, str]
#: Name of the flag of scans whose series is in other source folders, too.
SPREAD = "spread_series"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claimant:
    """A committed scan whose name, but for the others, would be the one in question."""

    record: Record
    outcome: Outcome

    @property
    def place(self) -> tuple[str, str]:
        """By which the first is found; ids only where two labels are printed alike."""
        return self.record.label, self.record.group


def legacy_wish(outcome: Outcome) -> Wish | None:
    """
    What a scan would be called that an early version gave a suffix.

    Parameters
    ----------
    outcome : Outcome
        Of a record; those of today say it themselves.
    """
    suffix = f"-{outcome.group[:8]}"
    name = outcome.name.removesuffix(suffix)
    is_series_name = re.fullmatch(re.escape(outcome.series_uid) + r"(-\d+)?", name)
    if outcome.wished_name or name == outcome.name or not (outcome.series_uid and is_series_name):
        return None
    return name, outcome.group


def keep_if_ours(sink: Store, name: str, group_id: str) -> None:
    """
    Make sure that a name was its writer's until the last file was written.

    Raises
    ------
    StoreError
        If another source group has it now; that one counts as not done from then on.
    """
    holder = holder_of(sink, name)
    if holder == group_id:
        return
    if holder:
        sink.delete(record_key(holder))
    raise StoreError(
        f"scans/{name}: another run gave this name to another source folder meanwhile; run again"
    )


def settle_names(sink: Store, wishes: Iterable[Wish] = ()) -> dict[tuple[str, str], Outcome]:
    """
    Give each name that several source groups would have to the first of them.

    Parameters
    ----------
    sink : Store
        Where nothing of this run is at work any more; other runs may be.
    wishes : iterable of Wish
        Beside those that the sink knows of.

    Returns
    -------
    dict
        Group and name before -> outcome that is in the record now, where anything has changed.

    Raises
    ------
    StoreError
        If the sink cannot be read or written, or another run does the same at this moment.
    """
    wished: dict[str, set[str]] = {}
    listed = (tuple(info.key.split("/")[1:]) for info in sink.list(SHARED_NAMES))
    for name, group in (*(parts for parts in listed if len(parts) == len(("name", "id"))), *wishes):
        wished.setdefault(name, set()).add(group)
    changed: dict[tuple[str, str], Outcome] = {}
    for name, groups in sorted(wished.items()):
        changed |= _settle(sink, name, groups)
    return changed


def _settle(sink: Store, name: str, groups: set[str]) -> dict[tuple[str, str], Outcome]:
    """Settle one name; nothing where somebody may still be at work under it."""
    holder = holder_of(sink, name)
    found = {group: _claimant(sink, name, group) for group in {*groups, holder} - {""}}
    if holder and read_record(sink, record_key(holder)) is None:
        return {}  # a run is at it, or the next one will be
    claimants = sorted((c for c in found.values() if c is not None), key=lambda c: c.place)
    if not claimants:
        return {}
    _share_out(sink, name, claimants)
    first = claimants[0].record.group
    if first in groups:  # it had another name; perhaps until a run was killed here
        for before in other_names(name, first):
            if holder_of(sink, before) == first:
                _remove_all(sink, before)
    for group in groups - {c.record.group for c in claimants}:
        if read_record(sink, record_key(group)) is not None:
            sink.delete(wish_key(name, group))  # it holds no such series any more
    changed = {}
    for each in claimants:
        labels = sorted(c.record.label for c in claimants if c is not each)
        said = _say(sink, name, each.record.group, tuple(labels))
        if said is not None and said != each.outcome:
            changed[each.record.group, each.outcome.name] = said
    return changed


def _share_out(sink: Store, name: str, claimants: Sequence[_Claimant]) -> None:
    """Let the first have the name, and no other."""
    first, *others = claimants
    for each in others:
        if each.outcome.name == name:
            _copied(sink, each, _free_name(sink, name, each.record.group), wished=name)
    if first.outcome.name != name:
        _named(sink, first, name)


def _claimant(sink: Store, name: str, group: str) -> _Claimant | None:
    record = read_record(sink, record_key(group))
    if record is None:
        return None
    for outcome in record.outcomes:
        wish = legacy_wish(outcome)
        wished = outcome.wished_name or (wish[0] if wish else outcome.name)
        if outcome.outputs and wished == name:
            return _Claimant(record=record, outcome=outcome)
    return None


def _free_name(sink: Store, name: str, group: str) -> str:
    for candidate in other_names(name, group):
        if sink.create(claim_key(candidate), group.encode()) or holder_of(sink, candidate) == group:
            return candidate
    raise StoreError(f"scans/{name}: two other source groups have this name; empty the sink")


def _named(sink: Store, claimant: _Claimant, name: str) -> _Claimant:
    """Give a scan a name that no record has any more."""
    group = claimant.record.group
    sink.put(claim_key(name), [group.encode()])
    old, new = f"scans/{claimant.outcome.name}/", f"scans/{name}/"
    kept = {new + key.removeprefix(old) for key in claimant.outcome.outputs} | {claim_key(name)}
    for info in sink.list(f"scans/{name}"):
        if info.key not in kept:
            sink.delete(info.key)
    moved = _copied(sink, claimant, name, wished="")
    for key, facts in moved.outcome.outputs.items():
        if _facts(sink.get(key)) != facts:  # another run wrote here until just now
            sink.delete(record_key(group))
            raise StoreError(f"{key}: not what was written; run again, and one run at a time")
    return moved


def _copied(sink: Store, claimant: _Claimant, name: str, *, wished: str) -> _Claimant:
    """Copy a scan to another name, which it holds, and let its record say so."""
    outcome, outputs = claimant.outcome, {}
    for key, facts in outcome.outputs.items():
        data = sink.get(key)
        if _facts(data) != facts:
            raise StoreError(f"{key}: not what was written; run again, and one run at a time")
        copy = f"scans/{name}/{key.removeprefix(f'scans/{outcome.name}/')}"
        sink.put(copy, [data])
        outputs[copy] = facts
    moved = replace(outcome, name=name, outputs=outputs, wished_name=wished)
    sink.put(outcome_key(name), [to_json(moved)])
    keep_if_ours(sink, name, outcome.group)
    if wished:
        sink.put(wish_key(wished, outcome.group), [b""])
    record = _replaced(sink, claimant.record, outcome.name, moved)
    return _Claimant(record=record, outcome=moved)


def _say(sink: Store, name: str, group: str, also_in: tuple[str, ...]) -> Outcome | None:
    """Let a record say who else would have the name; what it says, if anything is new."""
    claimant = _claimant(sink, name, group)
    if claimant is None:
        return None
    before = claimant.outcome
    wished = "" if before.name == name else name
    after = replace(
        before, also_in=also_in, wished_name=wished, flags=_flags(before.flags, also_in)
    )
    if after != before:
        sink.put(outcome_key(after.name), [to_json(after)])
        _replaced(sink, claimant.record, before.name, after)
    if not wished:
        sink.delete(wish_key(name, group))
    return after


def _flags(flags: tuple[Flag, ...], also_in: tuple[str, ...]) -> tuple[Flag, ...]:
    """Flags of a scan, with one on its series being elsewhere, too, where it is."""
    others = tuple(flag for flag in flags if flag.name != SPREAD)
    if not also_in:
        return others
    text = (
        f"the same SeriesInstanceUID is in {count(len(also_in), 'other source folder')}: a copy, "
        "or the rest of the series; --group-by series makes one volume of what is spread"
    )
    return (*others, Flag(name=SPREAD, value=float(len(also_in)), text=text))


def _replaced(sink: Store, record: Record, name: str, outcome: Outcome) -> Record:
    outcomes = tuple(outcome if recorded.name == name else recorded for recorded in record.outcomes)
    changed = replace(record, outcomes=outcomes)
    sink.put(record_key(record.group), [to_json(changed)])
    return changed


def _remove_all(sink: Store, name: str) -> None:
    """Remove a name and all below it; its claim last, as it says whose the rest is."""
    keys = [info.key for info in sink.list(f"scans/{name}")]
    for key in sorted(keys, key=lambda key: (key == claim_key(name), key)):
        sink.delete(key)


def _facts(data: bytes) -> tuple[int, int]:
    return len(data), isal_zlib.crc32(data)
