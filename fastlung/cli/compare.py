"""The command `compare`: what differs between two sinks, as text, CSV or JSON."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict, fields
from itertools import islice
from typing import TYPE_CHECKING

from fastlung.cli.output import say
from fastlung.cli.settings import storage_typed
from fastlung.comparison import ScanComparison, compare
from fastlung.config import build_store_options
from fastlung.report.summary import csv_text, shorten, text_table
from fastlung.sink.contents import read_run_file
from fastlung.storage import open_store
from fastlung.text import count

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Iterator

    from fastlung.config import StoreOptions
    from fastlung.report.summary import Cell

__all__ = ["answer_compare"]

#: Scans that differ and are printed as text; --csv and --json have all of them.
LISTED = 50
COLUMNS = tuple(field.name for field in fields(ScanComparison))


def answer_compare(args: Namespace) -> int:
    """Carry out ``fastlung compare``; 0 if every scan is the same in both, else 1."""
    storage = build_store_options(**storage_typed(args))
    scans = compare(args.first, args.second, storage=storage)
    kinds: Counter[str] = Counter()
    counted = _counted(scans, kinds)
    shown = (scan for scan in counted if scan.differs or args.all)
    if args.json:
        _print_json(shown)
    elif args.csv:
        _print_csv(shown)
    else:
        rows = [_cells(scan) for scan in islice(shown, LISTED)]
        for _ in shown:
            pass  # counted as it goes
        if not args.quiet:
            say(*_lines(rows, kinds, args, storage))
    return int(kinds["differ"] > 0)


def _counted(scans: Iterable[ScanComparison], kinds: Counter[str]) -> Iterator[ScanComparison]:
    for scan in scans:
        kinds["differ" if scan.differs else "equal"] += 1
        kinds.update(f"in {what}" for what in scan.differs)
        yield scan


def _print_json(scans: Iterable[ScanComparison]) -> None:
    before = "[\n"
    for scan in scans:
        sys.stdout.write(before + json.dumps(asdict(scan)))
        before = ",\n"
    sys.stdout.write("[]\n" if before == "[\n" else "\n]\n")


def _print_csv(scans: Iterable[ScanComparison]) -> None:
    sys.stdout.write(csv_text(COLUMNS, []))
    for scan in scans:
        sys.stdout.write(csv_text(COLUMNS, [_row(scan)]).partition("\n")[2])


def _row(scan: ScanComparison) -> dict[str, Cell]:
    values = ((name, getattr(scan, name)) for name in COLUMNS)
    return {name: " ".join(v) if isinstance(v, tuple) else v for name, v in values}


def _cells(scan: ScanComparison) -> tuple[str, ...]:
    litres = _change(
        *(None if v is None else f"{v:.3f}" for v in (scan.litres_first, scan.litres_second))
    )
    hu = "" if scan.hu_max is None else f"{scan.hu_max:.4g} / {scan.hu_mean:.3g}"
    words = [
        _change(scan.status_first, scan.status_second) if "status" in scan.differs else "",
        _change(scan.error_first, scan.error_second) if "error" in scan.differs else "",
        _change(" ".join(scan.verdict_first), " ".join(scan.verdict_second))
        if "verdict" in scan.differs
        else "",
        *(f"-{name}" for name in scan.flags_first if name not in scan.flags_second),
        *(f"+{name}" for name in scan.flags_second if name not in scan.flags_first),
        scan.note,
    ]
    return (
        shorten(scan.scan),
        " ".join(scan.differs),
        "" if scan.image_voxels is None else f"{scan.image_voxels:,}",
        hu,
        "" if scan.mask_voxels is None else f"{scan.mask_voxels:,}",
        litres,
        "; ".join(filter(None, words)),
    )


def _change(first: str | None, second: str | None) -> str:
    """Two values, or the one that both are."""
    return (first or "") if first == second else f"{first or 'none'} -> {second or 'none'}"


def _lines(
    rows: list[tuple[str, ...]], kinds: Counter[str], args: Namespace, storage: StoreOptions
) -> list[str]:
    header = ("scan", "differs in", "voxels", "HU max / mean", "mask voxels", "litres", "")
    table = [text_table(header, rows), ""] if rows else []
    printed = kinds["differ"] + (kinds["equal"] if args.all else 0)
    if printed > len(rows):
        table.insert(1, f"and {printed - len(rows):,} more; --csv and --json print all.")
    what = ", ".join(
        f"{name.removeprefix('in ').replace('_', ' ')} {number:,}"
        for name, number in sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
        if name.startswith("in ")
    )
    equal = f"{count(kinds['equal'], 'scan')} equal, {kinds['differ']:,} different"
    return [*table, *_options(args, storage), f"{equal}{f' ({what})' if what else ''}."]


def _options(args: Namespace, storage: StoreOptions) -> list[str]:
    """Say which options the sinks were written with, where these are not the same."""
    first, second = (
        read_run_file(open_store(url, storage)).config for url in (args.first, args.second)
    )
    names = sorted(
        name
        for name in first.keys() & second.keys()
        if name != "preset" and first[name] != second[name]
    )
    return [f"Written with different options: {', '.join(names)}."] if names else []
