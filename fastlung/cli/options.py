"""
Groups of options that commands share, with their help.

Each function adds one group to a parser. Which command takes which is `fastlung.cli.parser`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlung.cli.values import (
    OneOf,
    count,
    limit,
    number,
    number_or_auto,
    pair,
    size,
    spacing,
    voxels,
    window,
)
from fastlung.recipe import PRESETS

if TYPE_CHECKING:
    import argparse

__all__ = [
    "add_limit",
    "add_preset",
    "add_shown",
    "describe_configuration",
    "describe_policies",
    "describe_reruns",
    "describe_results",
    "describe_source",
    "describe_storage",
]

SOURCE_HELP = (
    "folder or s3:// prefix with DICOM series, MetaImage or NIfTI volumes, or zip and tar archives "
    "of DICOM, searched below; or one archive or volume; or a list (.txt, .s5cmd) of such, one a "
    "line"
)


def describe_configuration(parser: argparse.ArgumentParser) -> None:
    """Everything that decides what a run does and how, and where it may be read from."""
    origins = parser.add_argument_group("where options come from")
    origins.add_argument(
        "--config",
        metavar="FILE",
        help="TOML with options by the names that `fastlung config` prints, or the run.json of a "
        "sink; FASTLUNG_ variables and options below are stronger",
    )
    origins.add_argument(
        "--allow-commands",
        action="store_true",
        help="carry out the mask_command or mask_function of that run.json, too; without it they "
        "are refused, because a sink may be anybody's",
    )
    describe_results(parser.add_argument_group("what is written"))
    describe_policies(parser.add_argument_group("what is done about irregular series"))
    add_limit(parser.add_argument_group("what is taken at all"))
    _describe_carrying_out(parser.add_argument_group("how it is carried out"))


def describe_source(parser: argparse.ArgumentParser) -> None:
    """SOURCE, and what counts as one unit of work in it."""
    parser.add_argument("source", metavar="SOURCE", help=SOURCE_HELP)
    parser.add_argument(
        "--group-by",
        type=OneOf("folder", "series"),
        metavar="NAME",
        help="series: put together series whose files are spread over folders, after a look at "
        "every header (default: folder)",
    )


def describe_results(group: argparse._ArgumentGroup) -> None:
    """Which voxels are made; then what their numbers and files are."""
    add_preset(group)
    add_recipe(group)
    group.add_argument(
        "--spacing",
        type=spacing,
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
        "--antialias",
        action="store_const",
        const=True,
        help="smooth first along each axis on which voxels become fewer, so that fine structure is "
        "averaged, not folded into coarse",
    )
    group.add_argument(
        "--mask",
        type=OneOf("default", "tutorial", "grt123", "none"),
        metavar="NAME",
        help="default: right lung 1, left lung 2, without airways; tutorial, grt123: theirs; "
        "none (default: the preset's)",
    )
    group.add_argument(
        "--no-mask", dest="mask", action="store_const", const="none", help="the same as --mask none"
    )
    _describe_segmenter(group)
    group.add_argument(
        "--airway",
        action="store_const",
        const=True,
        help="trachea and main bronchi as label 3 of the default mask",
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
        type=number,
        metavar="MM",
        help="left around what is cropped to, in mm (default: 5)",
    )
    group.add_argument(
        "--size",
        type=voxels,
        metavar="Z,Y,X",
        help="crop or pad every result to so many voxels, around its middle (sybil: 200,256,256)",
    )
    _describe_values(group)


def _describe_segmenter(group: argparse._ArgumentGroup) -> None:
    """A segmenter from outside."""
    group.add_argument(
        "--mask-command",
        metavar="COMMAND",
        help="run this where our own mask is flagged, as in 'lungmask {image} {mask}': it reads "
        "Hounsfield units from the NIfTI file {image} and writes labels (1 right lung, 2 left "
        "lung, 3 airway) to {mask}",
    )
    group.add_argument(
        "--mask-function",
        metavar="MODULE:NAME",
        help="the same by a Python function of Hounsfield units and grid",
    )
    group.add_argument(
        "--mask-on",
        type=OneOf("flagged", "all"),
        metavar="NAME",
        help="which scans these are asked about: flagged (default) or all",
    )
    group.add_argument(
        "--mask-timeout",
        type=number,
        metavar="SECONDS",
        help="give up a command after this many seconds (default: 600)",
    )


def _describe_values(group: argparse._ArgumentGroup) -> None:
    """What the numbers of a result are, and how it is stored and named."""
    group.add_argument(
        "--window",
        type=window,
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
        type=number,
        metavar="X",
        help="subtracted after the window (default: 0; tutorial: 0.25)",
    )
    group.add_argument(
        "--standardise",
        type=pair,
        metavar="MEAN,SD",
        help="after clipping to the window, subtract a mean and divide by a standard deviation, "
        "both in HU and of the data set",
    )
    group.add_argument(
        "--format",
        type=OneOf("npy", "npz", "nifti", "mha", "zarr"),
        metavar="NAME",
        help="npy, npz, nifti, mha or zarr (default: npy)",
    )
    group.add_argument(
        "--no-preview",
        dest="preview",
        action="store_const",
        const="none",
        help="write no picture beside each scan",
    )
    group.add_argument(
        "--names",
        type=OneOf("series", "folder", "hash"),
        metavar="NAME",
        help="what results are called: series (SeriesInstanceUID), folder (path below SOURCE) or "
        "hash (default: series)",
    )


def add_preset(group: argparse._ActionsContainer) -> None:
    """The preset, or a recipe of the user's own."""
    group.add_argument(
        "--preset",
        type=OneOf(*PRESETS),
        metavar="NAME",
        help="hu: int16 HU (default); tutorial: the Kaggle DSB 2017 tutorial's float32 numbers; "
        "grt123: its winner's bytes; luna16-monai, sybil, lungmask, merlin, colipri, spectre, "
        "spectre-siglip, vista3d, ct-clip, ct-fm, tap-ct: what those networks take; nnunet-ct: "
        "with --window and --standardise of your data set; options below override it",
    )


