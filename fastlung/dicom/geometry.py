"""Slices to stacks: the checks in order, and what the policy makes of their findings."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fastlung.dicom.acquisitions import Acquisitions, tell_apart
from fastlung.dicom.checks import (
    Findings,
    Policy,
    counted,
    distinct,
    mean_axes,
    named,
    shifts,
    steps_of,
)
from fastlung.scan import Grid, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from fastlung.dicom.acquisitions import Labels, Pictures
    from fastlung.dicom.checks import Marks, Places, Steps
    from fastlung.errors import GeometryError

    Floats = npt.NDArray[np.float64]
    Ranks = Sequence[tuple[float, str]]

__all__ = ["Stack", "stack_slices"]

#: How far the normal may lean from the patient's z axis, as a cosine, to be called axial (8 deg).
AXIAL_COSINE = 0.99

_DEFAULT = Policy()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stack:
    """
    Slices in order, and what is to be said of them.

    Attributes
    ----------
    kept : tuple of int
        Indices of the slices that make the volume, ascending along the slice normal.
    slice_positions_mm : ndarray of float64, shape (z,)
        Position of each kept slice along the normal, from the first one, in millimetres; empty
        where positions are missing.
    slice_shifts_mm : ndarray of float64, shape (z, 2), or None
        How far each kept slice lies along (y, x) of the plane from straight above the first one.
    slice_breaks : tuple of int
        Numbers of kept slices below which nothing is to be interpolated.
    grid : Grid or None
        The acquired frame; None where fewer than two positions are known.
    verdict : Verdict
        What the geometry is.
    problem : GeometryError or None
        Why these slices cannot be processed as a volume; None where they can.
    """

    kept: tuple[int, ...]
    slice_positions_mm: Floats = field(default_factory=lambda: np.empty(0))
    slice_shifts_mm: Floats | None = None
    slice_breaks: tuple[int, ...] = ()
    grid: Grid | None = None
    verdict: Verdict
    problem: GeometryError | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Slices:
    """All slices of a series in the frame they share."""

    positions_mm: Floats
    axes: Floats
    heights: Floats
    pixel_spacing_mm: tuple[float, float]
    shape: tuple[int, int]
    thickness_mm: float | None
    ranks: Ranks | None
    policy: Policy


def _no_picture(_index: int) -> None:
    """Without pixels nothing can be said by them."""


def stack_slices(
    positions_mm: Floats,
    orientations: Floats,
    *,
    pixel_spacing_mm: tuple[float, float],
    shape: tuple[int, int],
    marks: Marks,
    labels: Labels | None = None,
    pictures: Pictures = _no_picture,
    ranks: Ranks | None = None,
    thickness_mm: float | None = None,
    policy: Policy = _DEFAULT,
) -> tuple[Stack, ...]:
    """
    Order the slices of one series and judge their geometry.

    Parameters
    ----------
    positions_mm : ndarray of float64, shape (n, 3)
        ImagePositionPatient of each slice, LPS, in millimetres; NaN where a slice has none.
    orientations : ndarray of float64, shape (n, 6)
        ImageOrientationPatient of each slice, row cosines then column cosines; NaN where absent.
    pixel_spacing_mm : tuple of float
        Distance between rows, and between columns, in millimetres.
    shape : tuple of int
        Rows and columns.
    marks : callable
        Gives marks of a slice by index; two slices at one position that share a mark are the same
        image. Asked only of slices that share a position.
    labels : mapping of str to sequence of str, or None
        What may tell acquisitions apart, as in `tell_apart`.
    pictures : callable
        Hounsfield units of a slice by index, coarse; None where they cannot be had.
    ranks : sequence of (float, str), or None
        Instance number and UID of each slice: of two at one position with the same number none is
        the first. None: the order given says it.
    thickness_mm : float or None
        Slice thickness: the step of a single slice.
    policy : Policy
        What to do about what is irregular.

    Returns
    -------
    tuple of Stack
        One, unless the slices are several volumes. Never raises for bad geometry: `Stack.problem`
        says why a stack cannot be processed. Of slices at one position the first in the order
        given counts as the first.
    """
    findings = Findings(numbers={"slices": float(len(positions_mm))})
    placed = np.isfinite(np.hstack([positions_mm, orientations]).sum(axis=1))
    if not placed.all():
        return (_unplaced(findings, placed),)
    axes = mean_axes(orientations, findings)
    slices = _Slices(
        positions_mm=positions_mm,
        axes=axes,
        heights=positions_mm @ axes[:, 2],
        pixel_spacing_mm=pixel_spacing_mm,
        shape=shape,
        thickness_mm=thickness_mm,
        ranks=ranks,
        policy=policy,
    )
    every = list(range(len(positions_mm)))
    return _judged(slices, every, findings, _Known(marks, labels or {}, pictures))


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """What is known of slices beside where they lie."""

    marks: Marks
    labels: Labels
    pictures: Pictures


def _judged(
    slices: _Slices, part: list[int], findings: Findings, known: _Known
) -> tuple[Stack, ...]:
    """Stacks of some of the slices, acquisition by acquisition."""
    places = _places(slices, part, known.marks)
    found = tell_apart(slices.heights, places.slices, known.labels, known.pictures)
    if found is None and slices.policy.on_duplicate == "split":
        found = _by_number(slices, places)
    if found is None or len(found.parts) == 1 or slices.policy.on_duplicate == "fail":
        if found is not None:
            _note_acquisitions(slices, found, findings)
        return _stacks(slices, _one_per_place(slices, places, findings), findings)
    _note_acquisitions(slices, found, findings)
    # A copy stands with its acquisition: what repeats a slice of another one is not left out.
    parts = [list(stack) for stack in found.parts]
    if found.how in known.labels:
        values = known.labels[found.how]
        stack_of = {values[index]: stack for stack in parts for index in stack}
        seen = {index for stack in parts for index in stack}
        for index in part:
            if index not in seen and values[index] in stack_of:
                stack_of[values[index]].append(index)
    stacks: list[Stack] = []
    for stack in parts:
        own = findings.copy()
        own.numbers["slices"] = float(len(stack))
        stacks += _judged(slices, sorted(stack), own, known)
    return tuple(stacks)


def _places(slices: _Slices, part: list[int], marks: Marks) -> Places:
    """Different images at each position, of some of the slices."""
    index = np.array(part)
    places = distinct(slices.heights[index], slices.positions_mm[index], lambda i: marks(part[i]))
    return places._replace(slices=[[part[i] for i in place] for place in places.slices])


def _by_number(slices: _Slices, places: Places) -> Acquisitions | None:
    """Images that nothing tells apart, dealt out by instance number; None where those tie."""
    most = max(map(len, places.slices))
    if most == 1 or _ties(slices, places):
        return None
    layers = (
        tuple(place[layer] for place in places.slices if len(place) > layer)
        for layer in range(most)
    )
    return Acquisitions("instance number", tuple(layers), interleaved=False)


def _ties(slices: _Slices, places: Places) -> int:
    """Count the positions at which instance numbers do not say which image is the first."""
    if slices.ranks is None:
        return 0
    ranks = slices.ranks
    return sum(len({ranks[i][0] for i in place}) < len(place) for place in places.slices)


def _same_uid(slices: _Slices, places: Places) -> str:
    """Say where one instance UID stands on different images; empty where it does not."""
    if slices.ranks is None:
        return ""
    ranks = slices.ranks
    count = 0
    for place in places.slices:
        uids = [ranks[i][1] for i in place if ranks[i][1]]
        count += len(set(uids)) < len(uids)
    return f", at {count} of them under one SOPInstanceUID" if count else ""


def _note_acquisitions(slices: _Slices, found: Acquisitions, findings: Findings) -> None:
    """What the verdict says of acquisitions that were told apart, or could not be."""
    if found.interleaved:
        findings.classes.append("interleaved")
    if len(found.parts) == 1:
        findings.actions.append(
            f"{found.how} comes back to values it had before, and the slices make one even row: "
            "kept as one series"
        )
        return
    sizes = counted([len(part) for part in found.parts])
    findings.classes.append("multi_acquisition")
    findings.actions.append(
        f"split by {found.how}: {sizes} slices stand as {len(found.parts)} series"
    )
    if slices.policy.on_duplicate == "fail":
        findings.refuse(
            f"slices of {len(found.parts)} acquisitions ({found.how}) share one stretch, and "
            "--on-duplicate is fail; drop-identical makes a series of each"
        )


def _unplaced(findings: Findings, placed: npt.NDArray[np.bool_]) -> Stack:
    missing = int(np.count_nonzero(~placed))
    findings.classes.append("no_position")
    findings.numbers["slices_without_position"] = float(missing)
    findings.refuse(
        f"{missing} of {len(placed)} slices hold no ImagePositionPatient or no "
        "ImageOrientationPatient; their order and spacing cannot be known"
    )
    return Stack(
        kept=tuple(range(len(placed))), verdict=findings.verdict(), problem=findings.problem
    )


def _one_per_place(slices: _Slices, places: Places, findings: Findings) -> npt.NDArray[np.intp]:
    """Keep one slice at each position: the first."""
    policy = slices.policy.on_duplicate
    count = places.copies + sum(map(len, places.slices))
    crowded = [place for place in places.slices if len(place) > 1]
    clashing = sum(len(place) - 1 for place in crowded)
    if places.copies:
        findings.classes.append("duplicate")
        findings.numbers["duplicate_slices"] = float(places.copies)
        findings.actions.append(
            f"{places.copies} of {count} slices left out: each repeats another one at its position"
        )
        if policy == "fail":
            findings.refuse(
                f"{places.copies} of {count} slices repeat another one at its position, and "
                "--on-duplicate is fail; drop-identical leaves them out"
            )
    if crowded:
        where = named([f"{slices.heights[place[0]]:.2f} mm" for place in crowded])
        findings.classes.append("multi_acquisition")
        findings.numbers["clashing_slices"] = float(clashing)
        findings.numbers["clashing_positions"] = float(len(crowded))
        _note_clash(slices, places, (clashing, count, where), findings)
    return np.array([place[0] for place in places.slices], dtype=np.intp)


def _note_clash(
    slices: _Slices, places: Places, seen: tuple[int, int, str], findings: Findings
) -> None:
    """What is done about different images at one position that no acquisition tells apart."""
    clashing, count, where = seen
    crowded = sum(len(place) > 1 for place in places.slices)
    ties = _ties(slices, places)
    policy = slices.policy.on_duplicate
    if policy in ("first", "split") and ties:
        findings.refuse(
            f"{ties} positions hold different images with one instance number ({where} along the "
            f"normal){_same_uid(slices, places)}, so that --on-duplicate {policy} cannot tell "
            "which is which; remove those that do not belong to the scan"
        )
    elif policy == "first":
        findings.actions.append(
            f"{clashing} of {count} slices left out: another image with a lower instance "
            f"number lies at the same position ({where} along the normal)"
        )
    else:
        findings.refuse(
            f"{crowded} positions hold several different slices ({where} along the normal)"
            f"{_same_uid(slices, places)}; expected one image at each; --on-duplicate split makes "
            "several series of them, first keeps the lowest instance number"
        )


def _stacks(slices: _Slices, kept: npt.NDArray[np.intp], findings: Findings) -> tuple[Stack, ...]:
    """Judge the steps, and cut at gaps if the policy says so."""
    if len(kept) == 1:
        return (_stack(slices, kept, None, findings),)
    along = slices.heights[kept] - slices.heights[kept[0]]
    steps = steps_of(along, findings)
    if steps.kind == "variable":
        _note_variable(along, steps, slices.policy, findings)
    if steps.kind == "gap":
        _note_gaps(along, steps, slices.policy, findings)
    if not steps.gaps or slices.policy.on_gap != "split":
        return (_stack(slices, kept, steps, findings),)
    parts = np.split(kept, steps.gaps)
    stacks = []
    for part in parts:
        own = findings.copy()
        # One that is a step long has the spacing of all; others measure their own.
        cut = steps._replace(kind="regular", gaps=())
        stacks.append(_stack(slices, part, cut, own))
    return tuple(stacks)


def _note_variable(along: Floats, steps: Steps, policy: Policy, findings: Findings) -> None:
    sizes = np.diff(along)
    text = f"steps from {sizes.min():.3f} to {sizes.max():.3f} mm, median {steps.spacing_mm:.3f} mm"
    findings.classes.append("variable")
    findings.actions.append(f"interpolated at true positions: {text}")
    if policy.on_variable_spacing == "fail":
        findings.refuse(
            f"slices lie at {text}, and --on-variable-spacing is fail; true-positions "
            "interpolates where they lie"
        )


def _note_gaps(along: Floats, steps: Steps, policy: Policy, findings: Findings) -> None:
    places = named(
        [
            f"{round((along[i] - along[i - 1]) / steps.spacing_mm) - 1} after slice {i}, "
            f"{along[i - 1]:.2f} to {along[i]:.2f} mm"
            for i in steps.gaps
        ]
    )
    sizes = np.diff([0, *steps.gaps, len(along)])
    done = {
        "interpolate": "interpolated across the gap at true positions",
        "nearest": "the nearest slice fills the gap",
        "split": f"split at the gap: {counted([*sizes])} slices stand as {len(sizes)} series",
        "fail": "refused",
    }[policy.on_gap]
    findings.classes.append("gap")
    findings.actions.append(f"{done}; slices missing: {places} from the first slice")
    if policy.on_gap == "fail":
        findings.refuse(
            f"slices missing: {places} from the first slice, and --on-gap is fail; interpolate, "
            "nearest or split process the series"
        )


def _stack(
    slices: _Slices, kept: npt.NDArray[np.intp], steps: Steps | None, findings: Findings
) -> Stack:
    """Close one stack: short, displaced or leaning, and its grid."""
    policy = slices.policy
    if len(kept) < policy.min_slices:
        findings.classes.append("short")
        findings.refuse(
            f"{len(kept)} slices at different positions; a volume needs at least "
            f"{policy.min_slices} (--min-slices)"
        )
    along = slices.heights[kept] - slices.heights[kept[0]]
    displaced = None
    if len(kept) > 1:
        across = slices.positions_mm[kept] @ slices.axes[:, :2]
        displaced = _displacement(slices, along, across, findings)
    _note_lean(slices.axes, findings)
    step_mm = slices.thickness_mm if steps is None else steps.spacing_mm
    if step_mm is None:
        findings.refuse("a single slice without a Slice Thickness has no extent")
    grid = None
    if step_mm is not None:
        grid = Grid(
            shape=(len(kept), *slices.shape),
            spacing_mm=(step_mm, *slices.pixel_spacing_mm),
            origin_mm=_triple(slices.positions_mm[kept[0]]),
            direction=(_triple(slices.axes[0]), _triple(slices.axes[1]), _triple(slices.axes[2])),
        )
    breaks = steps.gaps if steps is not None and policy.on_gap == "nearest" else ()
    return Stack(
        kept=tuple(map(int, kept)),
        slice_positions_mm=along,
        slice_shifts_mm=displaced,
        slice_breaks=breaks,
        grid=grid,
        verdict=findings.verdict(),
        problem=findings.problem,
    )


def _displacement(
    slices: _Slices, along: Floats, across: Floats, findings: Findings
) -> Floats | None:
    """What the policy makes of slices displaced in their plane."""
    displaced = shifts(along, across, slices.pixel_spacing_mm, findings)
    numbers, policy = findings.numbers, slices.policy.on_tilt
    view_mm = max(np.multiply(slices.shape, slices.pixel_spacing_mm))
    if numbers["in_plane_shift_mm"] > view_mm / 2:
        findings.refuse(
            f"slices are displaced in their plane by up to {numbers['in_plane_shift_mm']:.2f} mm "
            f"from a straight line (at most half the field of view, {view_mm / 2:.0f} mm)"
        )
    what = []
    if "tilted" in findings.classes:
        what.append(f"tilted by {numbers['tilt_deg']:.2f} degrees to their normal")
    if "shifted" in findings.classes:
        what.append(f"up to {numbers['in_plane_shift_mm']:.2f} mm off a straight line")
    if not what:
        return displaced if policy == "shear" else None
    seen = f"slices displaced in their plane, {' and '.join(what)}"
    if policy == "fail":
        findings.refuse(f"{seen}, and --on-tilt is fail; shear interpolates where they lie")
    done = "interpolated where they lie" if policy == "shear" else "stacked as if they were not"
    findings.actions.append(f"{seen}: {done}")
    return displaced if policy == "shear" else None


def _note_lean(axes: Floats, findings: Findings) -> None:
    if abs(axes[2, 2]) < AXIAL_COSINE and "tilted" not in findings.classes:
        findings.classes.append("not_axial")
        lean = math.degrees(math.acos(min(1.0, abs(float(axes[2, 2])))))
        findings.numbers["normal_to_z_axis_deg"] = lean


def _triple(vector: Floats) -> tuple[float, float, float]:
    return float(vector[0]), float(vector[1]), float(vector[2])
