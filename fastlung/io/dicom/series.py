"""
Files to series: which slices belong together, what is wrong with them, and the volume they form.

Headers only, and nothing is raised for one odd file: what is wrong with a series stands in its
headers, and `pixels.load_series` raises it. Where the bytes come from is the caller's business:
here they are a mapping from key to bytes, or a callable (see `folder` for paths).
"""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from fastlung.errors import ScanError
from fastlung.geometry import ORIENTATION_TOLERANCE, Stack, stack_slices
from fastlung.io.dicom.elements import pydicom_silenced
from fastlung.io.dicom.headers import Broken, Skipped, SliceHeader, read_header
from fastlung.io.dicom.pixels import pixel_bytes
from fastlung.limits import beyond, limits_in_force
from fastlung.scan import Grid, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import numpy.typing as npt

    from fastlung.errors import LimitError

__all__ = ["SeriesHeaders", "SeriesIndex", "index_files", "index_series"]

#: Pixel spacings that differ by more belong to different series, in millimetres.
PIXEL_SPACING_TOLERANCE_MM = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeriesHeaders:
    """
    One series without its pixels: what can be said of it, and what `load_series` needs.

    Attributes
    ----------
    series_uid : str
        SeriesInstanceUID; may be empty. Files under one UID that cannot share a volume (other
        matrix, pixel spacing, orientation or frame of reference) stand as several series.
    part, parts : int
        Which of the series under this UID this is, from 1, and how many there are.
    headers : tuple of SliceHeader
        The slices of the volume, ascending along the slice normal.
    verdict : Verdict
        What the geometry is; class ``unreadable`` where no slice could be placed at all.
    grid : Grid or None
        The acquired frame; None where it cannot be known.
    slice_positions_mm : ndarray of float64, shape (z,)
        Position of each slice along the normal, from the first one, in millimetres.
    acquisition : mapping
        Allow-listed technical tags: texts that all slices share, medians of numbers.
    transfer_syntaxes : mapping of str to int
        Transfer Syntax UID to number of slices.
    keys : tuple of str
        Keys of every file of the series, repeated and broken ones included.
    defects : tuple of ScanError
        What is wrong with single files.
    problem : ScanError or None
        What `load_series` will raise; None where, by the headers, it will succeed.
    """

    series_uid: str
    part: int = 1
    parts: int = 1
    headers: tuple[SliceHeader, ...]
    verdict: Verdict
    grid: Grid | None
    slice_positions_mm: npt.NDArray[np.float64]
    acquisition: Mapping[str, str | float]
    transfer_syntaxes: Mapping[str, int]
    keys: tuple[str, ...]
    defects: tuple[ScanError, ...] = ()
    problem: ScanError | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeriesIndex:
    """
    What a set of files holds.

    Attributes
    ----------
    series : tuple of SeriesHeaders
        By UID, then by what tells series under one UID apart.
    skipped : mapping of str to str
        Key of every file that is in no series, and why.
    broken : tuple of str
        Those keys of `skipped` that may be CT slices of a series that cannot be told.
    """

    series: tuple[SeriesHeaders, ...]
    skipped: Mapping[str, str]
    broken: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class _Group:
    """Slices that can share a volume, while they are being collected."""

    first: SliceHeader
    slices: list[SliceHeader] = field(default_factory=list)

    def takes(self, header: SliceHeader) -> bool:
        """Whether a slice under the same exact key lies within tolerance too."""
        return _close(
            header.pixel_spacing_mm, self.first.pixel_spacing_mm, PIXEL_SPACING_TOLERANCE_MM
        ) and _close(header.orientation, self.first.orientation, ORIENTATION_TOLERANCE)


def index_series(blobs: Mapping[str, bytes | memoryview]) -> SeriesIndex:
    """
    Read the headers of files and group them into series.

    Parameters
    ----------
    blobs : mapping of str to bytes or memoryview
        Key to the bytes of one file.

    Returns
    -------
    SeriesIndex
        Does not depend on the order of `blobs`. Nothing is raised for single odd files.
    """

    def read(key: str, count: int) -> bytes:
        return bytes(memoryview(blobs[key])[:count])

    return index_files({key: len(blob) for key, blob in blobs.items()}, read)


