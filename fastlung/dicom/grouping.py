"""
Slices to groups that can share a volume, and what is to be done where one series holds several.

More than SeriesInstanceUID decides: scanners put reconstructions with other kernels, localizers and
reformatted stacks under one UID, and some writers leave UIDs empty, make them anew for every file,
or lose a tag here and there. What an even row of positions says counts for more than those.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fastlung.dicom.checks import ORIENTATION_TOLERANCE, Policy, counted, is_even_row
from fastlung.errors import GeometryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fastlung.dicom.slice_header import SliceHeader

__all__ = ["Divided", "Group", "divide", "group_slices", "same_but_for_uid"]

#: Pixel spacings that differ by less are one, in millimetres; or those that would shift the last
#: pixel of the matrix by less than so much of a pixel.
PIXEL_SPACING_TOLERANCE_MM = 1e-4
PIXEL_SHIFT = 0.1
#: Slices at heights closer than this are at one position, in millimetres.
SAME_POSITION_MM = 0.01
#: Fewest slices of a row, and of UIDs that somebody has made anew for each of them.
ROW = 3
#: Groups tried for lost tags: of eight that are there or not, more than these are no accident.
MOST_JOINED = 50
#: What must be equal within a volume, in the order of `_exact`.
_EXACT_NAMES = (
    "study",
    "series number",
    "kind of object",
    "frame of reference",
    "matrix",
    "image type",
    "stack",
    "kernel",
    "tube voltage",
    "patient",
)
_ANOTHER_SCAN = {"kernel", "tube voltage"}
#: Absent from some slices, these are not another value. Of the others none can be absent.
_MAY_BE_ABSENT = {
    "study", "series number", "frame of reference", "image type", "stack", "kernel",
    "tube voltage", "patient",
}  # fmt: skip
#: What exporters and anonymisers make anew for every file.
_MADE_ANEW = {
    "study": "StudyInstanceUID",
    "frame of reference": "FrameOfReferenceUID",
    "patient": "PatientID",
}

_DEFAULT = Policy()
_Values = tuple[str | tuple[int, int], ...]


@dataclass(slots=True, eq=False)
class Group:
    """
    Slices that can share a volume.

    Attributes
    ----------
    first : SliceHeader
        The slice the others are compared with.
    slices : list of SliceHeader
        All of them, the first included.
    actions : tuple of str
        What was done about tags that speak against it.
    """

    first: SliceHeader
    slices: list[SliceHeader] = field(default_factory=list)
    actions: tuple[str, ...] = ()

    def takes(self, header: SliceHeader) -> bool:
        """Whether a slice that agrees exactly where it must lies within tolerance, too."""
        return _same_spacing(header, self.first) and _close(
            header.orientation, self.first.orientation, ORIENTATION_TOLERANCE
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Divided:
    """
    The groups under one UID that are to be series.

    Attributes
    ----------
    groups : list of Group
        In a fixed order.
    classes, actions : tuple of str
        What the verdict of each says of the division.
    left_out : tuple of SliceHeader
        Slices that the policy leaves out of all series.
    problem : GeometryError or None
        Why none of them may be processed.
    """

    groups: list[Group]
    classes: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    left_out: tuple[SliceHeader, ...] = ()
    problem: GeometryError | None = None


def group_slices(slices: Iterable[SliceHeader], policy: Policy = _DEFAULT) -> list[Group]:
    """Put together slices that can share a volume; the result does not depend on their order."""
    buckets: dict[tuple[object, ...], list[Group]] = {}
    for header in sorted(slices, key=_by_number):
        groups = buckets.setdefault((header.series_uid, *_exact(header)), [])
        # Compared with the first slice of a group, not rounded: rounding would split a series
        # whose noise straddles a half.
        group = next((g for g in groups if g.takes(header)), None)
        if group is None:
            group = Group(first=header)
            groups.append(group)
        group.slices.append(header)
    by_uid: dict[str, list[Group]] = {}
    for groups in buckets.values():
        by_uid.setdefault(groups[0].first.series_uid, []).extend(groups)
    found = [group for groups in by_uid.values() for group in _joined(groups, policy)]
    found.sort(
        key=lambda group: (
            group.first.series_uid,
            *_exact(group.first),
            group.first.pixel_spacing_mm,
            group.first.orientation or (),
        )
    )
    return found


def same_but_for_uid(slices: Iterable[SliceHeader]) -> list[list[SliceHeader]]:
    """
    Find rows of slices each of which has a SeriesInstanceUID of its own.

    Parameters
    ----------
    slices : iterable of SliceHeader
        Everything that was found in one place.

    Returns
    -------
    list of list of SliceHeader
        Rows of even steps that agree in all but UIDs.
    """
    by_uid: dict[str, list[SliceHeader]] = {}
    for header in slices:
        by_uid.setdefault(header.series_uid, []).append(header)
    alone = [found[0] for uid, found in by_uid.items() if uid and len(found) == 1]
    if len(alone) < ROW:
        return []
    groups = [Group(first=header, slices=[header]) for header in sorted(alone, key=_by_number)]
    return [
        [header for group in family for header in group.slices]
        for family in _families(groups, set(_MADE_ANEW))
        if len(family) >= ROW and _fills_a_row(family, repeats=True)
    ]


def _joined(groups: list[Group], policy: Policy) -> list[Group]:
    """Groups under one UID, those put together that only a lost or a made-up tag parts."""
    if len(groups) == 1:
        return groups
    anew = {*_MADE_ANEW} - (
        {"frame of reference", "study"} if policy.on_frame_of_reference == "split" else set()
    )
    families = _families(groups, anew)
    return _completed([group for family in families for group in _one_if_made_anew(family)])


def _families(groups: list[Group], ignored: set[str]) -> list[list[Group]]:
    """Groups that differ in nothing but the tags of these names."""
    families: dict[_Values, list[list[Group]]] = {}
    for group in groups:
        values = zip(_EXACT_NAMES, _exact(group.first), strict=True)
        key = tuple(value for name, value in values if name not in ignored)
        alike = families.setdefault(key, [])
        family = next((f for f in alike if f[0].takes(group.first)), None)
        if family is None:
            alike.append([group])
        else:
            family.append(group)
    return [family for alike in families.values() for family in alike]


def _one_if_made_anew(family: list[Group]) -> list[Group]:
    """One group of those parted by UIDs that were made anew for every file; else as they were."""
    slices = [header for group in family for header in group.slices]
    if len(family) < ROW or 2 * len(family) < len(slices) or not _fills_a_row(family, repeats=True):
        return family
    names = " and ".join(_MADE_ANEW[name] for name in _differences(family) if name in _MADE_ANEW)
    action = (
        f"{names} made anew for every file: {len(family)} of them on {len(slices)} slices, which "
        "make one even row and stand as one series"
    )
    return [Group(family[0].first, sorted(slices, key=_by_number), (action,))]


def _completed(groups: list[Group]) -> list[Group]:
    """Groups joined by those that lack a tag and fill an even row with them."""
    columns = dict(
        zip(_EXACT_NAMES, zip(*(_exact(g.first) for g in groups), strict=True), strict=True)
    )
    lost = {name for name in _MAY_BE_ABSENT if "" in columns[name] and any(columns[name])}
    if not lost:
        return groups
    return [group for family in _families(groups, lost) for group in _filled_up(family)]


def _filled_up(groups: list[Group]) -> list[Group]:
    """Groups that differ in tags some of them lack, the largest first, as far as they join."""
    kept: list[Group] = []
    left = sorted(groups, key=lambda group: -len(group.slices))
    if len(groups) > MOST_JOINED:
        return groups
    while left:
        group = left.pop(0)
        others = [other for other in left if _agree(group, other)]
        together = [o for o in others if all(_agree(o, other) for other in others)]
        choices = [some for some in (together, *([o] for o in others)) if some]
        chosen = next((some for some in choices if _fills_a_row([group, *some])), None)
        if chosen is None:
            kept.append(group)
            continue
        taken = {id(other) for other in chosen}
        left = [_merged([group, *chosen]), *(other for other in left if id(other) not in taken)]
    return kept


def _merged(groups: list[Group]) -> Group:
    """One group of those that differ where a tag is absent."""
    slices = sorted((h for group in groups for h in group.slices), key=_by_number)
    columns = dict(zip(_EXACT_NAMES, zip(*map(_exact, slices), strict=True), strict=True))
    lacking = {name: sum(not v for v in values) for name, values in columns.items()}
    parts = [f"{name} in {count}" for name, count in lacking.items() if 0 < count < len(slices)]
    action = (
        f"absent from some of {len(slices)} slices, which make one even row with the others and "
        f"stand as one series: {', '.join(parts)}"
    )
    return Group(groups[0].first, slices, (action,))


def _agree(group: Group, other: Group) -> bool:
    """Whether two groups differ only where one of them lacks a tag."""
    return group.takes(other.first) and all(
        a == b or (name in _MAY_BE_ABSENT and not (a and b))
        for name, a, b in zip(_EXACT_NAMES, _exact(group.first), _exact(other.first), strict=True)
    )


def _fills_a_row(groups: Sequence[Group], *, repeats: bool = False) -> bool:
    """Whether the slices of several groups make one even row, and repeat no position."""
    first = groups[0].first
    slices = [header for group in groups for header in group.slices]
    if first.orientation is None or any(header.position_mm is None for header in slices):
        return False
    points = np.array([header.position_mm for header in slices], np.float64)
    if repeats:
        normal = np.cross(first.orientation[:3], first.orientation[3:])
        heights = points @ normal
        order = np.argsort(heights)
        points = points[order[np.diff(heights[order], prepend=-np.inf) > SAME_POSITION_MM]]
    return is_even_row(points, first.orientation, first.pixel_spacing_mm)


def divide(groups: list[Group], policy: Policy) -> Divided:
    """
    Decide which groups under one UID are to be series.

    Parameters
    ----------
    groups : list of Group
        All groups under one SeriesInstanceUID; at least one.
    policy : Policy
        What to do about several orientations.
    """
    sizes: dict[int, int] = {}
    orientation_of = []
    for group in groups:
        same = next(
            number
            for number, other in enumerate(groups)
            if _close(group.first.orientation, other.first.orientation, ORIENTATION_TOLERANCE)
        )
        orientation_of.append(same)
        if group.first.orientation is not None:  # without one it fails as such, and is not left out
            sizes[same] = sizes.get(same, 0) + len(group.slices)
    if len(sizes) <= 1:
        return Divided(groups=groups, classes=_classes(groups), actions=_actions(groups))
    mixed = ("mixed_orientation",)
    counts = counted([*sizes.values()])
    if policy.on_mixed_orientation == "fail":
        problem = GeometryError(
            f"{counts} slices of {len(sizes)} orientations in one series, and "
            "--on-mixed-orientation is fail; largest and split process them"
        )
        return Divided(groups=groups, classes=mixed, problem=problem)
    largest = max(sizes.values())
    winners = [number for number, size in sizes.items() if size == largest]
    if policy.on_mixed_orientation == "split" or len(winners) > 1:
        classes = (*mixed, *_classes(groups))
        return Divided(groups=groups, classes=classes, actions=_actions(groups))
    lost = set(sizes) - {winners[0]}
    kept = [g for g, number in zip(groups, orientation_of, strict=True) if number not in lost]
    left_out = tuple(
        header
        for group, number in zip(groups, orientation_of, strict=True)
        if number in lost
        for header in group.slices
    )
    action = (
        f"{len(left_out)} of {sum(sizes.values())} slices left out: another orientation than the "
        "most slices of the series"
    )
    return Divided(
        groups=kept,
        classes=(*mixed, *_classes(kept)),
        actions=(action, *_actions(kept)),
        left_out=left_out,
    )


def _by_number(header: SliceHeader) -> tuple[float, str, str]:
    """Instance number first; what a file is called only where its content says nothing."""
    return header.instance_number, header.instance_uid, header.key


def _exact(header: SliceHeader) -> _Values:
    """What must be equal within a volume. A kernel or voltage that changes is another scan."""
    return (
        header.study_uid,
        "" if header.series_uid else header.tells["series number"],
        header.sop_class_uid,
        header.frame_uid,
        (header.rows, header.columns),
        header.image_kind,
        header.stack_id,
        str(header.acquisition.get("ConvolutionKernel", "")),
        str(header.acquisition.get("KVP", "")),
        header.patient,
    )


def _differences(groups: list[Group]) -> list[str]:
    """Names of what differs among groups."""
    first = groups[0].first
    values = [_exact(group.first) for group in groups]
    names = [
        name
        for name, column in zip(_EXACT_NAMES, zip(*values, strict=True), strict=True)
        if len(set(column)) > 1
    ]
    others = [group.first for group in groups[1:]]
    if not all(_same_spacing(header, first) for header in others):
        names.append("pixel spacing")
    if not all(
        _close(header.orientation, first.orientation, ORIENTATION_TOLERANCE) for header in others
    ):
        names.append("orientation")
    return names


def _classes(groups: list[Group]) -> tuple[str, ...]:
    names = set(_differences(groups))
    acquisitions = ("multi_acquisition",) if names & _ANOTHER_SCAN else ()
    # Where UIDs are empty the series number stands for them, and orientations have their class.
    others = names - _ANOTHER_SCAN - {"orientation", "series number"}
    return (*acquisitions, "split") if others else acquisitions


def _actions(groups: list[Group]) -> tuple[str, ...]:
    if len(groups) == 1:
        return ()
    counts = counted([len(group.slices) for group in groups])
    names = ", ".join(_differences(groups))
    return (f"split by {names}: {counts} slices stand as {len(groups)} series",)


def _same_spacing(header: SliceHeader, other: SliceHeader) -> bool:
    """Whether pixel spacings differ by less than positions can tell."""
    longest = max(header.rows, header.columns)
    tolerance_mm = PIXEL_SHIFT * min(other.pixel_spacing_mm) / longest
    return _close(
        header.pixel_spacing_mm,
        other.pixel_spacing_mm,
        max(PIXEL_SPACING_TOLERANCE_MM, tolerance_mm),
    )


def _close(
    first: tuple[float, ...] | None, other: tuple[float, ...] | None, tolerance: float
) -> bool:
    if first is None or other is None:
        return first is other
    return all(abs(a - b) <= tolerance for a, b in zip(first, other, strict=True))
