"""From files through `process_scan`: everything ends where it was in the patient."""

import math
from dataclasses import replace

import numpy as np
import pytest
from dicom_writer import ct_series
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from fastlung.config import build_config
from fastlung.demo.phantom import phantom
from fastlung.dicom import index_series, load_series
from fastlung.dicom.checks import Policy
from fastlung.pipeline import process_scan
from fastlung.volume.hounsfield import to_hu
from fastlung.volume.resampling import resample

ORIGIN = np.array([-12.0, -9.0, 40.0])
PIXEL_MM = (1.3, 1.1)
SHAPE = (12, 24, 28)


def load(files, **policy):
    index = index_series(files, Policy(**policy))
    (series,) = index.series
    return load_series(series, files)


def placed(axes, along, shifts):
    """Position of each slice: along the normal, and displaced along rows and columns."""
    return ORIGIN + np.multiply.outer(along, axes[:, 2]) + shifts @ axes[:, :2].T


@given(
    turn=st.tuples(*[st.floats(-180, 180)] * 3),
    tilt=st.sampled_from([0.0, 0.0, 18.5, -12.0]),
    steps=st.sampled_from([[2.0] * 11, [2.0] * 5 + [6.0] + [2.0] * 5, [1.5] * 6 + [3.5] * 5]),
    where=st.tuples(st.integers(3, 8), st.integers(5, 18), st.integers(5, 22)),
)
@settings(max_examples=25)
def test_a_bright_blob_ends_at_its_own_patient_point(turn, tilt, steps, where):
    axes = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    along = np.concatenate([[0], np.cumsum(steps)])
    shifts = np.outer(along, [0.0, math.tan(math.radians(tilt))])
    positions = placed(axes, along, shifts)
    words = np.zeros(SHAPE, np.uint16)
    z, y, x = where
    words[z, y, x] = 4000
    raw = load(
        ct_series(
            words,
            positions_mm=positions,
            orientation=np.concatenate([axes[:, 0], axes[:, 1]]),
            pixel_spacing_mm=PIXEL_MM,
        )
    )

    result = process_scan(raw, build_config(spacing_mm=0.5, order=1, mask="none"))

    point_mm = positions[z] + axes[:, :2] @ np.multiply(PIXEL_MM[::-1], (x, y))
    brightest = np.unravel_index(result.image.argmax(), result.image.shape)
    # No voxel of the new grid is nearer to the point than half its diagonal.
    off_mm = np.abs(result.grid.to_patient(brightest) - point_mm)
    assert np.linalg.norm(off_mm) <= 0.5 * math.sqrt(3) / 2 + 0.01
    assert result.image.max() > -600
    # Canonical: each axis runs nearest to the patient's own.
    direction = np.array(result.grid.direction)
    assert np.trace(direction) > 1


def body(points_mm):
    """A smooth patient, in HU, at LPS points."""
    x, y, z = np.moveaxis(points_mm, -1, 0)
    return 300 * np.sin(z / 9) * np.cos(y / 7) + 200 * np.cos(x / 8 + y / 11)


def scanned(positions, axes, rows=40, columns=44):
    """Stored words of slices at these positions through the smooth patient."""
    y_mm, x_mm = np.arange(rows) * PIXEL_MM[0], np.arange(columns) * PIXEL_MM[1]
    plane = x_mm[None, :, None] * axes[:, 0] + y_mm[:, None, None] * axes[:, 1]
    hu = body(positions[:, None, None, :] + plane)
    return np.rint(hu + 1024).astype(np.uint16)


def error_inside(result, raw, margin_mm):
    """Largest error of a result against the patient, away from where nothing was measured."""
    index = np.moveaxis(np.indices(result.image.shape), 0, -1)
    points = result.grid.to_patient(index)
    own = (points - np.array(raw.grid.origin_mm)) @ np.array(raw.grid.direction)
    along = raw.slice_positions_mm
    shifts = np.zeros((len(along), 2)) if raw.slice_shifts_mm is None else raw.slice_shifts_mm
    y = own[..., 1] - np.interp(own[..., 2], along, shifts[:, 0])
    x = own[..., 0] - np.interp(own[..., 2], along, shifts[:, 1])
    _, height, width = np.multiply(raw.grid.shape, raw.grid.spacing_mm)
    inside = (y > margin_mm) & (y < height - margin_mm) & (x > margin_mm) & (x < width - margin_mm)
    inside &= (own[..., 2] > margin_mm) & (own[..., 2] < along[-1] - margin_mm)
    assert inside.sum() > 5_000
    return np.abs(result.image - body(points))[inside]


