"""
A scan that was read back: `StoredScan`, and the shapes other libraries want it in.

Those libraries are imported only when they are asked for; none but nibabel comes with fastlung.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlung.errors import MissingPackageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from fastlung.scan import Grid

__all__ = ["StoredScan"]


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
