"""
A picture of one scan, wherever it is: in a sink, or still to be processed.

Reads what the path names, processes it if need be, and draws it by `fastlung.report.picture`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastlung.config import StoreOptions, build_config
from fastlung.dicom.checks import Policy
from fastlung.errors import (
    ConfigError,
    NothingFoundError,
    ObjectNotFoundError,
    SeveralSeriesError,
    StoreError,
)
from fastlung.limits import check_listing, limits_in_force
from fastlung.pipeline import process_scan
from fastlung.report.picture import picture
from fastlung.scan import Flag, ScanResult
from fastlung.segmenter import segmenter_of
from fastlung.sink.identity import RUN_FILE
from fastlung.sink.reader import open_scan
from fastlung.source.open import open_source, store_of
from fastlung.source.read import fetch, index_blobs

if TYPE_CHECKING:
    import os

    from fastlung.config import Config
    from fastlung.dicom import SeriesHeaders, SeriesIndex
    from fastlung.scan import Grid, RawScan
    from fastlung.sink.reader import StoredScan

__all__ = ["Picture", "preview"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """
    A picture that shows itself in notebooks.

    Attributes
    ----------
    png : bytes
        A PNG file.
    """

    png: bytes

    def __repr__(self) -> str:
        return f"Picture(png=<{len(self.png):,} bytes>)"

    def _repr_png_(self) -> bytes:
        return self.png

    def save(self, path: str | os.PathLike[str]) -> None:
        """
        Write the file.

        Parameters
        ----------
        path : path-like
            Where to; a file there is replaced.

        Raises
        ------
        StoreError
            If it cannot be written.
        """
        try:
            Path(path).write_bytes(self.png)
        except OSError as error:
            raise StoreError(
                f"{path}: the picture cannot be written ({error.strerror}); name another file"
            ) from None


def preview(
    path: str | os.PathLike[str],
    *,
    slice_number: int | None = None,
    slice_mm: float | None = None,
    number: int | None = None,
    preset: str | None = None,
    storage: StoreOptions | None = None,
    **options: Any,
) -> Picture:
    """
    Draw one scan: axial, coronal, sagittal and brightest voxels, with the outlines of the mask.

    Parameters
    ----------
    path : path-like
        Folder or URL of a scan in a sink, ``SINK/scans/NAME``, which is drawn as it was written; or
        a folder or archive of one DICOM series, or a MetaImage or NIfTI volume, which is processed
        first.
    slice_number : int, optional
        Axial slice, as an index of the array; by default the one with most lung.
    slice_mm : float, optional
        Axial slice nearest to this height in the patient (LPS z), in millimetres.
    number : int, optional
        Which of several series, counted from 1 as `inspect` does; by default there must be one.
    preset : str, optional
        A key of `fastlung.config.PRESETS`, for what is processed first; by default ``hu``.
    storage : StoreOptions, optional
        How s3:// is reached.
    **options
        Fields of `fastlung.Config`, for what is processed first.

    Returns
    -------
    Picture
        Shows itself in a notebook; `Picture.save` writes it.

    Raises
    ------
    ConfigError
        For a slice that is not there, a path that is not one scan, or options for a scan that is
        drawn as it was written.
    NothingFoundError
        Where there is no CT series.
    SeveralSeriesError
        Where there are several and no `number`.
    ScanError, StoreError
        If the scan cannot be read.

    Examples
    --------
    >>> fastlung.preview("volumes/scans/1.2.3").save("one.png")  # doctest: +SKIP
    """
    config = build_config(preset or "hu", **options)
    storage = storage or StoreOptions()
    try:
        result = _as_written(open_scan(path, storage=storage))
        if preset is not None or options:
            raise ConfigError(
                f"{path} is a scan of a sink, which is drawn as it was written; a preset and other "
                "options are for what is processed first"
            )
    except ObjectNotFoundError:
        raw = _read(str(path), number, config, storage)
        result = process_scan(raw, config, segment=segmenter_of(config))
    wanted = _slice(result.grid, slice_number, slice_mm)
    return Picture(png=picture(result, wanted))


def _as_written(scan: StoredScan) -> ScanResult:
    written = scan.metadata
    standardise = written.get("standardise")
    return ScanResult(
        image=scan.image,
        mask=scan.mask,
        grid=scan.grid,
        window_hu=scan.window_hu,
        zero_centre=scan.zero_centre,
        standardise=None if standardise is None else (standardise[0], standardise[1]),
        figures=written.get("figures", {}),
        flags=tuple(Flag(**flag) for flag in written.get("flags", ())),
    )


def _read(path: str, number: int | None, config: Config, storage: StoreOptions) -> RawScan:
    """One series of a folder, an archive or a volume."""
    source = open_source(path, storage)
    source.check()
    groups = list(islice(source.groups(), 2))
    if not groups:
        raise NothingFoundError(
            f"{path}: nothing to draw; expected a scan of a sink (SINK/scans/NAME), a folder of "
            "DICOM slices, an archive of them, or a MetaImage or NIfTI volume"
        )
    if any(info.key == RUN_FILE for group in groups for info in group.objects):
        raise ConfigError(f"{path} is a sink; name one of its scans, {path}/scans/NAME")
    if len(groups) > 1:
        raise ConfigError(
            f"{path} holds several folders or volumes, {groups[0].label} and {groups[1].label} "
            "among them; name one"
        )
    (group,) = groups
    check_listing([info.size_bytes for info in group.objects])
    store = store_of(group, source.store, storage)
    blobs = fetch(group, store, memory_bytes=limits_in_force().scan_bytes)
    index = index_blobs(group, blobs, Policy.of(config))
    return _chosen(path, index, number).load(blobs)


def _chosen(path: str, index: SeriesIndex, number: int | None) -> SeriesHeaders:
    """The series asked for."""
    index.check()
    if not index.series:
        reasons = sorted(set(index.skipped.values()))
        raise NothingFoundError(f"{path}: no CT series here ({'; '.join(reasons[:3])})")
    if number is None and len(index.series) > 1:
        raise SeveralSeriesError(
            f"{path} holds {len(index.series)} CT series; choose one by its number, from 1, as "
            "`fastlung inspect` lists them"
        )
    wanted = 1 if number is None else number
    if not 1 <= wanted <= len(index.series):
        raise SeveralSeriesError(
            f"{path} holds {len(index.series)} CT series, and number {wanted} was asked for; they "
            "are counted from 1"
        )
    return index.series[wanted - 1]


def _slice(grid: Grid, number: int | None, height_mm: float | None) -> int | None:
    """Index of the axial slice asked for; None for the picture's own choice."""
    if height_mm is not None:
        x_mm, y_mm, _ = grid.to_patient(((grid.shape[0] - 1) / 2, 0, 0))
        number = round(float(grid.to_index((x_mm, y_mm, height_mm))[0]))
    if number is not None and not 0 <= number < grid.shape[0]:
        low, high = (grid.to_patient((z, 0, 0))[2] for z in (0, grid.shape[0] - 1))
        asked = f"slice {number}" if height_mm is None else f"{height_mm:g} mm"
        raise ConfigError(
            f"{asked} is outside the volume: its slices are 0 to {grid.shape[0] - 1}, at "
            f"{low:.1f} to {high:.1f} mm"
        )
    return number
