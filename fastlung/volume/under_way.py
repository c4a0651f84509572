"""
One scan between two steps of a recipe: `ScanUnderWay`.

Stored words stay as they are until a step needs voxels, so that a step may be told how to read
them and do that in passing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlung.recipe.steps import Hu
from fastlung.scan import Crop
from fastlung.volume.content import chest_flags, hu_flags, reformat_flags
from fastlung.volume.hounsfield import hu_histogram, hu_percentiles, to_hu, tutorial_hu
from fastlung.volume.orientation import canonical_grid, cut_array, cut_grid, orientation_of, turned

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import numpy.typing as npt

    from fastlung.scan import Flag, Grid, RawScan
    from fastlung.volume.orientation import Box

    Stage = Callable[[str], AbstractContextManager[object]]
    Found = tuple[npt.NDArray[np.uint8], dict[str, float], tuple[Flag, ...]]

__all__ = ["ScanUnderWay"]


@dataclass(slots=True)
class ScanUnderWay:
    """
    A scan, what has been done to it, and what has been said of it but not done yet.

    Attributes
    ----------
    raw : RawScan
        As acquired.
    stage : callable
        Context entered around what takes time, by name.
    find_lungs : callable
        From Hounsfield units, their grid, a method's name and ``airway`` to mask, figures, flags.
    threads : int
        How many share the work.
    grid : Grid
        Of `image`, or of the stored words while there is none.
    read : Hu
        How words become Hounsfield units.
    clip_hu : tuple of float or None
        Bounds that are still to be applied.
    image : ndarray, shape (z, y, x), or None
        In canonical order; None as long as only words are there.
    mask : ndarray of uint8, shape (z, y, x), or None
        Labels on the same grid.
    reversed_axes : tuple of bool
        Canonical axes that run against those of the recipe.
    values_of : callable
        What has made the image's values of Hounsfield units.
    seen : tuple of ndarray and Grid, or None
        Voxels of each HU, and where they lie, before anything was cut; None where that was clipped.
    figures, flags, crop
        As in `fastlung.scan.ScanResult`.
    """

    raw: RawScan
    stage: Stage
    find_lungs: Callable[..., Found]
    threads: int
    grid: Grid
    read: Hu = field(default_factory=Hu)
    clip_hu: tuple[float, float] | None = None
    image: npt.NDArray[Any] | None = None
    mask: npt.NDArray[np.uint8] | None = None
    reversed_axes: tuple[bool, bool, bool] = (False, False, False)
    values_of: Callable[[npt.NDArray[np.int16]], npt.NDArray[Any]] = np.asarray
    seen: tuple[npt.NDArray[np.int64], Grid] | None = None
    figures: dict[str, float] = field(default_factory=dict)
    flags: tuple[Flag, ...] = ()
    crop: Crop | None = None

    def voxels(self) -> npt.NDArray[Any]:
        """The image with all done that was said; from here on there is one."""
        if self.image is None:
            hu, padding = self.words_as_hu()
            self.found(hu, self.raw.grid, padding)
        image: npt.NDArray[Any] = self.image  # type: ignore[assignment]
        if self.clip_hu is not None:
            low, high = np.rint(self.clip_hu)
            image = self.image = np.clip(image, np.int16(low), np.int16(high))
            self.clip_hu = None
        return image

    def words_as_hu(self) -> tuple[npt.NDArray[np.int16], int]:
        """Stored words as Hounsfield units, in the acquired order, and how many were padding."""
        with self.stage("hu"):
            if self.read.rule == "tutorial":
                return tutorial_hu(self.raw)
            return to_hu(self.raw, replace_padding=self.read.padding == "air")[0], 0

    def found(
        self, acquired: npt.NDArray[np.int16], grid: Grid, padding: int, *, clipped: bool = False
    ) -> None:
        """Take Hounsfield units in the acquired order for the image, turned upright."""
        orientation = orientation_of(grid)
        self.image = np.ascontiguousarray(turned(acquired, orientation))
        self.grid = canonical_grid(grid, orientation)
        if self.read.padding == "air":
            self.figures["padding_fraction"] = padding / self.raw.stored.size
        counts = hu_histogram(self.image)
        self.figures |= hu_percentiles(counts)
        if not clipped:
            self.seen = counts, self.grid

    def content_flags(self) -> tuple[Flag, ...]:
        """What is to be said beside the mask: of files, of values, and of what is shown."""
        flags = (*self.raw.flags, *reformat_flags(self.raw))
        if self.seen is None:
            return flags
        counts, grid = self.seen
        names = ("litres_right", "litres_left", "litres")
        litres = [self.figures[name] for name in names if name in self.figures]
        shown = chest_flags(counts, grid, sum(litres) if litres else None)
        return (*flags, *hu_flags(counts), *shown)

    def cut(self, box: Box) -> None:
        """Keep a part."""
        self.image = cut_array(self.voxels(), box)
        if self.mask is not None:
            self.mask = cut_array(self.mask, box)
        self.moved(box)

    def moved(self, box: Box) -> None:
        """Note that image and mask are a part now, or more than all of it."""
        whole = self.crop or Crop(offset=(0, 0, 0), full_shape=self.grid.shape)
        z, y, x = np.add(whole.offset, box.first).tolist()
        self.crop = Crop(offset=(z, y, x), full_shape=whole.full_shape)
        self.grid = cut_grid(self.grid, box)