def index_files(sizes: Mapping[str, int], read: Callable[[str, int], bytes]) -> SeriesIndex:
    """
    Read headers through a callable, which is asked for no more than it takes.

    Parameters
    ----------
    sizes : mapping of str to int
        Key to size of the file, in bytes.
    read : callable
        Gives the first so many bytes of the file under a key.
    """
    slices: list[SliceHeader] = []
    broken: list[Broken] = []
    skipped: dict[str, str] = {}
    with pydicom_silenced():
        for key in sorted(sizes):
            found = read_header(key, sizes[key], partial(read, key))
            if isinstance(found, Skipped):
                skipped[key] = found.reason
            elif isinstance(found, Broken):
                broken.append(found)
            else:
                slices.append(found)
    by_uid: dict[str, list[_Group]] = {}
    for group in _group(slices):
        by_uid.setdefault(group.first.series_uid, []).append(group)
    lost: list[str] = []
    defects: dict[str, list[Broken]] = {}
    for entry in broken:
        if entry.series_uid is None:
            lost.append(entry.key)
            skipped[entry.key] = str(entry.error)
        else:
            defects.setdefault(entry.series_uid, []).append(entry)

    def whole(header: SliceHeader) -> bytes:
        return read(header.key, header.size_bytes)

    series = [
        one
        for uid in sorted({*by_uid, *defects})
        for one in _series_under(uid, by_uid.get(uid, []), defects.get(uid, []), whole)
    ]
    return SeriesIndex(series=tuple(series), skipped=skipped, broken=tuple(lost))


def _group(slices: Iterable[SliceHeader]) -> list[_Group]:
    """Put together slices that can share a volume; by key, so the result has one order."""
    buckets: dict[tuple[str, str, str, int, int], list[_Group]] = {}
    for header in slices:
        exact = (
            header.series_uid,
            header.sop_class_uid,
            header.frame_uid,
            header.rows,
            header.columns,
        )
        groups = buckets.setdefault(exact, [])
        # Compared with the first slice of a group, not rounded: rounding would split a series
        # whose noise straddles a half.
        group = next((g for g in groups if g.takes(header)), None)
        if group is None:
            group = _Group(first=header)
            groups.append(group)
        group.slices.append(header)
    found = [(exact, group) for exact, groups in buckets.items() for group in groups]
    found.sort(
        key=lambda pair: (pair[0], pair[1].first.pixel_spacing_mm, pair[1].first.orientation or ())
    )
    return [group for _, group in found]


def _series_under(
    uid: str,
    groups: list[_Group],
    broken: list[Broken],
    whole: Callable[[SliceHeader], bytes],
) -> list[SeriesHeaders]:
    """Everything under one UID. A broken file fails all of it: whose slice it was, nobody knows."""
    if not groups:
        return [_unreadable(uid, broken)]
    described = [_describe(group.slices, broken, whole) for group in groups]
    first, *others = (group.first.orientation for group in groups)
    turned = any(not _close(first, other, ORIENTATION_TOLERANCE) for other in others)
    return [
        replace(
            one,
            part=number,
            parts=len(described),
            verdict=_split(one.verdict, described) if turned else one.verdict,
        )
        for number, one in enumerate(described, start=1)
    ]


def _split(verdict: Verdict, described: list[SeriesHeaders]) -> Verdict:
    classes = tuple(name for name in verdict.classes if name != "regular")
    counts = " + ".join(str(len(one.headers)) for one in described)
    return replace(
        verdict,
        classes=tuple(dict.fromkeys((*classes, "mixed_orientation"))),
        actions=(
            *verdict.actions,
            f"split by orientation: {counts} slices stand as {len(described)} series",
        ),
    )


def _unreadable(uid: str, broken: list[Broken]) -> SeriesHeaders:
    return SeriesHeaders(
        series_uid=uid,
        headers=(),
        verdict=Verdict(classes=("unreadable",)),
        grid=None,
        slice_positions_mm=np.empty(0),
        acquisition={},
        transfer_syntaxes={},
        keys=tuple(entry.key for entry in broken),
        defects=tuple(entry.error for entry in broken),
        problem=_first_defect([str(b.error) for b in broken], broken[0].error, len(broken)),
    )


