"""Series in memory, made from Hounsfield units."""

import numpy as np

from fastlung.scan import RawScan, SliceScale, Verdict

CHESTS = {
    "lidc-idri-0306": ("98355e994a40daf4", 4.49),
    "lung-dx-a0001-5mm": ("25ea476e500e8e1b", 5.39),
    "lung-dx-a0002-8mm": ("883346cf8fb735c8", 2.65),
}


def raw_scan(hu, grid, **changes):
    """A series whose stored words are HU + 1024, unsigned 16 bit."""
    slices = hu.shape[0]
    fields = {
        "series_uid": "2.25.1",
        "stored": (hu.astype(np.int32) + 1024).astype(np.uint16),
        "scale": SliceScale(
            shift=np.zeros(slices, np.uint8),
            bits_stored=np.full(slices, 16, np.uint8),
            signed=np.zeros(slices, bool),
            slope=np.ones(slices, np.float32),
            intercept=np.full(slices, -1024, np.float32),
            padding_low=np.ones(slices, np.int32),
            padding_high=np.zeros(slices, np.int32),
        ),
        "grid": grid,
        "slice_positions_mm": np.arange(slices) * grid.spacing_mm[0],
        "verdict": Verdict(),
        "acquisition": {},
    }
    return RawScan(**fields | changes)
