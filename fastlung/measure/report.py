"""
A measured profile as text, and as horizontal bars in SVG.

Plain SVG 1.1 without scripts or fonts of its own, so that browsers, documentation and converters
show the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from fastlung.measure.profile import STAGES
from fastlung.report.summary import text_table
from fastlung.text import byte_size, count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fastlung.measure.profile import ProfileFile, SizeMeasured

__all__ = ["Bar", "Panel", "draw_bars", "profile_svg", "profile_text", "size_name", "stage_bytes"]


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
    """Rows that share an axis, and its title."""

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


GIB = 2**30

#: Stages below this part of a scan's processor time are left out.
SMALL = 0.001


def profile_text(profile: ProfileFile) -> str:
    """
    Lay a profile out as text.

    Parameters
    ----------
    profile : ProfileFile
        What was measured.

    Returns
    -------
    str
        Lines, the last one without a line feed.
    """
    return "\n\n".join(
        ("\n".join(_machine_lines(profile)), _size_table(profile), _stage_table(profile))
    )


def profile_svg(profile: ProfileFile) -> str:
    """
    Draw a profile: processor seconds of a scan by stage, and the rate, for each size.

    Parameters
    ----------
    profile : ProfileFile
        What was measured.

    Returns
    -------
    str
        A whole SVG file.
    """
    machine = profile.machine
    name = machine.ec2_type or machine.cpu_model
    stages, rates = [], []
    for size in profile.sizes:
        parts = {stage: size.stage(stage).cpu_seconds for stage in STAGES}
        stages.append(
            Bar(
                label=size_name(size),
                parts={name: s for name, s in parts.items() if s > SMALL * size.cpu_seconds},
                note=f"{size.cpu_seconds:.3f} CPU-s a scan",
            )
        )
        low, high = size.rate_range
        efficiency = profile.efficiency(size)
        scaled = "" if efficiency is None else f", {efficiency:.0%} of linear"
        rates.append(
            Bar(
                label=size_name(size),
                parts={"scans/s": size.scans_per_second},
                note=f"{size.scans_per_second:.2f}/s{scaled}; {size.binds} binds",
                low=low,
                high=high,
            )
        )
    sample = profile.sample
    return draw_bars(
        f"Profile of {name}",
        f"{count(machine.vcpu, 'vCPU')}, {machine.memory_bytes / GIB:.1f} GiB; {sample.origin} "
        f"sample of {byte_size(sample.fetch_bytes)} a scan, {sample.source} to {sample.sink}; "
        f"fastlung {profile.fastlung}, {profile.date}",
        [
            Panel(title="CPU seconds of a scan, by stage", bars=stages),
            Panel(title="Scans per second; the mark is the range of the rounds", bars=rates),
        ],
    )


def size_name(size: SizeMeasured) -> str:
    """Short name of a size."""
    memory = size.memory_limit_bytes
    held = f", {memory / GIB:.3g} GiB" if memory else ""
    return f"{count(size.cpus, 'CPU')}{held}"


def stage_bytes(profile: ProfileFile, stage: str) -> float:
    """
    Bytes that a stage takes in and gives out for a scan, on average.

    Parameters
    ----------
    profile : ProfileFile
        Whose sample.
    stage : str
        One of `STAGES`.
    """
    sample = profile.sample
    words, volume = 2 * sample.acquired_voxels, 2 * sample.output_voxels
    through = {
        "fetch": sample.fetch_bytes,
        "read": sample.fetch_bytes + words,
        "hu": 2 * words,
        "resample": words + volume,
        "mask": volume + sample.output_voxels,
        "store": sample.store_bytes,
    }
    return through.get(stage, volume + sample.store_bytes)


def _machine_lines(profile: ProfileFile) -> Iterator[str]:
    machine, sample = profile.machine, profile.sample
    caches = ", ".join(f"{name} {byte_size(size)}" for name, size in machine.caches.items())
    kind = machine.ec2_type or "not an EC2 instance"
    yield f"{kind}: {machine.cpu_model}, {machine.architecture}"
    yield (
        f"{count(machine.vcpu, 'vCPU')} on {count(machine.cores, 'core')}, "
        f"{machine.memory_bytes / GIB:.1f} GiB, {caches or 'caches unknown'}, kernel "
        f"{machine.kernel}"
    )
    yield f"vector instructions: {' '.join(machine.simd) or 'none known'}"
    yield (
        f"sample: {sample.origin}, {count(sample.scans, 'scan')} of "
        f"{byte_size(sample.fetch_bytes)} in {sample.fetch_objects:.0f} objects, "
        f"{byte_size(sample.store_bytes)} out; {sample.source} to {sample.sink}"
    )


def _size_table(profile: ProfileFile) -> str:
    header = ("size", "workers", "scans/s", "range", "scans/s/CPU", "of linear", "CPU-s/scan",
              "CPUs busy", "peak RSS", "binds")  # fmt: skip
    rows = []
    for size in profile.sizes:
        low, high = size.rate_range
        efficiency = profile.efficiency(size)
        rows.append(
            (
                size_name(size),
                str(size.workers),
                f"{size.scans_per_second:.2f}",
                f"{low:.2f} to {high:.2f}",
                f"{size.scans_per_second / size.cpus:.2f}",
                "" if efficiency is None else f"{efficiency:.0%}",
                f"{size.cpu_seconds:.3f}",
                f"{size.cpu_share:.0%}",
                byte_size(size.peak_rss_bytes),
                size.binds,
            )
        )
    return text_table(header, rows)


def _stage_table(profile: ProfileFile) -> str:
    """CPU and wall seconds of every stage at every size, and its throughput at the largest."""
    header = ["stage"]
    for size in profile.sizes:
        header += [f"CPU s, {size_name(size)}", "wall s"]
    rows = []
    for stage, meaning in STAGES.items():
        measured = [size.stage(stage) for size in profile.sizes]
        if max(at_size.cpu_seconds for at_size in measured) < SMALL * profile.whole.cpu_seconds:
            continue
        cells = [stage]
        for at_size in measured:
            cells += [f"{at_size.cpu_seconds:.4f}", f"{at_size.wall_seconds:.4f}"]
        busy = profile.whole.stage(stage).cpu_seconds
        rate = f"{stage_bytes(profile, stage) / busy / 1e9:.2f}" if busy else ""
        rows.append((*cells, rate, meaning))
    return text_table((*header, "GB per CPU-s", ""), rows)
