"""
Arguments and help of the commands that read rather than write: about a sink, this machine, options.

Words only, as in `fastlung.cli.parser`; their work is `fastlung.cli.ask`'s.
"""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from fastlung.cli.options import describe_results, describe_source
from fastlung.cli.values import count, size, speed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "PROFILE_EPILOG",
    "QUESTIONS",
    "QUESTION_EPILOGS",
    "describe_profile",
    "describe_questions",
    "describe_renting",
]


#: Sub-commands and what they are for.
QUESTIONS = {
    "plan": "say how a run would be carried out and how long it would take, here or elsewhere",
    "verify": "check that a sink holds one valid result, or a recorded failure, for every series",
    "status": "say how far a sink is, and what failed",
    "manifest": "write the table of all series of a sink anew",
    "compare": "say which scans of two sinks differ, and by how much",
    "config": "print the configuration that options, environment and files add up to",
    "doctor": "say what fastlung finds on this machine, and where each number comes from",
    "completion": "print a script that completes commands and options in a shell",
}

QUESTION_EPILOGS = {
    "plan": """\
examples:
  fastlung plan scans/
  fastlung plan s3://bucket/stage1/ s3://bucket/preprocessed/ --instance c7i.4xlarge
  fastlung plan scans/ volumes/ --cpus 16 --memory 32GiB --network 10Gbps

Lists SOURCE and reads some headers, no pixels, and writes nothing. Without SINK, all scans count as
new. Costs are assumed until a run on such a machine has measured them; the plan says which.
""",
    "verify": """\
examples:
  fastlung verify scans/ volumes/
  fastlung verify scans/ volumes/ --quick
      sizes only; without it every output is read, its CRC-32 recomputed, and decoded
  fastlung verify scans/ volumes/ --forget-damaged

Give SOURCE and SINK as for `fastlung process`. What can be found:
  missing   a folder that is not done, or an output that is gone
  damaged   an output or a record that is not what was written
  stale     a folder whose files, or the options, have changed since it was done
  orphaned  something in the sink that belongs to nothing in the source
`fastlung process` does missing and stale folders again, and damaged ones after --forget-damaged.
Exit code: 0 if nothing was found (recorded failures are no finding), 1 otherwise.
""",
    "status": """\
examples:
  fastlung status volumes/
  fastlung status volumes/ --json

Reads the sink's records only. What is left is counted by the source as the last run found it.
""",
    "manifest": """\
examples:
  fastlung manifest volumes/

Every run ends with this; type it after a kill, or when several machines wrote to one sink. Writes
manifest.csv, and manifest.parquet where pyarrow is installed (pip install 'fastlung[parquet]').
""",
    "compare": """\
examples:
  fastlung compare volumes-0.1.0/ volumes/
  fastlung compare s3://bucket/old/ s3://bucket/new/ --csv > differences.csv

Matches scans by source folder and name. Status, verdict, flags, litres and geometry are compared as
recorded; voxels are read where sizes or checksums differ, two scans at a time. HU are the largest
and the mean absolute difference over all voxels, litres those of both lungs.
Exit code: 0 if every scan is the same in both, 1 otherwise.
""",
    "config": """\
examples:
  fastlung config --preset tutorial --format nifti > fastlung.toml
  fastlung config --config fastlung.toml --spacing 1.5
  fastlung config --config volumes/run.json
      the options that a sink was written with; the digest is the same again

Prints TOML with the origin of each value. From weak to strong: the preset, the file of --config
(TOML, or the run.json of a sink), FASTLUNG_ variables (FASTLUNG_SPACING_MM=1.5,
FASTLUNG_MEMORY_LIMIT_BYTES=8GiB, FASTLUNG_CONFIG=fastlung.toml), options.
""",
    "doctor": """\
examples:
  fastlung doctor
  fastlung doctor volumes/ --json

Exit code: 0 if all is well, 1 if something would keep a run from working.
""",
    "completion": """\
examples:
  fastlung completion bash > ~/.local/share/bash-completion/completions/fastlung
  fastlung completion zsh > ~/.zfunc/_fastlung
  fastlung completion fish > ~/.config/fish/completions/fastlung.fish

For zsh, ~/.zfunc must be in fpath before compinit: fpath+=~/.zfunc; autoload -U compinit; compinit
""",
}


def describe_questions(
    described: Mapping[str, argparse.ArgumentParser],
    add_shown: Callable[[argparse._ActionsContainer], None],
    add_results: Callable[[argparse.ArgumentParser], None],
) -> None:
    """
    Add arguments to the parsers of `QUESTIONS`.

    Parameters
    ----------
    described : dict
        Command -> its parser.
    add_shown : callable
        Adds what every command has.
    add_results : callable
        Adds the options of ``process`` that a configuration is made of.
    """
    verify = described["verify"]
    verify.add_argument("source", metavar="SOURCE", help="what was processed")
    verify.add_argument("sink", metavar="SINK", help="where the results are")
    verify.add_argument("--quick", action="store_true", help="compare sizes, read no output")
    verify.add_argument(
        "--forget-damaged",
        action="store_true",
        help="remove the records of damaged folders, so that the next run does them again",
    )
    _describe_plan(described["plan"])
    for command in ("plan", "verify", "status", "doctor"):
        described[command].add_argument("--json", action="store_true", help="print JSON")
    for command in ("status", "manifest"):
        described[command].add_argument("sink", metavar="SINK", help="where the results are")
    described["doctor"].add_argument(
        "sink", metavar="SINK", nargs="?", help="a place for results, to be tried out"
    )
    _describe_compare(described["compare"])
    described["completion"].add_argument(
        "shell", metavar="SHELL", choices=("bash", "zsh", "fish"), help="bash, zsh or fish"
    )
    add_results(described["config"])
    add_results(described["plan"])
    for command in QUESTIONS:
        add_shown(described[command])


