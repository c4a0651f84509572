"""
The scans that everything is measured on, in memory and as files.

``synthetic`` is a chest drawn of 180 slices of 512 x 512 at 1.8 x 0.68 x 0.68 mm with the noise of
a low-dose scan. ``0306`` is a real one with more noise, LIDC-IDRI-0306, 123 slices at 2.5 x 0.62 x
0.62 mm; it is looked for beside the repository, and left out with a word where it is not. With
``FASTLUNG_BENCH_SCALE=4`` both have a quarter of their slices, rows and columns.
"""

import atexit
import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from dicom_writer import EXPLICIT, ct_series

from fastlung.demo.phantom import BODY_MM, phantom
from fastlung.dicom import read_series
from fastlung.kernels.bits import runs_at_most
from fastlung.scan import Grid
from fastlung.volume.bands import samples_of
from fastlung.volume.hounsfield import to_hu
from fastlung.volume.resampling import aligned_targets, resample_between, target_grid

__all__ = ["SCALE", "SCANS", "SPACING_MM", "WHY_LESS", "Scan", "scratch"]

SCALE = int(os.environ.get("FASTLUNG_BENCH_SCALE", "1"))
NOISE_HU = 60.0
#: What volumes are resampled to, in millimetres.
SPACING_MM = 1.0 * SCALE
_REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "chest" / "lidc-idri-0306"
#: Why a scan is left out; empty where none is.
WHY_LESS = "" if _REAL.is_dir() else "0306 is left out: no shared/data/chest beside the repository"


@cache
def scratch() -> Path:
    """A temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="fastlung-bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@dataclass(frozen=True, eq=False)
class Scan:
    """
    One scan, drawn or read when it is first asked for.

    Attributes
    ----------
    name : str
        What tables call it.
    """

    name: str

    @cached_property
    def _acquired(self):
        return _drawn() if self.name == "synthetic" else _real()

    @property
    def words(self) -> np.ndarray:
        """Stored words, uint16, shape (z, y, x)."""
        return self._acquired[0]

    @property
    def grid(self) -> Grid:
        """Where they lie."""
        return self._acquired[1]

    @cached_property
    def folders(self) -> dict[str, Path]:
        """Folders written so far, by transfer syntax."""
        whole = self.name == "0306" and SCALE == 1
        return {EXPLICIT: _REAL} if whole else {}

    def folder(self, transfer_syntax: str = EXPLICIT) -> Path:
        """Files of the scan; uncompressed ones are those of the scanner where there are any."""
        if transfer_syntax not in self.folders:
            folder = scratch() / f"{self.name}-{transfer_syntax}"
            folder.mkdir()
            files = ct_series(
                self.words,
                step_mm=self.grid.spacing_mm[0],
                pixel_spacing_mm=self.grid.spacing_mm[1:],
                intercept=-1024,
                bits_stored=16 if self.signed else 12,
                signed=self.signed,
                transfer_syntax=transfer_syntax,
            )
            for name, data in files.items():
                (folder / name).write_bytes(data)
            self.folders[transfer_syntax] = folder
        return self.folders[transfer_syntax]

    @property
    def signed(self) -> bool:
        """Pixel Representation."""
        return self.name != "synthetic"

    @cached_property
    def raw(self):
        """What `read_series` gives for the uncompressed files."""
        return read_series(self.folder())

    @cached_property
    def hu(self) -> np.ndarray:
        """Hounsfield units, padding replaced."""
        return to_hu(self.raw)[0]

    @cached_property
    def corner_grid(self) -> Grid:
        """The grid of `SPACING_MM` whose corner voxels are the scan's, as SciPy's zoom lays it."""
        return target_grid(self.grid, (SPACING_MM,) * 3, align="corners")

    def resampled(self, order: int, *, antialias: bool = False) -> np.ndarray:
        """Hounsfield units on `corner_grid`."""
        samples, targets = samples_of(self.grid), aligned_targets(self.grid, self.corner_grid)
        if antialias:
            samples = samples.smoothed(self.grid, self.corner_grid)
        return resample_between(self.hu, samples, targets, order)

    @cached_property
    def millimetre(self) -> np.ndarray:
        """What masks are made from."""
        return self.resampled(1)

    @cached_property
    def dark(self):
        """Runs of what is dark in it."""
        return runs_at_most(self.millimetre, -400)


def _drawn():
    shape = (180 // SCALE, 512 // SCALE, 512 // SCALE)
    chest = phantom(shape, (1.8 * SCALE, 0.68 * SCALE, 0.68 * SCALE), noise_hu=NOISE_HU)
    # Without its table, which cuts the outside air in two: the rivals' masks take the lower part
    # of it for lung, and would be compared on another job than ours.
    behind = int(chest.grid.to_index((0.0, BODY_MM[1], 0.0))[1])
    chest.hu[:, behind:] = np.roll(chest.hu, behind, axis=1)[:, behind:]
    return (chest.hu + 1024).astype(np.uint16), chest.grid


def _real():
    raw = read_series(_REAL)
    words = np.ascontiguousarray(raw.stored[::SCALE, ::SCALE, ::SCALE])
    spacing = tuple(SCALE * step for step in raw.grid.spacing_mm)
    return words, replace(raw.grid, shape=words.shape, spacing_mm=spacing)


SCANS = (Scan("synthetic"), *([] if WHY_LESS else [Scan("0306")]))
