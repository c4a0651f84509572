"""
What `process` and `inspect` do: check, run, say what happened.

Covers the order of things and the words around them; the work is `fastlung.run`'s. Imported only
once a command is known, because it needs NumPy and pydantic.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from fastlung.cli.listing import series_csv, series_json, series_table
from fastlung.cli.progress import Bar, JsonLines
from fastlung.config import build_config, build_run_options, build_store_options
from fastlung.errors import ConfigError
from fastlung.report.summary import (
    action_lines,
    byte_size,
    count,
    failure_lines,
    flag_lines,
    run_sentences,
)
from fastlung.report.tables import outcome_table
from fastlung.run.engine import dry_run, run
from fastlung.run.inspect import inspect as look_at

if TYPE_CHECKING:
    from argparse import Namespace

    from fastlung.config import Config, RunOptions, StoreOptions
    from fastlung.run.events import RunSummary

__all__ = ["inspect", "process", "say", "storage_options", "table_lines"]

#: A run of up to this many scans ends with a table of all of them.
TABLE_ROWS = 20
#: Source groups that a dry run names.
LISTED_GROUPS = 10


def process(args: Namespace) -> int:
    """
    Carry out ``fastlung process``.

    Parameters
    ----------
    args : Namespace
        What was typed.

    Returns
    -------
    int
        Exit code.

    Raises
    ------
    FastlungError
        For whatever stops the run as a whole.
    """
    config, options = _asked_for(args)
    if args.dry_run:
        return _process_dry(args, config, options)
    if args.quiet:
        summary = run(args.source, args.sink, config, options)
        sys.stderr.writelines(f"{line}\n" for line in failure_lines(summary.outcomes))
    elif sys.stdout.isatty():
        with Bar(explain=args.auto_tune) as bar:
            summary = run(args.source, args.sink, config, options, bar)
        say(*table_lines(summary), *_summary_lines(summary, args.sink))
    else:
        lines = JsonLines()
        summary = run(args.source, args.sink, config, options, lines)
        lines.end(summary, _summary_lines(summary, args.sink))
    return summary.exit_code


def inspect(args: Namespace) -> int:
    """
    Carry out ``fastlung inspect``.

    Parameters
    ----------
    args : Namespace
        What was typed.

    Returns
    -------
    int
        Exit code.

    Raises
    ------
    FastlungError
        If the source cannot be read, or holds nothing like CT.
    """
    found = look_at(args.source, group_by=args.group_by or "folder", storage=storage_options(args))
    if args.json:
        sys.stdout.write(series_json(found))
    elif args.csv:
        sys.stdout.write(series_csv(found))
    else:
        say(series_table(found), f"{len(found)} series.")
    return 0


def say(*lines: str) -> None:
    """
    Print lines on standard output.

    Parameters
    ----------
    *lines : str
        Without line feeds.
    """
    sys.stdout.writelines(f"{line}\n" for line in lines)


def table_lines(summary: RunSummary) -> list[str]:
    """
    Lay out every scan of a small run, and what was done about odd geometry.

    Parameters
    ----------
    summary : RunSummary
        The run.

    Returns
    -------
    list of str
        Lines; none for a run of no or of many scans.
    """
    if not 0 < len(summary.outcomes) <= TABLE_ROWS:
        return []
    odd = action_lines(summary.outcomes)
    return [outcome_table(summary.outcomes), "", *odd, *([""] if odd else [])]


def storage_options(args: Namespace) -> StoreOptions:
    """
    How s3:// is to be reached, from what was typed.

    Parameters
    ----------
    args : Namespace
        Of a command that `fastlung.cli.parser.describe_storage` described.

    Raises
    ------
    ConfigError
        For a value that cannot be used.
    """
    return build_store_options(
        endpoint_url=args.endpoint_url,
        profile=args.profile,
        region=args.region,
        no_sign_request=args.no_sign_request,
        request_payer=args.request_payer,
    )


def _asked_for(args: Namespace) -> tuple[Config, RunOptions]:
    """Check what was typed."""
    if args.auto_tune:
        for option, value in (("--workers", args.workers), ("--chunk-size", args.chunk_size)):
            if value is not None:
                raise ConfigError(
                    f"--auto-tune chooses what {option} {value} decides; leave out one of them"
                )
    config = build_config(
        args.preset or "hu",
        spacing_mm=args.spacing,
        order=args.order,
        mask=args.mask,
        window_hu=args.window,
        zero_centre=args.zero_centre,
        format=args.format,
        names=args.names,
        group_by=args.group_by,
    )
    options = build_run_options(
        workers=args.workers,
        chunk_size=args.chunk_size,
        memory_limit_bytes=args.memory_limit,
        scan_timeout_seconds=args.scan_timeout,
        overwrite=args.overwrite,
        retry_failed=args.retry_failed,
        storage=storage_options(args),
    )
    return config, options


def _process_dry(args: Namespace, config: Config, options: RunOptions) -> int:
    would = dry_run(args.source, args.sink, config, options)
    groups = count(len(would.pending), "folder")
    say(
        f"Dry run, nothing is written: {groups} to process, {would.already_done:,} already done.",
        *(
            f"  {group.label}  ({count(len(group.objects), 'file')}, {byte_size(group.size_bytes)})"
            for group in would.pending[:LISTED_GROUPS]
        ),
    )
    if len(would.pending) > LISTED_GROUPS:
        say(f"  and {len(would.pending) - LISTED_GROUPS:,} more")
    plan = would.plan
    say(
        f"Plan: {count(plan.workers, 'worker')}, chunks of {plan.chunk_size}.",
        *(f"  {reason}" for reason in plan.reasons),
    )
    return 0


def _summary_lines(summary: RunSummary, sink: str) -> list[str]:
    sentences = run_sentences(
        summary.outcomes,
        summary.earlier,
        seconds=summary.seconds,
        limited_by=summary.limited_by,
        sink=sink,
    )
    return [
        *sentences,
        *failure_lines(summary.outcomes),
        *flag_lines(summary.outcomes),
        f"Results: {sink.rstrip('/')}/scans, one folder a scan.",
    ]
