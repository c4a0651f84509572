"""
The parser: sub-commands, their arguments and their help.

Covers words and plain values only; whether they fit together is decided by `fastlung.config` and
the commands. Imports nothing but the standard library, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING, NoReturn

from fastlung.cli.arguments import (
    PROFILE_EPILOG,
    QUESTION_EPILOGS,
    QUESTIONS,
    describe_profile,
    describe_questions,
    describe_renting,
)
from fastlung.cli.options import (
    add_limit,
    add_preset,
    add_shown,
    describe_configuration,
    describe_policies,
    describe_reruns,
    describe_source,
    describe_storage,
)
from fastlung.cli.values import OneOf, count, slice_asked, suggestion

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["COMMANDS", "build_parser", "parse"]

#: Sub-commands and what they are for.
COMMANDS = {
    "process": "turn CT series into isotropic volumes and lung masks",
    "inspect": "list the CT series in a folder and say what their geometry is",
    "demo": "make a small synthetic cohort and process it",
    "profile": "measure this machine at several sizes, or compare such profiles",
    "preview": "draw one scan, of a sink or still to be processed, as a PNG",
    **QUESTIONS,
}

DESCRIPTION = "Lung CT DICOM in, training-ready volumes and lung masks out."

EPILOG = """\
examples:
  fastlung demo                         see it work: no data needed
  fastlung inspect scans/               what is there
  fastlung process scans/ volumes/      1 mm volumes in HU, and lung masks
  fastlung verify scans/ volumes/       is everything there, and whole?
  fastlung process --help               every option

exit codes: 0 all done, 1 some scans failed, 2 wrong usage, 3 nothing found,
4 storage unreachable or refused, 130 interrupted.
"""

PROCESS_EPILOG = """\
examples:
  fastlung process scans/ volumes/
      1 mm isotropic int16 volumes in HU and uint8 lung masks, as .npy
  fastlung process scans/ volumes/ --format nifti --spacing 1.5
  fastlung process scans/ volumes/ --spacing 2.5,0.8,0.8 --no-mask
  fastlung process scans/ volumes/ --crop lungs --window -1000,400 --dtype uint8
      only the box around the lungs, in a byte a voxel
  fastlung process scans/ volumes/ --preset tutorial
      the numbers of the Kaggle DSB 2017 preprocessing tutorial, as float32
  fastlung process scans/ volumes/ --auto-tune --dry-run
      what would be done, with how many workers, and why
  fastlung process s3://bucket/stage1/ s3://bucket/preprocessed/ --profile lab
  fastlung process manifest.s5cmd volumes/ --no-sign-request
  fastlung process study.zip volumes/

Type the same command again to finish what is missing: scans that are done are left alone.

On a terminal a bar shows progress. Anywhere else each event is one line of JSON on standard output:
  event            run_planned, sink_unguarded, kernels_ready, scan_ended, progress, names_settled
                   or run_ended
  elapsed_seconds  since the start
  run_planned      source_groups, already_done, listed (or are there more), older (scans that
                   other revisions have made), workers, chunk_size, worker_bytes,
                   memory_budget_bytes, reasons
  sink_unguarded   sink, message; only where a store ignores conditional creates
  kernels_ready    seconds; note, where compiled kernels cannot be kept as usual
  scan_ended       scan, group, status (done, failed, skipped), error, message, verdict, flags,
                   seconds, peak_rss_bytes
  progress         every ten seconds: source_groups, listed, ended, workers, fetched_bytes,
                   stored_bytes, peak_worker_bytes, memory_available_bytes, ahead_bytes, requests,
                   why
  names_settled    moved: group, before, scan of what was given another name, because several
                   source folders hold the same series
  run_ended        done, failed, skipped, already_done, seconds, exit_code, text (the summary)
"""

INSPECT_EPILOG = """\
examples:
  fastlung inspect scans/
  fastlung inspect scans/ --csv > series.csv
  fastlung inspect scans/ --strict-like idc
      how many series stricter rules exclude, and how many of those can be processed
  fastlung inspect scans/ --json | jq '.[] | select(.verdict != ["regular"])'

Reads headers only. Nothing is written, and no patient data is shown.
Exit code: 0 if all of it can be processed by its headers, 1 otherwise.
"""

DEMO_EPILOG = """\
examples:
  fastlung demo
  fastlung demo /tmp/lungs

Writes six small synthetic series (a duplicated slice, a gap, a padding circle, ...), processes
them as `fastlung process` would, and says where things are. Takes 150 MB of disk.
"""


PREVIEW_EPILOG = """\
examples:
  fastlung preview volumes/scans/1.2.3
  fastlung preview scans/patient-7 --out patient-7.png
  fastlung preview scans/patient-7 --slice 120
  fastlung preview scans/patient-7 --slice -85.5mm
      the axial slice nearest to that height in the patient
  fastlung preview s3://bucket/ct.nii.gz --preset tutorial

