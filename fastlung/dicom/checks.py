"""
What is irregular about slices, one check each, and the policy on what to do about it.

Tolerances follow what the field uses (highdicom, dicom2nifti, dcm2niix); positions are held
against a straight line rather than step against step, so that rounding to three decimals, which
makes steps of 0.666 and 0.667 mm, does not count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastlung.errors import ConfigError, GeometryError
from fastlung.scan import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Marks = Callable[[int], Iterable[Hashable]]
    from fastlung.config import Config

__all__ = [
    "CHOICES",
    "Findings",
    "Places",
    "Policy",
    "Steps",
    "counted",
    "distinct",
    "is_even_row",
    "mean_axes",
    "named",
    "shifts",
    "steps_of",
]

#: Largest distance of a slice from the straight line through all, relative to the step and in
#: millimetres; both must hold for a regular series.
POSITION_TOLERANCE = 0.01

POSITION_TOLERANCE_MM = 0.05

#: Slices closer than this along the normal lie at one position, in millimetres; and a displacement
#: in the plane below it is none.
SAME_POSITION_MM = 0.01

#: Direction cosines that differ by more are worth a word; by more than the second, another stack.
ORIENTATION_NOTICE = 1e-4

ORIENTATION_TOLERANCE = 1e-3

#: Largest angle between the normal and the way from slice to slice, in degrees.
TILT_TOLERANCE_DEG = 0.1

#: How many places an action names before it says "and n more".
NAMED_PLACES = 5


@dataclass(slots=True, eq=False)
class Findings:
    """What the checks have found so far; becomes a `Verdict`."""

    classes: list[str] = field(default_factory=list)
    numbers: dict[str, float] = field(default_factory=dict)
    actions: list[str] = field(default_factory=list)
    problem: GeometryError | None = None

    def copy(self) -> Findings:
        """Findings to go on with for one of several parts."""
        return Findings([*self.classes], {**self.numbers}, [*self.actions], self.problem)

    def refuse(self, text: str) -> None:
        """Note why the stack is refused; the first reason counts."""
        self.problem = self.problem or GeometryError(text)

    def verdict(self) -> Verdict:
        """Close the findings."""
        return Verdict(
            classes=tuple(dict.fromkeys(self.classes)) or ("regular",),
            # To the millionth: what lies below is noise of the arithmetic. + 0.0 drops a minus.
            numbers={name: round(value, 6) + 0.0 for name, value in self.numbers.items()},
            actions=() if self.problem else tuple(self.actions),
        )


class Places(NamedTuple):
    """
    Slices by position.

    Attributes
    ----------
    slices : list of list of int
        Indices of the different slices at each position, ascending along the normal.
    copies : int
        Slices left out because they repeat another one.
    """

    slices: list[list[int]]
    copies: int


class Steps(NamedTuple):
    """
    How slices follow one another.

    Attributes
    ----------
    kind : str
        ``regular``, ``gap`` or ``variable``.
    spacing_mm : float
        Slope of the straight line through the slices; the median step where they lie on none.
    gaps : tuple of int
        Number of each slice that has a gap below it.
    """

    kind: str
    spacing_mm: float
    gaps: tuple[int, ...] = ()


def mean_axes(orientations: Floats, findings: Findings) -> Floats:
    """
    Find the frame that all slices share.

    Returns
    -------
    ndarray of float64, shape (3, 3)
        Columns: unit vectors along which x, y and z index grow.
    """
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


def distinct(heights: Floats, positions_mm: Floats, marks: Marks) -> Places:
    """
    Sort slices by position and find those that repeat another one.

    Parameters
    ----------
    heights : ndarray of float64, shape (n,)
        Position along the normal, in millimetres.
    positions_mm : ndarray of float64, shape (n, 3)
        Position in the patient, in millimetres.
    marks : callable
        Marks of a slice; two at one position that share a mark are the same image.

    Returns
    -------
    Places
        Of repeated slices the first in the order given.
    """
    order = np.argsort(heights, kind="stable")
    slices: list[list[int]] = []
    for run in np.split(order, np.nonzero(np.diff(heights[order]) > SAME_POSITION_MM)[0] + 1):
        ones = sorted(map(int, run))
        slices.append(ones if len(ones) == 1 else _different(ones, positions_mm, marks))
    return Places(slices, len(heights) - sum(map(len, slices)))


def _different(candidates: list[int], positions_mm: Floats, marks: Marks) -> list[int]:
    """Slices that repeat none before them. Each is asked for its marks once, and no pairs made."""
    place: list[int] = []
    seen: dict[Hashable, int] = {}
    for candidate in candidates:
        own = []
        for mark in marks(candidate):
            other = seen.get(mark, candidate)
            apart = np.abs(positions_mm[candidate] - positions_mm[other]).max()
            if other != candidate and apart <= SAME_POSITION_MM:
                break
            own.append(mark)
        else:
            place.append(candidate)
        for mark in own:
            seen.setdefault(mark, candidate)
    return place


def steps_of(along: Floats, findings: Findings) -> Steps:
    """Say whether steps are regular, with gaps or variable, and how far apart the slices lie."""
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
        return Steps("regular", spacing)
    if on_line and 2 * single > len(steps) and counts.min() >= 1:
        gaps = tuple(int(i) + 1 for i in np.nonzero(counts > 1)[0])
        missing = float(sum(counts[i - 1] - 1 for i in gaps))
        findings.numbers |= {"gaps": float(len(gaps)), "missing_slices": missing}
        return Steps("gap", spacing, gaps)
    return Steps("variable", median)


def is_even_row(
    positions_mm: Floats, orientation: Sequence[float], pixel_spacing_mm: tuple[float, float]
) -> bool:
    """
    Whether slices make one row of even steps, some of them perhaps missing.

    Parameters
    ----------
    positions_mm : ndarray of float64, shape (n, 3)
        Where they lie, one at a position; NaN where that is not known.
    orientation : sequence of float
        Row cosines, then column cosines, of all of them.
    pixel_spacing_mm : tuple of float
        Distance between rows, and between columns, in millimetres.
    """
    if len(positions_mm) < 3 or not np.isfinite(positions_mm).all():  # noqa: PLR2004 -- a row
        return False
    findings = Findings()
    axes = mean_axes(np.array([orientation], np.float64), findings)
    placed = positions_mm @ axes
    placed = placed[np.argsort(placed[:, 2])]
    along = placed[:, 2] - placed[0, 2]
    if np.diff(along).min() <= SAME_POSITION_MM:
        return False
    kind = steps_of(along, findings).kind
    shifts(along, placed[:, :2], pixel_spacing_mm, findings)
    return kind != "variable" and "shifted" not in findings.classes


def shifts(
    along: Floats,
    across: Floats,
    pixel_spacing_mm: tuple[float, float],
    findings: Findings,
) -> Floats | None:
    """
    Measure how slices are displaced in their plane.

    Parameters
    ----------
    along : ndarray of float64, shape (z,)
        Positions along the normal, ascending, in millimetres.
    across : ndarray of float64, shape (z, 2)
        Positions along x and y of the plane, in millimetres.
    pixel_spacing_mm : tuple of float
        Distance between rows, and between columns, in millimetres.
    findings : Findings
        Gets ``tilted`` and ``shifted``, with their numbers.

    Returns
    -------
    ndarray of float64, shape (z, 2), or None
        Displacement from the first slice along (y, x), in millimetres; None below 0.01 mm.
    """
    slopes, starts = np.polyfit(along, across, 1)
    tangent = float(np.hypot(*slopes))
    # The sign is that of a gantry turning about the row axis; nothing else tilts a CT scanner.
    tilt = math.copysign(math.degrees(math.atan(tangent)), float(slopes[1]))
    jog = float(np.abs(along[:, None] * slopes + starts - across).max())
    findings.numbers |= {"tilt_deg": tilt, "in_plane_shift_mm": jog}
    if abs(tilt) > TILT_TOLERANCE_DEG:
        findings.classes.append("tilted")
    if jog > min(pixel_spacing_mm) / 2:
        findings.classes.append("shifted")
    displaced: Floats = (across - across[0])[:, ::-1]
    matters = np.abs(displaced).max(axis=0) > SAME_POSITION_MM
    return np.where(matters, displaced, 0.0) if matters.any() else None


def counted(sizes: Sequence[int]) -> str:
    """Write sizes as a sum; of many the largest ones, so that texts stay short."""
    if len(sizes) <= NAMED_PLACES:
        return " + ".join(map(str, sizes))
    largest = sorted(sizes, reverse=True)[:NAMED_PLACES]
    return f"{sum(sizes)} ({', '.join(map(str, largest))} and {len(sizes) - NAMED_PLACES} smaller)"


def named(places: list[str]) -> str:
    """List places, the first few by name."""
    more = len(places) - NAMED_PLACES
    return "; ".join(places[:NAMED_PLACES]) + (f"; and {more} more" if more > 0 else "")


#: What each policy may be; the first is the default.
CHOICES = {
    "on_gap": ("interpolate", "nearest", "split", "fail"),
    "on_duplicate": ("drop-identical", "first", "split", "fail"),
    "on_tilt": ("shear", "keep", "fail"),
    "on_variable_spacing": ("true-positions", "fail"),
    "on_mixed_orientation": ("largest", "split", "fail"),
    "on_frame_of_reference": ("join", "split"),
    "on_series_uid": ("fail", "join"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """
    What is done about irregular series. The defaults rescue what can be rescued without guessing.

    Attributes
    ----------
    on_gap : str
        Slices missing from an even row. ``interpolate`` across at true positions; ``nearest``: the
        nearest slice up to the middle of the gap, nothing interpolated across it; ``split`` into
        series without gaps; ``fail``.
    on_duplicate : str
        Several slices at one position, or acquisitions whose slices lie between one another.
        ``drop-identical``: repeats are left out, different acquisitions become series of their
        own, anything else is refused; ``first``: the same, and of what no acquisition tells apart
        the lowest instance number is kept; ``split``: that is dealt out by instance number;
        ``fail``: any repeat is refused.
    on_tilt : str
        Slices displaced in their plane, by a tilted gantry or a moved centre. ``shear``: each slice
        counts where it lies; ``keep``: stacked as if straight above one another; ``fail``.
    on_variable_spacing : str
        Steps of several sizes. ``true-positions``: interpolated where they lie; ``fail``.
    on_mixed_orientation : str
        Slices of several orientations in one series. ``largest``: the most slices are kept, if it
        is clear which; ``split``: each orientation is a series; ``fail``.
    on_frame_of_reference : str
        FrameOfReferenceUID or StudyInstanceUID another in each file of one even row. ``join``: an
        exporter has made them anew, and they are one series; ``split`` as they say.
    on_series_uid : str
        SeriesInstanceUID another in each file, where they make one even row. ``fail``: refused as
        one, with the reason; ``join``: read as one series.
    min_slices : int
        Fewest slices that make a volume. A single slice takes its thickness for its step.
    force : bool
        Take files without the DICOM preamble or file meta, too.
    """

    on_gap: str = "interpolate"
    on_duplicate: str = "drop-identical"
    on_tilt: str = "shear"
    on_variable_spacing: str = "true-positions"
    on_mixed_orientation: str = "largest"
    on_frame_of_reference: str = "join"
    on_series_uid: str = "fail"
    min_slices: int = 3
    force: bool = False

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"{name} is {getattr(self, name)!r}; expected one of {', '.join(known)}"
                )
        if self.min_slices < 1:
            raise ConfigError(f"min_slices is {self.min_slices}; expected at least 1")

    @classmethod
    def of(cls, config: Config) -> Policy:
        """Take the policy out of a configuration."""
        return cls(**{field.name: getattr(config, field.name) for field in fields(cls)})
