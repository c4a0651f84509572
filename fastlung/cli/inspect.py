"""The command `inspect`: the series of a source as text, CSV or JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from fastlung.cli.output import say
from fastlung.cli.settings import storage_typed
from fastlung.config import build_config, build_store_options
from fastlung.dicom.checks import Policy
from fastlung.inspection import inspect as inspect_source
from fastlung.limits import limited
from fastlung.report.summary import csv_text, shorten, text_table

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from fastlung.inspection import SeriesSummary
    from fastlung.report.summary import Cell

__all__ = [
    "SERIES_COLUMNS",
    "inspect",
    "series_csv",
    "series_json",
    "series_sentence",
    "series_table",
]


#: Columns of the CSV, in order; units stand in the names, an absent value is an empty field.
SERIES_COLUMNS: tuple[str, ...] = (
    "folder",
    "number",
    "series_uid",
    "slices",
    "rows",
    "columns",
    "spacing_z_mm",
    "spacing_y_mm",
    "spacing_x_mm",
    "verdict",
    "transfer_syntaxes",
    "convolution_kernel",
    "slice_thickness_mm",
    "manufacturer",
    "skipped_files",
    "problem",
    "excluded",
    "also_in",
)


def series_json(found: Sequence[SeriesSummary]) -> str:
    """
    Write series as a JSON list of objects, with every field of `SeriesSummary`.

    Parameters
    ----------
    found : sequence of SeriesSummary
        What a source holds.

    Returns
    -------
    str
        The whole document, with a last line feed.
    """
    return json.dumps([asdict(series) for series in found], indent=1) + "\n"


def series_csv(found: Sequence[SeriesSummary]) -> str:
    """
    Write series as CSV with `SERIES_COLUMNS`.

    Parameters
    ----------
    found : sequence of SeriesSummary
        What a source holds.

    Returns
    -------
    str
        The whole file.
    """
    return csv_text(SERIES_COLUMNS, map(_row, found))


def series_table(found: Sequence[SeriesSummary]) -> str:
    """
    Write series as aligned text, what is odd about them below each.

    Parameters
    ----------
    found : sequence of SeriesSummary
        What a source holds.

    Returns
    -------
    str
        Lines, the last one without a line feed.
    """
    header = ("folder", "series", "slices", "rows x columns", "spacing z y x, mm", "verdict")
    rows = [_cells(series) for series in found]
    title, rule, *lines = text_table(header, rows).split("\n")
    last = {series.group: number for number, series in enumerate(found)}
    notes = [
        _notes(series) + (_skipped(series) if last[series.group] == number else [])
        for number, series in enumerate(found)
    ]
    listed = [line for first, more in zip(lines, notes, strict=True) for line in (first, *more)]
    return "\n".join([title, rule, *listed])


def series_sentence(found: Sequence[SeriesSummary]) -> str:
    """
    Count series, and those that stricter rules exclude.

    Parameters
    ----------
    found : sequence of SeriesSummary
        What a source holds.

    Returns
    -------
    str
        One line.
    """
    series = [info for info in found if info.number or info.problem]
    excluded = [info for info in series if info.excluded]
    if not excluded:
        return f"{len(series)} series."
    rescued = sum(not info.problem for info in excluded)
    return (
        f"{len(series)} series: {len(series) - len(excluded)} kept by the stricter rules, "
        f"{len(excluded)} excluded, {rescued} of which can be processed here."
    )


def _row(series: SeriesSummary) -> dict[str, Cell]:
    _, rows, columns = series.shape or (None, None, None)
    spacing = series.spacing_mm or (None, None, None)
    acquisition = series.acquisition
    values: tuple[Cell, ...] = (
        series.group,
        series.number,
        series.series_uid,
        series.slices,
        rows,
        columns,
        *spacing,
        " ".join(series.verdict),
        " ".join(series.transfer_syntaxes),
        acquisition.get("ConvolutionKernel"),
        acquisition.get("SliceThickness"),
        acquisition.get("Manufacturer"),
        sum(series.skipped_files.values()),
        series.problem,
        "; ".join(series.excluded),
        "; ".join(series.also_in),
    )
    return dict(zip(SERIES_COLUMNS, values, strict=True))


def _cells(series: SeriesSummary) -> tuple[str, ...]:
    return (
        shorten(series.group),
        shorten(series.series_uid),
        str(series.slices),
        f"{series.shape[1]} x {series.shape[2]}" if series.shape else "",
        " ".join(f"{step:.4g}" for step in series.spacing_mm or ()),
        " ".join(series.verdict),
    )


def _notes(series: SeriesSummary) -> list[str]:
    problem = [f"  cannot be processed: {series.problem}"] if series.problem else []
    strict = [f"  excluded elsewhere: {'; '.join(series.excluded)}"] if series.excluded else []
    return [*problem, *(f"  {action}" for action in series.actions), *_elsewhere(series), *strict]


def _elsewhere(series: SeriesSummary) -> list[str]:
    if not series.also_in:
        return []
    first = min(series.group, *series.also_in)
    whose = "its name is this folder's" if first == series.group else f"its name is {first}'s"
    joined = "--group-by series makes one volume of what is spread"
    return [f"  the same series is in {', '.join(series.also_in)}; in a sink {whose}; {joined}"]


def _skipped(series: SeriesSummary) -> list[str]:
    reasons = sorted(series.skipped_files.items(), key=lambda item: (-item[1], item[0]))
    listed = "; ".join(f"{count} {reason}" for reason, count in reasons)
    return [f"  files skipped: {listed}"] if listed else []


def inspect(args: Namespace) -> int:
    """Carry out ``fastlung inspect``; 0, or 1 where `process` would fail for a series."""
    policy = Policy.of(build_config(**_policies(args)))
    with limited(**dict(args.limit)):
        found = inspect_source(
            args.source,
            policy,
            strict_like=args.strict_like,
            group_by=args.group_by or "folder",
            storage=build_store_options(**storage_typed(args)),
        )
    if args.quiet:
        problems = [f"{info.group}: {info.problem}\n" for info in found if info.problem]
        sys.stderr.writelines(problems)
    elif args.json:
        sys.stdout.write(series_json(found))
    elif args.csv:
        sys.stdout.write(series_csv(found))
    else:
        say(series_table(found), series_sentence(found))
    return int(any(info.problem for info in found))


def _policies(args: Namespace) -> dict[str, Any]:
    return {field.name: getattr(args, field.name) for field in fields(Policy)}