@given(tilt=st.floats(-25, 25), step=st.floats(1.0, 2.5))
@settings(max_examples=10)
def test_a_sheared_patient_is_unsheared_to_interpolation_error(tilt, step):
    angle = math.radians(tilt)
    axes = np.array(
        [[1, 0, 0], [0, math.cos(angle), -math.sin(angle)], [0, math.sin(angle), math.cos(angle)]]
    )
    positions = ORIGIN + np.outer(np.arange(24) * step, [0.0, 0.0, 1.0])
    raw = load(
        ct_series(
            scanned(positions, axes),
            positions_mm=positions,
            orientation=np.concatenate([axes[:, 0], axes[:, 1]]),
            pixel_spacing_mm=PIXEL_MM,
        )
    )
    assert raw.verdict.numbers["tilt_deg"] == pytest.approx(-tilt, abs=0.05) or raw.verdict.numbers[
        "tilt_deg"
    ] == pytest.approx(tilt, abs=0.05)

    result = process_scan(raw, build_config(mask="none"))

    assert error_inside(result, raw, 7.0).max() < 4


@given(missing=st.sets(st.integers(6, 23), min_size=1, max_size=2))
@settings(max_examples=10)
def test_slices_left_out_are_interpolated_within_a_stated_error(missing):
    """Slices of 2 mm through a patient whose shortest wave is 57 mm along z."""
    present = np.array([z for z in range(30) if z not in missing])
    positions = ORIGIN + np.outer(present * 2.0, [0.0, 0.0, 1.0])
    raw = load(
        ct_series(scanned(positions, np.eye(3)), positions_mm=positions, pixel_spacing_mm=PIXEL_MM)
    )
    assert raw.verdict.classes == ("gap",)

    result = process_scan(raw, build_config(mask="none"))

    assert error_inside(result, raw, 7.0).max() < 10  # of 500 HU, over up to 6 mm


def test_the_step_by_step_way_gives_the_same_voxels():
    """`to_hu` and `resample` with the scan at hand, on a tilted series with a gap."""
    angle = math.radians(12)
    axes = np.array(
        [[1, 0, 0], [0, math.cos(angle), -math.sin(angle)], [0, math.sin(angle), math.cos(angle)]]
    )
    positions = ORIGIN + np.outer(np.r_[0:10, 12:24] * 2.0, [0.0, 0.0, 1.0])
    raw = load(
        ct_series(
            scanned(positions, axes),
            positions_mm=positions,
            orientation=np.concatenate([axes[:, 0], axes[:, 1]]),
            pixel_spacing_mm=PIXEL_MM,
        )
    )
    result = process_scan(raw, build_config(mask="none"))
    hu, grid = to_hu(raw)
    volume, new_grid = resample(hu, grid, 1.0, scan=raw)
    assert new_grid == result.grid
    measured = result.image != -1024
    np.testing.assert_array_equal(volume[measured], result.image[measured])


def two_blocks():
    """Air below a gap of three slices, tissue above; order 3 would ring and mix."""
    present = np.r_[0:10, 13:23]
    words = np.full((20, 12, 12), 24, np.uint16)
    words[10:] = 1064
    positions = ORIGIN + np.outer(present * 2.0, [0.0, 0.0, 1.0])
    return ct_series(words, positions_mm=positions, pixel_spacing_mm=(1.0, 1.0))


@pytest.mark.parametrize("order", [0, 1, 3])
def test_nearest_never_interpolates_across_a_gap(order):
    raw = load(two_blocks(), on_gap="nearest")
    result = process_scan(raw, build_config(order=order, mask="none"))
    assert set(np.unique(result.image)) == {-1000, 40}
    # The edge lies half way between the last slice below and the first above: at 18 + 4 mm.
    heights = result.grid.to_patient([[z, 0, 0] for z in range(result.grid.shape[0])])[:, 2]
    tissue = result.image[:, 6, 6] == 40
    np.testing.assert_array_equal(tissue, heights - ORIGIN[2] > 22.0)


