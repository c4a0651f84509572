"""
What is measured against what: one table for tests, benchmarks and the regression gate.

Every `Comparison` names a job, our way of doing it, the ways people use today, and a yardstick: a
fixed NumPy or SciPy computation that no change of ours can speed up. Shared machines are noisy, so
only ratios within one run are kept. `agree` holds each rival to our answer before any clock starts.

The scan is a synthetic chest of 180 slices of 512 x 512 at 1.8 x 0.68 x 0.68 mm with the noise of a
low-dose scan; with ``FASTLUNG_BENCH_SCALE=4`` it has a quarter of the slices, rows and columns.
"""

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import cc3d
import fill_voids
import mask_rivals
import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813  (everybody does)
from dicom_writer import EXPLICIT, JPEG_LOSSLESS_SV1, JPEG_LS, RLE, ct_series
from reference import mask_of
from reference import tutorial_mask as scikit_image_mask
from scipy import ndimage

from fastlung.config import build_config
from fastlung.demo.phantom import BODY_MM, phantom
from fastlung.hounsfield import to_hu
from fastlung.io.dicom import read_series
from fastlung.kernels.intensity import normalise
from fastlung.kernels.labels import label
from fastlung.kernels.threshold import runs_at_most
from fastlung.mask import lung_mask, tutorial_mask
from fastlung.pipeline import process_scan
from fastlung.resampling import (
    aligned_targets,
    resample_between,
    sample_positions,
    target_grid,
)

SCALE = int(os.environ.get("FASTLUNG_BENCH_SCALE", "1"))
NOISE_HU = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """
    One job, done by us and by others.

    Attributes
    ----------
    name : str
        What tables and baselines call it.
    ours : callable
        Our way; takes nothing, returns the answer.
    yardstick : callable
        A fixed computation of NumPy or SciPy of about the same kind.
    rivals : mapping of str to callable
        Other ways, by the name they are published under.
    agree : callable
        ``agree(ours, theirs)`` raises AssertionError unless the answers are the same.
    """

    name: str
    ours: Callable[[], Any]
    yardstick: Callable[[], Any]
    rivals: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    agree: Callable[[Any, Any], None]


@cache
def chest():
    """The scan everything is measured on."""
    shape = (180 // SCALE, 512 // SCALE, 512 // SCALE)
    spacing_mm = (1.8 * SCALE, 0.68 * SCALE, 0.68 * SCALE)
    drawn = phantom(shape, spacing_mm, noise_hu=NOISE_HU)
    # Without its table, which cuts the outside air in two: the rivals' masks take the lower part
    # of it for lung, and would be compared on another job than ours.
    behind = int(drawn.grid.to_index((0.0, BODY_MM[1], 0.0))[1])
    drawn.hu[:, behind:] = np.roll(drawn.hu, behind, axis=1)[:, behind:]
    return drawn


@cache
def millimetre():
    """The scan at 1 mm, what masks are made from."""
    return resampled(1)


@cache
def runs():
    return runs_at_most(millimetre(), -400)


@cache
def series_folder(transfer_syntax=EXPLICIT):
    """The scan as DICOM files of a transfer syntax."""
    folder = Path(tempfile.mkdtemp(prefix="fastlung-bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    files = ct_series(
        (chest().hu + 1024).astype(np.uint16),
        step_mm=chest().grid.spacing_mm[0],
        pixel_spacing_mm=chest().grid.spacing_mm[1:],
        intercept=-1024,
        bits_stored=12,
        transfer_syntax=transfer_syntax,
    )
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def corner_grid():
    return target_grid(chest().grid, (1.0 * SCALE,) * 3, align="corners")


def resampled(order):
    grid = chest().grid
    targets = aligned_targets(grid, corner_grid())
    return resample_between(chest().hu, sample_positions(grid), targets, order)


def scipy_zoom(order):
    factors = np.divide(corner_grid().shape, chest().grid.shape)
    return ndimage.zoom(chest().hu, factors, order=order, mode="nearest")


def simpleitk_zoom(interpolator):
    grid, wanted = chest().grid, corner_grid()
    image = sitk.GetImageFromArray(chest().hu)
    image.SetSpacing(grid.spacing_mm[::-1])
    out = sitk.Resample(
        image, wanted.shape[::-1], sitk.Transform(), interpolator, (0.0, 0.0, 0.0),
        wanted.spacing_mm[::-1],
    )  # fmt: skip
    return sitk.GetArrayFromImage(out)


def zoom_of_a_part():
    """A yardstick for resampling: SciPy, linear, a sixteenth of the scan."""
    part = chest().hu[:, : 128 // SCALE, : 128 // SCALE]
    return ndimage.zoom(part, 0.7, order=1)


def label_of_a_part():
    """A yardstick for masks: SciPy's labels on a quarter of the slices."""
    return ndimage.label(millimetre()[::4] <= -400)


def scaled():
    """A yardstick for passes over the volume: NumPy in float32."""
    return chest().hu.astype(np.float32) * np.float32(1.5) - np.float32(1024)


def pydicom_headers():
    """A yardstick for reading: pydicom over the headers of 40 files."""
    files = sorted(series_folder().iterdir())[:40]
    return [pydicom.dcmread(file, stop_before_pixels=True) for file in files]


def pydicom_loop(transfer_syntax=EXPLICIT, plugin=""):
    """What notebooks do: every file, sorted, stacked, rescaled."""
    slices = [pydicom.dcmread(file) for file in series_folder(transfer_syntax).iterdir()]
    slices.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    for one in slices:
        one.pixel_array_options(decoding_plugin=plugin)
    volume = np.stack([one.pixel_array for one in slices]).astype(np.int16)
    for number, one in enumerate(slices):
        volume[number] = volume[number] * one.RescaleSlope + one.RescaleIntercept
    return volume


def simpleitk_series():
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series_folder())))
    return reader.Execute()


