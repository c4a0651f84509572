"""
The command line: arguments in, exit code out; the only package that prints.

Covers exit codes and how errors look. *Arguments* are described in `parser`, `options` and
`arguments`, and checked by `values`; *settings* are layered in `settings`; each *command* is a
function of the module named in `CARRIED_OUT_BY`; *progress* is a bar or lines of JSON.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import traceback
from typing import TYPE_CHECKING

import fastlung
from fastlung import errors
from fastlung.cli.output import Outputs
from fastlung.cli.parser import build_parser, parse

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

__all__ = ["main"]

#: First match decides; see the table in `fastlung.errors`.
EXIT_CODES: tuple[tuple[type[Exception], int], ...] = (
    (errors.ConfigError, 2),
    (errors.NothingFoundError, 3),
    (errors.StoreError, 4),
    (errors.FastlungError, 1),
)
INTERRUPTED = 130
#: The answer could not be written to standard output, as to a disk that is full.
UNTOLD = 4
#: Commands that do more than to print: their exit code says how that went.
WORKS = {"process", "demo", "manifest", "preview"}
#: Sub-command -> module of this package, and function in it.
CARRIED_OUT_BY = {
    "process": ("process", "process"),
    "inspect": ("inspect", "inspect"),
    "demo": ("demo", "demo"),
    "profile": ("profile", "answer_profile"),
    "preview": ("ask", "draw"),
    "plan": ("plan", "answer_plan"),
    "verify": ("ask", "answer_verify"),
    "status": ("ask", "answer_status"),
    "manifest": ("ask", "answer_manifest"),
    "compare": ("compare", "answer_compare"),
    "config": ("settings", "print_config"),
    "doctor": ("ask", "answer_doctor"),
    "completion": ("completion", "print_completion"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run one command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; by default those of this process.

    Returns
    -------
    int
        Exit code: 0 all done, 1 some scans failed, 2 wrong usage or configuration, 3 nothing
        found, 4 storage unreachable or refused, 130 interrupted.
    """
    with Outputs() as outputs:
        try:
            args = parse(sys.argv[1:] if argv is None else argv)
        except SystemExit as leaving:  # argparse has printed the help, or what is wrong
            return leaving.code if isinstance(leaving.code, int) else 1
        code = _carried_out(args)
        sys.stdout.flush()
        if not outputs.trouble:
            return code
        does_more = args.command in WORKS
        if does_more or not outputs.reader_left:
            rest = ", and the work went on" if does_more else ", so that the answer is lost"
            sys.stderr.write(f"fastlung: {outputs.trouble}{rest}\n")
        if does_more:
            return code
        return code or (1 if outputs.reader_left else UNTOLD)


def _carried_out(args: Namespace) -> int:
    """Exit code, and one sentence where something went wrong."""
    try:
        return _run(args)
    except errors.FastlungError as error:
        return _explain(error, debug=args.debug)
    except KeyboardInterrupt as asked:
        by = f" by {asked}, after what was in work" if str(asked) else ""
        sys.stderr.write(
            f"fastlung: interrupted{by}; type the same command again to do what is missing\n"
        )
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - a bug of ours; its text may quote a file's content
        return _report_bug(error, debug=args.debug)


def _run(args: Namespace) -> int:
    if args.version:
        sys.stdout.write(f"fastlung {fastlung.__version__}\n")
        return 0
    if args.command is None:
        sys.stderr.write(build_parser().format_help())
        return 2
    if args.debug:
        logging.basicConfig(format="%(name)s: %(message)s")
        logging.getLogger("fastlung").setLevel(logging.DEBUG)
    _leave_a_lost_folder(args)
    # Imported here: `--help` and wrong usage answer without NumPy, Numba or pydantic.
    module, name = CARRIED_OUT_BY[args.command]
    carry_out = getattr(importlib.import_module(f"fastlung.cli.{module}"), name)
    code: int = carry_out(args)
    return code


def _leave_a_lost_folder(args: Namespace) -> None:
    """Go elsewhere where the working folder was removed; only paths that begin there need it."""
    try:
        os.getcwd()  # noqa: PTH109 - pathlib would be loaded for it
    except OSError:
        for name in ("source", "sink", "scan", "out", "config", "output"):
            path = getattr(args, name, None)
            if isinstance(path, str) and not path.startswith(("/", "~", "s3://", "file://")):
                raise errors.ConfigError(
                    f"{path}: the working folder is gone; go to another, or give the path from / on"
                ) from None
        os.chdir("/")  # some libraries ask for it when they are loaded


def _trace(error: BaseException) -> str:
    """
    Write the traceback of an error and of its causes.

    Of exceptions that are not ours, whose text may quote a value or a path, the class only.
    """
    behind = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    before = f"{_trace(behind)}\nwhich led to\n\n" if behind is not None else ""
    text = f": {error}" if isinstance(error, errors.FastlungError) else ""
    places = "".join(traceback.format_tb(error.__traceback__))
    return f"{before}Traceback (most recent call last):\n{places}{type(error).__name__}{text}\n"


def _report_bug(error: Exception, *, debug: bool) -> int:
    if debug:
        sys.stderr.write(_trace(error))
    sys.stderr.write(
        f"fastlung: internal error ({type(error).__name__}), a bug in fastlung: please report it; "
        "--debug shows the traceback\n"
    )
    return 1


def _explain(error: errors.FastlungError, *, debug: bool) -> int:
    if debug:
        sys.stderr.write(_trace(error))
    sys.stderr.write(f"fastlung: error: {error}\n")
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))
