"""
The summary of a run: tables, CSV and sentences.

Covers layout and text. The rows of the manifest are `fastlung.sink.manifest`'s.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from typing import TYPE_CHECKING

from fastlung.text import count, duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fastlung.scan import Outcome

__all__ = [
    "FORMULA",
    "action_lines",
    "csv_text",
    "failure_lines",
    "flag_lines",
    "nothing_found",
    "outcome_table",
    "run_sentences",
    "shorten",
    "text_table",
]


Cell = str | int | float | None

#: Texts that a spreadsheet carries out, and those that begin with apostrophes and then like one, so
#: that taking one apostrophe off gives each text back.
FORMULA = re.compile("'*[=+\\-@\\t\\r\uff1d\uff0b\uff0d\uff20]")

#: A name longer than this loses its middle in text tables; CSV keeps all of it.
NAME_WIDTH = 30


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Cell]]) -> str:
    """
    Write rows as CSV: a header line, commas, line feeds, floats rounded to nine digits.

    A text that a spreadsheet would take for a formula gets an apostrophe before it.

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
        writer.writerow(map(_cell, values))
    return text.getvalue()


def _cell(value: Cell) -> Cell:
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, str) and FORMULA.match(value):
        return f"'{value}"
    return value


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


#: Scans listed by name; the records of the sink have all of them.
LISTED = 20


def run_sentences(
    outcomes: Sequence[Outcome],
    earlier: Sequence[Outcome],
    *,
    seconds: float,
    limited_by: str,
    sink: str,
) -> list[str]:
    """
    Say what a run did.

    Parameters
    ----------
    outcomes : sequence of Outcome
        What this run did.
    earlier : sequence of Outcome
        What was in the sink before and was left alone.
    seconds : float
        Wall seconds of this run.
    limited_by : str
        What kept the run from being faster, as a sentence; may be empty.
    sink : str
        Where the outputs are.

    Returns
    -------
    list of str
        One sentence each.
    """
    if not outcomes:
        return _nothing_to_do(earlier, sink)
    status = Counter(outcome.status for outcome in outcomes)
    counts = (
        f"{count(status['done'], 'scan')} done",
        f"{status['failed']:,} failed",
        f"{status['skipped']:,} skipped",
        f"{len(earlier):,} already there",
    )
    sentences = [", ".join(counts) + "."]
    if status["done"] and seconds > 0:
        rate = status["done"] / seconds
        pace = f"{rate:.2f} scans a second" if rate >= 1 else f"{1 / rate:.2f} s a scan"
        sentences.append(f"It took {duration(seconds)}, {pace}.")
    if limited_by:
        sentences.append(limited_by)
    return [*sentences, *_shared((*outcomes, *earlier))]


def _shared(outcomes: Sequence[Outcome]) -> list[str]:
    """Say that a series is in several source folders, and which of them has its name."""
    suffixed = [outcome for outcome in outcomes if outcome.wished_name]
    if not suffixed:
        return []
    example = min(suffixed, key=lambda outcome: outcome.name)
    text = (
        f"{count(len(suffixed), 'scan')} of a series that an earlier source folder, by name, holds "
        f"too: called after both, such as {example.name}; also_in in the manifest says which, and "
        "--group-by series makes one volume of what is spread."
    )
    return [text]


def _nothing_to_do(earlier: Sequence[Outcome], sink: str) -> list[str]:
    status = Counter(outcome.status for outcome in earlier)
    there = status["done"] + status["failed"]
    sentences = [f"Nothing to do: all {count(there, 'scan')} are already in {sink}."]
    if status["failed"]:
        sentences.append(
            f"{status['failed']:,} of them failed by their own bytes; --retry-failed tries them "
            "again."
        )
    return [*sentences, *_shared(earlier)]


def failure_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """
    Say what failed, why, and what to do about it.

    Parameters
    ----------
    outcomes : sequence of Outcome
        What a run did.

    Returns
    -------
    list of str
        Lines; none where nothing failed. At most `LISTED` scans are named.
    """
    failed = sorted((o for o in outcomes if o.status == "failed"), key=lambda o: o.name)
    if not failed:
        return []
    lines = [f"{count(len(failed), 'scan')} failed:"]
    lines += [f"  {o.name}: {o.error}: {o.message}" for o in failed[:LISTED]]
    lines += _left_out(failed)
    if any(o.transient for o in failed):
        lines.append("Type the same command again: some of these may succeed another time.")
    if not all(o.transient for o in failed):
        lines.append("Scans that failed by their own bytes are left alone without --retry-failed.")
    return lines


def nothing_found(source: str, files: Mapping[str, int], folders: int) -> str:
    """
    Say what was looked at where no CT was found, and what to give instead.

    Parameters
    ----------
    source : str
        Where.
    files : mapping of str to int
        Why a file is no CT slice -> files.
    folders : int
        Folders that hold files.

    Returns
    -------
    str
        A sentence.
    """
    ordered = sorted(files.items(), key=lambda item: (-item[1], item[0]))
    why = ", ".join(f"{number:,} {reason}" for reason, number in ordered)
    looked_at = f"{count(sum(files.values()), 'file')} of {count(folders, 'folder')}"
    return (
        f"{source}: expected CT slices as DICOM files, and found none in {looked_at} ({why}); give "
        "a folder with CT slices in or below it"
    )


def action_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """
    Say what was done about odd geometry.

    Parameters
    ----------
    outcomes : sequence of Outcome
        What a run did.

    Returns
    -------
    list of str
        Lines; none where every series was regular. At most `LISTED` scans are named.
    """
    odd = [(o, o.verdict.actions) for o in outcomes if o.verdict and o.verdict.actions]
    odd.sort(key=lambda pair: pair[0].name)
    if not odd:
        return []
    lines = ["What was done about odd geometry:"]
    lines += [f"  {outcome.name}: {' '.join(actions)}" for outcome, actions in odd[:LISTED]]
    return lines + _left_out([outcome for outcome, _ in odd])


def flag_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """
    Say which results want a second look.

    Parameters
    ----------
    outcomes : sequence of Outcome
        What a run did.

    Returns
    -------
    list of str
        Lines; none where nothing was flagged. At most `LISTED` scans are named.
    """
    flagged = sorted((o for o in outcomes if o.flags), key=lambda o: o.name)
    if not flagged:
        return []
    lines = [f"{count(len(flagged), 'scan')} to look at twice:"]
    lines += [f"  {o.name}: {'; '.join(flag.text for flag in o.flags)}" for o in flagged[:LISTED]]
    return lines + _left_out(flagged)


def _left_out(listed: Sequence[Outcome]) -> list[str]:
    rest = len(listed) - LISTED
    return [f"  and {rest:,} more; every scan is in the records of the sink."] if rest > 0 else []
