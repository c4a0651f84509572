"""
Where the lungs are: thresholds, connected components and shapes; no learned weights.

`lung_mask` is the mask of the default preset, `tutorial_mask` that of the Kaggle tutorial, kept
identical to it, `grt123_mask` that of the competition's winners. All are pure, work on run-length
rows, and never raise on odd anatomy: they say so in flags. `assess_mask` judges any mask.
"""

from fastlung.mask.chosen import chosen_mask
from fastlung.mask.grt123 import grt123_mask
from fastlung.mask.lungs import lung_mask, tutorial_mask
from fastlung.mask.trust import assess_mask

__all__ = ["assess_mask", "chosen_mask", "grt123_mask", "lung_mask", "tutorial_mask"]
