"""What ``fastlung preview`` does: draw one scan into a file, and say where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlung.cli.commands import say
from fastlung.cli.settings import storage_typed
from fastlung.config import build_store_options
from fastlung.limits import limited
from fastlung.previews import preview

if TYPE_CHECKING:
    from argparse import Namespace

__all__ = ["draw"]


def draw(args: Namespace) -> int:
    """
    Carry out ``fastlung preview``.

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
        If the scan cannot be read, or the picture cannot be written.
    """
    asked = {} if args.slice is None else args.slice
    with limited(**dict(args.limit)):
        drawn = preview(
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