def read(transfer_syntax=EXPLICIT):
    hu, _ = to_hu(read_series(series_folder(transfer_syntax)))
    return hu


@cache
def scratch():
    folder = Path(tempfile.mkdtemp(prefix="fastlung-bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def whole_scan(order):
    """Disk to disk: int16 HU at 1 mm and the default mask, as npy."""
    config = build_config(order=order, spacing_mm=1.0 * SCALE)
    result = process_scan(read_series(series_folder()), config)
    np.save(scratch() / "image.npy", result.image)
    np.save(scratch() / "mask.npy", result.mask)
    return result.mask > 0


def whole_scan_of_the_tutorial():
    """The notebook, cubic, start to end: pydicom, SciPy, scikit-image, float64."""
    hu = pydicom_loop()
    factors = np.divide(corner_grid().shape, hu.shape)
    image = ndimage.zoom(hu, factors, order=3, mode="nearest")
    mask = scikit_image_mask(image)
    np.save(scratch() / "image.npy", normalised_by_numpy(image))
    np.save(scratch() / "mask.npy", mask)
    return mask > 0


def whole_scan_of_simpleitk():
    """A good pipeline of today, linear: SimpleITK, connected-components-3d, fill-voids."""
    image = simpleitk_series()
    wanted = corner_grid()
    out = sitk.Resample(
        image, wanted.shape[::-1], sitk.Transform(), sitk.sitkLinear, image.GetOrigin(),
        wanted.spacing_mm[::-1], image.GetDirection(),
    )  # fmt: skip
    hu = sitk.GetArrayFromImage(out).astype(np.int16)
    labels = cc3d.connected_components(hu <= -400, connectivity=26)
    outside = np.unique([labels[:, 0, 0], labels[:, -1, -1]])
    sizes = np.bincount(labels.ravel())
    sizes[outside] = sizes[0] = 0
    mask = fill_voids.fill(labels == sizes.argmax())
    np.save(scratch() / "image.npy", hu)
    np.save(scratch() / "mask.npy", mask)
    return mask


def windowed():
    out = np.empty(millimetre().shape, np.float32)
    normalise(millimetre(), -1000.0, 400.0, 0.25, out)
    return out


def normalised_by_numpy(volume):
    image = (volume - -1000.0) / (400.0 - -1000.0)
    image[image > 1] = 1.0
    image[image < 0] = 0.0
    return image - 0.25


def labels_of_ours():
    thresholded = runs_at_most(millimetre(), -400)
    return thresholded, *label(thresholded, 26)


def default_mask():
    return lung_mask(millimetre(), corner_grid())


def within_two_inside(ours, theirs):
    """SimpleITK treats edges otherwise, and truncates where we round."""
    edge = 12 if min(ours.shape) > 40 else 5
    inner = (slice(edge, -edge),) * 3
    assert np.abs(ours[inner].astype(int) - theirs[inner]).max() <= 2


def same_components(ours, theirs):
    thresholded, _, count = ours
    labels, their_count = theirs
    assert count == their_count
    np.testing.assert_array_equal(mask_of(thresholded), labels > 0)


def close_in_float(ours, theirs):
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def equal(ours, theirs):
    np.testing.assert_array_equal(ours, theirs)


def mostly_the_same(ours, theirs):
    """Grids and masks differ by design; the lungs must be the same lungs."""
    depth, height, width = np.minimum(ours.shape, theirs.shape)
    ours, theirs = ours[:depth, :height, :width], theirs[:depth, :height, :width]
    assert 2 * np.count_nonzero(ours & theirs) > 0.9 * (ours.sum() + theirs.sum())


def the_same_lungs(ours, theirs):
    """Theirs hold the bronchi too, and lack what is closed slice by slice."""
    mostly_the_same(ours.mask > 0, theirs)


COMPARISONS = (
    Comparison(
        name="whole scan, cubic",
        ours=lambda: whole_scan(3),
        yardstick=zoom_of_a_part,
        rivals={"the tutorial's code": whole_scan_of_the_tutorial},
        agree=mostly_the_same,
    ),
    Comparison(
        name="whole scan, linear",
        ours=lambda: whole_scan(1),
        yardstick=zoom_of_a_part,
        rivals={"SimpleITK + connected-components-3d + fill-voids": whole_scan_of_simpleitk},
        agree=mostly_the_same,
    ),
    Comparison(
        name="read and HU",
        ours=read,
        yardstick=pydicom_headers,
        rivals={
            "pydicom loop": pydicom_loop,
            "SimpleITK ImageSeriesReader": lambda: sitk.GetArrayFromImage(simpleitk_series()),
        },
        agree=equal,
    ),
    *(
        Comparison(
            name=f"read and HU, {name}",
            ours=partial(read, syntax),
            yardstick=pydicom_headers,
            rivals={f"pydicom loop, plugin {plugin}": partial(pydicom_loop, syntax, plugin)},
            agree=equal,
        )
        for name, syntax, plugin in (
            ("JPEG Lossless", JPEG_LOSSLESS_SV1, "gdcm"),
            ("JPEG-LS", JPEG_LS, "gdcm"),
            ("RLE", RLE, "pydicom"),
        )
    ),
    Comparison(
        name="resample cubic",
        ours=lambda: resampled(3),
        yardstick=zoom_of_a_part,
        rivals={
            "scipy.ndimage.zoom order 3": lambda: scipy_zoom(3),
            "SimpleITK B-spline": lambda: simpleitk_zoom(sitk.sitkBSpline),
        },
        agree=within_two_inside,
    ),
    Comparison(
        name="resample linear",
        ours=lambda: resampled(1),
        yardstick=zoom_of_a_part,
        rivals={
            "scipy.ndimage.zoom order 1": lambda: scipy_zoom(1),
            "SimpleITK linear": lambda: simpleitk_zoom(sitk.sitkLinear),
        },
        agree=within_two_inside,
    ),
    Comparison(
        name="threshold and label, 26 neighbours",
        ours=labels_of_ours,
        yardstick=label_of_a_part,
        rivals={
            "scipy.ndimage.label": lambda: ndimage.label(millimetre() <= -400, np.ones((3, 3, 3))),
            "connected-components-3d": lambda: cc3d.connected_components(
                millimetre() <= -400, connectivity=26, return_N=True
            ),
        },
        agree=same_components,
    ),
    Comparison(
        name="tutorial mask",
        ours=lambda: tutorial_mask(millimetre()),
        yardstick=label_of_a_part,
        rivals={"scikit-image, the tutorial's code": lambda: scikit_image_mask(millimetre())},
        agree=equal,
    ),
    Comparison(
        name="default mask",
        ours=default_mask,
        yardstick=label_of_a_part,
        rivals={
            name: partial(lambda rival: rival(millimetre(), corner_grid().spacing_mm), rival)
            for name, rival in mask_rivals.RIVALS.items()
        },
        agree=the_same_lungs,
    ),
    Comparison(
        name="window and zero-centre",
        ours=windowed,
        yardstick=scaled,
        rivals={"NumPy, the tutorial's code": lambda: normalised_by_numpy(millimetre())},
        agree=close_in_float,
    ),
)
