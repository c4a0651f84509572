"""
grt123's pre-processing, plainly: the oracle of ``--preset grt123`` and ``--mask grt123``.

Written from the published description (F. Liao et al., 2019) with NumPy, SciPy and scikit-image,
sharing no code with fastlung. Volumes are (z, y, x), z ascending to the head.
"""

import numpy as np
from scipy import ndimage
from skimage import measure, morphology


def mask(hu, spacing_mm):
    """Both lungs of a volume of Hounsfield units, two boolean volumes; the second may be empty."""
    spacing = np.array(spacing_mm, np.float32).astype(float)
    dark = np.stack([_dark_regions(plane, spacing) for plane in hu])
    found, cut = False, 0
    lungs = np.zeros(hu.shape, bool)
    while not found and cut < hu.shape[0]:
        lungs, found = _select(dark, spacing, cut)
        cut += 2
    return _two_lungs(_fill(lungs), spacing)


def image(hu, spacing_mm, first, second):
    """The bytes at 1 mm of the box around both lungs, the box's corner, and the whole shape."""
    spacing = np.array(spacing_mm, np.float32).astype(float)
    both = first | second
    whole = np.round(hu.shape * spacing).astype(int)
    where = np.argwhere(both)
    low = np.maximum(0, np.floor(where.min(axis=0) * spacing).astype(int) - 5)
    high = np.minimum(whole, np.floor(where.max(axis=0) * spacing).astype(int) + 10)
    dilated = _hull_and_dilate(first) | _hull_and_dilate(second)
    grey = (np.clip((hu + 1200.0) / 1800.0, 0, 1) * 255).astype(np.uint8)
    grey = np.where(dilated, grey, np.uint8(170))
    grey[dilated & ~both & (grey > 210)] = 170
    zoomed = ndimage.zoom(grey, whole / hu.shape, order=1, mode="nearest")
    return zoomed[tuple(map(slice, low, high))], low, whole


def _dark_regions(plane, spacing):
    smooth = plane.astype(np.float32)
    if np.unique(plane[:10, :10]).size == 1:
        y, x = np.indices(plane.shape)
        size = min(plane.shape)
        away = np.hypot(y + 0.5 - plane.shape[0] / 2, x + 0.5 - plane.shape[1] / 2)
        smooth[away >= size / 2] = np.nan
    dark = ndimage.gaussian_filter(smooth, 1, truncate=2.0) < -600
    labels = measure.label(dark)
    keep = [
        region.label
        for region in measure.regionprops(labels)
        if region.area * spacing[1] * spacing[2] > 30 and region.eccentricity < 0.99
    ]
    return np.isin(labels, keep)


def _select(dark, spacing, cut):
    shortened = dark.copy()
    shortened[dark.shape[0] - cut :] = False
    labels = measure.label(shortened, connectivity=1)
    last, middle = dark.shape[0] - 1 - cut, dark.shape[2] // 2
    for z in (0, last):
        for y in (0, -1):
            for x in (0, middle, -1):
                labels[labels == labels[z, y, x]] = 0
    y, x = np.indices(dark.shape[1:])
    y_mm = (y - (dark.shape[1] - 1) / 2) * spacing[1]
    x_mm = (x - (dark.shape[2] - 1) / 2) * spacing[2]
    away = np.hypot(y_mm, x_mm)
    valid = []
    for region in measure.regionprops(labels):
        litres = region.area * spacing.prod() * 1e-6
        if not 0.68 <= litres <= 7.5:
            continue
        planes = [plane for plane in labels == region.label if plane.any()]
        large = [p for p in planes if np.count_nonzero(p) * spacing[1] * spacing[2] > 6000]
        if large and np.mean([away[plane].min() for plane in large]) < 62:
            valid.append(region.label)
    lungs = np.isin(labels, valid)
    if cut and valid:
        head = lungs.copy()
        head[dark.shape[0] - cut :] = dark[dark.shape[0] - cut :]
        grown = measure.label(head & ndimage.binary_dilation(lungs, iterations=cut), connectivity=1)
        parts = measure.label(lungs, connectivity=1)
        firsts = [tuple(np.argwhere(parts == n)[0]) for n in range(1, parts.max() + 1)]
        lungs = np.isin(grown, [grown[point] for point in firsts])
    return lungs, bool(valid)


def _fill(lungs):
    labels = measure.label(~lungs)
    corners = {labels[z, y, x] for z in (0, -1) for y in (0, -1) for x in (0, -1)}
    return ~np.isin(labels, list(corners - {0}))


def _two_lungs(both, spacing):
    core = both
    for _ in range(22):
        labels = measure.label(core, connectivity=2)
        regions = sorted(measure.regionprops(labels), key=lambda region: -region.area)
        if len(regions) > 1 and regions[0].area / regions[1].area < 4.8:
            away = [
                ndimage.distance_transform_edt(labels != region.label, sampling=spacing)
                for region in regions[:2]
            ]
            lungs = both & (away[0] < away[1]), both & (away[0] > away[1])
            return tuple(_fill_slices(_main_part(lung)) for lung in lungs)
        core = ndimage.binary_erosion(core)
    return _fill_slices(both), np.zeros_like(both)


def _main_part(lung):
    kept = np.zeros_like(lung)
    for z, plane in enumerate(lung):
        regions = sorted(measure.regionprops(measure.label(plane)), key=lambda r: -r.area)
        covered = 0
        for region in regions:
            if covered >= 0.95 * np.count_nonzero(plane):
                break
            covered += region.area
            kept[z][region.slice] |= region.image_convex
    labels = measure.label(lung & kept)
    return labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])


def _fill_slices(lung):
    return np.stack([ndimage.binary_fill_holes(plane, np.ones((3, 3))) for plane in lung])


def _hull_and_dilate(lung):
    hulls = lung.copy()
    for z, plane in enumerate(lung):
        if plane.any():
            hull = morphology.convex_hull_image(plane)
            if hull.sum() <= 2 * plane.sum():
                hulls[z] = hull
    return ndimage.binary_dilation(hulls, iterations=10)
