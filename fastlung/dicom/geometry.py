"""Slices to stacks: the checks in order, and what the policy makes of their findings."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fastlung.dicom.checks import Findings, Policy, distinct, mean_axes, named, shifts, steps_of
from fastlung.scan import Grid, Verdict

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    import numpy.typing as npt

    from fastlung.dicom.checks import Marks, Places, Steps
    from fastlung.errors import GeometryError

    Floats = npt.NDArray[np.float64]
    Tells = Mapping[str, Sequence[Hashable]]

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
    policy: Policy


def stack_slices(
    positions_mm: Floats,
    orientations: Floats,
    *,
    pixel_spacing_mm: tuple[float, float],
    shape: tuple[int, int],
    marks: Marks,
    tells: Tells | None = None,
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
        Gives marks of a slice by index, the cheap ones first; two slices at one position that
        share a mark are the same image. Asked only of slices that share a position.
    tells : mapping of str to sequence, or None
        What may tell different slices at one position apart: name -> a label for each slice. Tried
        in order.
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
        policy=policy,
    )
    places = distinct(slices.heights, positions_mm, marks)
    parts, how = _told_apart(slices, places, tells or {})
    if parts:
        sizes = " + ".join(str(len(part)) for part in parts)
        findings.classes.append("multi_acquisition")
        findings.actions.append(f"split by {how}: {sizes} slices stand as {len(parts)} series")
        return tuple(stack for part in parts for stack in _part(slices, part, findings, marks))
    kept = _one_per_place(slices, places, findings)
    return _stacks(slices, kept, findings)


def _part(
    slices: _Slices, part: Sequence[int], findings: Findings, marks: Marks
) -> tuple[Stack, ...]:
    """Stacks of one acquisition; within it slices may still repeat."""
    index = np.array(part)
    findings = findings.copy()
    findings.numbers["slices"] = float(len(part))
    places = distinct(
        slices.heights[index],
        slices.positions_mm[index],
        lambda i: marks(part[i]),
    )
    own = places._replace(slices=[[int(index[i]) for i in place] for place in places.slices])
    return _stacks(slices, _one_per_place(slices, own, findings), findings)


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


def _told_apart(slices: _Slices, places: Places, tells: Tells) -> tuple[list[tuple[int, ...]], str]:
    """Acquisitions that share positions, and what tells them apart; none where nothing does."""
    most = max(map(len, places.slices))
    if most == 1 or slices.policy.on_duplicate not in ("drop-identical", "split"):
        return [], ""
    for name, labels in tells.items():
        parts: dict[Hashable, list[int]] = {}
        for index, label in enumerate(labels):
            parts.setdefault(label, []).append(index)
        # As many as lie at one position, and each at several: what changes from slice to slice, as
        # times do, tells nothing.
        apart = all(len({labels[one] for one in place}) == len(place) for place in places.slices)
        if apart and len(parts) == most and min(map(len, parts.values())) > 1:
            # By label: what the files are called must not decide which part is the first.
            return [tuple(parts[label]) for label in sorted(parts, key=str)], name
    if slices.policy.on_duplicate == "split":
        layers = [
            tuple(place[layer] for place in places.slices if len(place) > layer)
            for layer in range(most)
        ]
        return layers, "instance number"
    return [], ""


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
        if policy == "first":
            findings.actions.append(
                f"{clashing} of {count} slices left out: another image with a lower instance "
                f"number lies at the same position ({where} along the normal)"
            )
        else:
            findings.refuse(
                f"{len(crowded)} positions hold several different slices ({where} along the "
                "normal); expected one image at each; --on-duplicate split makes several series "
                "of them, first keeps the lowest instance number"
            )
    return np.array([place[0] for place in places.slices], dtype=np.intp)


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
        "split": f"split at the gap: {' + '.join(map(str, sizes))} slices stand as {len(sizes)} "
        "series",
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
