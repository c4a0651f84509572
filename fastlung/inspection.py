"""What a source holds, by its headers alone: `inspect`, and the rules of stricter pipelines."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from fastlung.config import StoreOptions
from fastlung.dicom.checks import Policy
from fastlung.dicom.headers import NOT_DICOM
from fastlung.errors import NothingFoundError, ScanError, StoreError
from fastlung.report.summary import nothing_found
from fastlung.sink.names import scan_names
from fastlung.source.open import open_source, store_of
from fastlung.source.read import index_headers, join_series
from fastlung.text import printable

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from fastlung.dicom import SeriesHeaders, SeriesIndex
    from fastlung.source.groups import SourceGroup
    from fastlung.storage.base import Store

__all__ = ["SeriesSummary", "idc_exclusions", "inspect"]


_DEFAULT = Policy()


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesSummary:
    """
    One series of a source, or a folder in which none could be read.

    Attributes
    ----------
    group : str
        Path of its folder below the source.
    number : int
        Which series of the folder it is, from 1; 0 where none could be read.
    series_uid : str
        SeriesInstanceUID, or a hash where that is not made of digits and dots.
    slices : int
        Slices of the volume.
    shape : tuple of int or None
        Acquired shape ``(z, y, x)``; None where the grid cannot be known.
    spacing_mm : tuple of float or None
        Acquired spacing along ``(z, y, x)``, in millimetres.
    verdict : tuple of str
        Classes of its geometry.
    numbers : mapping of str to float
        The measurements behind them, units in the names.
    actions : tuple of str
        What would be done about it, one sentence each.
    transfer_syntaxes : mapping of str to int
        Transfer Syntax UID -> slices.
    acquisition : mapping
        Allow-listed technical tags, by DICOM keyword.
    problem : str
        Why it cannot be processed; empty if, by its headers, it can.
    skipped_files : mapping of str to int
        Reason -> files of the folder that belong to no series.
    flags : tuple of str
        Reasons to look twice that headers give, a sentence each.
    excluded : tuple of str
        Rules of others that would exclude the series, where they were asked for.
    also_in : tuple of str
        Other folders with a series of this UID; the first by name has its name in a sink, the
        others' gets a suffix.
    """

    group: str
    number: int = 0
    series_uid: str = ""
    slices: int = 0
    shape: tuple[int, int, int] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    verdict: tuple[str, ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)
    actions: tuple[str, ...] = ()
    transfer_syntaxes: Mapping[str, int] = field(default_factory=dict)
    acquisition: Mapping[str, str | float] = field(default_factory=dict)
    problem: str = ""
    skipped_files: Mapping[str, int] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    also_in: tuple[str, ...] = ()


def inspect(
    source: str | os.PathLike[str],
    policy: Policy = _DEFAULT,
    *,
    strict_like: str | None = None,
    group_by: str = "folder",
    storage: StoreOptions | None = None,
) -> list[SeriesSummary]:
    """
    Look at every series of a source, reading headers only.

    Parameters
    ----------
    source : path-like
        A folder or s3:// prefix, an archive, a volume, or a list of these.
    policy : Policy
        What would be done about irregular series.
    strict_like : {"idc"} or None
        Also say which series the rules of IDC's CloudSegmentator exclude.
    group_by : str
        ``series`` to put together series that are spread over folders.
    storage : StoreOptions, optional
        How s3:// is reached.

    Returns
    -------
    list of SeriesSummary
        By folder, then by series. A folder that holds DICOM but no CT series has an entry with
        number 0 and what was skipped; a folder without DICOM has none.

    Raises
    ------
    NothingFoundError
        If there is no CT series.
    StoreError
        If there is no such folder.
    """
    options = storage or StoreOptions()
    places = open_source(str(source), options)
    places.check()

    def opened(group: SourceGroup) -> Store:
        return store_of(group, places.store, options)

    groups = places.groups()
    if group_by == "series":
        groups = join_series(groups, opened)
    looked_at = [
        summary
        for group in groups
        for summary in _inspect_group(opened(group), group, policy, strict_like)
    ]
    if not looked_at:
        raise NothingFoundError(f"{source}: no files in or below it")
    if not any(summary.number or summary.problem for summary in looked_at):
        files = Counter[str]()
        for summary in looked_at:
            files.update(summary.skipped_files)
        raise NothingFoundError(nothing_found(str(source), files, len(looked_at)))
    return [
        summary
        for summary in _compared(looked_at)
        if summary.number or summary.problem or summary.skipped_files.keys() - NOT_DICOM
    ]


def _compared(found: Sequence[SeriesSummary]) -> list[SeriesSummary]:
    """Series that say where else they are."""
    folders: dict[str, set[str]] = defaultdict(set)
    for series in found:
        if series.number:
            folders[series.series_uid].add(series.group)
    return [
        replace(series, also_in=tuple(sorted(folders[series.series_uid] - {series.group})))
        if series.number
        else series
        for series in found
    ]


def _inspect_group(
    store: Store, group: SourceGroup, policy: Policy, strict_like: str | None
) -> list[SeriesSummary]:
    if group.unreadable:
        return [SeriesSummary(group=group.label, problem="the folder cannot be listed")]
    skipped: dict[str, int] = {}
    try:
        index = index_headers(group, store, policy)
        skipped = dict(Counter(index.skipped.values()))  # asdict garbles a Counter
    except (StoreError, ScanError) as error:
        problem = printable(str(error))
        return [SeriesSummary(group=group.label, problem=problem, skipped_files=skipped)]
    lost = []
    if index.loss is not None:
        problem = printable(str(index.loss))
        lost = [SeriesSummary(group=group.label, problem=problem, skipped_files=skipped)]
    if not index.series:
        return lost or [SeriesSummary(group=group.label, skipped_files=skipped)]
    return [*_summaries(group, index, skipped, strict_like), *lost]


def _summaries(
    group: SourceGroup, index: SeriesIndex, skipped: Mapping[str, int], strict_like: str | None
) -> list[SeriesSummary]:
    names = scan_names([entry.series_uid for entry in index.series], group, "series", b"")
    excluded: dict[str, tuple[str, ...]] = {}
    if strict_like == "idc":
        for uid in {entry.series_uid for entry in index.series}:
            excluded[uid] = idc_exclusions(
                [entry for entry in index.series if entry.series_uid == uid]
            )
    return [
        replace(
            _summary(group.label, number, name, series, skipped),
            excluded=excluded.get(series.series_uid, ()),
        )
        for number, (name, series) in enumerate(zip(names, index.series, strict=True), start=1)
    ]


def _summary(
    group: str, number: int, name: str, series: SeriesHeaders, skipped: Mapping[str, int]
) -> SeriesSummary:
    grid = series.grid
    return SeriesSummary(
        group=group,
        number=number,
        series_uid=name,
        slices=len(series.headers) or (0 if grid is None else grid.shape[0]),
        shape=None if grid is None else grid.shape,
        spacing_mm=None if grid is None else grid.spacing_mm,
        verdict=series.verdict.classes,
        numbers=series.verdict.numbers,
        actions=series.verdict.actions,
        transfer_syntaxes=series.transfer_syntaxes,
        acquisition=series.acquisition,
        problem="" if series.problem is None else str(series.problem),
        flags=tuple(flag.text for flag in series.flags),
        skipped_files=skipped,
    )


#: JPEG Extended and JPEG Lossless SV1: "additional decompression steps".
IDC_COMPRESSED = {"1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.70"}

IDC_MIN_SLICES = 50

#: How far the normal may lean from the patient's z axis, as a cosine.
IDC_AXIAL_COSINE = 0.99

#: Largest difference between slice intervals, in millimetres.
IDC_INTERVAL_RANGE_MM = 0.01


def idc_exclusions(series: Sequence[SeriesHeaders]) -> tuple[str, ...]:
    """
    Say by which of its rules CloudSegmentator would exclude a series.

    Parameters
    ----------
    series : sequence of SeriesHeaders
        Everything under one SeriesInstanceUID; the rules know no parts.

    Returns
    -------
    tuple of str
        Rules broken; empty for a series it would process.
    """
    headers = [header for entry in series for header in entry.headers]
    classes = {name for entry in series for name in entry.verdict.classes}
    dropped = sum(entry.verdict.numbers.get("duplicate_slices", 0) for entry in series)
    syntaxes = {header.transfer_syntax for header in headers}
    broken = {
        "JPEG-compressed": bool(syntaxes & IDC_COMPRESSED),
        f"fewer than {IDC_MIN_SLICES} slices": len(headers) + dropped < IDC_MIN_SLICES,
        "matrix changes": len({(header.rows, header.columns) for header in headers}) > 1,
        "pixel spacing changes": len({header.pixel_spacing_mm for header in headers}) > 1,
        "orientation changes": "mixed_orientation" in classes
        or len({header.orientation for header in headers}) > 1,
    }
    placed = [header for header in headers if header.position_mm and header.orientation]
    broken["no position"] = len(placed) < len(headers)
    if placed:
        points = np.array([header.position_mm for header in placed])
        heights = np.sort(points[:, 2])
        cosines = np.array([header.orientation for header in placed])
        normal_z = np.cross(cosines[:, :3], cosines[:, 3:])[:, 2]
        steps = np.diff(heights)
        repeats = dropped or {"multi_acquisition", "duplicate"} & classes or (steps == 0).any()
        broken |= {
            "x or y of positions changes": bool(np.ptp(points[:, :2], axis=0).any()),
            "not axial": bool((np.abs(normal_z) < IDC_AXIAL_COSINE).any()),
            "several slices at one z": bool(repeats),
            "uneven slice intervals": steps.size > 0
            and float(np.ptp(steps)) >= IDC_INTERVAL_RANGE_MM,
        }
    return tuple(rule for rule, is_broken in broken.items() if is_broken)
