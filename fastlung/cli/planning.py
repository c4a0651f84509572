"""What ``fastlung plan`` answers: how a run would go, as lines or JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from fastlung.cli.commands import asked_for, say
from fastlung.cli.renting import answer_compare_instances
from fastlung.errors import ConfigError
from fastlung.measure.forecast import forecast
from fastlung.plan.catalogue import imagined
from fastlung.text import byte_size, count, duration

if TYPE_CHECKING:
    from argparse import Namespace

    from fastlung.measure.forecast import Forecast
    from fastlung.plan.machine import Machine

__all__ = ["answer_plan"]


def answer_plan(args: Namespace) -> int:
    """
    Carry out ``fastlung plan``.

    Parameters
    ----------
    args : Namespace
        What was typed.

    Returns
    -------
    int
        Always 0.

    Raises
    ------
    FastlungError
        If the source cannot be listed, or no scan would fit into memory.
    """
    if args.compare_instances:
        return answer_compare_instances(args)
    for option in ("deadline", "measured", "all", "catalogue", "refresh"):
        if getattr(args, option):
            raise ConfigError(f"--{option}: goes with --compare-instances")
    if args.source.lower().endswith(".csv"):
        raise ConfigError(
            f"{args.source}: a table of series has no pixels to plan a run for; what processing it "
            "would cost is said with --compare-instances"
        )
    config, options = asked_for(args)
    machine = imagined(
        instance=args.instance,
        cpus=args.cpus,
        memory_bytes=args.memory,
        network_bytes_per_second=args.network,
    )
    found = forecast(args.source, args.sink, config, options, machine)
    if args.json:
        plain = asdict(found) | {"config_digest": config.digest}
        sys.stdout.write(json.dumps(plain, indent=1) + "\n")
    elif not args.quiet:
        say(*_lines(found))
    return 0


def _lines(found: Forecast) -> list[str]:
    plan = found.plan
    groups = count(found.groups, "folder")
    left = f"{groups} to process, {byte_size(found.source_bytes)}"
    lines = [
        f"{left}; {found.already_done:,} already done. Nothing is written.",
        _machine(found.machine),
        f"Plan: {count(plan.workers, 'worker')}, chunks of {plan.chunk_size}.",
        *(f"  {reason}" for reason in plan.reasons),
    ]
    if found.seconds is not None:
        lines.append(f"About {duration(found.seconds)}, limited by {plan.limit}.")
    return lines


def _machine(machine: Machine) -> str:
    link = machine.link_bytes_per_second
    network = f"{machine.link_origin}, so it is taken never to bind"
    if link is not None:
        network = f"{link * 8 / 1e9:g} Gbit/s ({machine.link_origin})"
    return (
        f"Machine: {machine.cpus} {machine.cpus_origin}; "
        f"{byte_size(machine.memory_available_bytes)} free of "
        f"{byte_size(machine.memory_limit_bytes)} ({machine.memory_origin}); network: {network}."
    )
