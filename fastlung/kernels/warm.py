"""Compile, or load from the cache, every kernel in every signature fastlung calls it with."""

import numpy as np

from fastlung.kernels import (
    bits,
    fused,
    hu,
    intensity,
    labels,
    morphology,
    overlap,
    picture,
    resample,
    runs,
    smooth,
)

__all__ = ["warm_up"]


def warm_up() -> None:
    """Make every kernel ready in this process, as `fastlung.kernels.warm_up` says."""
    _warm_intensities()
    _warm_resampling()
    _warm_masks()
    _warm_grt123()
    _warm_pictures()


def _warm_intensities() -> None:
    stored, out = np.zeros((1, 2, 2), np.uint16), np.zeros((1, 2, 2), np.int16)
    hu.rescale(stored, _scale(), -1500.0, -1024, out)
    hu.rescale_as_tutorial(stored, _scale(), out)
    for dtype in (np.int16, np.float32):
        volume = np.zeros((1, 2, 2), dtype)
        intensity.normalise(volume, -1000.0, 400.0, 0.25, np.zeros(out.shape, np.float32))
    intensity.quantise(out, -1000.0, 400.0, np.zeros(out.shape, np.uint8))
    intensity.histogram(out, np.zeros(65536, np.int64))


def _scale() -> tuple[np.ndarray, ...]:
    dtypes = np.uint8, np.uint8, np.bool_, np.float32, np.float32, np.int32, np.int32
    return tuple(np.ones(1, dtype) for dtype in dtypes)


def _warm_resampling() -> None:
    start, weights = np.zeros(1, np.int64), np.full((1, 4), 0.25, np.float32)
    for array in (start, weights):
        array.setflags(write=False)  # as the cached bands are: Numba counts that as another type
    plane = start.copy()[None], weights.copy()[None]
    bands = start, weights, *plane, *plane
    work = resample.work_arrays((1, 1), bands, 1, 1)
    for dtype in (np.int16, np.uint8, np.float32):
        volume = np.zeros((1, 1, 1), dtype)
        resample.resample_volume(volume, bands, 0.0, 1.0, work, 1, 0, 1, volume.copy())
    stored, image = np.zeros((1, 1, 1), np.uint16), np.zeros((1, 1, 1), np.int16)
    extents = np.full((1, 1, 3), fused.UNSEEN, np.int32)
    nearest = np.zeros(1, np.int64), np.zeros((1, 1), np.int64), np.zeros((1, 1), np.int64)
    fused.resample_stored(
        stored, _scale(), -1500.0, -1024, (-32768.0, 32767.0), bands, nearest, extents, work,
        1, 0, 1, image,
    )  # fmt: skip
    fused.count_padding(stored, _scale(), -1500.0, extents, np.zeros((1, 1), np.float32))


def _warm_masks() -> None:
    for dtype in (np.uint8, np.int16, np.float32):
        mask = bits.runs_at_most(np.ones((3, 3, 3), dtype), 0)
    everything = runs.complement(mask)
    labels.label(everything, 6)
    found, count = labels.label(everything, 26)
    labels.label_slices(everything, 8)
    labels.fill_holes(everything)
    runs.difference(everything, mask)
    runs.moments(everything, found, count)
    runs.means(everything, np.zeros((3, 3, 3), np.int16), found, count)
    runs.paint_coarse(everything, np.ones(found.size, np.uint8), (2, 2, 2))
    runs.paint(everything, np.ones(found.size, np.uint8), np.zeros((3, 3, 3), np.uint8))
    morphology.close(everything, morphology.ball(1.0, (1.0, 1.0, 1.0)))
    for dtype in (np.int16, np.float32):
        smooth.mean_at_most(np.zeros((3, 3, 3), dtype), (1, 1, 1), 0.0)
        smooth.mean_at_most(np.zeros((3, 3, 4), dtype)[:, :, 1:], (1, 1, 1), 0.0)
    overlap.boxes(everything, found, count)
    overlap.overlap(everything, everything)
    overlap.overlaps(everything, found)
    volume = np.zeros((3, 3, 3), np.int16)
    overlap.on_field_edge(everything, overlap.field_of_view(volume, 0.0))
    intensity.noise_hu(volume, everything)


def _warm_grt123() -> None:
    volume, out = np.zeros((3, 4, 4), np.int16), np.zeros((3, 4, 4), np.uint8)
    picture.smoothed_below(volume, np.ones(3), -600.0, np.zeros(3, np.bool_), out)
    everything = bits.runs_at_most(volume, 0)
    found, count = labels.label_slices(everything, 8)
    picture.eccentricities(everything, found, count)
    runs.difference(everything, picture.slice_hulls(everything))
    labels.share(out, (1.0, 1.0, 1.0))
    resample.zoom_bytes(out, np.zeros(1), np.zeros(1), np.zeros(1), np.zeros((1, 1, 1), np.uint8))


def _warm_pictures() -> None:
    mask, counts = np.zeros((1, 1, 1), np.uint8), np.zeros(1, np.int64)
    picture.plane_areas(mask, 1, 2, counts, counts, counts)
    for dtype in (np.int16, np.float32, np.uint8):
        picture.brightest_along_y(np.zeros((1, 1, 1), dtype), mask, np.zeros((1, 1), dtype))
    place, plane = np.zeros(1, np.float32), np.zeros((1, 1), np.float32)
    picture.grey_levels(plane, place, place, -1350.0, 150.0, 64, mask[0])