def _describe(
    slices: list[SliceHeader],
    broken: list[Broken],
    whole: Callable[[SliceHeader], bytes],
) -> SeriesHeaders:
    stack = _stack(slices, whole)
    kept = tuple(slices[i] for i in stack.kept)
    left_out = [slices[i] for i in sorted(set(range(len(slices))) - set(stack.kept))]
    texts: list[str] = []
    defects: list[ScanError] = []
    for number, header in enumerate([*kept, *left_out], start=1):
        if isinstance(header.coding, ScanError):
            place = f"slice {number} of {len(kept)}: " if number <= len(kept) else ""
            texts.append(f"{place}{header.coding}")
            defects.append(header.coding)
    texts += [str(entry.error) for entry in broken]
    defects += [entry.error for entry in broken]
    problem: ScanError | None = _over_limit(kept)
    if problem is None and defects:
        problem = _first_defect(texts, defects[0], len(slices) + len(broken))
    return SeriesHeaders(
        series_uid=slices[0].series_uid,
        headers=kept,
        verdict=stack.verdict,
        grid=stack.grid,
        slice_positions_mm=stack.slice_positions_mm,
        acquisition=_shared_acquisition(kept),
        transfer_syntaxes=dict(sorted(Counter(h.transfer_syntax for h in kept).items())),
        keys=(
            *(header.key for header in kept),
            *(header.key for header in left_out),
            *(entry.key for entry in broken),
        ),
        defects=tuple(defects),
        problem=problem or stack.problem,
    )


def _stack(slices: list[SliceHeader], whole: Callable[[SliceHeader], bytes]) -> Stack:
    # One UID on two files is one instance sent twice, unless somebody wrote it on every file.
    uids_tell = len({header.instance_uid for header in slices}) > 1

    def same(i: int, j: int) -> bool:
        one, other = slices[i], slices[j]
        if isinstance(one.coding, ScanError) or isinstance(other.coding, ScanError):
            return False
        if uids_tell and one.instance_uid and one.instance_uid == other.instance_uid:
            return True
        if one.transfer_syntax != other.transfer_syntax:
            return False
        if replace(other.coding, pixels=one.coding.pixels) != one.coding:
            return False
        try:
            return pixel_bytes(one.coding, whole(one)) == pixel_bytes(other.coding, whole(other))
        except ScanError:  # a frame cut short: loading says so
            return False

    missing = (np.nan,) * 6
    return stack_slices(
        np.array([header.position_mm or missing[:3] for header in slices], dtype=np.float64),
        np.array([header.orientation or missing for header in slices], dtype=np.float64),
        pixel_spacing_mm=slices[0].pixel_spacing_mm,
        shape=(slices[0].rows, slices[0].columns),
        same=same,
    )


def _over_limit(kept: tuple[SliceHeader, ...]) -> LimitError | None:
    limits = limits_in_force()
    if len(kept) > limits.slices:
        return beyond("slices", f"{len(kept):,} slices")
    size_bytes = 2 * len(kept) * kept[0].rows * kept[0].columns
    if size_bytes > limits.scan_bytes:
        shape = f"{len(kept):,} slices of {kept[0].rows} x {kept[0].columns}"
        return beyond("scan_bytes", f"{shape} take {size_bytes:,} bytes")
    return None


def _first_defect(texts: list[str], first: ScanError, total: int) -> ScanError:
    """Make one error of all defects: the class and text of the first, and how many there are."""
    return type(first)(f"{len(texts)} of {total} files cannot be used; the first: {texts[0]}")


def _shared_acquisition(headers: tuple[SliceHeader, ...]) -> dict[str, str | float]:
    """Texts that all slices share, medians of numbers that all slices hold."""
    shared: dict[str, str | float] = {}
    for keyword, value in headers[0].acquisition.items():
        values = [header.acquisition.get(keyword) for header in headers]
        if all(other == value for other in values):
            shared[keyword] = value
        else:
            numbers = [other for other in values if isinstance(other, float)]
            if len(numbers) == len(values):
                shared[keyword] = statistics.median(numbers)
    return shared


def _close(
    one: tuple[float, ...] | None, other: tuple[float, ...] | None, tolerance: float
) -> bool:
    if one is None or other is None:
        return one is other
    return all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))
