"""
From a sink back to arrays: `open_scan`, and the `StoredScan` it gives.

Reads what `fastlung.sink.writer` wrote, in every format, from wherever `open_store` reaches.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlung.config import StoreOptions
from fastlung.errors import ConfigError, FormatError, MissingPackageError, ObjectNotFoundError
from fastlung.presets import preset_recipe
from fastlung.recipe import PRESETS
from fastlung.recipe.steps import Window
from fastlung.sink.formats import FORMATS
from fastlung.sink.records import grid_from_json
from fastlung.sink.writer import METADATA_NAME, PREVIEW_NAME, array_names
from fastlung.storage import open_store

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from fastlung.scan import Grid
    from fastlung.sink.formats import Format

    Bounds = tuple[float, float]

__all__ = ["StoredScan", "open_scan", "stored_scan"]


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
    # Imported here: a scan that is only read, or verified, needs no kernels.
    from fastlung.volume.hounsfield import recentred, windowed  # noqa: PLC0415

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredScan:
    """
    One scan of a sink.

    Attributes
    ----------
    name : str
        Its folder's name.
    image : ndarray of int16, float32 or uint8, shape (z, y, x)
        What was written, or what `open_scan` was asked to make of it.
    mask : ndarray of uint8, shape (z, y, x), or None
        0 background, 1 right lung, 2 left lung; None where none was written.
    grid : Grid
        Where the voxels of both lie; `Grid.to_patient` and `Grid.to_index` go between voxels and
        LPS millimetres.
    window_hu : tuple of float or None
        Hounsfield units that are 0 and 1, or 0 and 255, in `image`; None where it is in HU.
    zero_centre : float
        Subtracted from the fractions in `image`.
    metadata : mapping
        All of ``metadata.json``: what was found, asked for and done. It describes what is in the
        sink, also where `image` was windowed on reading.
    """

    name: str
    image: npt.NDArray[Any]
    mask: npt.NDArray[np.uint8] | None
    grid: Grid
    window_hu: tuple[float, float] | None
    zero_centre: float
    metadata: Mapping[str, Any]

    def channel_first(self, array: str = "image") -> npt.NDArray[Any]:
        """
        Image or mask as MONAI and TorchIO order it; its affine is `Grid.affine_ras`.

        Parameters
        ----------
        array : {"image", "mask"}
            Which one.

        Returns
        -------
        ndarray, shape (1, x, y, z)
            A C-contiguous copy.

        Raises
        ------
        ValueError
            If the scan has no such array.
        """
        return np.ascontiguousarray(self._array(array).T)[np.newaxis]

    def to_nibabel(self, array: str = "image") -> Any:
        """
        Image or mask for nibabel.

        Parameters
        ----------
        array : {"image", "mask"}
            Which one.

        Returns
        -------
        nibabel.Nifti1Image
            Shape (x, y, z), RAS affine; a view of the array.

        Raises
        ------
        ValueError
            If the scan has no such array.
        """
        nib = _imported("nibabel")
        return nib.Nifti1Image(self._array(array).T, self.grid.affine_ras)

    def to_sitk(self, array: str = "image") -> Any:
        """
        Image or mask for SimpleITK.

        Parameters
        ----------
        array : {"image", "mask"}
            Which one.

        Returns
        -------
        SimpleITK.Image
            A copy with spacing, origin and direction.

        Raises
        ------
        MissingPackageError
            If SimpleITK is not installed.
        ValueError
            If the scan has no such array.
        """
        sitk = _imported("SimpleITK")
        image = sitk.GetImageFromArray(self._array(array))
        image.SetSpacing(self.grid.spacing_mm[::-1])
        image.SetOrigin(self.grid.origin_mm)
        image.SetDirection(np.ravel(self.grid.direction).tolist())
        return image

    def to_monai(self, array: str = "image") -> Any:
        """
        Image or mask for MONAI.

        Parameters
        ----------
        array : {"image", "mask"}
            Which one.

        Returns
        -------
        monai.data.MetaTensor
            Shape (1, x, y, z) with its RAS affine, as ``LoadImaged`` with
            ``ensure_channel_first`` gives it.

        Raises
        ------
        MissingPackageError
            If MONAI or PyTorch is not installed.
        ValueError
            If the scan has no such array.
        """
        torch, monai = _imported("torch"), _imported("monai.data")
        affine = torch.from_numpy(self.grid.affine_ras)
        return monai.MetaTensor(torch.from_numpy(self.channel_first(array)), affine=affine)

    def to_torchio(self) -> Any:
        """
        Image and mask for TorchIO.

        Returns
        -------
        torchio.Subject
            With a ``ScalarImage`` called ``image`` and, where there is one, a ``LabelMap`` called
            ``mask``.

        Raises
        ------
        MissingPackageError
            If TorchIO is not installed.
        """
        torchio, torch = _imported("torchio"), _imported("torch")
        kinds = {"image": torchio.ScalarImage, "mask": torchio.LabelMap}
        present = ("image",) if self.mask is None else ("image", "mask")
        return torchio.Subject(
            {
                name: kinds[name](
                    tensor=torch.from_numpy(self.channel_first(name)), affine=self.grid.affine_ras
                )
                for name in present
            }
        )

    def _array(self, name: str) -> npt.NDArray[Any]:
        if name not in ("image", "mask"):
            raise ValueError(f"a scan has an 'image' and a 'mask', no {name!r}")
        array = self.image if name == "image" else self.mask
        if array is None:
            raise ValueError(f"scan {self.name} was written without a mask")
        return array


def _imported(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise MissingPackageError(
            f"this needs the package {package}, which is not installed here: pip install {package}"
        ) from None
