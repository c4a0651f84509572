"""
A thorax made of formulas, with the truth known.

`phantom` draws a chest in Hounsfield units on any grid, and says which voxel is right lung, left
lung or airway. It is what ``fastlung demo`` shows and what the tests of the mask measure against.
It covers what makes lung masks go wrong: a table that cuts the outside air in two, lungs that all
but meet in front of the heart, airways that open into them, nodules on the wall, gas in the
stomach. It reads and writes nothing.

Lengths are millimetres from the centre of the thorax, points LPS ``(x, y, z)``: the right lung
lies at negative x. The thorax has a fixed size, so a short grid cuts the lungs off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from fastlung.scan import Grid

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

__all__ = ["AIRWAY", "LEFT_LUNG", "RIGHT_LUNG", "Phantom", "phantom"]

#: Values of `Phantom.labels`; 0 is anything else.
RIGHT_LUNG, LEFT_LUNG, AIRWAY = 1, 2, 3

AIR_HU, LUNG_HU, FAT_HU, SOFT_HU, BONE_HU, TABLE_HU = -1000, -860, -100, 40, 600, 150

Point = tuple[float, float, float]

#: Half-axes of the body in x and y; the back rests on the table.
BODY_MM = (150.0, 104.0)
#: Half-axes in x and y, and the centre in y, of the cavity that the lungs fill.
CAVITY_MM, CAVITY_Y_MM = (130.0, 82.0), 4.0
#: Lowest recess and apex of the lungs.
BASE_MM, APEX_MM = -105.0, 100.0
#: The ribs: inner and outer edge as squared elliptic radius of the cavity 6 mm wider, height of a
#: rib, distance from one to the next.
RIB_RING, RIB_MM, RIB_STEP_MM = (0.94, 1.03), 10.0, 28.0
#: What is left between the lungs where they meet in front of the heart.
JUNCTION_MM = 4.0

#: Solid ellipsoids the lungs make room for: centre, half-axes. The diaphragm's right dome (liver)
#: stands higher than its left one; the heart lies to the left.
MEDIASTINUM = ((0.0, 8.0, 0.0), (27.0, 50.0, 400.0))
HEART = ((18.0, -25.0, -40.0), (52.0, 44.0, 48.0))
RIGHT_DOME = ((-68.0, 8.0, -115.0), (66.0, 92.0, 72.0))
LEFT_DOME = ((68.0, 8.0, -120.0), (66.0, 92.0, 64.0))
SPINE_MM = (0.0, 62.0)
#: Highest point of the gas in the stomach, below the left dome.
STOMACH_TOP: Point = (70.0, 4.0, -64.0)

TOP, CARINA = (0.0, 8.0, 1000.0), (0.0, 10.0, 22.0)
HILA: tuple[Point, Point] = ((-44.0, 12.0, -6.0), (44.0, 14.0, -10.0))
TRACHEA_RADIUS_MM, BRONCHUS_RADIUS_MM, BRONCHUS_WALL_MM = 9.0, 6.5, 2.0
#: Beyond its end a bronchus opens into lung over this part of its length.
OPEN_END = 0.2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Phantom:
    """
    A synthetic chest and its truth.

    Attributes
    ----------
    hu : ndarray of int16, shape (z, y, x)
        Hounsfield units, -1024 or more.
    labels : ndarray of uint8, shape (z, y, x)
        0 anything else, 1 right lung, 2 left lung (vessels and nodules included), 3 airway.
    grid : Grid
        Where the voxels lie; the centre of the thorax is the LPS origin.
    """

    hu: npt.NDArray[np.int16]
    labels: npt.NDArray[np.uint8]
    grid: Grid

    def litres(self, label: int) -> float:
        """Volume of one label, in litres."""
        return float(np.count_nonzero(self.labels == label)) * self.grid.voxel_litres


def phantom(
    shape: tuple[int, int, int] = (60, 160, 160),
    spacing_mm: tuple[float, float, float] = (4.0, 2.0, 2.0),
    *,
    seed: int = 0,
    noise_hu: float = 15.0,
    blur_mm: float = 0.8,
    nodules: int = 4,
    stomach_gas_litres: float = 0.0,
) -> Phantom:
    """
    Draw a chest.

    Parameters
    ----------
    shape : tuple of int
        Voxels along ``(z, y, x)``.
    spacing_mm : tuple of float
        Spacing along ``(z, y, x)``, in millimetres.
    seed : int
        Decides vessels, nodules, texture and noise; the same seed gives the same bytes.
    noise_hu : float
        Standard deviation of the white noise, in Hounsfield units.
    blur_mm : float
        Standard deviation of the scanner's blur, in millimetres. At least half a voxel is used
        along each axis, so that edges show the partial volumes of a real scan.
    nodules : int
        Solid nodules of 3 to 7 mm radius; every other one sits on the wall of the lung.
    stomach_gas_litres : float
        Volume of a gas bubble below the left dome of the diaphragm, in litres.

    Returns
    -------
    Phantom
        Volume, labels and grid.

    Examples
    --------
    >>> chest = phantom((30, 80, 80), (8.0, 4.0, 4.0))
    >>> chest.hu.shape, bool(chest.litres(RIGHT_LUNG) > chest.litres(LEFT_LUNG))
    ((30, 80, 80), True)
    """
    rng = np.random.default_rng(seed)
    grid = _centred_grid(shape, spacing_mm)
    canvas = _Canvas(grid)
    labels = _label_lungs(canvas)
    hu = _draw_body(canvas)
    _draw_lungs(canvas, hu, labels, rng)
    _draw_nodules(canvas, hu, labels, rng, nodules)
    _draw_airways(canvas, hu, labels)
    gas_radius_mm = float((stomach_gas_litres * 1e6 * 3 / (4 * np.pi)) ** (1 / 3))
    gas = (STOMACH_TOP[0], STOMACH_TOP[1], STOMACH_TOP[2] - gas_radius_mm)
    canvas.paint_capsule(hu, gas, gas, gas_radius_mm, AIR_HU)
    sigma = [max(blur_mm, step / 2) / step for step in spacing_mm]
    hu = ndimage.gaussian_filter(hu, sigma, mode="nearest", truncate=3.0)
    hu += noise_hu * rng.standard_normal(hu.shape, dtype=np.float32)
    rounded = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    return Phantom(hu=rounded, labels=labels, grid=grid)


def _centred_grid(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Grid:
    z, y, x = (-(n - 1) / 2 * step for n, step in zip(shape, spacing_mm, strict=True))
    return Grid(shape=shape, spacing_mm=spacing_mm, origin_mm=(x, y, z))


class _Canvas:
    """Millimetre coordinates of a grid, shaped to broadcast, and the shapes drawn with them."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        axes = zip(grid.shape, grid.spacing_mm, grid.origin_mm[::-1], strict=True)
        z, y, x = (
            np.arange(n, dtype=np.float32) * np.float32(step) + np.float32(origin)
            for n, step, origin in axes
        )
        self.z, self.y, self.x = z[:, None, None], y[None, :, None], x[None, None, :]

    def ellipse(self, half_axes_mm: tuple[float, float], y_mm: float = 0.0) -> npt.NDArray[Any]:
        """Squared elliptic radius in the axial plane, shape ``(1, y, x)``; 1 on the ellipse."""
        radius = (self.x / half_axes_mm[0]) ** 2 + ((self.y - y_mm) / half_axes_mm[1]) ** 2
        return np.asarray(radius)

    def ellipsoid(self, centre_mm: Point, half_axes_mm: Point) -> npt.NDArray[np.bool_]:
        """Voxels inside an ellipsoid with its axes along x, y, z."""
        terms = zip((self.x, self.y, self.z), centre_mm, half_axes_mm, strict=True)
        x2, y2, z2 = (((axis - centre) / half) ** 2 for axis, centre, half in terms)
        return np.asarray(x2 + y2 + z2 < 1)

    def capsule(
        self, start_mm: Point, end_mm: Point, radius_mm: float
    ) -> tuple[tuple[slice, ...], npt.NDArray[np.bool_]]:
        """Box around a straight tube with round ends, and the voxels inside it."""
        start, end = np.asarray(start_mm), np.asarray(end_mm)
        low = np.minimum(start, end) - radius_mm
        high = np.maximum(start, end) + radius_mm
        origin, step = np.asarray(self.grid.origin_mm), np.asarray(self.grid.spacing_mm)[::-1]
        count = np.asarray(self.grid.shape)[::-1]
        first = np.clip(np.ceil((low - origin) / step), 0, count).astype(int)
        last = np.clip(np.floor((high - origin) / step) + 1, first, count).astype(int)
        box = tuple(slice(a, b) for a, b in zip(first[::-1], last[::-1], strict=True))
        dz, dy, dx = self.z[box[0]] - start[2], self.y[:, box[1]] - start[1], self.x[..., box[2]]
        dx = dx - start[0]
        along = end - start
        length2 = max(float(along @ along), 1e-12)
        t = np.clip((dx * along[0] + dy * along[1] + dz * along[2]) / length2, 0, 1)
        distance2 = (dx - t * along[0]) ** 2 + (dy - t * along[1]) ** 2 + (dz - t * along[2]) ** 2
        return box, np.asarray(distance2 <= radius_mm**2)

    def paint_capsule(
        self,
        image: npt.NDArray[Any],
        start_mm: Point,
        end_mm: Point,
        radius_mm: float,
        value: float,
        *,
        within: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Set the voxels of a tube in place, everywhere or only where `within` is true."""
        box, inside = self.capsule(start_mm, end_mm, radius_mm)
        image[box][inside if within is None else inside & within[box]] = value


def _label_lungs(canvas: _Canvas) -> npt.NDArray[np.uint8]:
    """Fill the cavity right and left of the midline, less what stands in it."""
    rise = np.clip((canvas.z - BASE_MM) / (APEX_MM - BASE_MM), 0, 1)
    # Nearly a cylinder that closes to a dome in its upper third, as a rib cage does.
    lungs = canvas.ellipse(CAVITY_MM, CAVITY_Y_MM) < (1 - rise**3.5)
    lungs &= canvas.z > BASE_MM
    lungs &= np.abs(canvas.x) > JUNCTION_MM / 2
    lungs &= ~_vertebrae(canvas, margin_mm=6.0)
    for centre, half_axes in (MEDIASTINUM, HEART, RIGHT_DOME, LEFT_DOME):
        lungs &= ~canvas.ellipsoid(centre, half_axes)
    side = np.where(canvas.x < 0, np.uint8(RIGHT_LUNG), np.uint8(LEFT_LUNG))
    return np.where(lungs, side, np.uint8(0))


def _vertebrae(canvas: _Canvas, *, margin_mm: float = 0.0) -> npt.NDArray[np.bool_]:
    x_mm, y_mm = SPINE_MM
    radius2 = (canvas.x - x_mm) ** 2 + (canvas.y - y_mm) ** 2
    return np.asarray(radius2 < (18.0 + margin_mm) ** 2)


def _draw_body(canvas: _Canvas) -> npt.NDArray[np.float32]:
    """Table, fat, soft tissue, ribs and spine; the lungs are still solid."""
    hu = np.full(canvas.grid.shape, AIR_HU, dtype=np.float32)
    # From edge to edge of the image, so that the outside air falls apart in two.
    table = (canvas.y > BODY_MM[1]) & (canvas.y < BODY_MM[1] + 6.0)
    hu[:, np.broadcast_to(table[0], hu.shape[1:])] = TABLE_HU
    for shrink_mm, value in ((0.0, FAT_HU), (12.0, SOFT_HU)):
        inside = canvas.ellipse((BODY_MM[0] - shrink_mm, BODY_MM[1] - shrink_mm))[0] < 1
        hu[:, inside] = value
    cage = canvas.ellipse((CAVITY_MM[0] + 6.0, CAVITY_MM[1] + 6.0), CAVITY_Y_MM)
    ring = (cage > RIB_RING[0]) & (cage < RIB_RING[1])
    # Ribs fall towards the front.
    along = np.mod(canvas.z - 0.4 * canvas.y, RIB_STEP_MM)
    hu[ring & (along < RIB_MM)] = BONE_HU
    hu[np.broadcast_to(_vertebrae(canvas), hu.shape)] = BONE_HU
    canal = (canvas.x - SPINE_MM[0]) ** 2 + (canvas.y - SPINE_MM[1] - 22.0) ** 2 < 8.0**2
    hu[np.broadcast_to(canal, hu.shape)] = 0.0
    return hu


def _draw_lungs(
    canvas: _Canvas,
    hu: npt.NDArray[np.float32],
    labels: npt.NDArray[np.uint8],
    rng: np.random.Generator,
) -> None:
    lungs = (labels == RIGHT_LUNG) | (labels == LEFT_LUNG)
    # Denser towards the back, where blood settles in a patient lying down.
    density = np.broadcast_to(LUNG_HU + 0.3 * canvas.y, hu.shape)
    hu[lungs] = density[lungs] + 15.0 * rng.standard_normal(np.count_nonzero(lungs))
    for hilum in HILA:
        for start, end, radius_mm in _vessel_tree(np.asarray(hilum), rng):
            canvas.paint_capsule(hu, start, end, radius_mm, SOFT_HU, within=lungs)


def _vessel_tree(
    hilum_mm: npt.NDArray[np.float64], rng: np.random.Generator
) -> Iterator[tuple[Point, Point, float]]:
    """Tubes that leave the hilum and split twice into three, thinner each time."""
    tips = [(hilum_mm, direction) for direction in rng.standard_normal((9, 3))]
    for length_mm, radius_mm in ((34.0, 3.2), (26.0, 2.2), (20.0, 1.4)):
        grown = []
        for start, direction in tips:
            unit = direction / np.linalg.norm(direction)
            end = start + length_mm * unit
            yield tuple(start), tuple(end), radius_mm
            grown += [(end, unit + 0.7 * bend) for bend in rng.standard_normal((3, 3))]
        tips = grown


def _draw_nodules(
    canvas: _Canvas,
    hu: npt.NDArray[np.float32],
    labels: npt.NDArray[np.uint8],
    rng: np.random.Generator,
    count: int,
) -> None:
    lungs = labels > 0
    wall = lungs & ~ndimage.binary_erosion(lungs)
    for number in range(count):
        candidates = np.flatnonzero(wall if number % 2 else lungs)
        radius_mm = float(rng.uniform(3.0, 7.0))
        if candidates.size:
            index = np.unravel_index(rng.choice(candidates), lungs.shape)
            centre = tuple(canvas.grid.to_patient(np.asarray(index)))
            canvas.paint_capsule(hu, centre, centre, radius_mm, SOFT_HU, within=lungs)


def _draw_airways(
    canvas: _Canvas, hu: npt.NDArray[np.float32], labels: npt.NDArray[np.uint8]
) -> None:
    """Trachea and main bronchi; the bronchi have walls, no part of the lungs, and end open."""
    lungs = (labels == RIGHT_LUNG) | (labels == LEFT_LUNG)
    for hilum in HILA:
        outer_mm = BRONCHUS_RADIUS_MM + BRONCHUS_WALL_MM
        canvas.paint_capsule(hu, CARINA, hilum, outer_mm, SOFT_HU, within=lungs)
        canvas.paint_capsule(labels, CARINA, hilum, outer_mm, 0)
        end = tuple(np.asarray(hilum) + OPEN_END * (np.asarray(hilum) - np.asarray(CARINA)))
        canvas.paint_capsule(hu, hilum, end, BRONCHUS_RADIUS_MM, LUNG_HU, within=lungs)
    tubes = [(TOP, CARINA, TRACHEA_RADIUS_MM)]
    tubes += [(CARINA, hilum, BRONCHUS_RADIUS_MM) for hilum in HILA]
    for start, end, radius_mm in tubes:
        canvas.paint_capsule(hu, start, end, radius_mm, AIR_HU)
        canvas.paint_capsule(labels, start, end, radius_mm, AIRWAY)
