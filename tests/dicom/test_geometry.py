"""Order, spacing, grid and verdict of stacks of slices, on positions and orientations alone."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from fastlung.config import build_config
from fastlung.dicom.checks import CHOICES, Policy
from fastlung.dicom.geometry import stack_slices
from fastlung.errors import ConfigError, GeometryError

AXIAL = np.array([1.0, 0, 0, 0, 1, 0])
ORIGIN = np.array([-150.0, -120.0, -300.0])


def stacks(positions, orientations=AXIAL, *, marks=lambda i: [i], **options):
    positions = np.asarray(positions, dtype=float)
    orientations = np.broadcast_to(orientations, (len(positions), 6)).astype(float)
    policy = Policy(
        **{name: options.pop(name) for name in list(options) if hasattr(Policy(), name)}
    )
    return stack_slices(
        positions,
        orientations,
        pixel_spacing_mm=(0.7, 0.6),
        shape=(512, 400),
        marks=marks,
        policy=policy,
        **options,
    )


def stack(*args, **options):
    (found,) = stacks(*args, **options)
    return found


def at(heights, axis=(0.0, 0.0, 1.0)):
    """Positions at these distances from the origin along an axis."""
    return ORIGIN + np.multiply.outer(np.asarray(heights, dtype=float), np.asarray(axis))


def assert_maps_to_positions(found, positions, tolerance_mm=0.01):
    """Index [z, 0, 0] of the grid must be where that slice says it is."""
    index = np.zeros((len(found.kept), 3))
    index[:, 0] = np.arange(len(found.kept))
    error = np.abs(found.grid.to_patient(index) - np.asarray(positions)[list(found.kept)])
    assert error.max() <= tolerance_mm


@given(
    turn=st.tuples(*[st.floats(-180, 180)] * 3),
    count=st.integers(3, 60),
    step=st.floats(0.3, 10),
    data=st.data(),
)
def test_any_regular_series_is_put_in_order_and_mapped_to_its_positions(turn, count, step, data):
    axes = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    positions = at(np.arange(count) * step, axes[:, 2])
    shuffle = np.array(data.draw(st.permutations(range(count))))
    found = stack(positions[shuffle], np.concatenate([axes[:, 0], axes[:, 1]]))
    np.testing.assert_array_equal(shuffle[list(found.kept)], np.arange(count))
    assert found.problem is None
    assert found.verdict.classes in (("regular",), ("not_axial",))
    assert ("not_axial" in found.verdict.classes) == (abs(axes[2, 2]) < 0.99)
    assert found.grid.shape == (count, 512, 400)
    assert found.grid.spacing_mm == pytest.approx((step, 0.7, 0.6), abs=1e-6)
    np.testing.assert_allclose(found.grid.direction, axes, atol=1e-9)
    np.testing.assert_allclose(found.slice_positions_mm, np.arange(count) * step, atol=1e-9)
    assert_maps_to_positions(found, positions[shuffle])
    assert all(map(math.isfinite, found.verdict.numbers.values()))


@pytest.mark.parametrize("decimals", [3, 4, 6])
def test_rounded_positions_are_regular_and_do_not_drift(decimals):
    # 2/3 mm in three decimals makes steps of 0.666 and 0.667: their median would be 0.1 mm off
    # after 300 slices.
    positions = at(np.round(np.arange(300) * 2 / 3, decimals))
    found = stack(positions)
    assert found.verdict.classes == ("regular",)
    assert found.verdict.actions == ()
    assert_maps_to_positions(found, positions)


def test_noise_beyond_a_hundredth_of_the_step_is_variable():
    heights = np.arange(20) * 1.0
    heights[7] += 0.03
    found = stack(at(heights))
    assert found.verdict.classes == ("variable",)
    np.testing.assert_allclose(found.slice_positions_mm, heights, atol=1e-9)
    assert found.problem is None


def test_wide_steps_are_held_to_a_twentieth_of_a_millimetre():
    heights = np.arange(20) * 10.0
    heights[7] += 0.08  # less than a hundredth of the step
    assert stack(at(heights)).verdict.classes == ("variable",)


@pytest.mark.parametrize("missing", [{5}, {5, 6, 7}, {3, 9}, {1}])
def test_missing_slices_are_a_gap_with_its_numbers(missing):
    present = [i for i in range(20) if i not in missing]
    positions = at(np.array(present) * 2.5)
    found = stack(positions)
    assert found.verdict.classes == ("gap",)
    assert found.verdict.numbers["missing_slices"] == len(missing)
    assert found.grid.spacing_mm[0] == 2.5
    assert found.problem is None
    np.testing.assert_allclose(found.slice_positions_mm, np.array(present) * 2.5, atol=1e-9)
    (action,) = found.verdict.actions
    first = min(missing)
    assert "interpolated across the gap at true positions" in action
    assert f"after slice {first}, {(first - 1) * 2.5:.2f} to" in action


@pytest.mark.parametrize(
    "steps",
    [
        [2.5] * 10 + [7.5] * 10,  # every second step wide: another protocol, nothing missing
        [4.002] * 13 + [1.081] + [6.999] * 13,
        [1.0, 1.5, 1.0, 1.5, 1.0],
    ],
)
def test_steps_that_vary_are_variable_and_keep_their_positions(steps):
    heights = np.concatenate([[0], np.cumsum(steps)])
    found = stack(at(heights))
    assert found.verdict.classes == ("variable",)
    assert found.verdict.numbers["min_step_mm"] == pytest.approx(min(steps))
    assert found.verdict.numbers["max_step_mm"] == pytest.approx(max(steps))
    np.testing.assert_allclose(found.slice_positions_mm, heights, atol=1e-9)
    assert f"steps from {min(steps):.3f} to {max(steps):.3f} mm" in found.verdict.actions[0]


def test_repeated_slices_are_dropped_and_the_first_given_is_kept():
    heights = [0, 1, 1, 2, 3, 3, 3]
    asked = []

    def marks(i):
        asked.append(i)
        yield "alike"

    found = stack(at(heights), marks=marks)
    assert found.kept == (0, 1, 3, 4)
    assert asked == [1, 2, 4, 5, 6]  # slices at one position, each once, and no others
    assert found.verdict.classes == ("duplicate",)
    assert found.verdict.numbers["duplicate_slices"] == 3
    assert found.problem is None
    assert_maps_to_positions(found, at(heights))


def test_different_slices_at_one_position_are_refused_with_their_places():
    found = stack(at([0, 1, 1, 2, 3]), marks=lambda i: [i])
    assert "multi_acquisition" in found.verdict.classes
    assert isinstance(found.problem, GeometryError)
    assert "-299.00 mm" in str(found.problem)
    assert found.verdict.actions == ()


def test_one_height_but_shifted_in_plane_is_no_duplicate():
    positions = at([0, 1, 2, 2, 3])
    positions[3, 0] += 5
    found = stack(positions, marks=lambda _i: ["alike"])
    assert "multi_acquisition" in found.verdict.classes
    assert found.problem is not None


@pytest.mark.parametrize("angle", [-18.5, -0.2, 0.2, 16.5])
def test_gantry_tilt_is_measured_from_vectors(angle):
    # As scanners write it: the table moves along z, the plane is turned about the row axis.
    radians = math.radians(angle)
    orientation = [1, 0, 0, 0, math.cos(radians), math.sin(radians)]
    positions = at(np.arange(20) * 2.5)
    found = stack(positions, orientation)
    assert found.verdict.classes == ("tilted",)
    assert found.verdict.numbers["tilt_deg"] == pytest.approx(angle, abs=1e-4)
    assert found.problem is None
    assert f"{angle:.2f} degrees" in found.verdict.actions[0]
    assert "interpolated where they lie" in found.verdict.actions[0]
    # Where slice z lies: along the normal, and along the columns by its shift.
    axes = np.array(found.grid.direction)
    lies = (
        found.grid.origin_mm
        + np.multiply.outer(found.slice_positions_mm, axes[:, 2])
        + found.slice_shifts_mm[:, ::-1] @ axes[:, :2].T
    )
    np.testing.assert_allclose(lies, positions, atol=1e-9)

    kept = stack(positions, orientation, on_tilt="keep")
    assert kept.slice_shifts_mm is None
    assert "stacked as if they were not" in kept.verdict.actions[0]
    refused = stack(positions, orientation, on_tilt="fail")
    assert isinstance(refused.problem, GeometryError)
    assert refused.verdict.actions == ()


def test_a_tilt_below_a_tenth_of_a_degree_is_let_pass():
    radians = math.radians(0.05)
    found = stack(at(np.arange(20)), [1, 0, 0, 0, math.cos(radians), math.sin(radians)])
    assert found.verdict.classes == ("regular",)
    assert found.problem is None


def test_an_oblique_stack_is_not_tilted():
    radians = math.radians(30)
    orientation = [1, 0, 0, 0, math.cos(radians), math.sin(radians)]
    found = stack(at(np.arange(9), (0, -math.sin(radians), math.cos(radians))), orientation)
    assert found.verdict.classes == ("not_axial",)
    assert found.verdict.numbers["normal_to_z_axis_deg"] == pytest.approx(30)
    assert found.problem is None


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_slices_are_short(count):
    found = stack(at(np.arange(count) * 2.0))
    assert found.verdict.classes == ("short",)
    assert isinstance(found.problem, GeometryError)
    assert (found.grid is None) == (count == 1)


def test_a_slice_without_position_leaves_no_order():
    positions = at(np.arange(5))
    positions[2] = np.nan
    found = stack(positions)
    assert found.verdict.classes == ("no_position",)
    assert found.verdict.numbers["slices_without_position"] == 1
    assert found.grid is None
    assert found.kept == (0, 1, 2, 3, 4)
    assert "1 of 5 slices" in str(found.problem)


def test_a_slice_displaced_in_its_plane_counts_where_it_lies():
    positions = at(np.arange(10))
    positions[4, 0] += 8
    found = stack(positions)
    assert "shifted" in found.verdict.classes
    assert found.problem is None
    expected = np.zeros((10, 2))
    expected[4, 1] = 8
    np.testing.assert_allclose(found.slice_shifts_mm, expected, atol=1e-9)
    assert stack(positions, on_tilt="fail").problem is not None


def test_a_slice_displaced_by_half_the_field_of_view_is_refused():
    positions = at(np.arange(10))
    positions[4, 0] += 300
    found = stack(positions)
    assert "shifted" in found.verdict.classes
    assert "half the field of view" in str(found.problem)


@pytest.mark.parametrize("missing", [{5}, {5, 6, 7}, {3, 9}])
def test_gaps_may_be_filled_split_or_refused(missing):
    present = [i for i in range(20) if i not in missing]
    positions = at(np.array(present) * 2.5)
    nearest = stack(positions, on_gap="nearest")
    starts = [i for i in range(1, len(present)) if present[i] - present[i - 1] > 1]
    assert nearest.slice_breaks == tuple(starts)
    assert "the nearest slice fills the gap" in nearest.verdict.actions[0]
    parts = stacks(positions, on_gap="split")
    assert [part.kept for part in parts] == [
        tuple(map(int, run)) for run in np.split(np.arange(len(present)), starts)
    ]
    for part in parts:
        assert part.verdict.classes[0] == "gap"
        assert part.grid.spacing_mm[0] == 2.5
        assert_maps_to_positions(part, positions)
    assert "on-gap is fail" in str(stack(positions, on_gap="fail").problem)


def test_variable_spacing_may_be_refused():
    found = stack(at([0, 1, 2, 4.5, 5]), on_variable_spacing="fail")
    assert found.verdict.classes == ("variable",)
    assert "on-variable-spacing is fail" in str(found.problem)


@pytest.mark.parametrize(("least", "short"), [(1, False), (5, False), (6, True)])
def test_the_least_number_of_slices_is_an_option(least, short):
    found = stack(at(np.arange(5)), min_slices=least)
    assert ("short" in found.verdict.classes) == short == (found.problem is not None)


def test_a_single_slice_is_as_far_apart_as_it_is_thick():
    found = stack(at([3.0]), min_slices=1, thickness_mm=5.0)
    assert found.problem is None
    assert found.grid.spacing_mm[0] == 5.0
    assert "Slice Thickness" in str(stack(at([3.0]), min_slices=1).problem)


ARTERIAL_AND_VENOUS = [0, 1, 2, 3, 0, 1, 2, 3]


@pytest.mark.parametrize("policy", ["drop-identical", "split"])
def test_acquisitions_that_share_positions_become_series(policy):
    labels = ["a"] * 4 + ["b"] * 4
    parts = stacks(
        at(ARTERIAL_AND_VENOUS),
        on_duplicate=policy,
        labels={"content time": [""] * 8, "acquisition number": labels},
    )
    assert [part.kept for part in parts] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    for part in parts:
        assert part.verdict.classes == ("multi_acquisition",)
        assert part.verdict.actions == (
            "split by acquisition number: 4 + 4 slices stand as 2 series",
        )


def test_times_tell_acquisitions_apart_where_they_come_round_again():
    rising = [f"{second}" for second in range(8)]
    parts = stacks(at(ARTERIAL_AND_VENOUS), labels={"content time": rising})
    assert [part.kept for part in parts] == [(0, 1, 2, 3), (4, 5, 6, 7)]


def test_times_that_jump_from_phase_to_phase_tell_nothing():
    jumping = ["0", "2", "4", "6", "1", "3", "5", "7"]
    (found,) = stacks(at(ARTERIAL_AND_VENOUS), labels={"content time": jumping})
    assert "--on-duplicate split" in str(found.problem)


def test_what_nothing_tells_apart_is_dealt_out_if_asked():
    parts = stacks(at(ARTERIAL_AND_VENOUS), on_duplicate="split")
    assert [part.kept for part in parts] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert "by instance number" in parts[0].verdict.actions[0]


def test_the_first_at_each_position_is_kept_if_asked():
    found = stack(at(ARTERIAL_AND_VENOUS), on_duplicate="first")
    assert found.kept == (0, 1, 2, 3)
    assert found.problem is None
    assert "4 of 8 slices left out" in found.verdict.actions[0]


def test_repeats_are_refused_if_asked():
    found = stack(at([0, 1, 1, 2, 3]), marks=lambda _i: ["alike"], on_duplicate="fail")
    assert found.verdict.classes == ("duplicate",)
    assert "on-duplicate is fail" in str(found.problem)


def test_an_unknown_policy_is_a_wrong_configuration():
    with pytest.raises(ConfigError, match="expected one of interpolate"):
        Policy(on_gap="interpolat")
    with pytest.raises(ConfigError, match="at least 1"):
        Policy(min_slices=0)


def test_the_policy_and_the_configuration_agree():
    assert Policy.of(build_config()) == Policy()
    for name, choices in CHOICES.items():
        for choice in choices:
            config = build_config(**{name: choice})
            assert getattr(Policy.of(config), name) == choice
            assert (config.digest == build_config().digest) == (choice == choices[0])


@pytest.mark.parametrize(
    ("deviation", "classes", "refused"),
    [(5e-5, ("regular",), False), (5e-4, ("mixed_orientation",), False), (0.02, None, True)],
)
def test_orientations_may_differ_a_little(deviation, classes, refused):
    orientations = np.tile(AXIAL, (10, 1))
    orientations[3, 1] += deviation
    found = stack(at(np.arange(10)), orientations)
    assert classes is None or found.verdict.classes == classes
    assert (found.problem is not None) == refused


def test_opposite_orientations_are_refused_and_break_nothing():
    orientations = np.tile(AXIAL, (6, 1))
    orientations[3:] *= -1
    found = stack(at(np.arange(6)), orientations)
    assert "3 of 6 slices have another orientation" in str(found.problem)


def test_directions_are_unit_vectors_at_right_angles_even_from_rounded_cosines():
    cosines = [1.0, 0.0, 0.0, 0.0, 0.95, -0.31]
    direction = np.array(stack(at(np.arange(5)), cosines).grid.direction)
    np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-12)