def add_recipe(group: argparse._ActionsContainer) -> None:
    """A recipe of the user's own."""
    group.add_argument(
        "--recipe",
        metavar="FILE",
        help="TOML with steps of your own, in place of a preset; `fastlung config --preset NAME` "
        "prints those of a preset to begin with",
    )


def describe_policies(group: argparse._ArgumentGroup) -> None:
    """What is done about irregular series."""
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
        "series), and of what nothing tells apart first by instance number, or split by it; fail",
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
        "--on-frame-of-reference",
        type=OneOf("join", "split"),
        metavar="NAME",
        help="FrameOfReferenceUID or StudyInstanceUID made anew for every file of one even row: "
        "join (default) or split",
    )
    group.add_argument(
        "--on-series-uid",
        type=OneOf("fail", "join"),
        metavar="NAME",
        help="SeriesInstanceUID made anew for every file of one even row: fail as one (default) or "
        "join",
    )
    group.add_argument(
        "--only",
        type=OneOf("all", "chest"),
        metavar="NAME",
        help="chest: skip, by name, what shows no chest or is a reformat (default: all, flagged)",
    )
    group.add_argument(
        "--min-slices",
        type=count,
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
        type=number_or_auto,
        metavar="N",
        help="worker processes; 0 works in this process (default: auto, from CPUs and memory)",
    )
    group.add_argument(
        "--chunk-size",
        type=number_or_auto,
        metavar="N",
        help="folders of scans handed to a worker at once (default: auto)",
    )
    group.add_argument(
        "--memory-limit",
        type=size,
        metavar="SIZE",
        help="memory for all workers together, such as 8GiB (default: what this machine or its "
        "container allows)",
    )
    group.add_argument(
        "--auto-tune",
        action="store_true",
        help="choose workers, chunk size, reading ahead and requests from this machine and the "
        "scans, print each choice with its reason, measure while the run goes on, and adjust",
    )
    group.add_argument(
        "--no-remember",
        action="store_true",
        help="do not keep what --auto-tune measured for the next run on such a machine",
    )
    group.add_argument(
        "--scan-timeout",
        type=number,
        metavar="SECONDS",
        help="give up a scan after this many seconds (default: 1800)",
    )


def describe_reruns(parser: argparse.ArgumentParser) -> None:
    """
    Add the options of what becomes of earlier results.

    Parameters
    ----------
    parser : ArgumentParser
        Of a command that takes a sink which may hold some.
    """
    group = parser.add_argument_group("what happens to earlier results")
    group.add_argument(
        "--overwrite",
        action="store_true",
        help="do everything again, also in a SINK written with other options",
    )
    group.add_argument(
        "--retry-failed",
        action="store_true",
        help="try scans again that failed by their own bytes (default: only other failures)",
    )
    group.add_argument(
        "--redo",
        type=OneOf("older"),
        metavar="NAME",
        help="older: do scans again that were made before a change of voxels or verdicts, as their "
        "revisions tell",
    )
    group.add_argument(
        "--keep-older",
        action="store_true",
        help="leave those scans as they are, and go on beside them (default: stop and say how many "
        "there are)",
    )


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


def add_limit(group: argparse._ActionsContainer) -> None:
    """The largest input that is taken."""
    group.add_argument(
        "--limit",
        type=limit,
        action="append",
        default=[],
        metavar="NAME=N",
        help="take larger input, or only smaller one: object_bytes (default: 1GiB), group_objects "
        "(50000), rows_columns (4096), frames (5000), slices (5000), scan_bytes (8GiB), "
        "header_bytes (8MiB), sequence_depth (32), inflate_ratio (4), inflate_spare_bytes (16MiB), "
        "output_voxels (4e9); may be given several times; `process --retry-failed` tries again "
        "what an earlier limit refused",
    )


def add_shown(group: argparse._ActionsContainer) -> None:
    """How much is printed."""
    group.add_argument("--quiet", action="store_true", help="print failures and errors only")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")
