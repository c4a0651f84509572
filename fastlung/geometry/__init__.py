"""
Slices to a stack: order, spacing, and a verdict on how regular it is.

Pure NumPy on positions and orientations as DICOM gives them; knows neither files nor tags. Slices
are sorted by their position along the slice normal, never by a number somebody wrote. What is
irregular is named, measured, and dealt with as the `Policy` says, or refused with the reason.
"""

from fastlung.dicom.checks import ORIENTATION_TOLERANCE, Policy
from fastlung.dicom.geometry import Stack, stack_slices

__all__ = ["ORIENTATION_TOLERANCE", "Policy", "Stack", "stack_slices"]
