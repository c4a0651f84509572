"""Which runs are frozen: every preset and format, options that change voxels, ways of failing."""

from dataclasses import dataclass, field
from typing import Any

import fastlung

#: Coarse, so that all of them together take seconds.
COARSE = {"spacing_mm": 4.0}
COARSER = {"spacing_mm": 6.0}
#: Constants of a data set, which this preset has none of.
NNUNET = {"window_hu": (-1000.0, 400.0), "standardise": (-400.0, 300.0)}
PRESETS: dict[str, dict[str, Any]] = {
    "hu": {}, "tutorial": {}, "grt123": {}, "luna16-monai": {}, "sybil": {}, "lungmask": {},
    "nnunet-ct": NNUNET,
}  # fmt: skip
FORMATS = ("npy", "npz", "nifti", "mha", "zarr")
#: Each changes voxels, masks, verdicts or names of one source.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "airway": ("chest", {"airway": True}),
    "body": ("chest", {"crop": "body", "margin_mm": 10.0}),
    "lungs as bytes": ("chest", {"crop": "lungs", "window_hu": (-1000, 400), "dtype": "uint8"}),
    "smoothed": ("chest", {"antialias": True, "order": 1}),
    "window, no mask": ("chest", {"mask": "none", "window_hu": (-1200, 600), "preview": "none"}),
    "nearest": ("demo", {"order": 0}),
    "oblong": ("demo", {"spacing_mm": (5.0, 2.5, 2.0), "size": (48, 120, 128)}),
    "by series": ("demo", {"group_by": "series", "names": "series"}),
    "gap split": ("demo", {"on_gap": "split"}),
    "gap nearest": ("demo", {"on_gap": "nearest"}),
    "strict": ("demo", {"on_gap": "fail", "on_duplicate": "fail", "on_variable_spacing": "fail"}),
    "first of duplicates": ("demo", {"on_duplicate": "first"}),
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One call of `fastlung.process`."""

    source: str
    options: dict[str, Any] = field(default_factory=dict)


def _coarse() -> dict[str, Run]:
    runs = {}
    for source in ("demo", "chest"):
        for preset, options in PRESETS.items():
            named = {"preset": preset, "names": "folder", **COARSE, **options}
            if preset == "sybil":
                named["size"] = (100, 128, 128)
            runs[f"{source}, {preset}"] = Run(source=source, options=named)
        for name in FORMATS[1:]:
            options = {"format": name, "names": "folder", **COARSER}
            runs[f"{source}, {name}"] = Run(source=source, options=options)
    for name, (source, options) in VARIANTS.items():
        runs[f"{source}, {name}"] = Run(source=source, options={**COARSE, **options})
    return runs


def _whole() -> dict[str, Run]:
    """Every preset in every format at its own spacing."""
    return {
        f"{source}, {preset}, {name}": Run(
            source=source, options={"preset": preset, "format": name, "names": "folder", **options}
        )
        for source in ("demo", "chest")
        for preset, options in PRESETS.items()
        for name in FORMATS
    }


RUNS = _coarse()
#: Minutes; only with FASTLUNG_FROZEN=whole.
WHOLE_RUNS = _whole()
#: Twenty ways of asking, for the digests that decide whether a sink is resumed.
CONFIGURATIONS: tuple[dict[str, Any], ...] = (
    {},
    {"spacing_mm": 1.5},
    {"spacing_mm": (2.5, 0.8, 0.8), "mask": "none"},
    {"order": 1, "antialias": True},
    {"airway": True},
    {"mask_command": "lungmask {image} {mask}", "mask_on": "all", "mask_timeout_seconds": 60.0},
    {"mask_function": "package.module:name"},
    {"crop": "lungs", "window_hu": (-1000, 400), "dtype": "uint8"},
    {"crop": "body", "margin_mm": 0.0},
    {"window_hu": (-1000, 400), "zero_centre": 0.25},
    {"size": (200, 256, 256), "format": "zarr", "preview": "none"},
    {"format": "nifti", "names": "hash", "group_by": "series"},
    {"on_gap": "split", "on_duplicate": "first", "on_tilt": "keep"},
    {"on_variable_spacing": "fail", "on_mixed_orientation": "split", "min_slices": 10},
    {"force": True},
    {"preset": "tutorial"},
    {"preset": "grt123"},
    {"preset": "luna16-monai"},
    {"preset": "sybil"},
    {"preset": "lungmask", "format": "mha"},
    {"preset": "nnunet-ct", **NNUNET},
    {"preset": "tutorial", "window_hu": "none", "dtype": "int16"},
)


def process(run: Run, source: str, sink: str, workers: int = 0) -> Any:
    """Carry out a run."""
    return fastlung.process(source, sink, workers=workers, **run.options)
