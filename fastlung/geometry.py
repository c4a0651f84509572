"""
Slices to a stack: order, spacing, and a verdict on how regular it is.

Pure NumPy on positions and orientations as DICOM gives them; knows neither files nor tags. Slices
are sorted by their position along the slice normal, never by a number somebody wrote. What is
irregular is named, measured, and either processed at true positions or refused with the reason.

Tolerances follow what the field uses (highdicom, dicom2nifti, dcm2niix); positions are held
against a straight line rather than step against step, so that rounding to three decimals, which
makes steps of 0.666 and 0.667 mm, does not count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fastlung.errors import GeometryError
from fastlung.scan import Grid, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

__all__ = ["ORIENTATION_TOLERANCE", "Stack", "stack_slices"]

#: Largest distance of a slice from the straight line through all, relative to the step and in
#: millimetres; both must hold for a regular series.
POSITION_TOLERANCE = 0.01
POSITION_TOLERANCE_MM = 0.05
#: Slices closer than this along the normal lie at one position, in millimetres.
SAME_POSITION_MM = 0.01
#: Direction cosines that differ by more are worth a word; by more than the second, another stack.
ORIENTATION_NOTICE = 1e-4
ORIENTATION_TOLERANCE = 1e-3
#: Largest angle between the normal and the way from slice to slice, in degrees.
TILT_TOLERANCE_DEG = 0.1
#: How far the normal may lean from the patient's z axis, as a cosine, to be called axial (8 deg).
AXIAL_COSINE = 0.99
#: Fewer slices than this are no volume.
MIN_SLICES = 3
#: How many places an action names before it says "and n more".
NAMED_PLACES = 5


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
    grid : Grid or None
        The acquired frame; None where fewer than two positions are known.
    verdict : Verdict
        What the geometry is.
    problem : GeometryError or None
        Why these slices cannot be processed as a volume; None where they can.
    """

    kept: tuple[int, ...]
    slice_positions_mm: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    grid: Grid | None = None
    verdict: Verdict
    problem: GeometryError | None = None


@dataclass(slots=True, eq=False)
class _Findings:
    """What the checks have found so far; becomes a `Verdict`."""

    classes: list[str] = field(default_factory=list)
    numbers: dict[str, float] = field(default_factory=dict)
    actions: list[str] = field(default_factory=list)
    problem: GeometryError | None = None

    def refuse(self, text: str) -> None:
        """Note why the stack is refused; the first reason counts."""
        self.problem = self.problem or GeometryError(text)

    def verdict(self) -> Verdict:
        """Close the findings."""
        return Verdict(
            classes=tuple(self.classes) or ("regular",),
            # To the millionth: what lies below is noise of the arithmetic. + 0.0 drops a minus.
            numbers={name: round(value, 6) + 0.0 for name, value in self.numbers.items()},
            actions=() if self.problem else tuple(self.actions),
        )


