"""
Rules that others exclude series by, so that a user can count what is rescued.

`idc_exclusions` is the cohort query of IDC's CloudSegmentator (NLST, 126,000 series): whatever it
excludes was not processed there. Nothing here changes what fastlung does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastlung.dicom import SeriesHeaders

__all__ = ["idc_exclusions"]

#: JPEG Extended and JPEG Lossless SV1: "additional decompression steps".
IDC_COMPRESSED = {"1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.70"}
IDC_MIN_SLICES = 50
#: How far the normal may lean from the patient's z axis, as a cosine.
IDC_AXIAL_COSINE = 0.99
#: Largest difference between slice intervals, in millimetres.
IDC_INTERVAL_RANGE_MM = 0.01


def idc_exclusions(series: Sequence[SeriesHeaders]) -> tuple[str, ...]:
    """
    Say by which of its rules CloudSegmentator would exclude a series.

    Parameters
    ----------
    series : sequence of SeriesHeaders
        Everything under one SeriesInstanceUID; the rules know no parts.

    Returns
    -------
    tuple of str
        Rules broken; empty for a series it would process.
    """
    headers = [header for one in series for header in one.headers]
    classes = {name for one in series for name in one.verdict.classes}
    dropped = sum(one.verdict.numbers.get("duplicate_slices", 0) for one in series)
    syntaxes = {header.transfer_syntax for header in headers}
    broken = {
        "JPEG-compressed": bool(syntaxes & IDC_COMPRESSED),
        f"fewer than {IDC_MIN_SLICES} slices": len(headers) + dropped < IDC_MIN_SLICES,
        "matrix changes": len({(header.rows, header.columns) for header in headers}) > 1,
        "pixel spacing changes": len({header.pixel_spacing_mm for header in headers}) > 1,
        "orientation changes": "mixed_orientation" in classes
        or len({header.orientation for header in headers}) > 1,
    }
    placed = [header for header in headers if header.position_mm and header.orientation]
    broken["no position"] = len(placed) < len(headers)
    if placed:
        points = np.array([header.position_mm for header in placed])
        heights = np.sort(points[:, 2])
        cosines = np.array([header.orientation for header in placed])
        normal_z = np.cross(cosines[:, :3], cosines[:, 3:])[:, 2]
        steps = np.diff(heights)
        repeats = dropped or {"multi_acquisition", "duplicate"} & classes or (steps == 0).any()
        broken |= {
            "x or y of positions changes": bool(np.ptp(points[:, :2], axis=0).any()),
            "not axial": bool((np.abs(normal_z) < IDC_AXIAL_COSINE).any()),
            "several slices at one z": bool(repeats),
            "uneven slice intervals": steps.size > 0
            and float(np.ptp(steps)) >= IDC_INTERVAL_RANGE_MM,
        }
    return tuple(rule for rule, is_broken in broken.items() if is_broken)