def test_splitting_gives_both_sides_of_a_gap_at_their_own_place():
    files = two_blocks()
    index = index_series(files, Policy(on_gap="split"))
    assert [(series.part, series.parts) for series in index.series] == [(1, 2), (2, 2)]
    below, above = (load_series(series, files) for series in index.series)
    assert below.grid.origin_mm[2] == ORIGIN[2]
    assert above.grid.origin_mm[2] == ORIGIN[2] + 26.0
    assert below.verdict.actions == above.verdict.actions
    assert "10 + 10 slices stand as 2 series" in below.verdict.actions[0]


def test_a_tilt_that_is_kept_is_not_straightened():
    angle = math.radians(15)
    positions = ORIGIN + np.outer(np.arange(12) * 2.0, [0.0, 0.0, 1.0])
    files = ct_series(
        np.full((12, 20, 20), 1064, np.uint16),
        positions_mm=positions,
        orientation=(1, 0, 0, 0, math.cos(angle), math.sin(angle)),
        pixel_spacing_mm=(1.0, 1.0),
    )
    kept = process_scan(load(files, on_tilt="keep"), build_config(mask="none"))
    sheared = process_scan(load(files), build_config(mask="none"))
    assert kept.image.min() == 40
    assert kept.grid.shape[1] == 20
    assert sheared.grid.shape[1] == 20 + round(22 * math.sin(angle))
    assert sheared.image.min() == -1024


@pytest.fixture(scope="module")
def chest():
    return phantom((40, 60, 70), (6.0, 5.0, 5.0))


ORIENTATIONS = {
    "head first supine": np.eye(3),
    "feet first": np.diag([-1.0, 1.0, -1.0]),
    "prone": np.diag([-1.0, -1.0, 1.0]),
    "decubitus": np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]),
    "sagittal": np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]),
    "coronal": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
}


def acquired(chest, axes):
    """Files of the phantom as a scanner with these axes writes it."""
    hu = chest.hu
    order = np.abs(axes).argmax(axis=0)  # patient axis behind each of x, y, z index
    signs = np.sign(axes[order, range(3)])
    volume = hu.transpose([2 - order[2], 2 - order[1], 2 - order[0]])
    volume = volume[tuple(slice(None, None, int(s)) for s in signs[::-1])]
    first = [0 if signs[list(order).index(a)] > 0 else hu.shape[2 - a] - 1 for a in range(3)]
    spacing = [chest.grid.spacing_mm[2 - a] for a in order]
    origin = chest.grid.to_patient(first[::-1])
    positions = origin + np.outer(np.arange(volume.shape[0]) * spacing[2], axes[:, 2])
    return ct_series(
        (volume + 1024).astype(np.uint16),
        positions_mm=positions,
        orientation=np.concatenate([axes[:, 0], axes[:, 1]]),
        pixel_spacing_mm=(spacing[1], spacing[0]),
    )


@pytest.mark.compiled
@pytest.mark.parametrize("name", ORIENTATIONS)
def test_the_same_chest_comes_out_however_it_was_acquired(chest, name):
    config = build_config(spacing_mm=5.0)
    expected = process_scan(load(acquired(chest, np.eye(3))), config)
    result = process_scan(load(acquired(chest, ORIENTATIONS[name])), config)
    assert result.grid.shape == expected.grid.shape
    np.testing.assert_allclose(result.grid.affine_lps, expected.grid.affine_lps, atol=1e-6)
    assert np.abs(result.image.astype(int) - expected.image).max() <= 1
    assert (result.mask != expected.mask).mean() < 1e-4
    # The right lung lies at lower x: LPS x grows to the left.
    right, left = (np.nonzero(result.mask == label)[2].mean() for label in (1, 2))
    assert right < left


@pytest.mark.compiled
def test_mirrored_input_swaps_right_and_left(chest):
    config = build_config(spacing_mm=5.0)
    mirror = replace(chest, hu=np.ascontiguousarray(chest.hu[:, :, ::-1]))
    plain = process_scan(load(acquired(chest, np.eye(3))), config)
    mirrored = process_scan(load(acquired(mirror, np.eye(3))), config)
    np.testing.assert_array_equal(mirrored.image, plain.image[:, :, ::-1])
    swapped = np.array([0, 2, 1])[plain.mask[:, :, ::-1]]
    # Where the airway is cut off each lung may depend on which side is looked at first.
    assert (mirrored.mask != swapped).mean() < 2e-3
