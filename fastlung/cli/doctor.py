"""What ``fastlung doctor`` answers: facts as lines or JSON, problems below them."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING

from fastlung.cli.commands import say
from fastlung.cli.settings import storage_typed
from fastlung.config import build_store_options
from fastlung.doctor import examine
from fastlung.text import byte_size

if TYPE_CHECKING:
    from argparse import Namespace

    from fastlung.doctor import Fact

__all__ = ["answer_doctor"]

#: Names end so where the value is a number of bytes.
BYTES = ", bytes"


def answer_doctor(args: Namespace) -> int:
    """
    Carry out ``fastlung doctor``.

    Parameters
    ----------
    args : Namespace
        What was typed.

    Returns
    -------
    int
        0 if nothing would keep a run from working, else 1.
    """
    facts = examine(args.sink, build_store_options(**storage_typed(args)))
    problems = [f"{_name(fact)}: {fact.problem}" for fact in facts if fact.problem]
    if args.json:
        sys.stdout.write(json.dumps([asdict(fact) for fact in facts], indent=1) + "\n")
    elif args.quiet:
        sys.stderr.writelines(f"{line}\n" for line in problems)
    else:
        for topic, group in groupby(facts, key=lambda fact: fact.topic):
            say(topic, *map(_line, group))
        say("", *(problems or ["All is well."]))
    return int(bool(problems))


def _name(fact: Fact) -> str:
    return fact.name.removesuffix(BYTES)


def _line(fact: Fact) -> str:
    value = str(fact.value)
    if fact.value is None:
        value = "nothing"
    elif fact.name.endswith(BYTES):
        value = byte_size(float(fact.value))
    origin = f"  [{fact.origin}]" if fact.origin else ""
    return f"  {'!' if fact.problem else ' '} {_name(fact):<36}{value}{origin}"
