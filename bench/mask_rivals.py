"""
Three ways that people make a lung mask today, for the table of comparisons.

Each does what the default mask begins with, by the means of one library: air at -400 HU, without
what touches the border of a slice's plane; the largest two components; closing with 5 mm; holes
filled. None tells right from left, follows the airway, or judges itself.
"""

import cc3d
import fill_voids
import numpy as np
import SimpleITK as sitk  # noqa: N813  (everybody does)
from scipy import ndimage
from skimage import measure, morphology

THRESHOLD_HU = -400
CLOSING_MM = 5.0


def touching(labels):
    """Labels on the border of the plane, in any slice."""
    sides = (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1])
    return np.unique(np.concatenate([side.ravel() for side in sides]))


def largest_two(labels):
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    sizes[touching(labels)] = 0
    two = np.argsort(sizes)[-2:]
    return np.isin(labels, two[sizes[two] > 0])


def by_scikit_image(hu, spacing_mm):
    mask = largest_two(measure.label(hu <= THRESHOLD_HU, connectivity=1))
    mask = morphology.isotropic_closing(mask, CLOSING_MM, spacing=spacing_mm)
    return ndimage.binary_fill_holes(mask)


def by_simpleitk(hu, spacing_mm):
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing(spacing_mm[::-1])
    parts = sitk.ConnectedComponent(sitk.BinaryThreshold(image, -32768, THRESHOLD_HU))
    labels = sitk.GetArrayViewFromImage(parts)
    mask = sitk.GetImageFromArray(largest_two(labels).astype(np.uint8))
    radius = [round(CLOSING_MM / spacing) for spacing in spacing_mm[::-1]]
    mask = sitk.BinaryMorphologicalClosing(mask, radius, sitk.sitkBall)
    return sitk.GetArrayFromImage(sitk.BinaryFillhole(mask)) > 0


def by_cc3d_and_fill_voids(hu, spacing_mm):
    mask = largest_two(cc3d.connected_components(hu <= THRESHOLD_HU, connectivity=6))
    # Neither library closes; SciPy's distance transform does, once out and once back.
    away = ndimage.distance_transform_edt(~mask, sampling=spacing_mm)
    inside = ndimage.distance_transform_edt(away <= CLOSING_MM, sampling=spacing_mm)
    return fill_voids.fill(inside > CLOSING_MM)


RIVALS = {
    "scikit-image": by_scikit_image,
    "SimpleITK": by_simpleitk,
    "connected-components-3d + fill-voids": by_cc3d_and_fill_voids,
}
