"""
Horizontal bars as SVG: stacked parts, a mark for the range, a note behind each.

Covers drawing only; what is drawn, and its words, are the caller's. Plain SVG 1.1 without scripts
or fonts of its own, so that browsers, documentation and converters show the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Bar", "Panel", "draw_bars"]

WIDTH = 860
MARGIN, LABEL_WIDTH, NOTE_WIDTH = 24, 190, 250
BAR_HEIGHT, ROW_HEIGHT = 18, 28
TEXT, FAINT, GRID = "#222222", "#666666", "#dddddd"
#: Told apart by people with any kind of colour vision (after Okabe and Ito), neighbours most.
COLOURS = ("#56b4e9", "#0072b2", "#009e73", "#e69f00", "#d55e00", "#999999", "#cc79a7", "#f0e442",
           "#7a6fac")  # fmt: skip
#: Steps of an axis: one of these times a power of ten.
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
TICKS = 5
#: Nothing that is measured is shorter; the axis is then that of an empty panel.
TINY = 1e-12
#: Characters that fit beside a bar.
LABEL_LENGTH, NOTE_LENGTH = 30, 42


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """
    One row.

    Attributes
    ----------
    label, note : str
        Before and behind the bar.
    parts : mapping of str to float
        Name -> length, stacked in order; one part for a plain bar.
    low, high : float or None
        Range that is marked at the end of the bar.
    hollow : bool
        Drawn as an outline: not measured.
    """

    label: str
    parts: Mapping[str, float]
    note: str = ""
    low: float | None = None
    high: float | None = None
    hollow: bool = False

    @property
    def length(self) -> float:
        """Sum of the parts."""
        return math.fsum(self.parts.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Rows that share an axis, and what the axis says."""

    title: str
    bars: Sequence[Bar]


def draw_bars(title: str, subtitle: str, panels: Sequence[Panel]) -> str:
    """
    Draw panels below each other.

    Parameters
    ----------
    title, subtitle : str
        Above all.
    panels : sequence of Panel
        Each with at least one bar.

    Returns
    -------
    str
        A whole SVG file. Parts of one name have one colour in all panels; a legend names them where
        bars have several.
    """
    names = list(
        dict.fromkeys(name for panel in panels for bar in panel.bars for name in bar.parts)
    )
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
    body: list[str] = [
        _text(MARGIN, 34, title, size=18, bold=True),
        _text(MARGIN, 56, subtitle, fill=FAINT, size=12),
    ]
    top = 84.0
    for panel in panels:
        stacked = list(dict.fromkeys(name for bar in panel.bars for name in bar.parts))
        body += _panel(panel, top, colours, stacked)
        top += _height(panel, stacked)
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top:.0f}" '
        f'width="{WIDTH}" height="{top:.0f}" role="img" '
        'font-family="Helvetica, Arial, DejaVu Sans, sans-serif">'
    )
    return "\n".join(
        (
            opening,
            f"<title>{escape(title)}</title>",
            f'<rect width="{WIDTH}" height="{top:.0f}" fill="white"/>',
            *body,
            "</svg>\n",
        )
    )


def _height(panel: Panel, stacked: Sequence[str]) -> float:
    legend = 24 if len(stacked) > 1 else 0
    return 30 + legend + ROW_HEIGHT * len(panel.bars) + 44


def _panel(
    panel: Panel, top: float, colours: Mapping[str, str], stacked: Sequence[str]
) -> Iterator[str]:
    yield _text(MARGIN, top + 8, panel.title, size=14, bold=True)
    top += 24
    if len(stacked) > 1:
        yield from _legend(top, {name: colours[name] for name in stacked})
        top += 24
    longest = max(max(bar.length, bar.high or 0.0) for bar in panel.bars)
    step = _step(longest)
    end = max(step, math.ceil(longest / step - 1e-9) * step)
    left, right = MARGIN + LABEL_WIDTH, WIDTH - MARGIN - NOTE_WIDTH
    scale = (right - left) / end
    bottom = top + ROW_HEIGHT * len(panel.bars)
    for number in range(round(end / step) + 1):
        x = left + number * step * scale
        yield f'<path d="M{x:.1f} {top:.1f}V{bottom:.1f}" stroke="{GRID}" fill="none"/>'
        yield _text(x, bottom + 16, f"{number * step:.6g}", fill=FAINT, size=11, anchor="middle")
    for number, bar in enumerate(panel.bars):
        yield from _bar(bar, top + number * ROW_HEIGHT, scale, colours)


def _bar(bar: Bar, top: float, scale: float, colours: Mapping[str, str]) -> Iterator[str]:
    left, y = MARGIN + LABEL_WIDTH, top + (ROW_HEIGHT - BAR_HEIGHT) / 2
    middle = top + ROW_HEIGHT / 2
    yield _text(left - 8, middle + 4, _short(bar.label, LABEL_LENGTH), size=12, anchor="end")
    x = float(left)
    for name, value in bar.parts.items():
        width = value * scale
        paint = f'fill="{colours[name]}"'
        if bar.hollow:
            paint = f'fill="white" stroke="{colours[name]}" stroke-dasharray="4 3"'
        yield (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{BAR_HEIGHT}" {paint}>'
            f"<title>{escape(f'{name}: {value:.4g}')}</title></rect>"
        )
        x += width
    if bar.low is not None and bar.high is not None:
        low, high = left + bar.low * scale, left + bar.high * scale
        yield (
            f'<path d="M{low:.1f} {middle:.1f}H{high:.1f}M{low:.1f} {middle - 5:.1f}v10'
            f'M{high:.1f} {middle - 5:.1f}v10" stroke="{TEXT}" fill="none"/>'
        )
    yield _text(
        WIDTH - MARGIN - NOTE_WIDTH + 12, middle + 4, _short(bar.note, NOTE_LENGTH), size=12
    )


def _legend(top: float, colours: Mapping[str, str]) -> Iterator[str]:
    x = float(MARGIN)
    for name, colour in colours.items():
        yield f'<rect x="{x:.1f}" y="{top:.1f}" width="11" height="11" fill="{colour}"/>'
        yield _text(x + 16, top + 10, name, size=12)
        x += 36 + 6.6 * len(name)


def _step(longest: float) -> float:
    """Find a round step that divides an axis into about `TICKS` parts."""
    if longest < TINY:
        return 1.0
    raw = longest / TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    return next(step * power for step in STEPS if step * power >= raw * (1 - 1e-9))


def _text(
    x: float, y: float, text: str, *, size: int, fill: str = TEXT, anchor: str = "start",
    bold: bool = False,
) -> str:  # fmt: skip
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}" '
        f'text-anchor="{anchor}"{weight}>{escape(text)}</text>'
    )


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
