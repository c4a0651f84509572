"""
What can be typed for the commands that ask rather than do: about a sink, this machine, the options.

Words only, as in `fastlung.cli.parser`; what they answer is `fastlung.cli.answers`'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlung.cli.options import describe_source
from fastlung.cli.values import count, size, speed

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

__all__ = ["QUESTIONS", "QUESTION_EPILOGS", "describe_questions"]

#: Sub-commands and what they are for.
QUESTIONS = {
    "plan": "say how a run would be carried out and how long it would take, here or elsewhere",
    "verify": "check that a sink holds one valid result, or a recorded failure, for every series",
    "status": "say how far a sink is, and what failed",
    "manifest": "write the table of all series of a sink anew",
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
    described["completion"].add_argument(
        "shell", metavar="SHELL", choices=("bash", "zsh", "fish"), help="bash, zsh or fish"
    )
    add_results(described["config"])
    add_results(described["plan"])
    for command in QUESTIONS:
        add_shown(described[command])


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
