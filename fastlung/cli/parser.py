"""
What can be typed: sub-commands, options, their help and their limits.

Covers words and plain values only; whether they fit together is `fastlung.config`'s and the
commands' business. Imports nothing but the standard library, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import difflib
import math
import re
import sys
from typing import TYPE_CHECKING, NoReturn

from fastlung.cli.questions import QUESTION_EPILOGS, QUESTIONS, describe_questions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["COMMANDS", "OneOf", "build_parser", "parse"]

#: Sub-commands and what they are for.
COMMANDS = {
    "process": "turn CT series into isotropic volumes and lung masks",
    "inspect": "list the CT series in a folder and say what their geometry is",
    "demo": "make a small synthetic cohort and process it",
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
  event            run_planned, kernels_ready, scan_ended or run_ended
  elapsed_seconds  since the start
  run_planned      source_groups, already_done, workers, chunk_size, worker_bytes,
                   memory_budget_bytes, reasons
  kernels_ready    seconds
  scan_ended       scan, group, status (done, failed, skipped), error, message, verdict, flags,
                   seconds, peak_rss_bytes
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
"""

DEMO_EPILOG = """\
examples:
  fastlung demo
  fastlung demo /tmp/lungs

Writes six small synthetic series (a duplicated slice, a gap, a padding circle, ...), processes
them as `fastlung process` would, and says where things are. Takes 150 MB of disk.
"""

SOURCE_HELP = (
    "folder or s3:// prefix with DICOM series, MetaImage or NIfTI volumes, or zip and tar archives "
    "of DICOM, searched below; or one archive or volume; or a list (.txt, .s5cmd) of such, one a "
    "line"
)

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


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
        _refuse(f"unknown command {first!r}; {_suggestion(first, COMMANDS)}", "fastlung")
    values, unknown = build_parser().parse_known_args(_joined(argv))
    prog = f"fastlung {values.command}" if values.command else "fastlung"
    if unknown and unknown[0].startswith("-"):
        options = ["--" + name.replace("_", "-") for name in vars(values)]
        name = unknown[0].partition("=")[0]
        _refuse(f"unknown option {name!r}; {_suggestion(name, options)}", prog)
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
    epilogs |= QUESTION_EPILOGS
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
    describe_questions(described, _add_shown, _describe_configuration)
    describe_storage(described["verify"])
    return parser


def _describe_process(parser: argparse.ArgumentParser) -> None:
    _describe_source(parser)
    parser.add_argument(
        "sink", metavar="SINK", help="folder or s3:// prefix for the results; made if missing"
    )
    _describe_configuration(parser)
    rerun = parser.add_argument_group("what happens to earlier results")
    rerun.add_argument(
        "--overwrite",
        action="store_true",
        help="do everything again, also in a SINK written with other options",
    )
    rerun.add_argument(
        "--retry-failed",
        action="store_true",
        help="try scans again that failed by their own bytes (default: only other failures)",
    )
    describe_storage(parser)
    shown = parser.add_argument_group("what is printed")
    shown.add_argument(
        "--dry-run", action="store_true", help="say what would be done, and write nothing"
    )
    _add_shown(shown)


def _describe_configuration(parser: argparse.ArgumentParser) -> None:
    parser.add_argument_group("where options come from").add_argument(
        "--config",
        metavar="FILE",
        help="TOML with options by the names that `fastlung config` prints, or the run.json of a "
        "sink; FASTLUNG_ variables and options below are stronger",
    )
    _describe_results(parser.add_argument_group("what is written"))
    _describe_policies(parser.add_argument_group("what is done about irregular series"))
    _add_limit(parser.add_argument_group("what is taken at all"))
    _describe_carrying_out(parser.add_argument_group("how it is carried out"))


def _describe_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help=SOURCE_HELP)
    parser.add_argument(
        "--group-by",
        type=OneOf("folder", "series"),
        metavar="NAME",
        help="series: put together series whose files are spread over folders, after a look at "
        "every header (default: folder)",
    )


