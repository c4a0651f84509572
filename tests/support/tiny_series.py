"""
A chest of 20 slices of 64 x 64, as files: enough for every step of the pipeline, in kilobytes.

`write_group` writes one folder of a source; what a run leaves in a sink is read by `payloads`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from dicom_writer import ct_series

if TYPE_CHECKING:
    from pathlib import Path

SLICES = 20
#: A name that must turn up nowhere.
CANARY = "CANARY^OF^COALMINE"


def chest(seed: int, slices: int = SLICES) -> Any:
    """Stored words (HU + 1024) of a body with two lungs, uint16, shape (slices, 64, 64)."""
    z, y, x = np.ogrid[:slices, :64, :64]
    words = np.zeros((slices, 64, 64))
    words[np.broadcast_to(((y - 32) / 24) ** 2 + ((x - 32) / 30) ** 2 < 1, words.shape)] = 1064
    for centre in (18, 46):
        middle, half = (slices - 1) / 2, slices / 2.5
        lung = (((z - middle) / half) ** 2 + ((y - 32) / 14) ** 2 + ((x - centre) / 9) ** 2) < 1
        words[lung] = 150
    noise = np.random.default_rng(seed).normal(0, 15, words.shape)
    return np.clip(words + noise, 0, 4095).astype(np.uint16)


def write_group(folder: Path, seed: int, *, slices: int = SLICES, uid: str | None = None) -> None:
    """Write the files of one series; its SeriesInstanceUID follows from the seed."""
    folder.mkdir(parents=True, exist_ok=True)

    def name_patient(dataset: Any) -> None:
        dataset.PatientName = CANARY

    files = ct_series(
        chest(seed, slices),
        step_mm=8.0,
        pixel_spacing_mm=(5.5, 5.5),
        series_uid=f"1.2.3.{seed}" if uid is None else uid,
        edits=dict.fromkeys(range(slices), name_patient),
    )
    for name, data in files.items():
        (folder / name).write_bytes(data)


def write_source(root: Path, count: int) -> Path:
    """Write `count` series, each in a folder of its own."""
    for seed in range(count):
        write_group(root / f"patient-{seed:02d}" / "ct", seed)
    return root


def payloads(sink: Path) -> dict[str, bytes]:
    """Every output that must not depend on how it was made: no times, no machine."""
    return {
        str(path.relative_to(sink)): path.read_bytes()
        for path in sorted(sink.glob("scans/*/*"))
        if path.name != "outcome.json"
    }
