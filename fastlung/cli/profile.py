"""The command `profile`: measure this machine, or compare profiles."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from fastlung.cli.output import say
from fastlung.cli.settings import resolve
from fastlung.errors import ConfigError
from fastlung.measure.compare import compare, compare_svg, compare_text
from fastlung.measure.measure import ProfileOptions, measure
from fastlung.measure.profile import read_profile
from fastlung.measure.report import profile_svg, profile_text
from fastlung.plan.catalogue import read_catalogue
from fastlung.plan.machine import probe

if TYPE_CHECKING:
    from argparse import Namespace

__all__ = ["answer_profile"]

COMPARE = "compare"


def answer_profile(args: Namespace) -> int:
    """Carry out ``fastlung profile``; always 0."""
    if args.source[:1] == [COMPARE]:
        return _compare(args)
    if len(args.source) > 1:
        raise ConfigError(f"one source at most, and found {len(args.source)}")
    settings = resolve(args, os.environ)
    options = ProfileOptions(
        source=args.source[0] if args.source else None,
        sink=args.sink,
        cpus=args.cpus or (),
        memory_limits_bytes=args.memory or (),
        scans_per_cpu=args.scans,
        rounds=args.rounds,
        config=settings.config,
        storage=settings.options.storage,
    )
    profile = measure(options, _print_nothing if args.quiet else _print, probe().instance_type)
    if args.output:
        _write(args.output, profile.model_dump_json(indent=1) + "\n")
    if args.svg:
        _write(args.svg, profile_svg(profile))
    if not args.quiet:
        say(profile_text(profile))
    return 0


def _compare(args: Namespace) -> int:
    files = args.source[1:]
    if not files:
        raise ConfigError(
            "compare: name the profiles, as in fastlung profile compare a.json b.json"
        )
    names = [Path(file).stem for file in files]
    twice = {name for name, times in Counter(names).items() if times > 1}
    profiles = {
        (file if name in twice else name): read_profile(file)
        for name, file in zip(names, files, strict=True)
    }
    compared = compare(profiles, read_catalogue(args.catalogue).instances)
    if args.svg:
        _write(args.svg, compare_svg(compared))
    if not args.quiet:
        say(compare_text(compared))
    return 0


def _print(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _print_nothing(_line: str) -> None:
    return


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, "utf-8")
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise ConfigError(f"{path}: cannot be written ({why}); give another file") from None
