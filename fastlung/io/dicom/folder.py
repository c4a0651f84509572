"""
Series in a local folder or file: `read_series` for one, `list_series` to look at what is there.

Only files directly in the folder count, and only regular ones: a pipe or device in between must
not hang a reader.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from fastlung.errors import (
    FormatError,
    NothingFoundError,
    ObjectNotFoundError,
    SeveralSeriesError,
    StoreError,
)
from fastlung.geometry import Policy
from fastlung.io.dicom.pixels import load_series
from fastlung.io.dicom.series import SeriesIndex, index_files, index_series
from fastlung.limits import check_listing

if TYPE_CHECKING:
    from fastlung.scan import RawScan

__all__ = ["list_series", "read_series"]

_DEFAULT = Policy()


def read_series(
    path: str | os.PathLike[str], policy: Policy = _DEFAULT, *, number: int | None = None
) -> RawScan:
    """
    Read one CT series from a folder, or from a file.

    Parameters
    ----------
    path : path-like
        A folder, of which the files directly in it are read, or one file.
    policy : Policy
        What to do about irregular series.
    number : int, optional
        Which of several series, counted from 1 as `inspect` does; by default there must be one.

    Returns
    -------
    RawScan
        Stored words and where they lie, slices ascending along the slice normal.

    Raises
    ------
    NothingFoundError
        Where there is no CT series.
    SeveralSeriesError
        Where there is more than one and no `number`, or no series of that number.
    ScanError
        Where the series cannot be read as a volume; each cause has its own subclass.
    StoreError
        Where the path, or a file in it, cannot be read.
    """
    sizes, odd = _regular_files(Path(path))
    blobs = {key: _read(file, size) for key, (file, size) in sizes.items()}
    index = index_series(blobs, policy)
    if not index.series and not index.broken:
        raise NothingFoundError(_nothing({**odd, **index.skipped}))
    if index.broken:
        raise FormatError(
            f"{len(index.broken)} of {len(blobs)} files are DICOM, cannot be read and may be "
            f"slices ({index.skipped[index.broken[0]]}); fetch them again or move them away"
        )
    if number is None and len(index.series) == 1:
        number = 1
    if number is None or not 1 <= number <= len(index.series):
        raise SeveralSeriesError(_several(index, number))
    return load_series(index.series[number - 1], blobs)


def list_series(path: str | os.PathLike[str], policy: Policy = _DEFAULT) -> SeriesIndex:
    """
    Say which series are in a folder, or in a file, reading headers only where that suffices.

    Parameters
    ----------
    path : path-like
        A folder, of which the files directly in it are looked at, or one file.
    policy : Policy
        What to do about irregular series.

    Returns
    -------
    SeriesIndex
        Keys are file names.

    Raises
    ------
    StoreError
        Where the path, or a file in it, cannot be read.
    """
    sizes, odd = _regular_files(Path(path))
    index = index_files(
        {key: size for key, (_, size) in sizes.items()},
        lambda key, count: _read(sizes[key][0], count),
        policy,
    )
    return SeriesIndex(series=index.series, skipped={**odd, **index.skipped}, broken=index.broken)


def _regular_files(path: Path) -> tuple[dict[str, tuple[Path, int]], dict[str, str]]:
    """Name -> (path, size) of regular files, and name -> why not for the others."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
    except OSError as error:
        raise StoreError(f"the folder cannot be listed ({_cause(error)})") from None
    sizes: dict[str, tuple[Path, int]] = {}
    odd: dict[str, str] = {}
    for file in files:
        try:
            status = file.stat()
        except FileNotFoundError:
            if file == path:
                raise ObjectNotFoundError("no such file or folder") from None
            odd[file.name] = "a link to nothing"
            continue
        except OSError as error:
            raise StoreError(f"a file cannot be looked at ({_cause(error)})") from None
        if stat.S_ISDIR(status.st_mode):
            odd[file.name] = "a folder within, not entered"
        elif not stat.S_ISREG(status.st_mode):
            odd[file.name] = "not a regular file"
        else:
            sizes[file.name] = (file, status.st_size)
    check_listing([size for _, size in sizes.values()])
    return sizes, odd


def _read(file: Path, count: int) -> bytes:
    try:
        # The name may have become a pipe since it was looked at: O_NONBLOCK opens that at once,
        # where a plain open would wait for a writer for ever.
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return b""
            return stream.read(count)
    except OSError as error:
        raise StoreError(f"a file cannot be read ({_cause(error)})") from None


def _cause(error: OSError) -> str:
    """Name an OS error without its path, which may name a patient."""
    return os.strerror(error.errno) if error.errno else type(error).__name__


def _nothing(reasons: dict[str, str]) -> str:
    counts = Counter(reasons.values()).most_common()
    why = "; ".join(f"{reason}: {count}" for reason, count in counts)
    return (
        f"no CT series here: {len(reasons)} entries looked at"
        + (f" ({why})" if why else "")
        + "; give a folder that holds CT slices directly"
    )


def _several(index: SeriesIndex, number: int | None) -> str:
    lines = []
    for place, series in enumerate(index.series, start=1):
        size = f"{len(series.headers)} slices"
        if series.grid is not None:
            size += f" of {series.grid.spacing_mm[0]:.2f} mm"
        kernel = series.acquisition.get("ConvolutionKernel")
        described = [size, *([f"kernel {kernel}"] if kernel else []), *series.verdict.classes]
        lines.append(f"{place}) {', '.join(described)}")
    wanted = "one" if number is None else f"number {number}"
    return (
        f"expected {wanted}, and found {len(lines)} CT series here: {'; '.join(lines)}; choose "
        "with read_series(path, number=1), or move each into a folder of its own"
    )
