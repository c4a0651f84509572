"""
Acquisitions under one UID, told apart: slices that share positions, or lie between one another.

Tags say which slices may belong together, positions whether what they say makes stacks: rows of
even steps over the same stretch. A number that rises with each slice or each table position makes
none, whatever it is called. Pure NumPy; pictures are asked for only where tags leave it open.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastlung.dicom.checks import Findings, steps_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Labels = Mapping[str, Sequence[str]]
    Pictures = Callable[[int], Floats | None]

__all__ = ["PRESENCE_OF", "Acquisitions", "tell_apart"]

#: Labels of this name say whether a tag is there, which two scans may differ in, and one as well.
PRESENCE_OF = "presence of "

#: Tags that scanners also change within one breath-hold, whose passes lie between one another: by
#: them alone two scans and one cannot be told apart.
DOUBTFUL = {"acquisition number", "irradiation event", "acquisition time"}
#: Tags that change for other reasons, too: asked only where different images share a position.
WEAK = {"series time", "study time", "series description", "content time", "trigger time"}
#: Acquisitions further apart in time are no passes of one breath-hold, in seconds.
ONE_BREATH_SECONDS = 30.0
#: Fewest positions that make a row.
ROW = 3
#: Neighbours of two stacks that are compared by their pixels.
COMPARED = 9
#: Neighbours across stacks of one scan differ about half as much as neighbours within a stack,
#: which lie twice as far apart; where two breaths alternate they differ more.
ONE_SCAN_RATIO = 0.9


class Acquisitions(NamedTuple):
    """
    What tells slices apart, and into which stacks.

    Attributes
    ----------
    how : str
        Name of the tag.
    parts : tuple of tuple of int
        Indices of the slices of each acquisition; one part where they lie between one another and
        are one scan all the same.
    interleaved : bool
        Whether the slices of some lie between those of others.
    """

    how: str
    parts: tuple[tuple[int, ...], ...]
    interleaved: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """Different images by position: numbers of the places, and where those lie."""

    places: list[list[int]]
    along: Floats

    @property
    def crowded(self) -> bool:
        return any(len(place) > 1 for place in self.places)

    @property
    def even(self) -> bool:
        return _kind(self.along) != "variable"

    def numbers(self) -> dict[int, int]:
        return {index: number for number, place in enumerate(self.places) for index in place}


def tell_apart(
    heights: Floats, places: list[list[int]], labels: Labels, pictures: Pictures
) -> Acquisitions | None:
    """
    Look for a tag that parts slices into stacks over the same stretch.

    Parameters
    ----------
    heights : ndarray of float64, shape (n,)
        Position of each slice along the normal, in millimetres.
    places : list of list of int
        Indices of the different images at each position, ascending along the normal.
    labels : mapping of str to sequence of str
        Tag -> what it says of each slice, sorting as numbers and times do; empty where absent.
        Tried in this order.
    pictures : callable
        Hounsfield units of a slice by index, coarse; None where they cannot be had.

    Returns
    -------
    Acquisitions or None
        None where no tag does.
    """
    if len(places) == 1:  # whatever they are, none of them is a volume
        return None
    row = _Row(places, heights[[place[0] for place in places]])
    number_of = row.numbers()
    crowded = row.crowded
    for name, values in labels.items():
        if len(set(values)) == 1 or (name in WEAK and not crowded):
            continue
        if len({values[index] for index in number_of}) == 1:
            continue
        # Absent is not another value, but where two images share a place something must part them.
        if not row.crowded and not all(values[index] for index in number_of):
            continue
        stacks = _stacks(values, number_of)
        if len(stacks) == 1 or not _are_acquisitions(stacks, row, number_of):
            continue
        parts = tuple(tuple(stack) for stack in stacks)
        interleaved = _lie_between(stacks, number_of)
        doubtful = name in DOUBTFUL and not _are_breaths_apart(name, values, stacks)
        doubtful = doubtful or name.startswith(PRESENCE_OF)
        if not row.crowded and row.even and doubtful and _is_one_scan(stacks, row, pictures):
            if name.startswith(PRESENCE_OF):
                continue
            parts = (tuple(number_of),)
        return Acquisitions(name, parts, interleaved)
    if not row.crowded:
        return _alternating(labels, row, number_of)
    return None


def _stacks(values: Sequence[str], number_of: Mapping[int, int]) -> list[list[int]]:
    """
    Slices by label, in its order; labels that follow one another without overlap are one stack.

    So a number that rises with each slice, or each position of the table, makes one stack, and a
    second one where it comes round again.
    """
    by_label: dict[str, list[int]] = {}
    for index in sorted(number_of):
        by_label.setdefault(values[index], []).append(index)
    stacks: list[list[int]] = []
    low = high = -1
    for label in sorted(by_label):
        part = by_label[label]
        numbers = [number_of[index] for index in part]
        if stacks and (min(numbers) > high or max(numbers) < low):
            stacks[-1] += part
            low, high = min(low, *numbers), max(high, *numbers)
        else:
            stacks.append(part)
            low, high = min(numbers), max(numbers)
    return stacks


def _are_acquisitions(stacks: list[list[int]], row: _Row, number_of: Mapping[int, int]) -> bool:
    """Whether stacks have one image at a place, and rows among them hold most slices."""
    rows = []
    for stack in stacks:
        numbers = sorted(number_of[index] for index in stack)
        if len(set(numbers)) < len(numbers):
            return False
        if len(numbers) >= min(ROW, len(row.places)):
            rows.append(numbers)
    if 2 * sum(map(len, rows)) < len(number_of):
        return False
    if row.crowded:
        return not row.even or all(_kind(row.along[numbers]) != "variable" for numbers in rows)
    if any(_kind(row.along[numbers]) == "variable" or _is_holed(numbers, row) for numbers in rows):
        return False
    return any(
        _share_a_stretch(first, other) for place, first in enumerate(rows) for other in rows[:place]
    )


def _share_a_stretch(first: list[int], other: list[int]) -> bool:
    """Whether slices of each row lie within the range of the other, of one of them several."""
    low, high = max(first[0], other[0]), min(first[-1], other[-1])
    within = sorted(sum(low <= number <= high for number in row) for row in (first, other))
    return within[0] >= 1 and within[1] > 1


def _is_holed(numbers: list[int], row: _Row) -> bool:
    """Whether a row lacks slices just where slices of others lie: a scan's own, parted wrongly."""
    along = row.along[numbers]
    steps = np.diff(along)
    step = float(np.sort(steps)[(len(steps) - 1) // 2])
    filled = missing = 0
    for below, above, size in zip(numbers, numbers[1:], steps, strict=False):
        for hole in range(1, round(size / step)):
            missing += 1
            between = row.along[below + 1 : above]
            filled += bool((np.abs(between - row.along[below] - hole * step) < step / 10).any())
    return 2 * filled > missing


def _lie_between(stacks: list[list[int]], number_of: Mapping[int, int]) -> bool:
    """Whether slices of some stacks lie between those of others, at places of their own."""
    numbers = [{number_of[index] for index in stack} for stack in stacks]
    for place, first in enumerate(numbers):
        for other in numbers[:place]:
            low, high = max(min(first), min(other)), min(max(first), max(other))
            inside = [{n for n in stack if low <= n <= high} for stack in (first, other)]
            if len(inside[0] ^ inside[1]) > 1 and not inside[0] & inside[1]:
                return True
    return False


def _are_breaths_apart(name: str, values: Sequence[str], stacks: list[list[int]]) -> bool:
    """Whether stacks were acquired too far apart for one breath-hold."""
    if not name.endswith("time"):
        return False
    times = [[float(values[index] or "nan") for index in stack] for stack in stacks]
    pauses = [min(late) - max(early) for early, late in pairwise(times)]
    return bool(min(pauses) >= ONE_BREATH_SECONDS)


def _is_one_scan(stacks: list[list[int]], row: _Row, pictures: Pictures) -> bool:
    """Whether, by their pixels, neighbours of different stacks go on from one to the next."""
    stack_of = {index: number for number, stack in enumerate(stacks) for index in stack}
    order = [place[0] for place in row.places]
    triples = [
        triple
        for triple in zip(order, order[1:], order[2:], strict=False)
        if stack_of[triple[0]] == stack_of[triple[2]] != stack_of[triple[1]]
    ]
    chosen = np.unique(np.linspace(0, len(triples) - 1, COMPARED).round().astype(int))
    ratios = []
    for low, middle, high in (triples[number] for number in chosen if triples):
        seen = [pictures(index) for index in (low, middle, high)]
        below, between, above = seen
        if below is None or between is None or above is None:
            return False
        within = float(np.abs(above - below).mean())
        across = float((np.abs(between - below) + np.abs(between - above)).mean()) / 2
        ratios.append(across / within if within else float(across > 0))
    return bool(ratios) and float(np.median(ratios)) <= ONE_SCAN_RATIO


def _alternating(labels: Labels, row: _Row, number_of: Mapping[int, int]) -> Acquisitions | None:
    """A tag that comes back to values it had, though they make no stacks: worth a word."""
    order = [place[0] for place in row.places]
    for name, values in labels.items():
        along = [values[index] for index in order]
        if name in WEAK or name.startswith(PRESENCE_OF) or name.endswith("time") or not all(along):
            continue
        runs = [
            label for number, label in enumerate(along) if number == 0 or along[number - 1] != label
        ]
        often = {label for label in runs if along.count(label) >= ROW and runs.count(label) > 1}
        if len(often) > 1 or (often and len(runs) > 2 * len(set(runs))):
            return Acquisitions(name, (tuple(number_of),), interleaved=True)
    return None


def _kind(along: Floats) -> str:
    return steps_of(along, Findings()).kind if len(along) >= ROW else "regular"
