"""
Two sinks beside each other: which scans differ, and by how much.

For whoever has upgraded, or changed an option, and wants to see what it did before one of the two
goes. Records decide what there is to read: scans whose arrays have the same sizes and CRC-32 are
equal, and only the others are opened, two at a time. No source is looked at; nothing is written.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlung.config import StoreOptions
from fastlung.errors import FormatError, StoreError
from fastlung.sink.contents import read_run_file
from fastlung.sink.reader import stored_scan
from fastlung.sink.records import RECORDS, read_record
from fastlung.sink.writer import METADATA_NAME, PREVIEW_NAME
from fastlung.storage import open_store
from fastlung.storage.prefetch import map_ahead

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

    from fastlung.scan import Outcome
    from fastlung.sink.reader import StoredScan
    from fastlung.sink.records import Record
    from fastlung.storage.base import Store

    Stores = tuple[Store, Store]
    #: Label of a source group, and one series of it.
    Found = tuple[str, Outcome]
    Pair = tuple[Found | None, Found | None]
    #: Name of a scan, and which of those that failed under it.
    Place = tuple[str, int]
    Single = dict[Place, list[str]]

__all__ = ["ScanComparison", "compare"]

#: What metadata says of an image's numbers: only the same are compared.
ENCODING = ("dtype", "window_hu", "zero_centre", "standardise", "image_unit")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanComparison:
    """
    One scan in two sinks.

    Attributes
    ----------
    scan : str
        Its name; of a record that cannot be read, the id of its source group.
    source : str
        Label of its source group.
    differs : tuple of str
        In what, in this order; empty where it is the same. ``only_first``, ``only_second``;
        ``record`` (one cannot be read); ``status``, ``error``, ``verdict``, ``flags``, ``grid``,
        ``litres``; ``encoding`` (what the image's numbers are), ``image``, ``mask``;
        ``unreadable`` (an output).
    status_first, status_second : str
        ``done``, ``failed`` or ``skipped``; empty where it is not there.
    error_first, error_second : str
        Class of the failure.
    verdict_first, verdict_second : tuple of str
        Classes of the geometry.
    flags_first, flags_second : tuple of str
        Names of the flags.
    litres_first, litres_second : float or None
        Volume of both lungs, in litres; None without a mask.
    image_voxels : int or None
        Voxels of the image that differ; None where they were not, or cannot be, compared.
    hu_max, hu_mean : float or None
        Largest and mean absolute difference over all voxels, in HU also where the image is in
        fractions of a window.
    mask_voxels : int or None
        Voxels of the mask that have another label.
    note : str
        What could not be read.
    """

    scan: str
    source: str
    differs: tuple[str, ...] = ()
    status_first: str = ""
    status_second: str = ""
    error_first: str = ""
    error_second: str = ""
    verdict_first: tuple[str, ...] = ()
    verdict_second: tuple[str, ...] = ()
    flags_first: tuple[str, ...] = ()
    flags_second: tuple[str, ...] = ()
    litres_first: float | None = None
    litres_second: float | None = None
    image_voxels: int | None = None
    hu_max: float | None = None
    hu_mean: float | None = None
    mask_voxels: int | None = None
    note: str = ""


def compare(
    first: str, second: str, *, storage: StoreOptions | None = None
) -> Iterator[ScanComparison]:
    """
    Compare the scans of two sinks.

    Parameters
    ----------
    first, second : str
        Sinks of `fastlung.process`: folders or s3:// prefixes.
    storage : StoreOptions, optional
        How s3:// is reached.

    Returns
    -------
    iterator of ScanComparison
        Every scan of either, failed ones and folders without CT too; those of source groups that
        both have come first. Scans are matched by source group and name, then by name. Two scans
        are in memory at a time.

    Raises
    ------
    ConfigError
        If one of them is no sink.
    StoreError
        If one of them cannot be listed, also while iterating.

    Examples
    --------
    >>> changed = [s for s in fastlung.compare("old", "new") if s.differs]  # doctest: +SKIP
    """
    options = storage or StoreOptions()
    stores = open_store(first, options), open_store(second, options)
    for store in stores:
        read_run_file(store)  # refuses a folder that is no sink
    return _compared(stores)


def _compared(stores: Stores) -> Iterator[ScanComparison]:
    with ThreadPoolExecutor(2, "fastlung-compare") as readers:
        for item in _pairs(stores):
            if isinstance(item, ScanComparison):
                yield item
            else:
                yield _of_pair(stores, item, readers)


def _pairs(stores: Stores) -> Iterator[Pair | ScanComparison]:
    """Scans of both, matched; and records that cannot be."""
    listed = [{info.key for info in store.list(RECORDS)} for store in stores]
    # By side: the keys of the records of scans that have found no other yet. Keys only: of 200,000
    # scans that share no source group all records would be 1.5 GB.
    single: tuple[Single, Single] = (defaultdict(list), defaultdict(list))

    def read(key: str) -> tuple[str, list[Record | None]]:
        return key, [
            read_record(store, key) if key in keys else None
            for store, keys in zip(stores, listed, strict=True)
        ]

    for key, records in map_ahead(read, sorted(listed[0] | listed[1])):
        expected = [key in keys for keys in listed]
        damaged = [e and r is None for e, r in zip(expected, records, strict=True)]
        if any(damaged):
            yield _unread(key, records, damaged)
            continue
        named = [_by_name(record) for record in records]
        for place in sorted(named[0].keys() & named[1].keys()):
            yield named[0][place], named[1][place]
        for mine, other, keys in zip(named, named[::-1], single, strict=True):
            for place in mine.keys() - other.keys():
                keys[place].append(key)
    yield from _pairs_by_name(stores, *single)


def _pairs_by_name(
    stores: Stores, first: Single, second: Single
) -> Iterator[Pair | ScanComparison]:
    places = (
        (place, keys)
        for place in sorted(first.keys() | second.keys())
        for keys in zip_longest(first.get(place, ()), second.get(place, ()))
    )

    def read(item: tuple[Place, tuple[str | None, ...]]) -> Pair | ScanComparison:
        place, keys = item
        records = [
            None if key is None else read_record(store, key)
            for store, key in zip(stores, keys, strict=True)
        ]
        found = [_by_name(record).get(place) for record in records]
        gone = [key is not None and it is None for key, it in zip(keys, found, strict=True)]
        if any(gone):  # since it was read a moment ago
            return _unread(next(key for key in keys if key is not None), records, gone)
        return found[0], found[1]

    return map_ahead(read, places)


def _by_name(record: Record | None) -> dict[Place, Found]:
    """Scans of a record by name, and a number for those that failed under one."""
    seen: Counter[str] = Counter()
    named: dict[Place, Found] = {}
    for outcome in record.outcomes if record is not None else ():
        named[outcome.name, seen[outcome.name]] = record.label, outcome  # type: ignore[union-attr]
        seen[outcome.name] += 1
    return named


def _unread(key: str, records: Iterable[Record | None], damaged: list[bool]) -> ScanComparison:
    label = next((record.label for record in records if record is not None), "")
    which = " and ".join(
        side for side, bad in zip(("first", "second"), damaged, strict=True) if bad
    )
    group = key.rpartition("/")[2].removesuffix(".json")
    note = f"{key} cannot be read in the {which} sink; `fastlung verify` says more"
    return ScanComparison(scan=group, source=label, differs=("record",), note=note)


def _of_pair(stores: Stores, pair: Pair, readers: ThreadPoolExecutor) -> ScanComparison:
    label, some = next(found for found in pair if found is not None)
    sides: dict[str, Any] = {}
    for side, found in zip(("first", "second"), pair, strict=True):
        if found is not None:
            sides |= {f"{name}_{side}": value for name, value in _said(found[1]).items()}
    base = ScanComparison(scan=some.name, source=label, **sides)
    first, second = pair
    if first is None or second is None:
        return replace(base, differs=("only_second" if first is None else "only_first",))
    said = _said(first[1]), _said(second[1])
    differs = [name for name in said[0] if said[0][name] != said[1][name]]
    if first[1].grid != second[1].grid:
        differs.append("grid")
    base = replace(base, differs=tuple(differs))
    if first[1].status == second[1].status == "done":
        return _with_voxels(base, stores, (first[1], second[1]), readers)
    return base


def _said(outcome: Outcome) -> dict[str, Any]:
    """What a record says of a scan that is compared word by word."""
    figures = outcome.figures
    parts = [figures[key] for key in ("litres_right", "litres_left", "litres") if key in figures]
    litres = math.fsum(parts)
    return {
        "status": outcome.status,
        "error": outcome.error,
        "verdict": outcome.verdict.classes if outcome.verdict else (),
        "flags": tuple(flag.name for flag in outcome.flags),
        "litres": litres if parts and math.isfinite(litres) else None,
    }


def _with_voxels(
    base: ScanComparison,
    stores: Stores,
    outcomes: tuple[Outcome, Outcome],
    readers: ThreadPoolExecutor,
) -> ScanComparison:
    if _arrays(outcomes[0]) == _arrays(outcomes[1]) and "grid" not in base.differs:
        masked = base.litres_first is not None
        return replace(
            base, image_voxels=0, hu_max=0.0, hu_mean=0.0, mask_voxels=0 if masked else None
        )
    try:
        first, second = readers.map(_opened, stores, [outcome.name for outcome in outcomes])
    except (FormatError, StoreError, KeyError) as error:
        note = "its metadata is not what was written" if isinstance(error, KeyError) else str(error)
        return replace(base, differs=(*base.differs, "unreadable"), note=note)
    return _measured(base, first, second)


def _arrays(outcome: Outcome) -> dict[str, tuple[int, int]]:
    """Sizes and checksums of the files that hold image and mask."""
    folder = f"scans/{outcome.name}/"
    files = {key.removeprefix(folder): facts for key, facts in outcome.outputs.items()}
    return {
        file: facts for file, facts in files.items() if file not in (METADATA_NAME, PREVIEW_NAME)
    }


def _opened(store: Store, name: str) -> StoredScan:
    return stored_scan(name, lambda file: store.get(f"scans/{name}/{file}"))


def _measured(base: ScanComparison, first: StoredScan, second: StoredScan) -> ScanComparison:
    differs = [*base.differs]
    if first.image.shape != second.image.shape:
        differs += ["grid"] * ("grid" not in differs)
        return replace(base, differs=tuple(differs))
    measured: dict[str, Any] = {}
    if any(first.metadata.get(key) != second.metadata.get(key) for key in ENCODING):
        differs.append("encoding")
    else:
        voxels, most, mean = _difference(first.image, second.image)
        scale = _hu_a_unit(first)
        measured = {"image_voxels": voxels, "hu_max": most * scale, "hu_mean": mean * scale}
        differs += ["image"] * (voxels > 0)
    if first.mask is not None and second.mask is not None:
        voxels, _most, _mean = _difference(first.mask, second.mask)
        measured["mask_voxels"] = voxels
        differs += ["mask"] * (voxels > 0)
    elif first.mask is not None or second.mask is not None:
        differs.append("mask")
    return replace(base, differs=tuple(differs), **measured)


def _difference(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> tuple[int, float, float]:
    """Voxels that differ, largest and mean absolute difference; by slice, to need no third."""
    voxels, most, total = 0, 0.0, 0.0
    for one_slice, other_slice in zip(first, second, strict=True):
        apart = np.abs(np.subtract(one_slice, other_slice, dtype=np.float64))
        voxels += int(np.count_nonzero(apart))
        most = max(most, float(apart.max(initial=0.0)))
        total += float(apart.sum())
    return voxels, most, total / max(first.size, 1)


def _hu_a_unit(scan: StoredScan) -> float:
    """Hounsfield units that one unit of the image stands for."""
    if scan.metadata.get("standardise") is not None:
        return float(scan.metadata["standardise"][1])
    if scan.window_hu is None:
        return 1.0
    low, high = scan.window_hu
    return (high - low) / (255.0 if scan.image.dtype == np.uint8 else 1.0)
