"""
Rows as CSV and as aligned text.

Covers layout only. The rows of the manifest are `fastlung.sink.manifest`'s, sentences
`fastlung.report.summary`'s.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fastlung.scan import Outcome

__all__ = ["csv_text", "outcome_table", "shorten", "text_table"]

Cell = str | int | float | None

#: A name longer than this loses its middle in text tables; CSV keeps all of it.
NAME_WIDTH = 30


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Cell]]) -> str:
    """
    Write rows as CSV: a header line, commas, line feeds, floats rounded to nine digits.

    Parameters
    ----------
    columns : sequence of str
        Keys of each row, in order.
    rows : iterable of mapping
        Values; None becomes an empty field.

    Returns
    -------
    str
        The whole file.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        values = (row[column] for column in columns)
        writer.writerow([f"{v:.9g}" if isinstance(v, float) else v for v in values])
    return text.getvalue()


def outcome_table(outcomes: Iterable[Outcome]) -> str:
    """
    Write outcomes as aligned text for a reader, sorted by scan.

    Parameters
    ----------
    outcomes : iterable of Outcome
        Records, in any order.

    Returns
    -------
    str
        Lines, the last one without a line feed.
    """
    header = (
        "scan",
        "status",
        "verdict",
        "slices",
        "spacing z y x, mm",
        "litres R + L",
        "s",
        "flags",
    )
    rows = [_cells(outcome) for outcome in sorted(outcomes, key=_place)]
    return text_table(header, rows)


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """
    Align cells in columns, two spaces apart, with a rule below the header.

    Parameters
    ----------
    header : sequence of str
        Column titles.
    rows : sequence of sequence of str
        Cells, as many in each row as there are titles.

    Returns
    -------
    str
        Lines, the last one without a line feed.
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def shorten(name: str) -> str:
    """
    Take the middle out of a long name; UIDs differ at their end.

    Parameters
    ----------
    name : str
        Name of a scan.

    Returns
    -------
    str
        At most `NAME_WIDTH` characters.
    """
    if len(name) <= NAME_WIDTH:
        return name
    head = NAME_WIDTH // 3
    return f"{name[:head]}...{name[head + 3 - NAME_WIDTH :]}"


def _place(outcome: Outcome) -> tuple[str, str]:
    return outcome.name, outcome.group


def _cells(outcome: Outcome) -> tuple[str, ...]:
    spacings = [
        " ".join(f"{step:.3g}" for step in grid.spacing_mm)
        for grid in (outcome.acquired, outcome.grid)
        if grid is not None
    ]
    litres = [outcome.figures.get(f"litres_{side}") for side in ("right", "left")]
    return (
        shorten(outcome.name),
        outcome.status,
        " ".join(outcome.verdict.classes) if outcome.verdict else "",
        str(outcome.acquired.shape[0]) if outcome.acquired else "",
        " -> ".join(spacings),
        " + ".join(f"{value:.2f}" for value in litres if value is not None),
        f"{sum(outcome.seconds.values()):.2f}" if outcome.seconds else "",
        # A skipped folder has neither, and its message is short: why it holds no CT.
        " ".join(flag.name for flag in outcome.flags) or outcome.error or outcome.message,
    )
