"""The ways people do it today: what notebooks and good pipelines are made of."""

import cc3d
import fill_voids
import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813  (everybody does)
from dicom_writer import EXPLICIT
from reference import tutorial_mask
from scans import SPACING_MM, Scan, scratch
from scipy import ndimage
from skimage import morphology, segmentation

from fastlung.volume.bands import smoothing_mm

__all__ = [
    "cc3d_mask",
    "closed_by_scikit_image",
    "dilated_by_simpleitk",
    "normalised_by_numpy",
    "pydicom_loop",
    "scipy_smoothed_zoom",
    "scipy_zoom",
    "simpleitk_series",
    "simpleitk_zoom",
    "slices_cleared_by_scikit_image",
    "whole_scan_of_simpleitk",
    "whole_scan_of_the_tutorial",
]


def pydicom_loop(scan: Scan, transfer_syntax: str = EXPLICIT, plugin: str = "") -> np.ndarray:
    """What notebooks do: every file, sorted, stacked, rescaled."""
    slices = [pydicom.dcmread(file) for file in scan.folder(transfer_syntax).iterdir()]
    slices.sort(key=lambda instance: float(instance.ImagePositionPatient[2]))
    for instance in slices:
        instance.pixel_array_options(decoding_plugin=plugin)
    volume = np.stack([instance.pixel_array for instance in slices]).astype(np.int16)
    for number, instance in enumerate(slices):
        volume[number] = volume[number] * instance.RescaleSlope + instance.RescaleIntercept
    return volume


def simpleitk_series(scan: Scan):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(scan.folder())))
    return reader.Execute()


def scipy_zoom(scan: Scan, order: int) -> np.ndarray:
    factors = np.divide(scan.corner_grid.shape, scan.grid.shape)
    return ndimage.zoom(scan.hu, factors, order=order, mode="nearest")


def scipy_smoothed_zoom(scan: Scan, order: int) -> np.ndarray:
    """With the Gaussian of Cardoso et al. along axes that shrink, as ours has."""
    pairs = zip(scan.grid.spacing_mm, scan.corner_grid.spacing_mm, strict=True)
    sigma = [smoothing_mm(have, wanted) / have for have, wanted in pairs]
    smooth = ndimage.gaussian_filter(scan.hu.astype(np.float32), sigma, mode="nearest")
    factors = np.divide(scan.corner_grid.shape, scan.grid.shape)
    return ndimage.zoom(smooth, factors, order=order, mode="nearest")


def simpleitk_zoom(scan: Scan, interpolator: int) -> np.ndarray:
    wanted = scan.corner_grid
    image = sitk.GetImageFromArray(scan.hu)
    image.SetSpacing(scan.grid.spacing_mm[::-1])
    out = sitk.Resample(
        image, wanted.shape[::-1], sitk.Transform(), interpolator, (0.0, 0.0, 0.0),
        wanted.spacing_mm[::-1],
    )  # fmt: skip
    return sitk.GetArrayFromImage(out)


def cc3d_mask(hu: np.ndarray) -> np.ndarray:
    """A lung mask as good pipelines make it: connected-components-3d, then fill-voids."""
    labels = cc3d.connected_components(hu <= -400, connectivity=26)
    outside = np.unique([labels[:, 0, 0], labels[:, -1, -1]])
    sizes = np.bincount(labels.ravel())
    sizes[outside] = sizes[0] = 0
    return fill_voids.fill(labels == sizes.argmax())


def closed_by_scikit_image(mask: np.ndarray, radius_mm: float, spacing_mm) -> np.ndarray:
    return morphology.isotropic_closing(mask, radius_mm, spacing=spacing_mm)


def dilated_by_simpleitk(mask: np.ndarray, radius_voxels: int) -> np.ndarray:
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    return sitk.GetArrayFromImage(sitk.BinaryDilate(image, (radius_voxels,) * 3)) > 0


def slices_cleared_by_scikit_image(mask: np.ndarray) -> np.ndarray:
    return np.stack([segmentation.clear_border(plane) for plane in mask])


def normalised_by_numpy(volume: np.ndarray) -> np.ndarray:
    """The window and zero centre of the tutorial."""
    image = (volume - -1000.0) / (400.0 - -1000.0)
    image[image > 1] = 1.0
    image[image < 0] = 0.0
    return image - 0.25


def whole_scan_of_the_tutorial(scan: Scan) -> np.ndarray:
    """The notebook, cubic, start to end: pydicom, SciPy, scikit-image, float64."""
    hu = pydicom_loop(scan)
    factors = np.divide(scan.corner_grid.shape, hu.shape)
    image = ndimage.zoom(hu, factors, order=3, mode="nearest")
    mask = tutorial_mask(image)
    np.save(scratch() / "image.npy", normalised_by_numpy(image))
    np.save(scratch() / "mask.npy", mask)
    return mask > 0


def whole_scan_of_simpleitk(scan: Scan) -> np.ndarray:
    """A good pipeline of today, linear: SimpleITK, connected-components-3d, fill-voids."""
    image = simpleitk_series(scan)
    shape = np.round(np.multiply(image.GetSize(), image.GetSpacing()) / SPACING_MM).astype(int)
    out = sitk.Resample(
        image, shape.tolist(), sitk.Transform(), sitk.sitkLinear, image.GetOrigin(),
        (SPACING_MM,) * 3, image.GetDirection(),
    )  # fmt: skip
    hu = sitk.GetArrayFromImage(out).astype(np.int16)
    mask = cc3d_mask(hu)
    np.save(scratch() / "image.npy", hu)
    np.save(scratch() / "mask.npy", mask)
    return mask
