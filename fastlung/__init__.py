"""
Lung CT DICOM in, training-ready volumes and lung masks out.

Many scans: `process`, `inspect`; `open_scan` reads back what was written. One scan: `list_series`,
`read_series`, then `process_scan`, or its steps `to_hu`, `resample`, `lung_mask`; `assess_mask`
judges a mask, `preview` draws it. One scan for one model: `load_for`. Arrays are NumPy, ordered
``(z, y, x)``.

Names are loaded when they are first used, so that ``import fastlung`` costs milliseconds and
imports neither Numba nor a DICOM reader.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastlung import errors as errors
    from fastlung.comparison import ScanComparison as ScanComparison
    from fastlung.comparison import compare as compare
    from fastlung.config import Config as Config
    from fastlung.config import RunOptions as RunOptions
    from fastlung.config import StoreOptions as StoreOptions
    from fastlung.config import build_config as build_config
    from fastlung.config import build_run_options as build_run_options
    from fastlung.dicom import list_series as list_series
    from fastlung.dicom import read_series as read_series
    from fastlung.dicom.checks import Policy as Policy
    from fastlung.inputs import load_for as load_for
    from fastlung.inspection import inspect as inspect
    from fastlung.limits import Limits as Limits
    from fastlung.limits import limited as limited
    from fastlung.mask import assess_mask as assess_mask
    from fastlung.mask import lung_mask as lung_mask
    from fastlung.pipeline import process_scan as process_scan
    from fastlung.previews import Picture as Picture
    from fastlung.previews import preview as preview
    from fastlung.run.engine import process as process
    from fastlung.scan import Crop as Crop
    from fastlung.scan import Flag as Flag
    from fastlung.scan import Grid as Grid
    from fastlung.scan import LungMask as LungMask
    from fastlung.scan import Outcome as Outcome
    from fastlung.scan import RawScan as RawScan
    from fastlung.scan import ScanResult as ScanResult
    from fastlung.scan import Verdict as Verdict
    from fastlung.sink.reader import StoredScan as StoredScan
    from fastlung.sink.reader import open_scan as open_scan
    from fastlung.volume.hounsfield import to_hu as to_hu
    from fastlung.volume.resampling import resample as resample

    __version__: str

__all__ = [
    "Config",
    "Crop",
    "Flag",
    "Grid",
    "Limits",
    "LungMask",
    "Outcome",
    "Picture",
    "Policy",
    "RawScan",
    "RunOptions",
    "ScanComparison",
    "ScanResult",
    "StoreOptions",
    "StoredScan",
    "Verdict",
    "__version__",
    "assess_mask",
    "build_config",
    "build_run_options",
    "compare",
    "errors",
    "inspect",
    "limited",
    "list_series",
    "load_for",
    "lung_mask",
    "open_scan",
    "preview",
    "process",
    "process_scan",
    "read_series",
    "resample",
    "to_hu",
]

#: Module -> public names it defines.
_EXPORTS = {
    "comparison": ("ScanComparison", "compare"),
    "config": ("Config", "RunOptions", "StoreOptions", "build_config", "build_run_options"),
    "dicom": ("list_series", "read_series"),
    "dicom.checks": ("Policy",),
    "inputs": ("load_for",),
    "inspection": ("inspect",),
    "limits": ("Limits", "limited"),
    "mask": ("assess_mask", "lung_mask"),
    "pipeline": ("process_scan",),
    "previews": ("Picture", "preview"),
    "run.engine": ("process",),
    "scan": ("Crop", "Flag", "Grid", "LungMask", "Outcome", "RawScan", "ScanResult", "Verdict"),
    "sink.reader": ("StoredScan", "open_scan"),
    "volume.hounsfield": ("to_hu",),
    "volume.resampling": ("resample",),
}
_HOMES = {name: module for module, names in _EXPORTS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("fastlung")
    if name == "errors":
        return importlib.import_module("fastlung.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'fastlung' has no attribute {name!r}")
    return getattr(importlib.import_module(f"fastlung.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
