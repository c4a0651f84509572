"""
From a sink back to arrays: `open_scan`.

Reads what `fastlung.io.writer` wrote, in every format, from wherever `open_store` reaches.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlung.config import StoreOptions
from fastlung.errors import ConfigError, FormatError, ObjectNotFoundError
from fastlung.io.formats import FORMATS
from fastlung.io.records import grid_from_json
from fastlung.io.store import open_store
from fastlung.io.stored import StoredScan
from fastlung.io.writer import METADATA_NAME, PREVIEW_NAME, array_names
from fastlung.presets import PRESETS, preset_recipe
from fastlung.recipe.steps import Window
from fastlung.windowing import recentred, windowed

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from fastlung.io.formats import Format
    from fastlung.scan import Grid

    Bounds = tuple[float, float]

__all__ = ["open_scan", "stored_scan"]


def open_scan(
    path: str | os.PathLike[str],
    *,
    normalise: str | tuple[float, float] | None = None,
    zero_centre: float | None = None,
    storage: StoreOptions | None = None,
) -> StoredScan:
    """
    Read a scan that `process` has written, in whatever format.

    Parameters
    ----------
    path : str or path-like
        Folder or URL of the scan, ``SINK/scans/NAME``; or of one of its files.
    normalise : str or tuple of float, optional
        Hounsfield units that become 0 and 1, clipped, or the name of a preset that has such a
        window: ``"tutorial"``. The image is float32 then. By default it comes as it was written.
    zero_centre : float, optional
        Subtracted after `normalise`: a constant of the data set, never the mean of one image. By
        default the preset's, or 0.
    storage : StoreOptions, optional
        How s3:// is reached; by default as the AWS command line would.

    Returns
    -------
    StoredScan
        Image, mask, grid and metadata.

    Raises
    ------
    ConfigError
        For an unknown preset or a window that is none; or if the scan was written with another
        window, outside of which its Hounsfield units are gone.
    ObjectNotFoundError
        If there is no scan.
    FormatError
        If a file of it is damaged.
    StoreError
        If it cannot be read.

    Examples
    --------
    >>> scan = fastlung.open_scan("volumes/scans/1.2.3", normalise="tutorial")  # doctest: +SKIP
    >>> scan.image.dtype, scan.grid.spacing_mm  # doctest: +SKIP
    (dtype('float32'), (1.0, 1.0, 1.0))
    """
    window, centre = _wanted(normalise, zero_centre)
    folder = _folder_of(str(path))
    store = open_store(folder, storage or StoreOptions())
    try:
        scan = stored_scan(store.url.rstrip("/").rpartition("/")[2], store.get)
    except ObjectNotFoundError as error:
        if METADATA_NAME not in str(error):
            raise
        raise ObjectNotFoundError(
            f"{folder}: no {METADATA_NAME} here; expected the folder of one scan, such as "
            "SINK/scans/NAME"
        ) from None
    return scan if window is None else _normalised(scan, window, centre)


def stored_scan(name: str, get: Callable[[str], bytes]) -> StoredScan:
    """
    Put a scan together from its files, as they were written.

    Parameters
    ----------
    name : str
        Its name in the sink.
    get : callable
        From the name of a file of it to the contents.

    Returns
    -------
    StoredScan
        Image, mask, grid and metadata.

    Raises
    ------
    FormatError
        If a file of it is damaged.
    """
    metadata = _metadata(get(METADATA_NAME))
    form = FORMATS[metadata["config"]["format"]]
    files = form.file_names(array_names(metadata["config"]["mask"]))
    arrays = _decoded(form, {file: get(file) for file in files})
    grid = grid_from_json(metadata["grid"])
    _check_shapes(arrays, grid)
    written = metadata["window_hu"]
    return StoredScan(
        name=name,
        image=arrays["image"],
        mask=arrays.get("mask"),
        grid=grid,
        window_hu=None if written is None else (written[0], written[1]),
        zero_centre=metadata["zero_centre"],
        metadata=metadata,
    )


def _wanted(
    normalise: str | tuple[float, float] | None, zero_centre: float | None
) -> tuple[Bounds | None, float]:
    """Window and constant asked for."""
    if normalise is None:
        if zero_centre is not None:
            raise ConfigError("zero_centre needs normalise: a window, such as (-1000, 400)")
        return None, 0.0
    if isinstance(normalise, str):
        window, usual = _window_of(normalise)
        return window, usual if zero_centre is None else zero_centre
    low, high = map(float, normalise)
    if not (np.isfinite([low, high]).all() and low < high):
        raise ConfigError(f"normalise needs two numbers in HU, low before high, not {normalise}")
    return (low, high), zero_centre or 0.0


def _window_of(preset: str) -> tuple[Bounds, float]:
    """Window of a preset that has one, as fractions, and what it subtracts."""
    windows = {
        name: step
        for name in PRESETS
        for step in preset_recipe(name).steps
        if isinstance(step, Window) and step.to[1] == 1.0 + step.to[0]
    }
    if preset not in windows:
        raise ConfigError(
            f"normalise {preset!r} is no preset with a window; expected "
            f"{', '.join(map(repr, windows))} or a window, such as (-1000, 400)"
        )
    step = windows[preset]
    return (step.low_hu, step.high_hu), -step.to[0] or 0.0


def _folder_of(path: str) -> str:
    """Folder of the scan, where `path` may also be one of its files."""
    files = {
        file.partition("/")[0]
        for form in FORMATS.values()
        for file in form.file_names(array_names("default"))
    }
    folder, _, last = path.rstrip("/").rpartition("/")
    if last not in files | {METADATA_NAME, PREVIEW_NAME}:
        return path
    return folder or ("/" if path.startswith("/") else ".")


def _metadata(data: bytes) -> dict[str, Any]:
    """Decode the metadata; only what is needed to read the rest is checked."""
    try:
        metadata: dict[str, Any] = json.loads(data)
        known = metadata["config"]["format"] in FORMATS and "mask" in metadata["config"]
        grid_from_json(metadata["grid"])
        known &= isinstance(metadata["zero_centre"], float) and "window_hu" in metadata
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise FormatError(
            f"{METADATA_NAME} is not what this version writes: it is damaged, or of a newer "
            "version; process the scan again, or update fastlung"
        )
    return metadata


def _decoded(form: Format, files: Mapping[str, bytes]) -> dict[str, npt.NDArray[Any]]:
    try:
        return form.decode(files)
    except Exception as error:
        raise FormatError(
            f"{' or '.join(files)} is damaged ({type(error).__name__}); process the scan again"
        ) from error


def _check_shapes(arrays: Mapping[str, npt.NDArray[Any]], grid: Grid) -> None:
    for name, array in arrays.items():
        if array.shape != grid.shape:
            raise FormatError(
                f"{name} has shape {array.shape}, and {METADATA_NAME} says {grid.shape}: files of "
                "two runs are mixed here; process the scan again"
            )


def _normalised(scan: StoredScan, window: Bounds, zero_centre: float) -> StoredScan:
    """The scan as fractions of a window."""
    if scan.metadata.get("standardise") is not None:
        raise ConfigError(
            f"scan {scan.name} was written standardised; open it as it is, or process it again "
            "without"
        )
    if scan.window_hu is None:
        image = windowed(scan.image, "float32", window, zero_centre)
    elif scan.window_hu == window:
        image = recentred(scan.image, scan.zero_centre, zero_centre)
    else:
        low, high = scan.window_hu
        raise ConfigError(
            f"scan {scan.name} was written with the window {low:g},{high:g} and knows no HU "
            f"outside of it; open it with that window, or process it again without"
        )
    return replace(scan, image=image, window_hu=window, zero_centre=zero_centre)
