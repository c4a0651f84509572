"""
What is measured against what: one table for tests, benchmarks and the regression gate.

Every `Comparison` names a job, our way of doing it, the ways people use today, and a yardstick: a
fixed NumPy or SciPy computation that no change of ours can speed up. Shared machines are noisy, so
only ratios within one run are kept. `agree` holds each rival to our answer before any clock starts.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import cc3d
import fill_voids
import mask_rivals
import numpy as np
import pydicom
import rivals
import SimpleITK as sitk  # noqa: N813  (everybody does)
from dicom_writer import EXPLICIT, JPEG_LOSSLESS_SV1, JPEG_LS, RLE
from reference import mask_of
from reference import tutorial_mask as scikit_image_mask
from scans import SCANS, SPACING_MM, Scan, scratch
from scipy import ndimage

from fastlung.config import build_config
from fastlung.dicom import read_series
from fastlung.kernels import morphology
from fastlung.kernels.bits import runs_at_most
from fastlung.kernels.intensity import normalise
from fastlung.kernels.labels import fill_holes, label, label_slices
from fastlung.kernels.runs import on_plane_border, select
from fastlung.mask import lung_mask, tutorial_mask
from fastlung.pipeline import process_scan
from fastlung.volume.hounsfield import to_hu
from fastlung.volume.orientation import box_of_lungs

__all__ = ["COMPARISONS", "Comparison", "within_two_inside"]

RADIUS_MM = 5.0 * SPACING_MM


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """
    One job, done by us and by others.

    Attributes
    ----------
    name : str
        What tables and baselines call it.
    scan : str
        Name of the scan it is done on.
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
    scan: str
    ours: Callable[[], Any]
    yardstick: Callable[[], Any]
    rivals: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    agree: Callable[[Any, Any], None]

    @property
    def key(self) -> str:
        """Name and scan, as baselines file it."""
        return f"{self.name} | {self.scan}"


# Yardsticks, all of the synthetic scan: those of the real one must not be missing without it.


