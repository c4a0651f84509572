"""Small results, and their files in every format."""

import numpy as np

from fastlung.config import build_config
from fastlung.scan import Grid, ScanResult, Verdict
from fastlung.sink.formats.zarr import EDGE
from fastlung.sink.writer import encode

#: What each dtype is asked for with.
OPTIONS = {
    "int16": {},
    "float32": {"window_hu": (-1000, 400), "zero_centre": 0.25},
    "uint8": {"window_hu": (-1200, 600), "dtype": "uint8"},
}


def files_of(result, config, name):
    """Contents of every file in one format."""
    files = encode(
        result,
        acquired=result.grid,
        verdict=Verdict(),
        acquisition={},
        config=config.model_copy(update={"format": name}),
    )
    return {name: b"".join(bytes(piece) for piece in pieces) for name, pieces in files.items()}


def written(folder, result, config, name):
    for file, data in files_of(result, config, name).items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def chest(dtype="int16", **options):
    """Two blocks and a bit a side, with a corner that holds nothing."""
    shape = (EDGE + 9, 2 * EDGE, EDGE + 1)
    image = np.random.default_rng(3).normal(-500, 300, shape)
    image[:EDGE, :EDGE, :EDGE] = 0
    config = build_config(**OPTIONS[dtype], **options)
    grid = Grid(shape=shape, spacing_mm=(1.5, 1.0, 1.0), origin_mm=(1.0, 2.0, 3.0))
    result = ScanResult(
        image=image.astype(dtype),
        mask=(image < -700).astype(np.uint8),
        grid=grid,
        window_hu=config.window_hu,
        zero_centre=config.zero_centre,
    )
    return result, config
