"""Chests with what 0.1.0's mask got wrong on real ones: the phantom, changed in one way each."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
from odd_chests import ball, painted, points_mm
from scipy import ndimage

from fastlung.demo.phantom import AIRWAY, LEFT_LUNG, RIGHT_LUNG


def tube(chest, points, radius_mm):
    """Voxels within a radius of a broken line through LPS points."""
    inside = np.zeros(chest.hu.shape, bool)
    for start, end in pairwise(points):
        for part in np.linspace(0, 1, 12):
            centre = np.add(start, part * np.subtract(end, start))
            inside |= ball(chest, centre, radius_mm)
    return inside


def with_aorta(chest):
    """An aorta that swings 50 mm out behind the heart, 0.8 of the way to the middle of the lung."""
    way = [(16, 45, 60), (28, 48, 30), (36, 50, 0), (31, 52, -40), (14, 55, -75)]
    aorta = tube(chest, way, 14.0)
    x, _, _ = points_mm(chest)
    beside = np.maximum.accumulate(aorta[:, :, ::-1], axis=2)[:, :, ::-1] & (x > 10)
    solid = (aorta | beside) & (chest.labels != AIRWAY)
    labels = np.where(solid & (chest.labels == LEFT_LUNG), 0, chest.labels).astype(np.uint8)
    return painted(chest, solid, 45, labels), solid


def with_tagged_tumour(chest, tag_mm=6.0):
    """A tumour of 3 cm within the right lung, tied to the chest wall by a tag."""
    lungs = chest.labels == RIGHT_LUNG
    tumour = ball(chest, (-75.0, 20.0, 10.0), 15.0)
    tag = tube(chest, [(-75, 20, 10), (-135, 20, 10)], tag_mm / 2)
    return painted(chest, (tumour | tag) & lungs, 45), tumour & lungs


def with_middle_tumour(chest):
    """A tumour in the middle of the left lung that grows along a vessel into the hilum."""
    lungs = chest.labels == LEFT_LUNG
    tumour = ball(chest, (78.0, 30.0, 25.0), 17.0)
    tail = tube(chest, [(78, 30, 25), (44, 14, -10)], 3.0)
    return painted(chest, (tumour | tail) & lungs, 45), tumour & lungs


def with_hernia(chest):
    """Stomach behind the heart, gas of 3 cm in a wall of 3 mm, open to the left lung."""
    x, _, z = points_mm(chest)
    centre = (12.0, 36.0, -50.0)
    wall, gas = ball(chest, centre, 19.0), ball(chest, centre, 16.0)
    neck = ball(chest, (30.0, 40.0, -50.0), 4.0) & (x > 12) & (z > -60)
    labels = np.where(wall, 0, chest.labels).astype(np.uint8)
    sick = painted(chest, wall & ~gas, 30, labels)
    return painted(sick, gas | (neck & wall), -990), gas


def with_colon(chest):
    """Colon between liver and diaphragm, its gas joined to the right lung through a thin place."""
    gas = tube(chest, [(-95, -30, -78), (-55, -40, -80)], 11.0) & (chest.labels == 0)
    way = tube(chest, [(-80, -32, -78), (-80, -32, -40)], 2.5)
    return painted(chest, gas | (way & (chest.labels == 0)), -985), gas


def with_bubble(chest, wall_mm=4.0):
    """Gas of 100 mL right under the left dome, which is thinner than a slice of 5 mm."""
    x, y, z = points_mm(chest)
    shrunk = (x - 68) ** 2 / (66 - wall_mm) ** 2 + (y - 8) ** 2 / (92 - wall_mm) ** 2
    dome = shrunk + (z + 120) ** 2 / (64 - wall_mm) ** 2 < 1
    gas = dome & (z > -84) & (np.abs(x - 68) < 40) & (np.abs(y - 8) < 42) & (chest.labels == 0)
    return painted(chest, gas, -995), gas


def with_couch_gap(chest):
    """Air under the hollow of the back, closed in by the couch."""
    x, y, z = points_mm(chest)
    gap = (np.abs(x) < 40) & (y > 106 - 0.003 * x**2) & (y < 118) & np.ones(z.shape, bool)
    shell = (np.abs(x) < 60) & (y > 96) & (y < 126) & np.ones(z.shape, bool)
    return painted(painted(chest, shell, 60), gap, -900), gap


def cut_at(chest, first, stop):
    """Only some slices: the scan begins or ends within trachea and lungs."""
    x, y, z = chest.grid.to_patient((first, 0, 0)).tolist()
    hu = np.ascontiguousarray(chest.hu[first:stop])
    grid = replace(chest.grid, shape=hu.shape, origin_mm=(x, y, z))
    return replace(chest, hu=hu, labels=chest.labels[first:stop], grid=grid)


def with_lungs_of(chest, hu):
    """Lungs as dark as air, as those of phantoms that scanners are tested with."""
    lungs = np.isin(chest.labels, (RIGHT_LUNG, LEFT_LUNG)) & (chest.hu < -500)
    return painted(chest, lungs, hu)


def thick(chest, slice_mm):
    """As slices so thick, resampled to the grid it had: each a mean, linear between them."""
    step = chest.grid.spacing_mm[0]
    count = round(slice_mm / step)
    slices = chest.hu.shape[0] // count
    mean = chest.hu[: slices * count].reshape(slices, count, *chest.hu.shape[1:]).mean(axis=1)
    at = (np.arange(chest.hu.shape[0]) - (count - 1) / 2) / count
    grid = np.meshgrid(at, *map(np.arange, chest.hu.shape[1:]), indexing="ij", sparse=True)
    low = np.clip(np.floor(grid[0][:, 0, 0]).astype(int), 0, slices - 1)
    high = np.clip(low + 1, 0, slices - 1)
    part = np.clip(at - low, 0, 1)[:, None, None]
    hu = mean[low] * (1 - part) + mean[high] * part
    return replace(chest, hu=np.rint(hu).astype(np.int16))


def coarse_in_plane(chest, pixel_mm):
    """As pixels so wide, linear between them."""
    step = pixel_mm / chest.grid.spacing_mm[1]
    small = ndimage.zoom(chest.hu.astype(np.float32), (1, 1 / step, 1 / step), order=1)
    factors = np.divide(chest.hu.shape, small.shape)
    return replace(chest, hu=np.rint(ndimage.zoom(small, factors, order=1)).astype(np.int16))
