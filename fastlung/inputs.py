"""
A scan as a model takes it, in one call: `load_for`, from DICOM to channels and axes in its order.

No framework is imported: the array is NumPy's, and ``torch.from_numpy`` takes it as it is.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlung.config import build_config
from fastlung.dicom import read_series
from fastlung.errors import ConfigError
from fastlung.pipeline import process_scan
from fastlung.presets import Recipe, preset_recipe, recipe_file
from fastlung.recipe.order import checked_steps
from fastlung.recipe.steps import Channels, Crop, LungsOnly, Mask, Orient, Patches
from fastlung.scan import RawScan
from fastlung.volume.hounsfield import windowed
from fastlung.volume.orientation import in_order, packed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from fastlung.recipe.steps import Step

__all__ = ["load_for"]


def load_for(
    source: str | os.PathLike[str] | RawScan,
    model: str | os.PathLike[str] | Sequence[Mapping[str, Any] | Step],
    *,
    threads: int = 1,
    **options: Any,
) -> npt.NDArray[Any]:
    """
    Read a series and give it to a model as its authors' own preprocessing would.

    Parameters
    ----------
    source : str, path-like or RawScan
        Folder of one DICOM series, as `read_series` takes it, or what that returned.
    model : str, path-like or sequence of steps
        A preset, such as ``"merlin"``; a recipe file, which ends in ``.toml``; or steps.
    threads : int
        How many share the work; changes no bit.
    **options
        Fields of `Config` that change the recipe, such as ``spacing_mm``.

    Returns
    -------
    ndarray, shape (channels, ...) or (patches, channels, ...)
        C-contiguous, the other axes as the recipe's last ``orient`` says: ``RAS`` is (x, y, z). One
        channel, or one for each window of a ``channels`` step; patches where it has such a step.

    Raises
    ------
    ConfigError
        For an unknown model, or a recipe whose steps do not fit together or this scan.
    ScanError
        If the series cannot be read.

    Examples
    --------
    >>> image = fastlung.load_for("scans/1.2.3", "merlin")  # doctest: +SKIP
    >>> image.shape, image.dtype  # doctest: +SKIP
    ((1, 224, 224, 160), dtype('float32'))
    """
    recipe = _recipe_of(model)
    volume = replace(recipe, steps=_needed(recipe.volume_steps))
    config = build_config(recipe=volume, **options)
    raw = source if isinstance(source, RawScan) else read_series(source)
    image = process_scan(raw, config, threads=threads).image
    axes = next((s.axes for s in reversed(recipe.steps) if isinstance(s, Orient)), "SPL")
    channels = next((s for s in recipe.tensor_steps if isinstance(s, Channels)), None)
    array = in_order(image, axes)[np.newaxis]
    if channels is not None:
        array = np.stack([in_order(channel, axes) for channel in _windows(image, channels)])
    for step in recipe.tensor_steps:
        if isinstance(step, Patches):
            return _patches(array, _in_axes_order(step.size, axes))
    return packed(array)


def _recipe_of(model: Any) -> Recipe:
    if isinstance(model, str) and not model.endswith(".toml"):
        return preset_recipe(model)
    if isinstance(model, (str, os.PathLike)):
        return recipe_file(model)
    return Recipe(name="recipe", steps=checked_steps(model))


def _needed(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Steps without a mask that nothing in them asks for."""
    if any(
        isinstance(step, LungsOnly)
        or (isinstance(step, Crop) and step.to == "lungs")
        or (isinstance(step, Mask) and step.outside_hu is not None)
        for step in steps
    ):
        return tuple(steps)
    return tuple(step for step in steps if not isinstance(step, Mask))


def _windows(hu: npt.NDArray[Any], step: Channels) -> list[npt.NDArray[np.float32]]:
    low, high = step.to
    scale, first = np.float32(high - low), np.float32(low)
    return [windowed(hu, "float32", window_hu) * scale + first for window_hu in step.windows_hu]


def _in_axes_order(size: Sequence[int], axes: str) -> list[int]:
    """Numbers along (z, y, x) along the axes of an orientation."""
    ends = ("SI", "PA", "LR")
    return [size[next(i for i, pair in enumerate(ends) if end in pair)] for end in axes]


def _patches(array: npt.NDArray[Any], size: Sequence[int]) -> npt.NDArray[Any]:
    """Parts of an array (channels, a, b, c) side by side, those along c following one another."""
    counts = [have // want for have, want in zip(array.shape[1:], size, strict=True)]
    if any(have % want for have, want in zip(array.shape[1:], size, strict=True)):
        raise ConfigError(
            f"patches of {tuple(size)} do not fill a volume of {array.shape[1:]}: crop it to a "
            "multiple or pad it before"
        )
    a, b, c = counts
    split = array.reshape(array.shape[0], a, size[0], b, size[1], c, size[2])
    apart = packed(split.transpose(1, 3, 5, 0, 2, 4, 6))
    return apart.reshape(a * b * c, array.shape[0], *size)
