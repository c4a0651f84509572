"""
From a processed scan to named bytes.

Covers what is written and what it says of itself; how arrays become bytes is
`fastlung.sink.formats`'. No store, no clock: the same result gives the same bytes.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from fastlung.sink.formats import FORMATS
from fastlung.sink.records import to_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Buffer

    from fastlung.config import Config
    from fastlung.scan import Grid, ScanResult, Verdict

    Buffers = Sequence[Buffer]

__all__ = ["METADATA_NAME", "PREVIEW_NAME", "array_names", "encode", "file_names"]

METADATA_NAME = "metadata.json"
PREVIEW_NAME = "preview.png"

LABELS = {
    "default": {"0": "background", "1": "right lung", "2": "left lung"},
    "tutorial": {"0": "background", "1": "lungs"},
    "grt123": {"0": "background", "1": "right lung", "2": "left lung"},
}
AIRWAY_LABEL = {"3": "trachea and main bronchi"}
#: What an image's numbers are, by its dtype, where a window was applied.
WINDOWED_UNITS = {
    "float32": "fraction of the window",
    "uint8": "255ths of the window",
}


def array_names(mask: str) -> tuple[str, ...]:
    """Names of the arrays that are written with one of `Config`'s masks."""
    return ("image",) if mask == "none" else ("image", "mask")


def file_names(config: Config) -> tuple[str, ...]:
    """Names of the files that `encode` makes under a configuration."""
    return (*FORMATS[config.format].file_names(array_names(config.mask)), METADATA_NAME)


def encode(
    result: ScanResult,
    *,
    acquired: Grid,
    verdict: Verdict,
    acquisition: Mapping[str, str | float],
    config: Config,
) -> dict[str, Buffers]:
    """
    Encode a scan as files.

    Parameters
    ----------
    result : ScanResult
        Image, mask and their grid. Where the format allows, the arrays are not copied: they must
        not change until the buffers are written.
    acquired : Grid
        The frame the scan was acquired in.
    verdict : Verdict
        Geometry of the series.
    acquisition : mapping
        Allow-listed technical tags.
    config : Config
        Format, and what was asked for.

    Returns
    -------
    dict of str to sequence of bytes-like
        File name to contents, in pieces.
    """
    arrays = {"image": result.image}
    if result.mask is not None:
        arrays["mask"] = result.mask
    labels = LABELS.get(config.mask, {}) | (AIRWAY_LABEL if config.airway else {})
    if config.mask_command or config.mask_function:
        labels = LABELS["default"] | AIRWAY_LABEL
    meanings = {
        "image": _image_meaning(result),
        "mask": ", ".join(f"{number} {label}" for number, label in labels.items()),
    }
    files = FORMATS[config.format].encode(arrays, result.grid, meanings)
    metadata = {
        "fastlung": version("fastlung"),
        "config_digest": config.digest,
        # Without the preset: two ways to the same configuration write the same bytes.
        "config": config.model_dump(mode="json", exclude={"preset"}),
        "axes": "arrays are (z, y, x); points are LPS (x, y, z) in millimetres",
        "grid": result.grid,
        "affine_lps": result.grid.affine_lps.tolist(),
        "crop": result.crop,
        "acquired": acquired,
        "dtype": result.image.dtype.name,
        "window_hu": result.window_hu,
        "zero_centre": result.zero_centre,
        "standardise": result.standardise,
        "image_unit": _image_unit(result),
        "labels": labels,
        "verdict": verdict,
        "acquisition": acquisition,
        "figures": result.figures,
        "flags": result.flags,
    }
    return {**files, METADATA_NAME: [to_json(metadata)]}


def _image_unit(result: ScanResult) -> str:
    if result.window_hu is None:
        return "HU"
    if result.standardise is not None:
        return "standard deviations from the mean"
    return WINDOWED_UNITS[result.image.dtype.name]


def _image_meaning(result: ScanResult) -> str:
    """A sentence for the formats that have a place for one."""
    if result.window_hu is None:
        return "Hounsfield units"
    low, high = result.window_hu
    if result.standardise is not None:
        mean, deviation = result.standardise
        return f"{low:g} to {high:g} HU less {mean:g}, divided by {deviation:g}"
    top = "255" if result.image.dtype.name == "uint8" else "1"
    less = f", minus {result.zero_centre:g}" if result.zero_centre else ""
    return f"{low:g} to {high:g} HU as 0 to {top}{less}"