def _describe_results(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--preset",
        type=OneOf("hu", "tutorial"),
        metavar="NAME",
        help="hu: int16 HU (default); tutorial: the Kaggle DSB 2017 tutorial's float32 numbers; "
        "options below override it",
    )
    group.add_argument(
        "--spacing",
        type=_spacing,
        metavar="MM",
        help="distance between voxels in mm, one number or Z,Y,X (default: 1)",
    )
    group.add_argument(
        "--order",
        type=int,
        choices=(0, 1, 3),
        help="interpolation: 0 nearest, 1 linear, 3 cubic spline (default: 3)",
    )
    group.add_argument(
        "--mask",
        type=OneOf("default", "tutorial", "none"),
        metavar="NAME",
        help="default: right lung 1, left lung 2, without airways; tutorial: the tutorial's; "
        "none (default: the preset's)",
    )
    group.add_argument(
        "--no-mask", dest="mask", action="store_const", const="none", help="the same as --mask none"
    )
    group.add_argument(
        "--crop",
        type=OneOf("none", "body", "lungs"),
        metavar="NAME",
        help="keep only the box around the body or the lungs; a scan without is kept whole and "
        "flagged (default: none)",
    )
    group.add_argument(
        "--margin",
        type=_number,
        metavar="MM",
        help="left around what is cropped to, in mm (default: 5)",
    )
    group.add_argument(
        "--window",
        type=_window,
        metavar="LOW,HIGH",
        help="HU that become 0 and 1, clipped outside, as in -1000,400; none keeps HU (default: "
        "the preset's)",
    )
    group.add_argument(
        "--dtype",
        type=OneOf("int16", "float32", "uint8"),
        metavar="NAME",
        help="int16: HU (default without a window); float32: fractions of the window (default with "
        "one), or HU; uint8: the window as 0 to 255",
    )
    group.add_argument(
        "--zero-centre",
        type=_number,
        metavar="X",
        help="subtracted after the window (default: 0; tutorial: 0.25)",
    )
    group.add_argument(
        "--format",
        type=OneOf("npy", "npz", "nifti", "mha", "zarr"),
        metavar="NAME",
        help="npy, npz, nifti, mha or zarr (default: npy)",
    )
    group.add_argument(
        "--names",
        type=OneOf("series", "folder", "hash"),
        metavar="NAME",
        help="what results are called: series (SeriesInstanceUID), folder (path below SOURCE) or "
        "hash (default: series)",
    )


def _describe_policies(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--on-gap",
        type=OneOf("interpolate", "nearest", "split", "fail"),
        metavar="NAME",
        help="slices missing: interpolate across (default), nearest slice, split into series, fail",
    )
    group.add_argument(
        "--on-duplicate",
        type=OneOf("drop-identical", "first", "split", "fail"),
        metavar="NAME",
        help="several slices at one position: drop-identical (default; acquisitions become "
        "series), first by instance number, split by instance number, fail",
    )
    group.add_argument(
        "--on-tilt",
        type=OneOf("shear", "keep", "fail"),
        metavar="NAME",
        help="tilted gantry: shear to where slices lie (default), keep them stacked straight, fail",
    )
    group.add_argument(
        "--on-variable-spacing",
        type=OneOf("true-positions", "fail"),
        metavar="NAME",
        help="steps of several sizes: interpolate at true-positions (default), fail",
    )
    group.add_argument(
        "--on-mixed-orientation",
        type=OneOf("largest", "split", "fail"),
        metavar="NAME",
        help="several orientations in a series: largest stack (default), split into series, fail",
    )
    group.add_argument(
        "--min-slices",
        type=_count,
        metavar="N",
        help="fewest slices that make a volume (default: 3)",
    )
    group.add_argument(
        "--force",
        action="store_const",
        const=True,
        help="read files without DICOM preamble or file meta, too",
    )


def _describe_carrying_out(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--workers",
        type=_number_or_auto,
        metavar="N",
        help="worker processes; 0 works in this process (default: auto, from CPUs and memory)",
    )
    group.add_argument(
        "--chunk-size",
        type=_number_or_auto,
        metavar="N",
        help="folders of scans handed to a worker at once (default: auto)",
    )
    group.add_argument(
        "--memory-limit",
        type=_size,
        metavar="SIZE",
        help="memory for all workers together, such as 8GiB (default: what this machine or its "
        "container allows)",
    )
    group.add_argument(
        "--auto-tune",
        action="store_true",
        help="choose workers and chunk size from this machine's CPUs and memory and the size of "
        "the scans, and print each choice with its reason; this version plans before the run and "
        "does not adjust it while it runs",
    )
    group.add_argument(
        "--scan-timeout",
        type=_number,
        metavar="SECONDS",
        help="give up a scan after this many seconds (default: 1800)",
    )


def _describe_inspect(parser: argparse.ArgumentParser) -> None:
    _describe_source(parser)
    _describe_policies(parser.add_argument_group("what would be done about irregular series"))
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
    _add_limit(parser)
    _add_shown(parser)


