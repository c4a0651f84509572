"""
Slices to a stack: order, spacing, and a verdict on how regular it is.

Pure NumPy on positions and orientations as DICOM gives them; knows neither files nor tags. Slices
are sorted by their position along the slice normal, never by a number somebody wrote. What is
irregular is named, measured, and dealt with as the `Policy` says, or refused with the reason.
"""

from fastlung.geometry.acquisitions import PRESENCE_OF
from fastlung.geometry.checks import ORIENTATION_TOLERANCE, counted, is_even_row
from fastlung.geometry.policy import Policy
from fastlung.geometry.stack import Stack, stack_slices

__all__ = [
    "ORIENTATION_TOLERANCE",
    "PRESENCE_OF",
    "Policy",
    "Stack",
    "counted",
    "is_even_row",
    "stack_slices",
]
