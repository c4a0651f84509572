"""
A mask against one that people drew: plain NumPy and SciPy, no code of the package.

All on the slices that were drawn on; a mask on another grid is looked up at their voxels' centres.
"""

import numpy as np
from scipy import ndimage


def read_drawn(path, name="mask"):
    """A drawn mask, bool (z, y, x), as it is packed in the files beside the scans."""
    packed = np.load(path)
    return np.unpackbits(packed[name], axis=-1)[tuple(map(slice, packed["shape"]))].astype(bool)


def on_grid(mask, grid, drawn_grid):
    """Nearest voxel of `mask` at every voxel of another grid along the same axes; 0 beyond."""
    assert np.allclose(grid.direction, np.eye(3))
    assert np.allclose(drawn_grid.direction, np.eye(3))
    offset_mm = np.subtract(drawn_grid.origin_mm, grid.origin_mm)[::-1]
    places = [
        np.rint((start + np.arange(n) * step) / own).astype(int)
        for start, n, step, own in zip(
            offset_mm, drawn_grid.shape, drawn_grid.spacing_mm, grid.spacing_mm, strict=True
        )
    ]
    z, y, x = ((place >= 0) & (place < n) for place, n in zip(places, mask.shape, strict=True))
    inside = z[:, None, None] & y[:, None] & x
    nearest = [np.clip(place, 0, n - 1) for place, n in zip(places, mask.shape, strict=True)]
    return np.where(inside, mask[np.ix_(*nearest)], 0)


def dice(mask, drawn):
    return 2 * np.count_nonzero(mask & drawn) / (mask.sum() + drawn.sum())


def hausdorff_95_mm(mask, drawn, spacing_mm):
    """95th percentile of the distances from either surface to the other, taken together."""
    mask, drawn = _cut(mask, drawn)
    surfaces = [part & ~ndimage.binary_erosion(part) for part in (mask, drawn)]
    away_mm = [ndimage.distance_transform_edt(~s, sampling=spacing_mm) for s in surfaces]
    return np.percentile(np.r_[away_mm[1][surfaces[0]], away_mm[0][surfaces[1]]], 95)


def pieces_outside_ml(mask, drawn, spacing_mm, deeper_mm=4.0):
    """Millilitres of each connected piece of the mask further than that outside, largest first."""
    mask, drawn = _cut(mask, drawn)
    deep = mask & (ndimage.distance_transform_edt(~drawn, sampling=spacing_mm) > deeper_mm)
    labels, _ = ndimage.label(deep)
    voxels = np.bincount(labels.ravel())[1:]
    return np.sort(voxels)[::-1] * np.prod(spacing_mm) / 1000


def covered(mask, drawn):
    """Part of what was drawn that the mask holds."""
    return np.count_nonzero(mask & drawn) / np.count_nonzero(drawn)


def _cut(*masks, rim=12):
    box = ndimage.find_objects(np.logical_or.reduce(masks).astype(np.uint8))[0]
    box = tuple(slice(max(0, s.start - rim), s.stop + rim) for s in box)
    return [np.ascontiguousarray(mask[box]) for mask in masks]
