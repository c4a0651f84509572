"""
A bounded sample of scans to measure with: synthetic, or the first of a source.

Covers choosing scans and naming them in lists that a run takes for a source. Copies of a scan are
links: they cost no disk, and are read from the page cache.
"""

from __future__ import annotations

import os
import statistics
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal

from fastlung.demo.cohort import COHORT, DemoScan, write_cohort
from fastlung.errors import NothingFoundError
from fastlung.source.open import open_source

if TYPE_CHECKING:
    from pathlib import Path

    from fastlung.config import StoreOptions
    from fastlung.source.groups import SourceGroup

__all__ = ["SYNTHETIC_SHAPE", "Sample", "sample_of", "synthetic_sample", "write_list"]

#: A series of the usual size: 150 slices of 512 x 512, as NLST's are at 2 mm, and their distances.
SYNTHETIC_SHAPE, SYNTHETIC_SPACING_MM = (150, 512, 512), (2.0, 0.7, 0.7)
#: Different chests that are drawn; drawing one takes three seconds.
SYNTHETIC_CHESTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """
    Scans to measure with.

    Attributes
    ----------
    origin : str
        ``synthetic`` or ``source``.
    urls : tuple of str
        Where each scan is; a scan may be there several times under different names.
    different : int
        Scans that differ.
    fetch_bytes, fetch_objects : float
        Bytes and objects of a scan, on average.
    """

    origin: Literal["synthetic", "source"]
    urls: tuple[str, ...]
    different: int
    fetch_bytes: float
    fetch_objects: float


def synthetic_sample(
    folder: Path, scans: int, shape: tuple[int, int, int] = SYNTHETIC_SHAPE
) -> Sample:
    """
    Draw chests and write them as DICOM series.

    Parameters
    ----------
    folder : Path
        Where to; must not exist yet.
    scans : int
        How many.
    shape : tuple of int
        Slices, rows and columns of each; a smaller one covers the same chest.
    """
    factors = [wanted / have for wanted, have in zip(SYNTHETIC_SHAPE, shape, strict=True)]
    z_mm, y_mm, x_mm = (
        step * factor for step, factor in zip(SYNTHETIC_SPACING_MM, factors, strict=True)
    )
    chests = [
        DemoScan(name=f"chest-{number}", story=COHORT[0].story)
        for number in range(min(SYNTHETIC_CHESTS, scans))
    ]
    written = write_cohort(
        folder / "drawn", shape=shape, spacing_mm=(z_mm, y_mm, x_mm), scans=chests
    )
    urls = []
    for number in range(scans):
        chest = folder / "drawn" / chests[number % len(chests)].name
        copy = folder / "scans" / f"{number:05}"
        copy.mkdir(parents=True)
        for slice_file in chest.iterdir():
            os.link(slice_file, copy / slice_file.name)
        urls.append(f"{copy}/")
    return Sample(
        origin="synthetic",
        urls=tuple(urls),
        different=len(chests),
        fetch_bytes=written / len(chests),
        fetch_objects=shape[0],
    )


def sample_of(source: str, storage: StoreOptions, scans: int) -> Sample:
    """
    Take the first source groups of a source.

    Parameters
    ----------
    source : str
        As ``fastlung process`` takes it.
    storage : StoreOptions
        How s3:// is reached.
    scans : int
        How many, if there are so many.

    Raises
    ------
    NothingFoundError
        If it holds nothing.
    FastlungError
        As `open_source` does.
    """
    places = open_source(source, storage)
    places.check()
    groups = tuple(islice((group for group in places.groups() if group.objects), scans))
    if not groups:
        raise NothingFoundError(f"{source}: holds nothing to take a sample from")
    return Sample(
        origin="source",
        urls=tuple(_url(group.store_url or places.store.url, group) for group in groups),
        different=len(groups),
        fetch_bytes=statistics.fmean(group.size_bytes for group in groups),
        fetch_objects=statistics.fmean(len(group.objects) for group in groups),
    )


def write_list(path: Path, sample: Sample, scans: int) -> int:
    """
    Write a list that a run takes for a source.

    Parameters
    ----------
    path : Path
        A new .txt file.
    sample : Sample
        What to choose from.
    scans : int
        How many of them, the first ones.

    Returns
    -------
    int
        How many it names.
    """
    urls = sample.urls[:scans]
    path.write_text("".join(f"{url}\n" for url in urls), "utf-8", errors="surrogateescape")
    return len(urls)


def _url(base: str, group: SourceGroup) -> str:
    key = group.objects[0].key
    inner = f"{key.rpartition('/')[0]}/" if group.kind == "files" else key
    return f"{base.rstrip('/')}/{inner.lstrip('/')}"
