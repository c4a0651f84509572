"""
Slices to groups that can share a volume, and what is to be done where one series holds several.

More than SeriesInstanceUID decides: scanners put reconstructions with other kernels, localizers and
reformatted stacks under one UID, and some writers leave UIDs empty.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastlung.dicom.checks import ORIENTATION_TOLERANCE, Policy
from fastlung.errors import GeometryError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastlung.dicom.slice_header import SliceHeader

__all__ = ["Divided", "Group", "divide", "group_slices"]

#: Pixel spacings that differ by more belong to different series, in millimetres.
PIXEL_SPACING_TOLERANCE_MM = 1e-4
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
)
_ANOTHER_SCAN = {"kernel", "tube voltage"}


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
    """

    first: SliceHeader
    slices: list[SliceHeader] = field(default_factory=list)

    def takes(self, header: SliceHeader) -> bool:
        """Whether a slice that agrees exactly where it must lies within tolerance, too."""
        return _close(
            header.pixel_spacing_mm, self.first.pixel_spacing_mm, PIXEL_SPACING_TOLERANCE_MM
        ) and _close(header.orientation, self.first.orientation, ORIENTATION_TOLERANCE)


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


def group_slices(slices: Iterable[SliceHeader]) -> list[Group]:
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
    found = [group for groups in buckets.values() for group in groups]
    found.sort(
        key=lambda group: (
            group.first.series_uid,
            *_exact(group.first),
            group.first.pixel_spacing_mm,
            group.first.orientation or (),
        )
    )
    return found


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
    counts = " + ".join(str(size) for size in sizes.values())
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


def _exact(header: SliceHeader) -> tuple[str | tuple[int, int], ...]:
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
    if not all(
        _close(one.pixel_spacing_mm, first.pixel_spacing_mm, PIXEL_SPACING_TOLERANCE_MM)
        for one in others
    ):
        names.append("pixel spacing")
    if not all(_close(one.orientation, first.orientation, ORIENTATION_TOLERANCE) for one in others):
        names.append("orientation")
    return names


def _classes(groups: list[Group]) -> tuple[str, ...]:
    return ("multi_acquisition",) if _ANOTHER_SCAN & set(_differences(groups)) else ()


def _actions(groups: list[Group]) -> tuple[str, ...]:
    if len(groups) == 1:
        return ()
    counts = " + ".join(str(len(group.slices)) for group in groups)
    names = ", ".join(_differences(groups))
    return (f"split by {names}: {counts} slices stand as {len(groups)} series",)


def _close(
    one: tuple[float, ...] | None, other: tuple[float, ...] | None, tolerance: float
) -> bool:
    if one is None or other is None:
        return one is other
    return all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))
