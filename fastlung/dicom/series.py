"""
Files to series: which slices belong together, what is wrong with them, and the volume they form.

Headers only, and nothing is raised for one odd file: what is wrong with a series stands in its
headers, and `pixels.load_series` raises it. Where the bytes come from is the caller's business:
here they are a mapping from key to bytes, or a callable (see `folder` for paths).
"""

from __future__ import annotations

import hashlib
import statistics
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np

from fastlung.dicom.checks import Policy
from fastlung.dicom.elements import PixelElement
from fastlung.dicom.geometry import Stack, stack_slices
from fastlung.dicom.grouping import Group, divide, group_slices
from fastlung.dicom.headers import Broken, Skipped, pydicom_silenced
from fastlung.dicom.layout import HeaderReader
from fastlung.dicom.pixels import Frames, load_series
from fastlung.dicom.slice_header import TELLS, SliceHeader
from fastlung.errors import FormatError, ScanError
from fastlung.limits import beyond, limits_in_force
from fastlung.scan import Grid, Verdict
from fastlung.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from fastlung.errors import LimitError
    from fastlung.scan import RawScan

    Opened = Callable[[str, int], Frames]

__all__ = ["SeriesHeaders", "SeriesIndex", "index_files", "index_series"]

#: Slice thickness that can be the step of a single slice, in millimetres.
SLICE_THICKNESS_MM = (0.05, 50.0)

