"""
What a volume shows, by its own voxels: whether they look like Hounsfield units, and like a chest.

Figures are parts of all voxels that lie in bands of HU, and litres of what looks like lung: robust,
cheap (the histogram is counted anyway), and blind to what a header claims. Limits leave a wide
margin: a flag is a reason to look twice, and no series of a chest should raise one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastlung.scan import Flag

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from fastlung.scan import Grid, RawScan

    Counts = npt.NDArray[Any]

__all__ = ["chest_flags", "hu_flags", "reformat_flags"]

#: Bands of HU: air of any kind, its upper half alone, lung, soft tissue with fat and contrast, and
#: where tissue would lie if 1000 or 1024 had been added.
AIR, HALF_AIR, LUNG = (-1024, -700), (-700, -300), (-950, -500)
TISSUE, RAISED_TISSUE = (-200, 200), (850, 1300)
#: A share of soft tissue below which nothing looks like a body in HU: reasoned, not calibrated.
LEAST_TISSUE = 0.01
#: A volume with less air than this part has none; tissue makes at least so much of any body.
LEAST_AIR, MUCH = 0.001, 0.1
#: Lungs that are both smaller than so many litres and less than that part of the body in view are
#: those at the edge of a neck or an abdomen; below the second figure there are none.
SMALL_LUNGS_LITRES, NO_LUNGS_LITRES, LUNGS_OF_BODY = 1.0, 0.2, 0.05
#: A view below so many litres of body is a detail, of which nothing is said.
DETAIL_LITRES = 0.5
#: A stack that is lower than this, and much wider than high, is a slab; in millimetres.
SLAB_MM, WIDE_MM = 40.0, 200.0


def hu_flags(counts: Counts) -> tuple[Flag, ...]:
    """
    Say whether values can be Hounsfield units: where air and soft tissue should be, they are.

    Parameters
    ----------
    counts : ndarray of int64, shape (65536,)
        Voxels of each HU from -32768 on.

    Returns
    -------
    tuple of Flag
        ``hu_doubtful``, or nothing.
    """
    total = max(1, int(counts.sum()))
    part = {name: _count(counts, name) / total for name in (AIR, HALF_AIR, TISSUE, RAISED_TISSUE)}
    if part[TISSUE] < LEAST_TISSUE and part[AIR] > MUCH:
        what, value = "hardly any voxel is soft tissue (-200 to 200 HU)", part[TISSUE]
    elif part[AIR] < LEAST_AIR and part[RAISED_TISSUE] > MUCH:
        what, value = "no air, and much at 850 to 1300 HU", part[RAISED_TISSUE]
    elif part[AIR] < LEAST_AIR and part[HALF_AIR] > MUCH:
        what, value = "nothing as dark as air, and much at half its HU", part[HALF_AIR]
    else:
        return ()
    text = (
        f"{what}: the values look as if they had been rescaled twice, or not at all, or shifted by "
        "1024; compare them with the scanner's"
    )
    return (Flag(name="hu_doubtful", value=value, text=text),)


def chest_flags(counts: Counts, grid: Grid, lungs_litres: float | None) -> tuple[Flag, ...]:
    """
    Say whether a volume shows a chest.

    Parameters
    ----------
    counts : ndarray of int64, shape (65536,)
        Voxels of each HU from -32768 on.
    grid : Grid
        Where they lie.
    lungs_litres : float or None
        Volume of the lungs by their mask; None where there is no mask.

    Returns
    -------
    tuple of Flag
        ``not_chest``, or nothing.
    """
    litres = grid.voxel_litres
    body = litres * _count(counts, TISSUE)
    lungs = litres * _count(counts, LUNG) if lungs_litres is None else lungs_litres
    if body < DETAIL_LITRES:
        return ()
    if lungs < NO_LUNGS_LITRES:
        text = f"{lungs:.2f} L of lung in {body:.1f} L of body: this shows no chest"
    elif lungs < SMALL_LUNGS_LITRES and lungs < LUNGS_OF_BODY * body:
        text = (
            f"{lungs:.2f} L of lung in {body:.1f} L of body: this shows the edge of a chest, and "
            "mostly what lies above or below it"
        )
    else:
        return ()
    return (Flag(name="not_chest", value=lungs, text=text),)


def reformat_flags(raw: RawScan) -> tuple[Flag, ...]:
    """
    Say whether a series is a reformat rather than the axial stack a scanner reconstructs.

    Parameters
    ----------
    raw : RawScan
        The series as acquired.

    Returns
    -------
    tuple of Flag
        ``reformat``, or nothing.
    """
    lean = raw.verdict.numbers.get("normal_to_z_axis_deg", 0.0)
    height_mm = float(raw.slice_positions_mm[-1]) + raw.grid.spacing_mm[0]
    width_mm = min(np.multiply(raw.grid.shape[1:], raw.grid.spacing_mm[1:]))
    if "not_axial" in raw.verdict.classes:
        value, text = lean, f"slices lean {lean:.0f} degrees from axial: a reformat, or not a chest"
    elif height_mm < SLAB_MM and width_mm > WIDE_MM:
        value, text = height_mm, f"one slab, {height_mm:.0f} mm high: no whole chest"
    else:
        return ()
    return (Flag(name="reformat", value=value, text=text),)


def _count(counts: Counts, band: Sequence[int]) -> int:
    low, high = band
    return int(counts[low + 32768 : high + 32768].sum())
