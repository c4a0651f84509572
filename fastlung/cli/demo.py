"""
What ``fastlung demo`` does: make a cohort, process it, say where to look.

Everything it prints to be copied works as printed.
"""

from __future__ import annotations

import io
import shlex
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from fastlung import __version__
from fastlung.cli.output import say
from fastlung.cli.process import table_lines
from fastlung.cli.progress import Bar, compiled_once
from fastlung.config import build_config, build_run_options
from fastlung.demo.cohort import COHORT, write_cohort
from fastlung.errors import ConfigError, StoreError
from fastlung.report.summary import failure_lines, run_sentences
from fastlung.run.engine import run
from fastlung.text import byte_size

if TYPE_CHECKING:
    from argparse import Namespace

    from fastlung.run.events import Event

__all__ = ["demo", "run_demo"]

#: Marks a folder as ours to write over.
MARKER = "fastlung-demo.txt"
#: Coarser than the default 1 mm: half the time, and 130 MB of disk rather than 440 MB.
SPACING_MM = 1.5


def demo(args: Namespace) -> int:
    """Carry out ``fastlung demo``; always 0."""
    with redirect_stdout(io.StringIO()) if args.quiet else nullcontext():
        return run_demo(Path(args.folder))


def run_demo(
    folder: Path,
    *,
    shape: tuple[int, int, int] = (60, 160, 160),
    spacing_mm: tuple[float, float, float] = (4.0, 2.0, 2.0),
    workers: int | None = None,
) -> int:
    """
    Make a cohort, process it, say where to look.

    Parameters
    ----------
    folder : Path
        New, empty, or that of an earlier demo.
    shape : tuple of int
        Slices, rows and columns of each series.
    spacing_mm : tuple of float
        Distance between slices, rows and columns, in millimetres.
    workers : int, optional
        Worker processes; by default planned.

    Returns
    -------
    int
        Exit code.

    Raises
    ------
    FastlungError
        If the folder is in use for something else, or cannot be written.
    """
    dicom, sink = folder / "dicom", folder / "processed"
    if _claim(folder):
        say(f"{folder} holds an earlier demo; it is made again.")
    try:
        written = write_cohort(dicom, shape=shape, spacing_mm=spacing_mm)
    except OSError as error:
        raise StoreError(f"{dicom}: cannot be written ({error.strerror}); free space, or name "
                         "another folder") from None  # fmt: skip
    say(
        f"Made {len(COHORT)} synthetic CT series in {dicom} ({byte_size(written)}):",
        *(f"  {scan.name}  {scan.story}" for scan in COHORT),
        "",
        "Processing them, as this command would:",
        f"  {_command(dicom, sink)}",
        "",
    )
    sys.stdout.flush()
    config = build_config(spacing_mm=SPACING_MM, names="folder")
    options = build_run_options(workers=workers, overwrite=True)
    if sys.stdout.isatty():
        with Bar() as bar:
            summary = run(str(dicom), str(sink), config, options, bar)
    else:
        summary = run(str(dicom), str(sink), config, options, _tell_compilation)
    say(
        *table_lines(summary),
        *run_sentences(
            summary.outcomes,
            summary.earlier,
            seconds=summary.seconds,
            limited_by=summary.limited_by,
            sink=str(sink),
        ),
        *failure_lines(summary.outcomes),
        *_where_to_look(dicom, sink),
    )
    return summary.exit_code


def _claim(folder: Path) -> bool:
    """Mark a folder as a demo's; true if it was one before."""
    marker = folder / MARKER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if marker.is_file():
            return True
        if any(folder.iterdir()):
            raise ConfigError(
                f"{folder} is not empty and holds no demo; name another folder: "
                "fastlung demo FOLDER"
            )
        marker.write_text(
            f"Made by fastlung demo {__version__}: synthetic CT series and what became of them.\n"
            "No patient is shown. Delete this folder whenever you like.\n"
        )
    except OSError as error:
        raise StoreError(
            f"{folder}: cannot be written ({error.strerror}); name another folder: "
            "fastlung demo FOLDER"
        ) from None
    return False


def _tell_compilation(event: Event) -> None:
    if sentence := compiled_once(event):
        say(sentence)


def _command(dicom: Path, sink: Path, *more: str) -> str:
    words = ["fastlung", "process", str(dicom), str(sink), "--spacing", f"{SPACING_MM:g}"]
    return shlex.join([*words, "--names", "folder", *more])


def _where_to_look(dicom: Path, sink: Path) -> list[str]:
    scan = sink / "scans" / COHORT[0].name
    image, mask = str(scan / "image.npy"), str(scan / "mask.npy")
    return [
        "",
        f"What is in {scan}, as in every other folder there:",
        "  image.npy      Hounsfield units, int16, (z, y, x)",
        "  mask.npy       0 background, 1 right lung, 2 left lung, uint8",
        "  preview.png    four views of it, the mask outlined",
        "  metadata.json  spacing, origin, direction, what was found and done",
        "",
        "To look at one, in Python:",
        "  import numpy as np",
        f"  image, mask = np.load({image!r}), np.load({mask!r})",
        '  print(image.shape, "lungs:", image[mask > 0].mean(), "HU")',
        "",
        "For 3D Slicer, ITK-SNAP and other viewers, write NIfTI:",
        f"  {_command(dicom, sink.with_name('nifti'), '--format', 'nifti')}",
    ]