_DEFAULT = Policy()
#: Where pixels lie does not matter when two pixel_formats are compared.
_NO_PIXELS = PixelElement(offset=0, length=0, available=0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeriesHeaders:
    """
    One series without its pixels: what can be said of it, and what `load_series` needs.

    Attributes
    ----------
    series_uid : str
        SeriesInstanceUID; may be empty. Slices under one UID that cannot share a volume (other
        matrix, pixel spacing, orientation, frame of reference, kernel, acquisition, ...) stand as
        several series.
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
    slice_shifts_mm, slice_breaks
        As in `RawScan`.
    acquisition : mapping
        Allow-listed technical tags: texts that all slices share, medians of numbers.
    transfer_syntaxes : mapping of str to int
        Transfer Syntax UID to number of slices.
    keys : tuple of str
        Keys of every file of the series, repeated and broken ones included.
    defects : tuple of ScanError
        What is wrong with single files.
    problem : ScanError or None
        What `load` will raise; None where, by the headers, it will succeed.
    loader : callable
        Reads the pixels: `load_series` for slices, another for a volume that is one array.
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
    slice_shifts_mm: npt.NDArray[np.float64] | None = None
    slice_breaks: tuple[int, ...] = ()
    loader: Callable[..., RawScan] = load_series

    @property
    def pixel_keys(self) -> set[str]:
        """Keys of the files that `load` asks for."""
        # A volume has no slices, and wants all its files.
        return {header.key for header in self.headers} or set(self.keys)

    def load(self, blobs: Mapping[str, bytes | memoryview], *, threads: int = 1) -> RawScan:
        """
        Read the pixels.

        Parameters
        ----------
        blobs : mapping of str to bytes or memoryview
            Key to the bytes of one file, for `pixel_keys` at least.
        threads : int
            How many slices may be decoded at once; the result does not depend on it.

        Raises
        ------
        ScanError
            `problem`, or a subclass for pixels that are truncated or do not decode.
        """
        return self.loader(self, blobs, threads=threads)


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

    def check(self) -> None:
        """
        Refuse files of which some cannot be read: each may be a slice of any series.

        Raises
        ------
        FormatError
            If any is `broken`.
        """
        if not self.broken:
            return
        first = self.broken[0]
        files = {key for series in self.series for key in series.keys} | self.skipped.keys()
        raise FormatError(
            f"{len(self.broken)} of {len(files)} files may be slices and cannot be read; fetch "
            f"them again or move them away; the first: {_named(first)}: {self.skipped[first]}"
        )


def index_series(blobs: Mapping[str, bytes | memoryview], policy: Policy = _DEFAULT) -> SeriesIndex:
    """
    Read the headers of files and group them into series.

    Parameters
    ----------
    blobs : mapping of str to bytes or memoryview
        Key to the bytes of one file.
    policy : Policy
        What to do about irregular series.

    Returns
    -------
    SeriesIndex
        Does not depend on the order of `blobs`. Nothing is raised for single odd files.
    """

    def read(key: str, count: int) -> bytes:
        return bytes(memoryview(blobs[key])[:count])

    return index_files({key: len(blob) for key, blob in blobs.items()}, read, policy)


def index_files(
    sizes: Mapping[str, int], read: Callable[[str, int], bytes], policy: Policy = _DEFAULT
) -> SeriesIndex:
    """
    Read headers through a callable, which is asked for no more than it takes.

    Parameters
    ----------
    sizes : mapping of str to int
        Key to size of the file, in bytes.
    read : callable
        Gives the first so many bytes of the file under a key.
    policy : Policy
        What to do about irregular series.
    """
    slices: list[SliceHeader] = []
    broken: list[Broken] = []
    skipped: dict[str, str] = {}
    reader = HeaderReader(force=policy.force)
    with pydicom_silenced():
        for key in sorted(sizes):
            found = reader.read(key, sizes[key], partial(read, key))
            if isinstance(found, Skipped):
                skipped[key] = found.reason
            elif isinstance(found, Broken):
                broken.append(found)
            else:
                slices += found
    by_uid: dict[str, list[Group]] = {}
    for group in group_slices(slices):
        by_uid.setdefault(group.first.series_uid, []).append(group)
    lost: list[str] = []
    defects: dict[str, list[Broken]] = {}
    for entry in broken:
        if entry.series_uid is None:
            lost.append(entry.key)
            skipped[entry.key] = str(entry.error)
        else:
            defects.setdefault(entry.series_uid, []).append(entry)

    @lru_cache(maxsize=1)  # the frames of one file follow one another
    def opened(key: str, size_bytes: int) -> Frames:
        return Frames(read(key, size_bytes))

    series: list[SeriesHeaders] = []
    for uid in sorted({*by_uid, *defects}):
        series += _series_under(
            uid, by_uid.get(uid, []), defects.get(uid, []), opened, policy, skipped
        )
    return SeriesIndex(series=tuple(series), skipped=skipped, broken=tuple(lost))


def _series_under(
    uid: str,
    groups: list[Group],
    broken: list[Broken],
    opened: Opened,
    policy: Policy,
    skipped: dict[str, str],
) -> list[SeriesHeaders]:
    """Everything under one UID. A broken file fails all of it: whose slice it was, nobody knows."""
    if not groups:
        return [_unreadable(uid, broken)]
    divided = divide(groups, policy)
    skipped |= {
        header.key: "another orientation than the most slices of its series"
        for header in divided.left_out
    }
    described = [
        one for group in divided.groups for one in _describe(group.slices, broken, opened, policy)
    ]
    return [
        replace(
            one,
            part=number,
            parts=len(described),
            verdict=_with(one.verdict, divided.classes, divided.actions),
            problem=one.problem or divided.problem,
        )
        for number, one in enumerate(described, start=1)
    ]


def _with(verdict: Verdict, classes: Sequence[str], actions: Sequence[str]) -> Verdict:
    if not classes and not actions:
        return verdict
    own = tuple(name for name in verdict.classes if name != "regular" or not classes)
    return replace(
        verdict,
        classes=tuple(dict.fromkeys((*own, *classes))),
        actions=(*actions, *verdict.actions),
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
        problem=_first_defect(
            [f"{_named(b.key)}: {b.error}" for b in broken], broken[0].error, len(broken)
        ),
    )


def _describe(
    slices: list[SliceHeader],
    broken: list[Broken],
    opened: Opened,
    policy: Policy,
) -> list[SeriesHeaders]:
    stacks = _stacks(slices, opened, policy)
    used = {index for stack in stacks for index in stack.kept}
    left_out = [slices[i] for i in range(len(slices)) if i not in used]
    described = []
    for stack in stacks:
        described.append(_series(stack, slices, left_out, broken))
        left_out = []  # what repeats a slice is counted once
    return described


def _series(
    stack: Stack, slices: list[SliceHeader], left_out: list[SliceHeader], broken: list[Broken]
) -> SeriesHeaders:
    kept = tuple(slices[i] for i in stack.kept)
    texts: list[str] = []
    defects: list[ScanError] = []
    for number, header in enumerate([*kept, *left_out], start=1):
        if isinstance(header.pixel_format, ScanError):
            place = f"slice {number} of {len(kept)}: " if number <= len(kept) else ""
            texts.append(f"{place}{_named(header.key)}: {header.pixel_format}")
            defects.append(header.pixel_format)
    texts += [f"{_named(entry.key)}: {entry.error}" for entry in broken]
    defects += [entry.error for entry in broken]
    problem: ScanError | None = _over_limit(kept)
    if problem is None and defects:
        problem = _first_defect(texts, defects[0], len(kept) + len(left_out) + len(broken))
    keys = [header.key for header in (*kept, *left_out)] + [entry.key for entry in broken]
    return SeriesHeaders(
        series_uid=kept[0].series_uid,
        headers=kept,
        verdict=stack.verdict,
        grid=stack.grid,
        slice_positions_mm=stack.slice_positions_mm,
        slice_shifts_mm=stack.slice_shifts_mm,
        slice_breaks=stack.slice_breaks,
        acquisition=_shared_acquisition(kept),
        transfer_syntaxes=dict(sorted(Counter(h.transfer_syntax for h in kept).items())),
        keys=tuple(dict.fromkeys(keys)),
        defects=tuple(defects),
        problem=problem or stack.problem,
    )


def _stacks(slices: list[SliceHeader], opened: Opened, policy: Policy) -> tuple[Stack, ...]:
    # One UID on two files is one instance sent twice, unless somebody wrote it on every file.
    uids_tell = len({header.instance_uid for header in slices}) > 1

    def marks(index: int) -> Iterator[Hashable]:
        header = slices[index]
        if isinstance(header.pixel_format, ScanError):
            return
        if uids_tell and header.instance_uid:
            yield header.instance_uid
        try:
            frame = opened(header.key, header.size_bytes).of(header.pixel_format.pixels)
        except ScanError:  # a frame cut short: loading says so
            return
        pixel_format = replace(header.pixel_format, pixels=_NO_PIXELS)
        yield header.transfer_syntax, pixel_format, hashlib.sha256(frame).digest()

    missing = (np.nan,) * 6
    return stack_slices(
        np.array([header.position_mm or missing[:3] for header in slices], dtype=np.float64),
        np.array([header.orientation or missing for header in slices], dtype=np.float64),
        pixel_spacing_mm=slices[0].pixel_spacing_mm,
        shape=(slices[0].rows, slices[0].columns),
        marks=marks,
        tells={name: [header.tells[name] for header in slices] for name in TELLS},
        thickness_mm=_thickness(slices[0]),
        policy=policy,
    )


def _thickness(header: SliceHeader) -> float | None:
    thickness = header.acquisition.get("SliceThickness")
    low, high = SLICE_THICKNESS_MM
    return thickness if isinstance(thickness, float) and low <= thickness <= high else None


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
    return type(first)(
        f"{len(texts)} of {total} files cannot be used; fetch them again or move them away; the "
        f"first: {texts[0]}"
    )


def _named(key: str) -> str:
    """A file by the end of its key; with hashed names, keys are pseudonyms already."""
    return printable(key.rpartition("/")[2])


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
