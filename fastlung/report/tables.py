"""
Outcomes as table rows, aligned text and CSV.

Every value comes from an `Outcome`, which holds no patient data. Covers layout only; sentences are
`fastlung.report.summary`'s.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fastlung.scan import Outcome

__all__ = ["COLUMNS", "csv_text", "outcome_csv", "outcome_row", "outcome_table", "text_table"]

Cell = str | int | float | None

#: Columns of the CSV, in order; units stand in the names, an absent value is an empty field.
COLUMNS: tuple[str, ...] = (
    "scan",
    "status",
    "verdict",
    "slices",
    "spacing_in_z_mm",
    "spacing_in_y_mm",
    "spacing_in_x_mm",
    "spacing_out_z_mm",
    "spacing_out_y_mm",
    "spacing_out_x_mm",
    "litres_right",
    "litres_left",
    "flags",
    "seconds",
    "error",
    "message",
    "group",
)

#: A name longer than this loses its middle in text tables; CSV keeps all of it.
NAME_WIDTH = 30


def outcome_row(outcome: Outcome) -> dict[str, Cell]:
    """
    Lay one outcome out as a table row.

    Parameters
    ----------
    outcome : Outcome
        Record of one series.

    Returns
    -------
    dict
        `COLUMNS` to values. Spacings are millimetres, volumes litres, `seconds` the wall seconds of
        all stages together; several classes or flags are joined by spaces.
    """
    verdict, before, after = outcome.verdict, outcome.acquired, outcome.grid
    spacing_in: Sequence[Cell] = before.spacing_mm if before else (None, None, None)
    spacing_out: Sequence[Cell] = after.spacing_mm if after else (None, None, None)
    values: tuple[Cell, ...] = (
        outcome.name,
        outcome.status,
        " ".join(verdict.classes) if verdict else None,
        before.shape[0] if before else None,
        *spacing_in,
        *spacing_out,
        outcome.figures.get("litres_right"),
        outcome.figures.get("litres_left"),
        " ".join(flag.name for flag in outcome.flags),
        sum(outcome.seconds.values()) if outcome.seconds else None,
        outcome.error,
        outcome.message,
        outcome.group,
    )
    return dict(zip(COLUMNS, values, strict=True))


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Cell]]) -> str:
    """
    Write rows as CSV: a header line, commas, line feeds, floats rounded to six digits.

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
        writer.writerow([f"{v:.6g}" if isinstance(v, float) else v for v in values])
    return text.getvalue()


def outcome_csv(outcomes: Iterable[Outcome]) -> str:
    """
    Write outcomes as CSV with `COLUMNS`, sorted by scan, so that equal runs give equal files.

    Parameters
    ----------
    outcomes : iterable of Outcome
        Records, in any order.

    Returns
    -------
    str
        The whole file.
    """
    return csv_text(COLUMNS, map(outcome_row, sorted(outcomes, key=_place)))


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
    rows = [_reader_cells(outcome_row(outcome)) for outcome in sorted(outcomes, key=_place)]
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


def _reader_cells(row: Mapping[str, Cell]) -> tuple[str, ...]:
    spacings = [
        " ".join(_number(row[f"spacing_{side}_{axis}_mm"], ".3g") for axis in "zyx").strip()
        for side in ("in", "out")
    ]
    litres = [_number(row[f"litres_{side}"], ".2f") for side in ("right", "left")]
    return (
        shorten(str(row["scan"])),
        str(row["status"]),
        str(row["verdict"] or ""),
        _number(row["slices"], "d"),
        " -> ".join(filter(None, spacings)),
        " + ".join(filter(None, litres)),
        _number(row["seconds"], ".2f"),
        # A skipped folder has neither, and its message is short: why it holds no CT.
        str(row["flags"] or row["error"] or row["message"]),
    )


def _number(value: Cell, form: str) -> str:
    return "" if value is None else format(value, form)