def zoom_of_a_part():
    """For resampling: SciPy, linear, a sixteenth of the scan."""
    hu = SCANS[0].hu
    return ndimage.zoom(hu[:, : hu.shape[1] // 4, : hu.shape[2] // 4], 0.7, order=1)


def label_of_a_part():
    """For masks: SciPy's labels on a quarter of the slices."""
    return ndimage.label(SCANS[0].millimetre[::4] <= -400)


def scaled():
    """For passes over the volume: NumPy in float32."""
    return SCANS[0].hu.astype(np.float32) * np.float32(1.5) - np.float32(1024)


def pydicom_headers():
    """For reading: pydicom over the headers of 40 files."""
    files = sorted(SCANS[0].folder().iterdir())[:40]
    return [pydicom.dcmread(file, stop_before_pixels=True) for file in files]


# Our ways, where they are more than a call.


def read(scan, transfer_syntax=EXPLICIT):
    # With the scanner's padding, as the rivals leave it; replacing it is the same loop.
    return to_hu(read_series(scan.folder(transfer_syntax)), replace_padding=False)[0]


def whole_scan(scan, order):
    """Disk to disk: int16 HU at 1 mm and the default mask, as npy."""
    config = build_config(order=order, spacing_mm=SPACING_MM)
    result = process_scan(read_series(scan.folder()), config)
    np.save(scratch() / "image.npy", result.image)
    np.save(scratch() / "mask.npy", result.mask)
    return result.mask > 0


def windowed(volume):
    out = np.empty(volume.shape, np.float32)
    normalise(volume, -1000.0, 400.0, 0.25, out)
    return out


def labelled(volume):
    thresholded = runs_at_most(volume, -400)
    return thresholded, *label(thresholded, 26)


def cleared(runs):
    labels, count = label_slices(runs, 8)
    return select(runs, ~on_plane_border(runs, labels, count)[labels])


@cache
def lungs(scan):
    """A mask for work on masks: runs, and the same voxels."""
    runs = runs_at_most(1 - tutorial_mask(scan.millimetre), 0)
    return runs, mask_of(runs)


# What makes two answers the same.


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


def same_voxels(ours, theirs):
    np.testing.assert_array_equal(mask_of(ours), theirs)


def same_box(ours, theirs):
    assert [*map(slice, ours.first, ours.stop)] == list(theirs[0])


def mostly_the_same(ours, theirs):
    """Grids and masks differ by design; the lungs must be the same lungs."""
    ours = mask_of(ours) if hasattr(ours, "offsets") else np.asarray(ours)
    depth, height, width = np.minimum(ours.shape, theirs.shape)
    ours, theirs = ours[:depth, :height, :width] > 0, theirs[:depth, :height, :width] > 0
    assert 2 * np.count_nonzero(ours & theirs) > 0.9 * (ours.sum() + theirs.sum())


# The table.


def _whole_scans(scan: Scan) -> Iterator[Comparison]:
    job = partial(Comparison, scan=scan.name, yardstick=zoom_of_a_part, agree=mostly_the_same)
    yield job(
        name="whole scan, cubic",
        ours=lambda: whole_scan(scan, 3),
        rivals={"the tutorial's code": lambda: rivals.whole_scan_of_the_tutorial(scan)},
    )
    yield job(
        name="whole scan, linear",
        ours=lambda: whole_scan(scan, 1),
        rivals={
            "SimpleITK + connected-components-3d + fill-voids": lambda: (
                rivals.whole_scan_of_simpleitk(scan)
            )
        },
    )


def _reading(scan: Scan) -> Iterator[Comparison]:
    job = partial(Comparison, scan=scan.name, yardstick=pydicom_headers, agree=equal)
    yield job(
        name="read and HU",
        ours=partial(read, scan),
        rivals={
            "pydicom loop": lambda: rivals.pydicom_loop(scan),
            "SimpleITK ImageSeriesReader": lambda: sitk.GetArrayFromImage(
                rivals.simpleitk_series(scan)
            ),
        },
    )
    for name, syntax, plugin in (
        ("JPEG Lossless", JPEG_LOSSLESS_SV1, "gdcm"),
        ("JPEG-LS", JPEG_LS, "gdcm"),
        ("RLE", RLE, "pydicom"),
    ):
        yield job(
            name=f"read and HU, {name}",
            ours=partial(read, scan, syntax),
            rivals={
                f"pydicom loop, plugin {plugin}": partial(rivals.pydicom_loop, scan, syntax, plugin)
            },
        )
    yield job(
        name="HU",
        ours=lambda: to_hu(scan.raw, replace_padding=False)[0],
        yardstick=scaled,
        rivals={
            "NumPy in float32": lambda: np.rint(
                scan.words.view(np.int16).astype(np.float32) * np.float32(1) - np.float32(1024)
            ).astype(np.int16)
        },
    )


def _resampling(scan: Scan) -> Iterator[Comparison]:
    job = partial(Comparison, scan=scan.name, yardstick=zoom_of_a_part, agree=within_two_inside)
    for name, order, scipy, simpleitk, interpolator in (
        ("cubic", 3, "scipy.ndimage.zoom order 3", "SimpleITK B-spline", sitk.sitkBSpline),
        ("linear", 1, "scipy.ndimage.zoom order 1", "SimpleITK linear", sitk.sitkLinear),
    ):
        yield job(
            name=f"resample {name}",
            ours=partial(scan.resampled, order),
            rivals={
                scipy: partial(rivals.scipy_zoom, scan, order),
                simpleitk: partial(rivals.simpleitk_zoom, scan, interpolator),
            },
        )
    yield job(
        name="resample linear, anti-aliased",
        ours=partial(scan.resampled, 1, antialias=True),
        rivals={
            "scipy.ndimage.gaussian_filter and zoom order 1": partial(
                rivals.scipy_smoothed_zoom, scan, 1
            )
        },
    )


def _masks(scan: Scan) -> Iterator[Comparison]:
    job = partial(Comparison, scan=scan.name, yardstick=label_of_a_part)
    yield job(
        name="tutorial mask",
        ours=lambda: tutorial_mask(scan.millimetre),
        rivals={"scikit-image, the tutorial's code": lambda: scikit_image_mask(scan.millimetre)},
        agree=equal,
    )
    yield job(
        name="default mask",
        ours=lambda: lung_mask(scan.millimetre, scan.corner_grid).mask,
        rivals={
            "connected-components-3d + fill-voids, a simpler mask": lambda: rivals.cc3d_mask(
                scan.millimetre
            ),
            "scikit-image, the tutorial's simpler mask": lambda: scikit_image_mask(scan.millimetre),
            **{
                name: partial(lambda way: way(scan.millimetre, scan.corner_grid.spacing_mm), way)
                for name, way in mask_rivals.RIVALS.items()
            },
        },
        agree=mostly_the_same,
    )
    yield job(
        name="threshold and label, 26 neighbours",
        ours=lambda: labelled(scan.millimetre),
        rivals={
            "scipy.ndimage.label": lambda: ndimage.label(
                scan.millimetre <= -400, np.ones((3, 3, 3))
            ),
            "connected-components-3d": lambda: cc3d.connected_components(
                scan.millimetre <= -400, connectivity=26, return_N=True
            ),
        },
        agree=same_components,
    )


def _work_on_masks(scan: Scan) -> Iterator[Comparison]:
    """Runs in, runs out; the rivals' voxels in, voxels out."""
    job = partial(Comparison, scan=scan.name, yardstick=label_of_a_part, agree=same_voxels)

    def ball() -> np.ndarray:
        return morphology.ball(RADIUS_MM, scan.corner_grid.spacing_mm)

    yield job(
        name="threshold",
        ours=lambda: runs_at_most(scan.millimetre, -400),
        yardstick=scaled,
        rivals={"NumPy, into voxels": lambda: scan.millimetre <= -400},
    )
    yield job(
        name="close by 5 mm",
        ours=lambda: morphology.close(lungs(scan)[0], ball()),
        rivals={
            "scikit-image isotropic_closing": lambda: rivals.closed_by_scikit_image(
                lungs(scan)[1], RADIUS_MM, scan.corner_grid.spacing_mm
            )
        },
    )
    yield job(
        name="dilate by 5 mm",
        ours=lambda: morphology.dilate(lungs(scan)[0], ball()),
        rivals={"SimpleITK BinaryDilate": lambda: rivals.dilated_by_simpleitk(lungs(scan)[1], 5)},
        agree=mostly_the_same,
    )
    yield job(
        name="fill holes",
        ours=lambda: fill_holes(lungs(scan)[0]),
        rivals={
            "scipy.ndimage.binary_fill_holes": lambda: ndimage.binary_fill_holes(lungs(scan)[1]),
            "fill-voids": lambda: fill_voids.fill(lungs(scan)[1]),
        },
    )
    yield job(
        name="clear what touches the border of its slice",
        ours=lambda: cleared(scan.dark),
        rivals={
            "scikit-image clear_border": lambda: rivals.slices_cleared_by_scikit_image(
                scan.millimetre <= -400
            )
        },
    )
    yield job(
        name="box around a mask",
        ours=lambda: box_of_lungs(lungs(scan)[1].view(np.uint8)),
        rivals={
            "scipy.ndimage.find_objects": lambda: ndimage.find_objects(
                lungs(scan)[1].view(np.uint8)
            )
        },
        agree=same_box,
    )


def _intensities(scan: Scan) -> Iterator[Comparison]:
    yield Comparison(
        name="window and zero-centre",
        scan=scan.name,
        ours=lambda: windowed(scan.millimetre),
        yardstick=scaled,
        rivals={"NumPy, the tutorial's code": lambda: rivals.normalised_by_numpy(scan.millimetre)},
        agree=close_in_float,
    )


_KINDS = (_whole_scans, _reading, _resampling, _masks, _work_on_masks, _intensities)
COMPARISONS = tuple(job for scan in SCANS for kind in _KINDS for job in kind(scan))