def describe_storage(parser: argparse.ArgumentParser) -> None:
    """
    Add the options of s3://, spelt as the AWS command line spells them.

    Parameters
    ----------
    parser : ArgumentParser
        Of a command that reads or writes a store.
    """
    group = parser.add_argument_group("how s3:// is reached, as the AWS command line spells it")
    group.add_argument(
        "--endpoint-url",
        metavar="URL",
        help="an S3 that is not Amazon's (default: AWS_ENDPOINT_URL, or Amazon's)",
    )
    group.add_argument("--profile", metavar="NAME", help="profile of the AWS configuration")
    group.add_argument(
        "--region", metavar="NAME", help="region of the buckets (default: each is asked)"
    )
    group.add_argument(
        "--no-sign-request", action="store_true", help="send no credentials: public buckets"
    )
    group.add_argument(
        "--request-payer",
        type=OneOf("requester"),
        metavar="requester",
        help="agree to pay for what is downloaded from a requester-pays bucket",
    )


def _describe_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        default="fastlung-demo",
        help="where to write (default: fastlung-demo, here)",
    )
    _add_shown(parser)


def _add_limit(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--limit",
        type=_limit,
        action="append",
        default=[],
        metavar="NAME=N",
        help="take larger input, or only smaller one: object_bytes (default: 1GiB), group_objects "
        "(50000), rows_columns (4096), frames (5000), slices (5000), scan_bytes (8GiB), "
        "header_bytes (8MiB), sequence_depth (32), inflate_ratio (4), inflate_spare_bytes (16MiB), "
        "output_voxels (4e9); may be given several times; --retry-failed tries again what an "
        "earlier limit refused",
    )


def _add_shown(group: argparse._ActionsContainer) -> None:
    group.add_argument("--quiet", action="store_true", help="print failures and errors only")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _joined(argv: Sequence[str]) -> list[str]:
    """Attach a window such as ``-1000,400`` to its option: argparse takes it for an option."""
    joined: list[str] = []
    for argument in argv:
        if joined and joined[-1] == "--window" and re.match(r"-[\d.]", argument):
            joined[-1] = f"--window={argument}"
        else:
            joined.append(argument)
    return joined


def _refuse(sentence: str, prog: str) -> NoReturn:
    sys.stderr.write(f"fastlung: error: {sentence} (see {prog} --help)\n")
    raise SystemExit(2)


def _suggestion(name: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"


class OneOf:
    """
    Checks a name; argparse's own ``choices`` would not say which one was meant.

    Parameters
    ----------
    *known : str
        Names it takes.
    """

    def __init__(self, *known: str) -> None:
        self.known = known

    def __call__(self, text: str) -> str:
        """Return a name that is known."""
        if text not in self.known:
            hint = _suggestion(text, self.known)
            raise argparse.ArgumentTypeError(f"unknown name {text!r}; {hint}")
        return text


def _numbers(text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        return ()
    return numbers if all(map(math.isfinite, numbers)) else ()


def _number(text: str) -> float:
    numbers = _numbers(text)
    if len(numbers) != 1:
        raise argparse.ArgumentTypeError(f"expected one number, and found {text!r}")
    return numbers[0]


def _spacing(text: str) -> tuple[float, float, float]:
    numbers = _numbers(text)
    if len(numbers) == 1:
        return numbers * 3
    if len(numbers) == 3:  # noqa: PLR2004 - z, y, x
        return numbers
    raise argparse.ArgumentTypeError(
        f"expected one number in mm, or three as Z,Y,X, and found {text!r}"
    )


def _window(text: str) -> tuple[float, float] | str:
    if text == "none":
        return text
    numbers = _numbers(text)
    if len(numbers) != 2:  # noqa: PLR2004 - low, high
        raise argparse.ArgumentTypeError(
            f"expected two numbers in HU as LOW,HIGH, such as -1000,400, and found {text!r}"
        )
    return numbers[0], numbers[1]


def _number_or_auto(text: str) -> int | str:
    if text == "auto":
        return text
    if re.fullmatch(r"[0-9]{1,6}", text) is None:
        raise argparse.ArgumentTypeError(f"expected a whole number or auto, and found {text!r}")
    return int(text)


def _count(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,6}", text) is None:
        raise argparse.ArgumentTypeError(f"expected a whole number, and found {text!r}")
    return int(text)


def _limit(text: str) -> tuple[str, int]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(
            f"expected NAME=N, such as slices=8000, and found {text!r}"
        )
    if re.fullmatch(r"[0-9]{1,18}", value):
        return name, int(value)
    return name, _size(value)


def _size(text: str) -> int:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT]?I?B)", text.strip().upper())
    if match is None or match[2] not in UNITS:
        raise argparse.ArgumentTypeError(
            f"expected a number with its unit, such as 8GiB or 500MB, and found {text!r}"
        )
    return int(float(match[1]) * UNITS[match[2]])