def _describe_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="SINK", help="where results are, as before")
    parser.add_argument("second", metavar="SINK", help="where results are, as now")
    parser.add_argument("--all", action="store_true", help="scans that are the same, too")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="a JSON list, one object a scan")
    form.add_argument("--csv", action="store_true", help="CSV, one row a scan")


def _describe_plan(parser: argparse.ArgumentParser) -> None:
    describe_source(parser)
    parser.add_argument(
        "sink", metavar="SINK", nargs="?", help="where results would go; may hold some already"
    )
    machine = parser.add_argument_group("another machine than this one")
    machine.add_argument("--instance", metavar="TYPE", help="an EC2 type, such as c7i.4xlarge")
    machine.add_argument("--cpus", type=count, metavar="N", help="hardware threads")
    machine.add_argument("--memory", type=size, metavar="SIZE", help="memory, such as 16GiB")
    machine.add_argument(
        "--network", type=speed, metavar="SPEED", help="network each way, as 2.5Gbps or 300MB/s"
    )


PROFILE_EPILOG = """\
examples:
  fastlung profile
      draw a small cohort, process it on 1, 2, 4, ... CPUs, and say where the time goes
  fastlung profile --cpus 1,2 --memory 4GiB,8GiB --output profile.json --svg profile.svg
  fastlung profile s3://bucket/stage1/ --sink s3://bucket/scratch/ --output c7i.json
  fastlung profile compare c7i.json m8g.json --svg compared.svg

Every size is held to its CPUs and runs the whole pipeline, in rounds in which all sizes take turns.
Results go to a temporary folder, or below --sink, and are removed again. The JSON holds no name of
a host, a path or a scan. `fastlung plan --compare-instances --measured profile.json` prices it.
"""

SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def time_span(text: str) -> float:
    """Seconds, written with a unit."""
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?) ?(s|min|h|d)", text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(
            f"expected a number with its unit, such as 6h, 90min or 2d, and found {text!r}"
        )
    return float(match[1]) * SECONDS[match[2]]


def counts(text: str) -> tuple[int, ...]:
    """Whole numbers, divided by commas."""
    return tuple(count(part) for part in text.split(","))


def sizes(text: str) -> tuple[int, ...]:
    """Sizes with their units, divided by commas."""
    return tuple(size(part) for part in text.split(","))


def describe_profile(
    parser: argparse.ArgumentParser, add_shown: Callable[[argparse._ActionsContainer], None]
) -> None:
    """
    Describe ``fastlung profile`` and ``fastlung profile compare``.

    Parameters
    ----------
    parser : ArgumentParser
        Of the command.
    add_shown : callable
        Adds what every command has.
    """
    parser.add_argument(
        "source",
        metavar="SOURCE",
        nargs="*",
        help="where the sample comes from (default: it is drawn); or the word compare and profiles",
    )
    measured = parser.add_argument_group("what is measured")
    measured.add_argument(
        "--cpus", type=counts, metavar="N,...", help="sizes (default: 1, 2, 4, ... and all)"
    )
    measured.add_argument(
        "--memory",
        type=sizes,
        metavar="SIZE,...",
        help="hold the workers of each size to so much memory together, such as 4GiB,8GiB "
        "(default: what the machine has)",
    )
    measured.add_argument(
        "--scans",
        type=count,
        metavar="N",
        default=8,
        help="scans a round for each CPU (default: 8)",
    )
    measured.add_argument(
        "--rounds", type=count, metavar="N", default=3, help="turns of every size (default: 3)"
    )
    measured.add_argument(
        "--sink", metavar="URL", help="where results go meanwhile (default: a temporary folder)"
    )
    given = parser.add_argument_group("what comes out")
    given.add_argument("--output", metavar="FILE", help="write the profile as JSON")
    given.add_argument("--svg", metavar="FILE", help="draw it, or the comparison")
    _describe_catalogue(given)
    parser.add_argument_group("where options come from").add_argument(
        "--config", metavar="FILE", help="TOML, or the run.json of a sink, as for process"
    )
    describe_results(parser.add_argument_group("what is done to a scan"))
    parser.set_defaults(auto_tune=False, limit=[])  # `resolve` reads both; no option here sets them
    add_shown(parser)


def describe_renting(parser: argparse.ArgumentParser) -> None:
    """
    Describe ``fastlung plan --compare-instances``.

    Parameters
    ----------
    parser : ArgumentParser
        Of ``plan``.
    """
    group = parser.add_argument_group("which EC2 instance to rent")
    group.add_argument(
        "--compare-instances",
        action="store_true",
        help="hours, dollars and what binds, for every instance of the catalogue; SOURCE may be a "
        "table of series (.csv) too",
    )
    group.add_argument(
        "--deadline", type=time_span, metavar="TIME", help="how many are needed, as 6h or 2d"
    )
    group.add_argument(
        "--measured",
        metavar="FILE",
        action="append",
        default=[],
        help="a profile of `fastlung profile`; may be given several times, the closest counts "
        "(default: what a run assumes)",
    )
    group.add_argument("--all", action="store_true", help="every size, not the best of each family")
    _describe_catalogue(group)
    group.add_argument(
        "--refresh",
        action="store_true",
        help="fetch the catalogue anew from AWS first; needs credentials",
    )


def _describe_catalogue(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--catalogue",
        metavar="FILE",
        help="another catalogue of instances (default: the shipped one, or the fetched one)",
    )
