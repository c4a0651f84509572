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
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from fastlung.dicom.acquisitions import PRESENCE_OF
from fastlung.dicom.checks import Policy
from fastlung.dicom.elements import PixelElement
from fastlung.dicom.geometry import Stack, stack_slices
from fastlung.dicom.grouping import Group, divide, group_slices, same_but_for_uid
from fastlung.dicom.headers import Broken, Lost, Skipped, naming_pattern, pydicom_silenced
from fastlung.dicom.layout import HeaderReader
from fastlung.dicom.pixels import Frames, decode_words, load_series
from fastlung.dicom.slice_header import TELLS, SliceHeader
from fastlung.errors import FormatError, GeometryError, ScanError
from fastlung.limits import beyond, limits_in_force
from fastlung.scan import Flag, Grid, Verdict
from fastlung.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    import numpy.typing as npt

    from fastlung.errors import LimitError
    from fastlung.scan import RawScan

__all__ = ["SeriesHeaders", "SeriesIndex", "index_files", "index_series"]

#: Slice thickness that can be the step of a single slice, in millimetres.
SLICE_THICKNESS_MM = (0.05, 50.0)

_DEFAULT = Policy()
#: Broken files of a series that cost themselves only, as a part of its slices; where there are
#: more, it is the series that is broken.
FEW_BROKEN = 0.1
#: Pixels averaged along each axis where slices are compared.
BLOCK = 8
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
    flags : tuple of Flag
        Reasons to look twice that are known before any pixel is.
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
    flags: tuple[Flag, ...] = ()
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
        Those keys of `skipped` that may be CT slices of a series that cannot be told, or hold a
        volume that cannot be read.
    loss : ScanError or None
        What is to be said of `broken`; None where there are none.
    """

    series: tuple[SeriesHeaders, ...]
    skipped: Mapping[str, str]
    broken: tuple[str, ...] = ()
    loss: ScanError | None = None

    def check(self) -> None:
        """
        Refuse files that cannot be read where there is no series beside them.

        Raises
        ------
        ScanError
            `loss`.
        """
        if self.loss is not None and not self.series:
            raise self.loss


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
    found = _Found()
    reader = HeaderReader(force=policy.force)
    with pydicom_silenced():
        for key in sorted(sizes):
            found.add(reader.read(key, sizes[key], partial(read, key)))
    lost = found.sort_out()
    rows = same_but_for_uid(found.slices) if policy.min_slices > 1 else []
    slices = _under_one_uid(found.slices, rows)
    by_uid: dict[str, list[Group]] = {}
    for group in group_slices(slices, policy):
        by_uid.setdefault(group.first.series_uid, []).append(group)
    opened = _Opened(read)
    series: list[SeriesHeaders] = []
    for uid in sorted({*by_uid, *found.defects}):
        broken = found.defects.get(uid, [])
        series += _series_under(uid, by_uid.get(uid, []), broken, opened, policy, found.skipped)
    refused = {} if policy.on_series_uid == "join" else {_lowest_uid(row): len(row) for row in rows}
    flags = _flags_of_lost(lost, len(sizes))
    return SeriesIndex(
        series=tuple(
            replace(
                entry,
                problem=entry.problem or _uid_each(refused.get(entry.series_uid)),
                flags=(*entry.flags, *flags),
            )
            for entry in series
        ),
        skipped=found.skipped,
        broken=tuple(sorted(lost)),
        loss=_loss(lost, len(sizes)),
    )


class _Found:
    """What the files of one place turned out to be."""

    def __init__(self) -> None:
        self.slices: list[SliceHeader] = []
        self.skipped: dict[str, str] = {}
        self.defects: dict[str, list[Broken]] = {}
        self._lost: list[Lost] = []
        self._unknown: list[Broken] = []

    def add(self, answer: list[SliceHeader] | Skipped | Broken | Lost) -> None:
        """Take what one file is."""
        if isinstance(answer, Skipped):
            self.skipped[answer.key] = answer.reason
        elif isinstance(answer, Lost):
            self._lost.append(answer)
        elif not isinstance(answer, Broken):
            self.slices += answer
        elif answer.series_uid is None:
            self._unknown.append(answer)
        else:
            self.defects.setdefault(answer.series_uid, []).append(answer)

    def sort_out(self) -> dict[str, ScanError]:
        """Files that may be slices of a series nobody knows, once all files were seen."""
        patterns = {naming_pattern(header.key) for header in self.slices} - {""}
        lost = {entry.key: entry.error for entry in self._unknown}
        for entry in self._lost:
            if entry.is_slice(patterns):
                lost[entry.key] = entry.error
            else:
                self.skipped[entry.key] = entry.reason
        self.skipped |= {key: str(error) for key, error in lost.items()}
        return lost


class _Opened:
    """Frames of the file that was asked for last: those of one file follow one another."""

    def __init__(self, read: Callable[[str, int], bytes]) -> None:
        self._read = read
        self._key, self._frames = "", Frames(b"")

    def frames(self, header: SliceHeader) -> Frames:
        """Frames of the file a slice is in."""
        if header.key != self._key or not self._key:
            self._key, self._frames = header.key, Frames(self._read(header.key, header.size_bytes))
        return self._frames

    def words(self, header: SliceHeader) -> npt.NDArray[np.uint16] | None:
        """Stored words of a slice; None where they cannot be had, which loading will say."""
        if isinstance(header.pixel_format, ScanError):
            return None
        words = np.empty((header.rows, header.columns), np.uint16)
        try:
            data = self.frames(header).of(header.pixel_format.pixels)
            decode_words(header.pixel_format, header.transfer_syntax, data, words)
        except ScanError:
            return None
        return words


def _lowest_uid(row: list[SliceHeader]) -> str:
    return min(header.series_uid for header in row)


def _under_one_uid(slices: list[SliceHeader], rows: list[list[SliceHeader]]) -> list[SliceHeader]:
    """Slices that make a row though each has a series of its own, under the lowest UID of it."""
    uid_of = {id(header): _lowest_uid(row) for row in rows for header in row}
    return [
        replace(header, series_uid=uid_of[id(header)]) if id(header) in uid_of else header
        for header in slices
    ]


def _uid_each(count: int | None) -> GeometryError | None:
    """Say why slices that agree in all but their series are not read as one."""
    if count is None:
        return None
    return GeometryError(
        f"{count} files, each with a SeriesInstanceUID of its own, would form an even row: an "
        "exporter or anonymiser has made the UID anew for every file; --on-series-uid join reads "
        "them as one series"
    )


def _loss(lost: Mapping[str, ScanError], count: int) -> ScanError | None:
    """Make one error of all files that may be slices of nobody knows what."""
    if not lost:
        return None
    first = min(lost)
    return FormatError(
        f"{len(lost)} of {count} files may be slices and cannot be read; fetch them again or move "
        f"them away; the first: {_named(first)}: {lost[first]}"
    )


def _flags_of_lost(lost: Mapping[str, ScanError], count: int) -> tuple[Flag, ...]:
    if not lost:
        return ()
    text = f"{len(lost)} of {count} files may be slices of it and cannot be read; fetch them again"
    return (Flag(name="files_not_read", value=float(len(lost)), text=text),)


def _series_under(
    uid: str,
    groups: list[Group],
    broken: list[Broken],
    opened: _Opened,
    policy: Policy,
    skipped: dict[str, str],
) -> list[SeriesHeaders]:
    """Everything under one UID; files that are broken cost themselves, as long as they are few."""
    if not groups:
        return [_unreadable(uid, broken)]
    divided = divide(groups, policy)
    skipped |= {
        header.key: "another orientation than the most slices of its series"
        for header in divided.left_out
    }
    shapes = {(header.rows, header.columns) for group in groups for header in group.slices}
    doubtful = [entry for entry in broken if entry.may_be_slice_of(shapes)]
    total = sum(len(group.slices) for group in groups)
    few = len(doubtful) <= max(1, FEW_BROKEN * total)
    described = [
        entry
        for group in divided.groups
        for entry in _describe(group, [] if few else doubtful, opened, policy)
    ]
    # What can be processed has the plain name; a page or a stray slice must not take it.
    described.sort(key=lambda entry: entry.problem is not None)
    flags = _flags_of_lost({e.key: e.error for e in doubtful}, total + len(broken)) if few else ()
    described = [
        replace(
            entry,
            verdict=_with(entry.verdict, divided.classes, divided.actions),
            problem=entry.problem or divided.problem,
            flags=flags,
        )
        for entry in described
    ]
    alone = broken if few else [entry for entry in broken if entry not in doubtful]
    described += [_unreadable(uid, alone)] if alone else []
    return [
        replace(entry, part=number, parts=len(described))
        for number, entry in enumerate(described, start=1)
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
    group: Group, broken: list[Broken], opened: _Opened, policy: Policy
) -> list[SeriesHeaders]:
    slices = group.slices
    stacks = _stacks(slices, opened, policy)
    used = {index for stack in stacks for index in stack.kept}
    left_out = [slices[i] for i in range(len(slices)) if i not in used]
    described = []
    for stack in stacks:
        own = _series(stack, slices, left_out, broken)
        described.append(replace(own, verdict=_with(own.verdict, (), group.actions)))
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


def _stacks(slices: list[SliceHeader], opened: _Opened, policy: Policy) -> tuple[Stack, ...]:
    known: dict[int, tuple[Hashable, ...]] = {}

    def marks(index: int) -> tuple[Hashable, ...]:
        # A repeat is one by its pixels: UIDs are made of slice numbers, or copied, by some writers.
        if index not in known:
            known[index] = _marks(slices[index], opened)
        return known[index]

    labels = {name: [header.tells[name] for header in slices] for name in TELLS}
    for name, values in (
        ("kernel", [header.acquisition.get("ConvolutionKernel") for header in slices]),
        ("tube voltage", [header.acquisition.get("KVP") for header in slices]),
        ("frame of reference", [header.frame_uid for header in slices]),
        ("image type", [header.image_kind for header in slices]),
        ("study", [header.study_uid for header in slices]),
        ("patient", [header.patient for header in slices]),
    ):
        labels[f"{PRESENCE_OF}{name}"] = ["1" if value else "0" for value in values]
    missing = (np.nan,) * 6
    return stack_slices(
        np.array([header.position_mm or missing[:3] for header in slices], dtype=np.float64),
        np.array([header.orientation or missing for header in slices], dtype=np.float64),
        pixel_spacing_mm=slices[0].pixel_spacing_mm,
        shape=(slices[0].rows, slices[0].columns),
        marks=marks,
        labels=labels,
        pictures=lambda index: _picture(slices[index], opened),
        ranks=[(header.instance_number, header.instance_uid) for header in slices],
        thickness_mm=_thickness(slices[0]),
        policy=policy,
    )


def _marks(header: SliceHeader, opened: _Opened) -> tuple[Hashable, ...]:
    """What two files of the same image have in common: words, and what makes HU of them."""
    words = opened.words(header)
    if words is None or isinstance(header.pixel_format, ScanError):  # loading says so
        return ()
    pixel_format = replace(header.pixel_format, pixels=_NO_PIXELS)
    return ((pixel_format, hashlib.sha256(words.data).digest()),)


def _picture(header: SliceHeader, opened: _Opened) -> npt.NDArray[np.float64] | None:
    """Hounsfield units of a slice, averaged over blocks so that noise does not count."""
    words = opened.words(header)
    if words is None or isinstance(header.pixel_format, ScanError):
        return None
    pixel_format = header.pixel_format
    if pixel_format.high_bit != pixel_format.bits_stored - 1:
        return None
    spare = 16 - pixel_format.bits_stored
    value = np.left_shift(words, spare)
    value = np.right_shift(value.view(np.int16) if pixel_format.signed else value, spare)
    hu = np.clip(value * np.float64(pixel_format.slope) + pixel_format.intercept, -1024.0, 1024.0)
    rows, columns = (length // BLOCK * BLOCK for length in hu.shape)
    blocks = hu[:rows, :columns].reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
    mean: npt.NDArray[np.float64] = blocks.mean(axis=(1, 3))
    return mean if mean.size else None


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
    """Texts that all slices share, medians of numbers; what some of them lack, the others say."""
    shared: dict[str, str | float] = {}
    keywords = headers[0].acquisition.keys()
    if any(header.acquisition.keys() != keywords for header in headers):
        keywords = dict.fromkeys(key for header in headers for key in header.acquisition).keys()
    for keyword in keywords:
        values = [v for h in headers if (v := h.acquisition.get(keyword)) is not None]
        if all(value == values[0] for value in values):
            shared[keyword] = values[0]
        else:
            numbers = [value for value in values if isinstance(value, float)]
            if len(numbers) == len(values):
                shared[keyword] = statistics.median(numbers)
    return shared