Axial, coronal and sagittal where the lungs are largest, and the brightest voxel of the lungs seen
from the front; right lung orange, left lung blue. Nothing of a patient's name or number is in it.
"""


#: Options whose value may begin with a minus.
SIGNED = ("--window", "--standardise", "--slice")


class _Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that says what is wrong in one sentence, without the usage."""

    def error(self, message: str) -> NoReturn:
        _refuse(message, self.prog)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """
    Turn a command line into values.

    Parameters
    ----------
    argv : sequence of str
        Arguments, without the program's name.

    Returns
    -------
    Namespace
        Values by option name; None where an option was not given.

    Raises
    ------
    SystemExit
        With code 2 and one sentence on standard error for what cannot be understood; with code 0
        after ``--help``.
    """
    first = argv[0] if argv else ""
    if first and not first.startswith("-") and first not in COMMANDS:
        _refuse(f"unknown command {first!r}; {suggestion(first, COMMANDS)}", "fastlung")
    values, unknown = build_parser().parse_known_args(_joined(argv))
    prog = f"fastlung {values.command}" if values.command else "fastlung"
    if unknown and unknown[0].startswith("-"):
        options = ["--" + name.replace("_", "-") for name in vars(values)]
        name = unknown[0].partition("=")[0]
        _refuse(f"unknown option {name!r}; {suggestion(name, options)}", prog)
    if unknown:
        _refuse(f"one argument too many: {unknown[0]!r}", prog)
    return values


def build_parser() -> argparse.ArgumentParser:
    """
    Describe the whole command line.

    Returns
    -------
    ArgumentParser
        With one sub-parser for each of `COMMANDS`.
    """
    parser = _Parser(
        prog="fastlung",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="print the version and leave")
    parser.set_defaults(debug=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    epilogs = {"process": PROCESS_EPILOG, "inspect": INSPECT_EPILOG, "demo": DEMO_EPILOG}
    epilogs |= {"profile": PROFILE_EPILOG, "preview": PREVIEW_EPILOG, **QUESTION_EPILOGS}
    described = {
        name: commands.add_parser(
            name,
            help=purpose,
            description=f"{purpose[0].upper()}{purpose[1:]}.",
            epilog=epilogs[name],
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        for name, purpose in COMMANDS.items()
    }
    _describe_process(described["process"])
    _describe_inspect(described["inspect"])
    _describe_demo(described["demo"])
    _describe_preview(described["preview"])
    describe_questions(described, add_shown, describe_configuration)
    describe_profile(described["profile"], add_shown)
    describe_renting(described["plan"])
    describe_reruns(described["plan"])
    for name in ("profile", "plan", "verify", "status", "manifest", "compare", "doctor"):
        describe_storage(described[name])
    return parser


def _describe_process(parser: argparse.ArgumentParser) -> None:
    describe_source(parser)
    parser.add_argument(
        "sink", metavar="SINK", help="folder or s3:// prefix for the results; made if missing"
    )
    describe_configuration(parser)
    describe_reruns(parser)
    describe_storage(parser)
    shown = parser.add_argument_group("what is printed")
    shown.add_argument(
        "--dry-run", action="store_true", help="say what would be done, and write nothing"
    )
    add_shown(shown)


def _describe_inspect(parser: argparse.ArgumentParser) -> None:
    describe_source(parser)
    describe_policies(parser.add_argument_group("what would be done about irregular series"))
    parser.add_argument(
        "--strict-like",
        type=OneOf("idc"),
        metavar="NAME",
        help="say which series other rules exclude; idc: the NLST cohort of IDC's CloudSegmentator",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="a JSON list, one object a series")
    form.add_argument("--csv", action="store_true", help="CSV, one row a series")
    describe_storage(parser)
    add_limit(parser)
    add_shown(parser)


def _describe_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        default="fastlung-demo",
        help="where to write (default: fastlung-demo, here)",
    )
    add_shown(parser)


def _describe_preview(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "scan",
        metavar="SCAN",
        help="folder of a scan in a sink; or a folder or archive of one DICOM series, or a "
        "MetaImage or NIfTI volume, which is processed first; or an s3:// URL of one",
    )
    parser.add_argument(
        "--slice",
        type=slice_asked,
        metavar="N|MMmm",
        help="axial slice by its index, or by its height in the patient, as in -85.5mm (default: "
        "the one with most lung)",
    )
    parser.add_argument("--number", type=count, metavar="N", help="which of several series, from 1")
    parser.add_argument(
        "--out", metavar="FILE", default="preview.png", help="(default: preview.png, here)"
    )
    add_preset(parser)
    describe_storage(parser)
    add_limit(parser)
    add_shown(parser)


def _joined(argv: Sequence[str]) -> list[str]:
    """Attach a window such as ``-1000,400`` to its option: argparse takes it for an option."""
    joined: list[str] = []
    for argument in argv:
        if joined and joined[-1] in SIGNED and re.match(r"-[\d.]", argument):
            joined[-1] = f"{joined[-1]}={argument}"
        else:
            joined.append(argument)
    return joined


def _refuse(sentence: str, prog: str) -> NoReturn:
    sys.stderr.write(f"fastlung: error: {sentence} (see {prog} --help)\n")
    raise SystemExit(2)
