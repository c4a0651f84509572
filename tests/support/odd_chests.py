"""Chests that lung masks fail on: the phantom, changed in one way each, with its truth."""

from dataclasses import replace

import numpy as np

from fastlung.demo.phantom import LEFT_LUNG, RIGHT_LUNG, Phantom, phantom

#: Two millimetres: small enough for many tests, fine enough for walls and airways.
SMALL = {"shape": (120, 150, 170), "spacing_mm": (2.0, 2.0, 2.0)}


def dice(mask, truth):
    return 2 * np.count_nonzero(mask & truth) / (mask.sum() + truth.sum())


def points_mm(chest):
    """LPS x, y, z of every voxel of a canonical phantom, shaped to broadcast."""
    x, y, z = (
        np.arange(n) * step + origin
        for n, step, origin in zip(
            chest.grid.shape[::-1], chest.grid.spacing_mm[::-1], chest.grid.origin_mm, strict=True
        )
    )
    return x[None, None, :], y[None, :, None], z[:, None, None]


def ball(chest, centre_mm, radius_mm):
    x, y, z = points_mm(chest)
    cx, cy, cz = centre_mm
    return (x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2 < radius_mm**2


def painted(chest, where, hu, labels=None):
    """The chest with `hu` where a mask is true; `labels` replaces the truth."""
    noisy = np.random.default_rng(5).normal(hu, 15, chest.hu.shape)
    return replace(
        chest,
        hu=np.where(where, noisy, chest.hu).astype(np.int16),
        labels=chest.labels if labels is None else labels,
    )


def with_mass(chest, centre_mm, radius_mm):
    """A solid mass within the lungs; they stay lung."""
    lungs = np.isin(chest.labels, (RIGHT_LUNG, LEFT_LUNG))
    return painted(chest, ball(chest, centre_mm, radius_mm) & lungs, 45)


def with_fluid(chest, side, height_mm):
    """Fluid that fills the lowest part of one lung."""
    _, _, z = points_mm(chest)
    lowest = np.flatnonzero((chest.labels == side).any(axis=(1, 2)))[0]
    level = chest.grid.to_patient((lowest, 0, 0))[2] + height_mm
    return painted(chest, (chest.labels == side) & (z < level), 15)


def with_arms(chest, gap_mm):
    """Arms along the body, air between them and it that a blanket encloses."""
    x, y, z = points_mm(chest)
    wide = np.abs(x)
    arms = ((wide - 164) / 14) ** 2 + (y / 30) ** 2 < 1
    blanket = (np.abs(y) < 60) & (wide > 150) & (wide < 150 + gap_mm + 4)
    pocket = (np.abs(y) < 40) & (wide > 152) & (wide < 150 + gap_mm)
    outside = chest.hu < -700
    outside &= (wide > 140) & np.ones(z.shape, bool)
    changed = painted(chest, outside & (blanket | arms), 30)
    return painted(changed, outside & pocket, -1000)


def with_foam_table(chest, hu=-930):
    """A table with a core of foam below the patient, closed all around."""
    x, y, z = points_mm(chest)
    shell = (y > 112) & (y < 146) & (np.abs(x) < 160) & np.ones(z.shape, bool)
    core = (y > 116) & (y < 142) & (np.abs(x) < 154) & np.ones(z.shape, bool)
    return painted(painted(chest, shell, 100), core, hu)


def with_head(chest):
    """Above the chest a neck and a head with an open mouth: air from outside to the trachea."""
    x, y, _ = points_mm(chest)
    depth = 70
    z = np.arange(depth)[:, None, None] * chest.grid.spacing_mm[0]
    head = np.random.default_rng(6).normal(-1000, 15, (depth, *chest.hu.shape[1:]))
    radius = np.where(z < 50, 60, 80)
    skull = (x / radius) ** 2 + (y / (radius + 15)) ** 2 < 1
    head[skull] = 40
    trachea = (x**2 + (y - 8) ** 2 < 9**2) & (z < 70)
    mouth = (np.abs(x) < 20) & (y < 12) & (y > -110) & (z >= 62) & (z < 76)
    sinuses = ((np.abs(x) - 22) ** 2 + (y + 30) ** 2 < 15**2) & (z > 84) & (z < 128)
    head[trachea | mouth | sinuses] = -1000
    hu = np.concatenate([chest.hu, head.astype(np.int16)])
    labels = np.concatenate([chest.labels, np.where(trachea, 3, 0).astype(np.uint8)])
    return Phantom(hu=hu, labels=labels, grid=replace(chest.grid, shape=hu.shape))


def cut_in_plane(chest, first, stop):
    """Only some columns: the field of view ends within the lungs."""
    x, y, z = chest.grid.to_patient((0, 0, first)).tolist()
    hu = np.ascontiguousarray(chest.hu[:, :, first:stop])
    return Phantom(
        hu=hu,
        labels=np.ascontiguousarray(chest.labels[:, :, first:stop]),
        grid=replace(chest.grid, shape=hu.shape, origin_mm=(x, y, z)),
    )


def cut_in_circle(chest, radius_mm, centre_mm=(0.0, 0.0)):
    """A circular field of view, padding around it."""
    x, y, z = points_mm(chest)
    inside = (x - centre_mm[0]) ** 2 + (y - centre_mm[1]) ** 2 < radius_mm**2
    inside = inside & np.ones(z.shape, bool)
    return replace(
        chest,
        hu=np.where(inside, chest.hu, -1024).astype(np.int16),
        labels=np.where(inside, chest.labels, 0).astype(np.uint8),
    )


def small_chest(**changes):
    return phantom(**SMALL, **changes)
