"""
The command `process`: check the options, run, print the summary.

The work is `fastlung.run`'s. Imported only once a command is known, because it needs NumPy and
pydantic.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from fastlung.cli.output import say
from fastlung.cli.progress import Bar, JsonLines, older_sentence
from fastlung.cli.settings import resolve
from fastlung.errors import ConfigError
from fastlung.report.summary import (
    action_lines,
    failure_lines,
    flag_lines,
    outcome_table,
    run_sentences,
)
from fastlung.text import byte_size, count

if TYPE_CHECKING:
    from argparse import Namespace

    from fastlung.config import Config, RunOptions
    from fastlung.run.events import RunSummary

__all__ = ["asked_for", "process", "table_lines"]


#: A run of up to this many scans ends with a table of all of them.
TABLE_ROWS = 20

#: Source groups that a dry run names.
LISTED_GROUPS = 10


def process(args: Namespace) -> int:
    """Carry out ``fastlung process``; its exit code."""
    # Imported here: whoever shares words with this command, and computes nothing, loads no kernels.
    from fastlung.run.engine import run  # noqa: PLC0415

    config, options = asked_for(args)
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


def asked_for(args: Namespace) -> tuple[Config, RunOptions]:
    """
    Check what was typed.

    Parameters
    ----------
    args : Namespace
        Of a command that `fastlung.cli.options.describe_configuration` described.

    Returns
    -------
    tuple of Config and RunOptions
        What is asked for.

    Raises
    ------
    ConfigError
        If it cannot be used.
    """
    if args.auto_tune:
        for option, value in (("--workers", args.workers), ("--chunk-size", args.chunk_size)):
            if value not in (None, "auto"):
                raise ConfigError(
                    f"--auto-tune chooses what {option} {value} decides; leave out one of them"
                )
    settings = resolve(args, os.environ)
    return settings.config, settings.options


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


def _process_dry(args: Namespace, config: Config, options: RunOptions) -> int:
    from fastlung.run.engine import dry_run  # noqa: PLC0415 - as in `process`

    would = dry_run(args.source, args.sink, config, options)
    groups = count(len(would.pending), "folder")
    redone = options.overwrite or options.redo == "older"
    say(
        f"Dry run, nothing is written: {groups} to process, {would.already_done:,} already done.",
        *([older_sentence(would.older, redone=redone)] if would.older else []),
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
