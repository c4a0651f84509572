"""
What each preset sets: the constants of other people's pipelines, each with where it is from.

Data only; ``docs/reference/presets.md`` says what of each pipeline is reproduced, and what is not.
"""

from __future__ import annotations

from typing import Any

__all__ = ["PRESETS"]

#: What each preset sets; anything else stays at the default, and options override both.
PRESETS: dict[str, dict[str, Any]] = {
    "hu": {},
    # The Kaggle DSB 2017 "Full Preprocessing Tutorial", number for number.
    "tutorial": {
        "hu_rule": "tutorial",
        "align": "corners",
        "mask": "tutorial",
        "window_hu": (-1000.0, 400.0),
        "zero_centre": 0.25,
        "on_tilt": "keep",
    },
    # Winner of the DSB 2017 (github.com/lfz/DSB2017, preprocessing/full_prep.py): -1200 to 600 HU
    # as bytes, 170 outside the dilated hulls of the lungs, linear, 5 voxels around, 10 above.
    "grt123": {
        "recipe": "grt123",
        "order": 1,
        "align": "corners",
        "mask": "grt123",
        "window_hu": (-1200.0, 600.0),
        "dtype": "uint8",
        "crop": "lungs",
        "margin_mm": 5.0,
        "on_tilt": "keep",
    },
    # MONAI model zoo, lung_nodule_ct_detection, configs/inference.json: Spacingd in RAS, then
    # ScaleIntensityRanged to 0..1.
    "luna16-monai": {
        "spacing_mm": (1.25, 0.703125, 0.703125),
        "order": 1,
        "align": "ras",
        "window_hu": (-1024.0, 300.0),
    },
    # github.com/reginabarzilaygroup/Sybil, serie.py and loaders/image_loaders.py. Its resampler is
    # told 0.703125 mm after slices of 512 x 512 have been shrunk to 256 x 256: 1.40625 mm in truth.
    "sybil": {
        "spacing_mm": (2.5, 1.40625, 1.40625),
        "order": 1,
        "window_hu": (-1350.0, 149.0),  # centre -600, width 1500 by DICOM PS3.3 C.11.2.1.2
        # Of bytes 128.1722 and 87.1849, which are 65535 / 256 of the window, cut off: half a unit.
        "standardise": (
            -1350.0 + 1499.0 * (128.1722 + 0.5) * 256 / 65535,
            1499.0 * 87.1849 * 256 / 65535,
        ),
        "size": (200, 256, 256),
    },
    # github.com/JoHof/lungmask, utils.preprocess: (clip(HU, -1024, 600) + 1024) / 1624. It crops
    # each slice to the body by itself; a volume has one box.
    "lungmask": {"window_hu": (-1024.0, 600.0), "crop": "body", "margin_mm": 0.0},
    # nnU-Net's CTNormalization; what it clips to and divides by are the data set's.
    "nnunet-ct": {},
}
