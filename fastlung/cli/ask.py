"""
The commands `verify`, `status`, `manifest`, `doctor` and `preview`.

Covers what is printed; the work is done by the modules of the same names.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING

from fastlung.cli.output import say
from fastlung.cli.settings import storage_typed
from fastlung.config import Config, build_store_options
from fastlung.doctor import examine
from fastlung.limits import limited
from fastlung.sink.contents import read_run_file
from fastlung.sink.manifest import MANIFEST_CSV, write_manifest
from fastlung.sink.older import OlderScans
from fastlung.storage import open_store
from fastlung.text import byte_size, count
from fastlung.verification import forget, sink_status, verify

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from fastlung.doctor import Fact
    from fastlung.verification import SinkStatus, Verification

__all__ = ["answer_doctor", "answer_manifest", "answer_status", "answer_verify", "draw"]


#: Findings printed; --json has all of them.
LISTED = 50


def answer_verify(args: Namespace) -> int:
    """Carry out ``fastlung verify``; 0 if nothing was found, else 1."""
    storage = build_store_options(**storage_typed(args))
    found = verify(
        args.source,
        args.sink,
        read_outputs=not args.quick,
        storage=storage,
    )
    forgotten = forget(args.sink, found, storage) if args.forget_damaged else 0
    if args.json:
        plain = asdict(found) | {"exit_code": found.exit_code, "forgotten": forgotten}
        sys.stdout.write(json.dumps(plain, indent=1) + "\n")
        return found.exit_code
    lines = _verify_lines(found, forgotten, args)
    if not args.quiet:
        say(*lines)
    elif found.findings:
        sys.stderr.writelines(f"{line}\n" for line in lines)
    return found.exit_code


def answer_status(args: Namespace) -> int:
    """Carry out ``fastlung status``; always 0."""
    status = sink_status(args.sink, build_store_options(**storage_typed(args)))
    if args.json:
        plain = asdict(status) | {"groups_left": status.groups_left}
        sys.stdout.write(json.dumps(plain, indent=1) + "\n")
    elif not args.quiet:
        say(*_status_lines(status, args.sink))
    return 0


def answer_manifest(args: Namespace) -> int:
    """Carry out ``fastlung manifest``; always 0."""
    sink = open_store(args.sink, build_store_options(**storage_typed(args)))
    run_file = read_run_file(sink)  # refuses a folder that is no sink
    older = OlderScans()
    rows = write_manifest(
        sink, lambda record: older.add(record, run_file.config, run_file.config_digest)
    )
    if not args.quiet:
        say(
            f"{count(rows, 'row')} in {args.sink.rstrip('/')}/{MANIFEST_CSV}.",
            *([_older_line(older)] if older else []),
        )
    return 0


def _verify_lines(found: Verification, forgotten: int, args: Namespace) -> list[str]:
    how = "sizes compared" if args.quick else "every output read and its checksum recomputed"
    sound = _counts(found.series, found.failures)
    lines = [
        f"{count(found.groups, 'folder')} in {args.source}, {how}.",
        f"Accounted for: {sound}.",
    ]
    if found.older:
        lines.append(_older_line(found.older))
    if not found.findings:
        return [*lines, "Nothing is missing, damaged, stale or orphaned."]
    kinds = Counter(finding.kind for finding in found.findings)
    lines.append(f"{count(len(found.findings), 'finding')}{_in_brackets(kinds)}:")
    lines += [f"  {f.kind:8}  {f.place}: {f.text}" for f in found.findings[:LISTED]]
    if len(found.findings) > LISTED:
        lines.append(f"  and {len(found.findings) - LISTED:,} more; --json prints all.")
    if forgotten:
        lines.append(
            f"{count(forgotten, 'record')} removed: the next run does these folders again."
        )
    elif kinds["damaged"]:
        lines.append("--forget-damaged lets the next run do the damaged ones again.")
    if kinds["missing"] or kinds["stale"]:
        lines.append("`fastlung process`, typed as before, does what is missing or stale.")
    if kinds["orphaned"]:
        lines.append("What is orphaned is never removed for you: look at it, and delete it.")
    return lines


def _status_lines(status: SinkStatus, sink: str) -> list[str]:
    total = "" if status.groups_total is None else f" of {status.groups_total:,}"
    left = "" if status.groups_left is None else f", {status.groups_left:,} left"
    lines = [
        f"{sink}: {status.groups:,}{total} folders done{left}.",
        f"{_counts(status.series, status.failures)}.",
    ]
    if status.retried:
        lines.append(f"{status.retried:,} of the failures will be tried again by the next run.")
    if status.flags:
        lines.append(f"To look at twice{_in_brackets(status.flags)}.")
    if status.groups_other:
        lines.append(
            f"{count(status.groups_other, 'folder')} done with other options; the next run does "
            "them again."
        )
    if status.older:
        lines.append(_older_line(status.older))
    differing = {
        name: value
        for name, value in status.config.items()
        if name in Config.model_fields and value != _default(name)
    }
    lines += [
        f"Last written {status.written_at or 'at an unknown time'} by fastlung {status.fastlung}.",
        f"Options {status.config_digest}: "
        + (", ".join(f"{name} = {value}" for name, value in differing.items()) or "all default")
        + ".",
    ]
    return lines


def _older_line(older: OlderScans) -> str:
    if older.newer:
        return f"{older}: by a newer fastlung than this one."
    return f"{older}: `fastlung process --redo older` does these again, --keep-older leaves them."


def _counts(series: Mapping[str, int], failures: Mapping[str, int]) -> str:
    done, failed, skipped = (series.get(status, 0) for status in ("done", "failed", "skipped"))
    return (
        f"{count(done, 'scan')} done, {failed:,} failed{_in_brackets(failures)}, "
        f"{count(skipped, 'folder')} without CT"
    )


def _default(name: str) -> object:
    """Return the default of an option as it stands in a run file."""
    return Config().model_dump(mode="json")[name]


def _in_brackets(counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return f" ({', '.join(f'{name} {number:,}' for name, number in ordered)})"


#: Names end so where the value is a number of bytes.
BYTES = ", bytes"


def answer_doctor(args: Namespace) -> int:
    """Carry out ``fastlung doctor``; 0 if a run would work, else 1."""
    facts = examine(args.sink, build_store_options(**storage_typed(args)))
    problems = [f"{_fact_name(fact)}: {fact.problem}" for fact in facts if fact.problem]
    if args.json:
        sys.stdout.write(json.dumps([asdict(fact) for fact in facts], indent=1) + "\n")
    elif args.quiet:
        sys.stderr.writelines(f"{line}\n" for line in problems)
    else:
        for topic, group in groupby(facts, key=lambda fact: fact.topic):
            say(topic, *map(_fact_line, group))
        say("", *(problems or ["All is well."]))
    return int(bool(problems))


def _fact_name(fact: Fact) -> str:
    return fact.name.removesuffix(BYTES)


def _fact_line(fact: Fact) -> str:
    value = str(fact.value)
    if fact.value is None:
        value = "nothing"
    elif fact.name.endswith(BYTES):
        value = byte_size(float(fact.value))
    origin = f"  [{fact.origin}]" if fact.origin else ""
    return f"  {'!' if fact.problem else ' '} {_fact_name(fact):<36}{value}{origin}"


def draw(args: Namespace) -> int:
    """Carry out ``fastlung preview``; always 0."""
    # Imported here: the questions about a sink, beside it, need no kernels.
    from fastlung import previews  # noqa: PLC0415

    asked = {} if args.slice is None else args.slice
    with limited(**dict(args.limit)):
        drawn = previews.preview(
            args.scan,
            number=args.number,
            preset=args.preset,
            storage=build_store_options(**storage_typed(args)),
            **asked,
        )
    drawn.save(args.out)
    if not args.quiet:
        say(f"{args.out}: {len(drawn.png):,} bytes.")
    return 0
