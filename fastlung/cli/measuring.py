"""
What can be typed for measuring machines and for comparing what might be rented.

Words only, as in `fastlung.cli.parser`; what is answered is `fastlung.cli.profiling`'s and
`fastlung.cli.renting`'s.
"""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from fastlung.cli.options import describe_results
from fastlung.cli.values import count, size

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PROFILE_EPILOG", "describe_profile", "describe_renting"]

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
    parser.set_defaults(auto_tune=False, limit=[])  # what `resolve` asks for, and nobody types here
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
        help="another catalogue of instances (default: the one that comes along, or was fetched)",
    )