def stack_slices(
    positions_mm: npt.NDArray[np.float64],
    orientations: npt.NDArray[np.float64],
    *,
    pixel_spacing_mm: tuple[float, float],
    shape: tuple[int, int],
    same: Callable[[int, int], bool],
) -> Stack:
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
    same : callable
        Whether two slices, given by index and lying at one position, are the same image. Asked
        only of such slices.

    Returns
    -------
    Stack
        Never raises for bad geometry: `Stack.problem` says why a stack cannot be processed.
    """
    findings = _Findings(numbers={"slices": float(len(positions_mm))})
    placed = np.isfinite(np.hstack([positions_mm, orientations]).sum(axis=1))
    if not placed.all():
        return _unplaced(findings, placed)
    axes = _mean_axes(orientations, findings)
    heights = positions_mm @ axes[:, 2]
    order = np.argsort(heights, kind="stable")
    kept = _drop_repeats(order, heights, positions_mm, same, findings)
    if len(kept) < MIN_SLICES:
        findings.classes.append("short")
        findings.refuse(
            f"{len(kept)} slices at different positions; a volume needs at least {MIN_SLICES}"
        )
    along = heights[kept] - heights[kept[0]]
    grid = None
    if len(kept) > 1:
        step_mm = _judge_steps(along, findings)
        _judge_tilt(along, positions_mm[kept] @ axes[:, :2], pixel_spacing_mm, findings)
        grid = Grid(
            shape=(len(kept), *shape),
            spacing_mm=(step_mm, *pixel_spacing_mm),
            origin_mm=_triple(positions_mm[kept[0]]),
            direction=(_triple(axes[0]), _triple(axes[1]), _triple(axes[2])),
        )
    if abs(axes[2, 2]) < AXIAL_COSINE and "tilted" not in findings.classes:
        findings.classes.append("not_axial")
        lean = math.degrees(math.acos(min(1.0, abs(float(axes[2, 2])))))
        findings.numbers["normal_to_z_axis_deg"] = lean
    return Stack(
        kept=tuple(map(int, kept)),
        slice_positions_mm=along,
        grid=grid,
        verdict=findings.verdict(),
        problem=findings.problem,
    )


def _unplaced(findings: _Findings, placed: npt.NDArray[np.bool_]) -> Stack:
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


def _mean_axes(
    orientations: npt.NDArray[np.float64], findings: _Findings
) -> npt.NDArray[np.float64]:
    """Columns: unit vectors along which x, y and z index grow."""
    deviation = np.abs(orientations - orientations[0]).max(axis=1)
    worst = float(deviation.max())
    findings.numbers["orientation_deviation"] = worst
    if worst > ORIENTATION_NOTICE:
        findings.classes.append("mixed_orientation")
    if worst > ORIENTATION_TOLERANCE:
        odd = int(np.count_nonzero(deviation > ORIENTATION_TOLERANCE))
        findings.refuse(
            f"{odd} of {len(deviation)} slices have another orientation "
            f"(direction cosines differ by up to {worst:.3g}, at most {ORIENTATION_TOLERANCE:g})"
        )
    elif worst > ORIENTATION_NOTICE:
        findings.actions.append(
            f"orientation varies by up to {worst:.2g} (direction cosines); the mean is used"
        )
    # Only slices near the first one: the mean of opposite directions would be no direction.
    mean = orientations[deviation <= ORIENTATION_TOLERANCE].mean(axis=0)
    row = mean[:3] / np.linalg.norm(mean[:3])
    column = mean[3:] - (mean[3:] @ row) * row
    column /= np.linalg.norm(column)
    return np.stack([row, column, np.cross(row, column)], axis=1)


def _drop_repeats(
    order: npt.NDArray[np.intp],
    heights: npt.NDArray[np.float64],
    positions_mm: npt.NDArray[np.float64],
    same: Callable[[int, int], bool],
    findings: _Findings,
) -> npt.NDArray[np.intp]:
    """Keep one slice per position: the first in the order given."""
    kept: list[int] = []
    dropped = 0
    clashing: list[float] = []
    for run in np.split(order, np.nonzero(np.diff(heights[order]) > SAME_POSITION_MM)[0] + 1):
        first, *others = sorted(map(int, run))
        kept.append(first)
        for other in others:
            apart = float(np.abs(positions_mm[other] - positions_mm[first]).max())
            if apart <= SAME_POSITION_MM and same(first, other):
                dropped += 1
            else:
                clashing.append(float(heights[first]))
    if dropped:
        findings.classes.append("duplicate")
        findings.numbers["duplicate_slices"] = float(dropped)
        findings.actions.append(
            f"{dropped} of {len(order)} slices left out: each repeats another one at its position"
        )
    if clashing:
        places = sorted(set(clashing))
        findings.classes.append("multi_acquisition")
        findings.numbers["clashing_slices"] = float(len(clashing))
        findings.numbers["clashing_positions"] = float(len(places))
        findings.refuse(
            f"{len(places)} positions hold several different slices ("
            + _named([f"{place:.2f} mm" for place in places])
            + " along the normal); expected one image at each"
        )
    return np.array(kept, dtype=np.intp)


def _judge_steps(along: npt.NDArray[np.float64], findings: _Findings) -> float:
    """Say whether steps are regular, with gaps or variable; return the z spacing."""
    steps = np.diff(along)
    # The lower of two middle steps: their mean may be a step that no slice makes.
    median = float(np.sort(steps)[(len(steps) - 1) // 2])
    counts = np.rint(steps / median)
    numbers = np.concatenate([[0.0], np.cumsum(counts)])
    # Slices on a straight line, some of them perhaps missing. Its slope is the spacing: the median
    # of steps rounded to three decimals (0.667 for 2/3 mm) would drift by 0.1 mm in 300 slices.
    slope, start = np.polyfit(numbers, along, 1)
    error = float(np.abs(start + slope * numbers - along).max())
    findings.numbers |= {
        "median_step_mm": median,
        "min_step_mm": float(steps.min()),
        "max_step_mm": float(steps.max()),
        "position_error_mm": error,
    }
    single = np.count_nonzero(counts == 1)
    on_line = error <= min(POSITION_TOLERANCE * median, POSITION_TOLERANCE_MM)
    # To the nanometre, so that exact positions give an exact spacing.
    spacing = round(float(slope), 6)
    if on_line and single == len(steps):
        return spacing
    if on_line and 2 * single > len(steps) and counts.min() >= 1:
        gaps = np.nonzero(counts > 1)[0]
        missing = int((counts[gaps] - 1).sum())
        places = [
            f"{int(counts[i]) - 1} after slice {i + 1}, {along[i]:.2f} to {along[i + 1]:.2f} mm"
            for i in gaps
        ]
        findings.classes.append("gap")
        findings.numbers |= {"gaps": float(len(gaps)), "missing_slices": float(missing)}
        findings.actions.append(
            f"interpolated across the gap at true positions; slices missing: {_named(places)} "
            "from the first slice"
        )
        return spacing
    findings.classes.append("variable")
    findings.actions.append(
        f"interpolated at true positions: steps from {steps.min():.3f} to {steps.max():.3f} mm, "
        f"median {median:.3f} mm"
    )
    return median


def _judge_tilt(
    along: npt.NDArray[np.float64],
    across: npt.NDArray[np.float64],
    pixel_spacing_mm: tuple[float, float],
    findings: _Findings,
) -> None:
    """Hold the way from slice to slice against the normal; `across` is in-plane, (z, 2)."""
    slopes, starts = np.polyfit(along, across, 1)
    tangent = float(np.hypot(*slopes))
    # The sign is that of a gantry turning about the row axis; nothing else tilts a CT scanner.
    tilt = math.copysign(math.degrees(math.atan(tangent)), float(slopes[1]))
    shift = float(np.abs(along[:, None] * slopes + starts - across).max())
    findings.numbers |= {"tilt_deg": tilt, "in_plane_shift_mm": shift}
    if abs(tilt) > TILT_TOLERANCE_DEG:
        findings.classes.append("tilted")
        findings.refuse(
            f"slices are displaced at {tilt:.2f} degrees to their normal (gantry tilt; at most "
            f"{TILT_TOLERANCE_DEG:g}); a sheared volume is not resampled yet"
        )
    if shift > min(pixel_spacing_mm) / 2:
        findings.classes.append("shifted")
        findings.refuse(
            f"slices are displaced in their plane by up to {shift:.2f} mm from a straight line "
            f"(at most half a pixel, {min(pixel_spacing_mm) / 2:.2f} mm)"
        )


def _named(places: list[str]) -> str:
    more = len(places) - NAMED_PLACES
    return "; ".join(places[:NAMED_PLACES]) + (f"; and {more} more" if more > 0 else "")


def _triple(vector: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    return float(vector[0]), float(vector[1]), float(vector[2])
