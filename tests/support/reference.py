"""
Slow, obvious twins of the fast functions: the oracles of the tests.

Written from the definitions with NumPy, SciPy and scikit-image, sharing no code with fastlung.
"""

import numpy as np
from scipy import ndimage
from scipy.interpolate import CubicSpline, interp1d
from skimage import measure


def mask_of(runs):
    """Voxels of run-length rows, one by one."""
    mask = np.zeros(runs.shape, bool)
    for row in range(runs.shape[0] * runs.shape[1]):
        z, y = divmod(row, runs.shape[1])
        for run in range(runs.offsets[row], runs.offsets[row + 1]):
            mask[z, y, runs.starts[run] : runs.stops[run]] = True
    return mask


def labels_of(runs, labels):
    """Label of every voxel of labelled runs, 0 outside."""
    volume = np.zeros(runs.shape, np.int64)
    for row in range(runs.shape[0] * runs.shape[1]):
        z, y = divmod(row, runs.shape[1])
        for run in range(runs.offsets[row], runs.offsets[row + 1]):
            volume[z, y, runs.starts[run] : runs.stops[run]] = labels[run]
    return volume


def ball_of(radius_mm, spacing_mm):
    """Structuring element: voxels whose centres lie within the radius."""
    reach = [int(radius_mm / s + 1e-9) for s in spacing_mm]
    index = np.mgrid[tuple(slice(-r, r + 1) for r in reach)]
    square = sum((index[axis] * spacing_mm[axis]) ** 2 for axis in range(3))
    return square <= radius_mm**2 + 1e-9


def hounsfield(stored, scale, *, replace_padding, darkest_hu=-1500.0, fill_hu=-1024):
    """DICOM's rescale, slice by slice, in float64 and Python integers."""
    out = np.empty(stored.shape, np.int16)
    for z in range(stored.shape[0]):
        bits = int(scale.bits_stored[z])
        value = (stored[z].astype(np.int64) >> int(scale.shift[z])) % (1 << bits)
        if scale.signed[z]:
            value = np.where(value >= 1 << (bits - 1), value - (1 << bits), value)
        # float32, as documented: the product and the sum are each rounded to it.
        hu = np.rint(scale.slope[z] * value.astype(np.float32) + scale.intercept[z])
        if replace_padding:
            padding = (value >= scale.padding_low[z]) & (value <= scale.padding_high[z])
            hu = np.where(padding | (hu < darkest_hu), fill_hu, hu)
        out[z] = np.clip(hu, -32768, 32767)
    return out


def continued(hu, unmeasured):
    """Unmeasured voxels take the nearest measured one of their row, or else of the nearest row."""
    out = hu.copy()
    for plane, missing in zip(out, unmeasured, strict=True):
        measured = [np.flatnonzero(~row) for row in missing]
        for y, found in enumerate(measured):
            if found.size:
                # The right of two as near: distances to the right count a hair less.
                away = found - np.arange(plane.shape[1])[:, None]
                plane[y] = plane[y, found[np.abs(away - 0.1).argmin(axis=1)]]
        filled = np.array([y for y, found in enumerate(measured) if found.size])
        if filled.size:
            for y in np.setdiff1d(np.arange(plane.shape[0]), filled):
                plane[y] = plane[filled[np.abs(filled - y + 0.1).argmin()]]
    return out


def blanked(out, unmeasured, positions_mm, targets_mm, shifts_mm, spacing_mm, value):
    """
    Output voxels whose nearest input voxel was not measured, or lies beyond the slice.

    Also, for every output voxel, whether two input voxels are as near, so that rounding decides.
    """
    (z, y, x), (z_out, y_out, x_out) = positions_mm, targets_mm

    def nearest(have, wanted):
        away = np.abs(np.subtract.outer(wanted, have))
        first, second = np.partition(np.column_stack([away, np.full(wanted.size, 9e9)]), 1)[:, :2].T
        return away.argmin(axis=1), second - first < 1e-9

    out, either = out.copy(), np.zeros(out.shape, bool)
    sources, either_z = nearest(z, z_out)
    for k, source in enumerate(sources):
        dy, dx = shifts_mm[source % len(shifts_mm)]
        rows, either_y = nearest(y + dy, y_out)
        columns, either_x = nearest(x + dx, x_out)
        gone = unmeasured[source][np.ix_(rows, columns)]
        reach_y, reach_x = np.divide(spacing_mm[1:], 2) + 1e-6
        gone |= ((y_out < y[0] + dy - reach_y) | (y_out > y[-1] + dy + reach_y))[:, None]
        gone |= (x_out < x[0] + dx - reach_x) | (x_out > x[-1] + dx + reach_x)
        out[k][gone] = value
        either[k] = either_z[k] | either_y[:, None] | either_x
    return out, either


def tutorial_hounsfield(stored, slope, intercept):
    """Rescale of the DSB 2017 tutorial: truncated, stored -2000 becomes 0."""
    image = stored.astype(np.int16)
    image[image == -2000] = 0
    for z in range(image.shape[0]):
        if slope[z] != 1:
            image[z] = (slope[z] * image[z].astype(np.float64)).astype(np.int16)
        image[z] += np.int16(intercept[z])
    return image


def tutorial_mask(image):
    """Lung mask of the DSB 2017 tutorial (`fill_lung_structures=True`), with scikit-image."""
    binary = np.array(image > -320, dtype=np.int8) + 1
    labels = measure.label(binary)
    binary[labels == labels[0, 0, 0]] = 2
    for plane in binary:
        solid = measure.label(plane - 1)
        largest = _largest_label(solid)
        if largest is not None:
            plane[solid != largest] = 1
    mask = 1 - (binary - 1)
    labels = measure.label(mask, background=0)
    largest = _largest_label(labels)
    if largest is not None:
        mask[labels != largest] = 0
    return mask.astype(np.uint8)


def _largest_label(labels):
    values, counts = np.unique(labels, return_counts=True)
    counts, values = counts[values != 0], values[values != 0]
    return values[np.argmax(counts)] if counts.size else None


def zoom(volume, shape, order):
    """SciPy's corner-aligned zoom in float64, edge values continued."""
    factors = np.divide(shape, volume.shape)
    return ndimage.zoom(volume.astype(np.float64), factors, order=order, mode="nearest")


def interpolate(volume, positions_mm, targets_mm, order):
    """Interpolation along each axis in float64, by SciPy's one-dimensional interpolators."""
    out = volume.astype(np.float64)
    for axis, (x, wanted) in enumerate(zip(positions_mm, targets_mm, strict=True)):
        if x.size == 1:
            out = np.repeat(out, wanted.size, axis=axis)
        elif order == 3:
            # Far beyond the ends the edge value goes on; the ends of that are too far to matter.
            steps = np.arange(1, 31)
            far = np.concatenate(
                (x[0] - steps[::-1] * (x[1] - x[0]), x, x[-1] + steps * (x[-1] - x[-2]))
            )
            pad = [(30, 30) if a == axis else (0, 0) for a in range(3)]
            out = CubicSpline(far, np.pad(out, pad, mode="edge"), axis=axis)(wanted)
        else:
            kind = {0: "nearest-up", 1: "linear"}[order]
            out = interp1d(x, out, kind=kind, axis=axis)(np.clip(wanted, x[0], x[-1]))
    return out
