"""
How far a mask can be trusted: figures, flags, and one number from 0 to 1.

`judge` compares a mask, ours or anybody's, with the air of the chest. Every figure is something
that good masks have little of, and has two limits: beyond the one a flag is raised, at the other
the confidence is halved. The confidence is the product of ``1 / (1 + (figure / half)**4)``: nearly
1 well below the limits, and never the same for two values of a figure.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastlung.kernels.bits import runs_at_most
from fastlung.kernels.overlap import in_field, on_field_edge, overlap
from fastlung.kernels.runs import moments, slice_sizes, union, within
from fastlung.mask.dense import coarse_of, dense_regions
from fastlung.mask.evidence import gather
from fastlung.mask.figures import gas_litres, roughness, separate_litres, unforked, void_litres
from fastlung.scan import Flag, Grid
from fastlung.volume.orientation import canonical_grid, orientation_of, turned

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from fastlung.kernels.runs import Runs
    from fastlung.mask.dense import Coarse
    from fastlung.mask.evidence import Evidence

__all__ = ["Trust", "assess_mask", "judge"]

#: Plausible volume of both lungs together, in litres.
PLAUSIBLE_LITRES = (1.0, 9.0)
#: Left lung by right lung, by volume: the heart lies on the left. Healthy adults have 0.75 to 0.95.
LEFT_BY_RIGHT = 0.85
#: Asymmetry of a lung that is not there, in place of infinity.
ABSENT = 10.0
#: A lung smaller than this part of the other is flagged as missing.
MISSING_PART = 0.1
#: One lung may end this much above or below the other, in millimetres; fluid and collapsed lobes
#: lift it further.
UNEVEN_MM = 30.0
#: Trachea and main bronchi in the mask; all of them have 0.03 to 0.06 L.
AIRWAY_LITRES = 0.01
#: Lung on the edge of the scan or of its field from which it counts as cut off.
CUT_MM2 = 400.0


class _Limit(NamedTuple):
    """A figure, the value that halves the confidence, a flag and beyond what it is raised."""

    figure: str
    half: float
    flag: str
    beyond: float
    text: str
    severity: str = "look"


LIMITS = (
    _Limit(
        "mask_asymmetry",
        0.4,
        "asymmetric",
        0.4,
        "the lungs differ by a factor of {factor:.2f} from the usual; collapsed, or partly missed",
    ),
    _Limit(
        "mask_foreign_litres",
        0.03,
        "leak",
        0.03,
        "{value:.2f} L of the mask are air outside the lungs; look for stomach, bowel, outside air",
    ),
    _Limit(
        "mask_dense_fraction",
        0.12,
        "leak",
        0.12,
        "{percent:.0f} % of the mask is as dense as tissue; look for heart, liver or chest wall",
    ),
    _Limit(
        "mask_airway_litres",
        AIRWAY_LITRES,
        "airway_not_removed",
        AIRWAY_LITRES / 2,
        "{value:.3f} L of the mask are trachea or main bronchi, or no trachea was found",
    ),
    _Limit(
        "mask_missed_fraction",
        0.05,
        "air_missed",
        0.05,
        "{percent:.0f} % of the air of the lungs are not in the mask",
    ),
    _Limit(
        "mask_crossed_fraction",
        0.1,
        "sides_crossed",
        0.1,
        "{percent:.0f} % of the mask lie on the other lung's side; right and left may be swapped",
    ),
    _Limit(
        "dense_lost_litres",
        0.15,
        "dense_region_lost",
        0.01,
        "{value:.2f} L of lung are as dense as tissue and not in the mask: mass, consolidation or "
        "fluid",
    ),
    _Limit(
        "dense_added_litres",
        0.3,
        "dense_region_added",
        0.01,
        "{value:.2f} L as dense as tissue were taken into the mask: mass or consolidation; what of "
        "them reaches the wall or the middle may be missing",
        "note",
    ),
    _Limit(
        "mask_gas_litres",
        0.02,
        "gas_in_mask",
        0.005,
        "{value:.3f} L of the mask are gas where no lung can be; look for trachea, stomach, bowel",
    ),
    _Limit(
        "mask_separate_litres",
        0.1,
        "separate_piece",
        0.005,
        "{value:.3f} L of the mask lie apart from its lung: a bulla, a lobe behind a collapse, or "
        "bowel",
    ),
    _Limit(
        "mask_void_litres",
        0.02,
        "void_enclosed",
        0.001,
        "{value:.3f} L within a lung are not in the mask; look for a tumour that was left out",
    ),
    _Limit(
        "mask_unforked",
        1.0,
        "airway_short",
        0.5,
        "no fork of the trachea was found; look for trachea and bronchi in the lungs",
    ),
    _Limit(
        "noise_hu",
        200.0,
        "noisy",
        200.0,
        "noise of {value:.0f} HU; try a smoother reconstruction of the same scan",
    ),
)


class Trust(NamedTuple):
    """
    What is to be said of a mask.

    Attributes
    ----------
    confidence : float
        From 0 to 1.
    figures : mapping of str to float
        What it was made from, and itself as ``mask_confidence``; units in the names.
    flags : tuple of Flag
        Reasons to look twice.
    """

    confidence: float
    figures: Mapping[str, float]
    flags: tuple[Flag, ...]


def assess_mask(hu: npt.NDArray[Any], grid: Grid, mask: npt.NDArray[np.uint8]) -> Trust:
    """
    Judge a mask by the volume it was made from, whoever made it.

    Parameters
    ----------
    hu : ndarray of int16 or float32, shape (z, y, x)
        Hounsfield units, padding replaced by -1024.
    grid : Grid
        Where the voxels lie; any orientation.
    mask : ndarray of uint8, shape (z, y, x)
        1 right lung, 2 left lung; other labels are passed over.

    Raises
    ------
    ValueError
        If the three differ in shape.
    """
    if not hu.shape == grid.shape == mask.shape:
        raise ValueError(f"shapes differ: volume {hu.shape}, grid {grid.shape}, mask {mask.shape}")
    orientation = orientation_of(grid)
    volume = np.ascontiguousarray(turned(hu, orientation))
    labels = turned(mask, orientation)
    sides = (
        runs_at_most(np.ascontiguousarray(labels != side).view(np.uint8), 0) for side in (1, 2)
    )
    return judge(gather(volume, canonical_grid(grid, orientation)), *sides)


def judge(evidence: Evidence, right: Runs, left: Runs) -> Trust:
    """
    Judge a mask by the air of the chest.

    Parameters
    ----------
    evidence : Evidence
        The air.
    right, left : Runs
        The lungs, apart from one another.
    """
    grid = evidence.grid
    areas = [slice_sizes(lung) for lung in (right, left)]
    litres_right, litres_left = (int(area.sum()) * grid.voxel_litres for area in areas)
    if litres_right + litres_left == 0.0:
        text = "no lung found; look at the image: is it a chest, and are its HU right?"
        figures = {"mask_confidence": 0.0, "noise_hu": evidence.noise_hu}
        return Trust(0.0, figures, (Flag(name="no_lung", value=0.0, text=text),))
    both = union(right, left)
    coarse = coarse_of(evidence.dark, right, left, grid)
    recovered, lost = _dense_litres(coarse)
    figures = {
        **_of_air(evidence, both, top_mm2=float(areas[0][-1] + areas[1][-1])),
        "mask_asymmetry": _asymmetry(litres_right, litres_left),
        "mask_crossed_fraction": _crossed(right, left),
        "dense_added_litres": recovered,
        "dense_lost_litres": lost,
        "mask_gas_litres": gas_litres(
            evidence.volume, both, grid, evidence.levels, evidence.middle_mm
        ),
        "mask_separate_litres": separate_litres(coarse),
        "mask_void_litres": void_litres(coarse, evidence.lumen),
        "mask_unforked": unforked(evidence.airway, coarse, grid),
        "mask_roughness": roughness(coarse),
        "noise_hu": evidence.noise_hu,
    }
    confidence = 1.0 / (1.0 + _oddness(litres_right + litres_left) ** 4)
    for limit in LIMITS:
        confidence /= 1.0 + (figures[limit.figure] / limit.half) ** 4
    flags = (
        *_of_volume(litres_right, litres_left),
        *(flag for flag in (_flag(limit, figures[limit.figure]) for limit in LIMITS) if flag),
        *_of_edges(evidence, both),
    )
    return Trust(confidence, {"mask_confidence": confidence, **figures}, flags)


def _of_air(evidence: Evidence, both: Runs, top_mm2: float) -> dict[str, float]:
    """What of the mask is no air of the lungs, and what of that is not in the mask."""
    voxels = _voxels(both)
    dark, lungs, airway = (
        overlap(both, part) for part in (evidence.dark, evidence.lungs, evidence.airway)
    )
    air = _voxels(evidence.lungs)
    airway_litres = airway * evidence.grid.voxel_litres
    if not evidence.airway.starts.size and not top_mm2:
        # The tips of the lungs are in the scan, so the trachea must be, and is somewhere.
        airway_litres = AIRWAY_LITRES
    return {
        "mask_foreign_litres": (dark - lungs - airway) * evidence.grid.voxel_litres,
        "mask_dense_fraction": (voxels - dark) / voxels,
        "mask_airway_litres": airway_litres,
        "mask_missed_fraction": (air - lungs) / max(air, 1),
    }


def _dense_litres(coarse: Coarse) -> tuple[float, float]:
    """Dense lung that is in the mask, and that is not, in litres."""
    regions = dense_regions(coarse)
    inside = coarse.litres((regions > 0) & (coarse.sides == regions))
    lost = coarse.litres(regions > 0) - inside
    slices = [np.count_nonzero(coarse.sides == side, axis=(1, 2)) for side in (1, 2)]
    filled = [np.flatnonzero(slice_) for slice_ in slices]
    if not (filled[0].size and filled[1].size):
        return inside, lost
    tolerance = round(UNEVEN_MM / coarse.spacing_mm[0])
    for this, other in ((0, 1), (1, 0)):
        below = slices[other][: max(0, filled[this][0] - tolerance)].sum()
        above = slices[other][filled[this][-1] + tolerance + 1 :].sum()
        lost += float(below + above) * coarse.litres(np.ones(1, np.bool_))
    return inside, lost


def _asymmetry(litres_right: float, litres_left: float) -> float:
    """Logarithm of how far left by right is from what it should be."""
    if not litres_right or not litres_left:
        return ABSENT
    return min(ABSENT, abs(math.log(litres_left / litres_right / LEFT_BY_RIGHT)))


def _oddness(litres: float) -> float:
    """How far a volume is from the middle of the plausible ones, whose ends are 1."""
    low, high = (math.log(end) for end in PLAUSIBLE_LITRES)
    return abs(math.log(litres) - (low + high) / 2) / ((high - low) / 2)


def _crossed(right: Runs, left: Runs) -> float:
    """Part of the mask that lies beyond the centre of the other lung."""
    x_right, x_left = (
        float(moments(lung, np.ones(lung.starts.size, np.int32), 1)[1, 2]) for lung in (right, left)
    )
    if math.isnan(x_right) or math.isnan(x_left):
        return 0.0
    beyond = _voxels(within(right, math.ceil(x_left), right.shape[2]))
    beyond += _voxels(within(left, 0, math.floor(x_right)))
    return beyond / (_voxels(right) + _voxels(left))


def _voxels(runs: Runs) -> int:
    return int(slice_sizes(runs).sum())


def _flag(limit: _Limit, value: float) -> Flag | None:
    if value < limit.beyond:
        return None
    text = limit.text.format(value=value, percent=100 * value, factor=math.exp(value))
    return Flag(name=limit.flag, value=value, text=text, severity=limit.severity)


def _of_volume(litres_right: float, litres_left: float) -> list[Flag]:
    flags = []
    both = litres_right + litres_left
    low, high = PLAUSIBLE_LITRES
    smaller = min(litres_right, litres_left) / max(litres_right, litres_left)
    if smaller < MISSING_PART:
        text = "one lung is missing or far smaller; collapsed, absent, or not split from the other"
        flags.append(Flag(name="one_lung", value=smaller, text=text))
    if not low <= both <= high:
        text = f"lungs of {both:.2f} L are outside {low:g} to {high:g} L; look at the mask"
        flags.append(Flag(name="implausible_volume", value=both, text=text))
    return flags


def _of_edges(evidence: Evidence, both: Runs) -> list[Flag]:
    """Where the scan, or its field of view, cuts the lungs."""
    z_mm, y_mm, x_mm = evidence.grid.spacing_mm
    area = slice_sizes(both)
    ends_mm2 = float(max(area[0], area[-1])) * y_mm * x_mm
    inside = in_field(both, evidence.field)
    sides_mm2 = int(np.count_nonzero(on_field_edge(inside, evidence.field))) * z_mm * y_mm
    if max(ends_mm2, sides_mm2) <= CUT_MM2:
        return []
    where = "in the first or last slice" if ends_mm2 > sides_mm2 else "on the edge of the field"
    value = max(ends_mm2, sides_mm2)
    text = f"{value / 100:.0f} cm2 of lung {where}; the scan may cut it"
    return [Flag(name="touches_fov", value=value, text=text)]
