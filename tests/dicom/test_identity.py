"""Which slices are one series: by pixels, positions and even rows, and not by a UID alone."""

import numpy as np
import pytest
from dicom_writer import SERIES_UID, ct_series, ct_slice, enhanced_file, random_words

from fastlung.dicom import index_series, load_series
from fastlung.dicom.checks import Policy

COUNT = 16
ORIGIN, UP = np.array([-10.0, -20.0, 30.0]), np.array([0.0, 0.0, 1.0])


def put(**values):
    def edit(dataset):
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return edit


def delete(keyword):
    return lambda dataset: delattr(dataset, keyword)


def smooth(count, base):
    """Slices that change a little from one to the next, as anatomy does."""
    ramp = np.arange(32) * 8
    return np.stack([(base + 10 * z + ramp + ramp[:, None]) for z in range(count)]).astype("<u2")


ONE, OTHER = smooth(COUNT, 200), smooth(COUNT, 1000)


def passes(lower, other, first, second, *, step_mm=4.0, above_mm=2.0):
    """Two passes under one UID, tags of the slices of each from `first` and `second`."""
    files = {}
    for number, (volume, edits, height) in enumerate(
        ((lower, first, 0.0), (other, second, above_mm))
    ):
        part = ct_series(
            volume,
            step_mm=step_mm,
            origin_mm=ORIGIN + UP * height,
            edits={index: edits(index) for index in range(len(volume))},
        )
        for index, (name, blob) in enumerate(part.items()):
            uid, own = f"{SERIES_UID}.3.{index + 1}", f"{SERIES_UID}.{number + 5}.{index + 1}"
            files[f"{number}{name}"] = blob.replace(uid.encode(), own.encode())
    return files


def always(**values):
    return lambda _index: put(**values)


def volumes(files, policy=None):
    found = index_series(files, policy or Policy()).series
    return [load_series(series, files).stored for series in found if series.problem is None]


TELLING = {
    "acquisition number": ({"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}),
    "temporal position": ({"TemporalPositionIdentifier": 1}, {"TemporalPositionIdentifier": 2}),
    "image type": ({}, {"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "MIP"]}),
    "thickness": ({"SliceThickness": 4}, {"SliceThickness": 1.25}),
    "series number": ({"SeriesNumber": 3}, {"SeriesNumber": 4}),
    "time": ({"AcquisitionTime": "120000"}, {"AcquisitionTime": "121000"}),
    "date and time": (
        {"AcquisitionDateTime": "20260101235959"},
        {"AcquisitionDateTime": "20260102000500"},
    ),
    "patient": ({"PatientID": "a"}, {"PatientID": "b"}),
    "contrast": ({"ContrastBolusAgent": "none"}, {"ContrastBolusAgent": "iodine"}),
    "cardiac phase": (
        {"NominalPercentageOfCardiacPhase": 40.0},
        {"NominalPercentageOfCardiacPhase": 75.0},
    ),
}


@pytest.mark.parametrize("name", TELLING)
def test_passes_that_lie_between_one_another_are_two_series(name):
    first, second = TELLING[name]
    found = volumes(passes(ONE, OTHER, always(**first), always(**second)))
    assert sorted(map(bytes, found)) == sorted([bytes(ONE), bytes(OTHER)])


def test_passes_that_overlap_at_other_positions_are_two_series():
    tags = always(AcquisitionNumber=1), always(AcquisitionNumber=2)
    files = passes(ONE, OTHER, *tags, step_mm=3.0, above_mm=-22.0)
    assert sorted(map(bytes, volumes(files))) == sorted([bytes(ONE), bytes(OTHER)])


def test_times_that_rise_within_each_pass_tell_passes_apart():
    def at(minute):
        return lambda index: put(AcquisitionTime=f"12{minute}{index:02d}.5")

    found = volumes(passes(ONE, OTHER, at("00"), at("09")))
    assert sorted(map(bytes, found)) == sorted([bytes(ONE), bytes(OTHER)])


def test_two_passes_of_one_breath_hold_stay_one_volume_of_a_class_of_its_own():
    whole = smooth(2 * COUNT, 200)
    tags = always(AcquisitionNumber=1), always(AcquisitionNumber=2)
    files = passes(whole[::2], whole[1::2], *tags)
    (series,) = index_series(files).series
    assert series.verdict.classes == ("interleaved",)
    np.testing.assert_array_equal(load_series(series, files).stored, whole)


CONTROLS = {
    "another number in each slice": lambda index: put(AcquisitionNumber=index),
    "another number at each table position": lambda index: put(AcquisitionNumber=index // 4),
    "a time that rises": lambda index: put(AcquisitionTime=f"1200{index:02d}"),
    "a number in some slices": lambda index: put(AcquisitionNumber=2) if index % 9 == 0 else None,
    "one odd slice": lambda index: put(AcquisitionNumber=2 if index == 7 else 1),
    "two thicknesses, one after the other": lambda index: put(SliceThickness=1 + (index > 7)),
    "a thickness as it is rounded": lambda index: put(SliceThickness="2.0" if index % 2 else "2"),
    "a spacing as it is rounded": lambda index: put(PixelSpacing=["0.7", f"0.60{index % 2:05d}"]),
    "slice times that jump": lambda index: put(ContentTime=f"1200{index * 7 % 16:02d}"),
}


@pytest.mark.parametrize("name", CONTROLS)
def test_what_changes_within_one_acquisition_leaves_it_whole(name):
    edits = {index: edit for index in range(COUNT) if (edit := CONTROLS[name](index))}
    files = ct_series(ONE, edits=edits)
    (series,) = index_series(files).series
    assert series.verdict.classes == ("regular",)
    np.testing.assert_array_equal(load_series(series, files).stored, ONE)


def test_frames_of_two_acquisitions_in_one_file_are_two_series():
    def numbered(dataset):
        for number, item in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            content = type(dataset)()
            content.FrameAcquisitionNumber = 1 + number % 2
            item.FrameContentSequence = [content]

    mixed = np.stack([ONE, OTHER], axis=1).reshape(2 * COUNT, 32, 32)
    places = [ORIGIN + UP * 2.0 * number for number in range(2 * COUNT)]
    files = {"enhanced": enhanced_file(mixed, places, edit=numbered)}
    assert [bytes(volume) for volume in volumes(files)] == [bytes(ONE), bytes(OTHER)]


def two_phases(edits):
    first = ct_series(ONE, edits=dict.fromkeys(range(COUNT), edits[0]))
    second = ct_series(OTHER, edits=dict.fromkeys(range(COUNT), edits[1]))
    names = sorted(first)
    mixed = {}
    for number, name in enumerate(names):
        ends = ("a", "z") if number % 2 else ("z", "a")
        mixed[f"{ends[0]}{name}"], mixed[f"{ends[1]}{name}"] = first[name], second[name]
    return mixed


def test_one_instance_uid_on_two_images_is_told_apart_by_acquisition():
    files = two_phases((put(AcquisitionNumber=1), put(AcquisitionNumber=2)))
    assert [bytes(volume) for volume in volumes(files)] == [bytes(ONE), bytes(OTHER)]


@pytest.mark.parametrize("policy", ["drop-identical", "split", "first"])
def test_what_only_a_file_name_tells_apart_is_refused_by_name(policy):
    files = two_phases((None, None))
    (series,) = index_series(files, Policy(on_duplicate=policy)).series
    assert "under one SOPInstanceUID" in str(series.problem)


def test_one_blank_copy_of_a_slice_is_refused_and_a_true_copy_left_out():
    files = ct_series(ONE)
    name = sorted(files)[3]
    (series,) = index_series({**files, "copy": files[name]}).series
    assert series.verdict.classes == ("duplicate",)
    position = next(h.position_mm for h in series.headers if h.key in (name, "copy"))
    uid = next(h.instance_uid for h in series.headers if h.key in (name, "copy"))
    blank = ct_slice(np.zeros((32, 32), np.uint16), position_mm=position, instance_uid=uid)
    (series,) = index_series({**files, "blank": blank}).series
    assert series.problem is not None


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.5"])
def test_a_copy_in_another_transfer_syntax_is_a_copy(syntax):
    files = ct_series(ONE)
    copies = ct_series(ONE, transfer_syntax=syntax)
    name = sorted(files)[2]
    (series,) = index_series({**files, "copy": copies[name]}).series
    assert series.verdict.classes == ("duplicate",)


ABSENT = {
    "FrameOfReferenceUID": lambda index: index % 9 == 0,
    "KVP": lambda index: index == 7,
    "ConvolutionKernel": lambda index: index in (0, 3, 15),
    "PatientID": lambda index: index % 2 == 0,
    "StudyInstanceUID": lambda index: index < 8,
}


@pytest.mark.parametrize("keyword", ABSENT)
def test_a_tag_that_is_absent_from_some_slices_is_not_another_value(keyword):
    base = {"PatientID": "p", "StudyInstanceUID": "1.2.3", "KVP": 120}

    def edit(index):
        def change(dataset):
            put(**base)(dataset)
            if ABSENT[keyword](index):
                delattr(dataset, keyword)

        return change

    files = ct_series(ONE, edits={index: edit(index) for index in range(COUNT)})
    (series,) = index_series(files).series
    assert series.verdict.classes == ("regular",)
    assert "absent" in series.verdict.actions[0]
    np.testing.assert_array_equal(load_series(series, files).stored, ONE)


def test_two_scans_of_which_one_lacks_a_tag_are_not_mixed():
    files = passes(ONE, OTHER, always(KVP=120), lambda _index: delete("KVP"))
    found = index_series(files).series
    assert len(found) == 2
    assert not any("regular" in series.verdict.classes for series in found)


@pytest.mark.parametrize("keyword", ["FrameOfReferenceUID", "StudyInstanceUID", "PatientID"])
def test_a_uid_made_anew_for_every_file_does_not_tear_a_row_apart(keyword):
    edits = {index: put(**{keyword: f"1.2.9.{index}"}) for index in range(COUNT)}
    files = ct_series(ONE, edits=edits)
    (series,) = index_series(files).series
    assert series.problem is None
    assert f"{keyword} made anew for every file" in series.verdict.actions[0]


def test_frames_of_reference_count_where_that_is_asked_for():
    edits = {index: put(FrameOfReferenceUID=f"1.2.9.{index}") for index in range(COUNT)}
    found = index_series(ct_series(ONE, edits=edits), Policy(on_frame_of_reference="split")).series
    assert [series.verdict.classes for series in found] == [("short", "split")] * COUNT


def test_a_series_uid_for_every_file_is_one_failure_that_names_the_tag_and_the_option():
    edits = {index: put(SeriesInstanceUID=f"1.2.9.{index}") for index in range(COUNT)}
    files = ct_series(ONE, edits=edits)
    (series,) = index_series(files).series
    assert "16 files, each with a SeriesInstanceUID of its own" in str(series.problem)
    assert "--on-series-uid join" in str(series.problem)
    (joined,) = index_series(files, Policy(on_series_uid="join")).series
    np.testing.assert_array_equal(load_series(joined, files).stored, ONE)


def test_what_is_said_of_many_parts_grows_with_their_number_only():
    edits = {index: put(FrameOfReferenceUID=f"1.2.9.{index}") for index in range(60)}
    files = ct_series(random_words((60, 4, 4)), edits=edits)
    found = index_series(files, Policy(on_frame_of_reference="split")).series
    assert max(len(" ".join(series.verdict.actions)) for series in found) < 200


RANGES = {
    "each overlaps the next": ([(0, 10), (8, 10), (16, 10)], [10, 10, 10]),
    "monitoring before the scan": ([(5, 1)] * 3 + [(0, 12)], [12, 1, 1, 1]),
    "monitoring after the scan": ([(0, 12)] + [(5, 1)] * 3, [12, 1, 1, 1]),
    "one slice more": ([(0, 12), (11, 1)], [12, 1]),
}


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("policy", ["drop-identical", "split", "first"])
def test_acquisitions_that_share_some_positions_are_never_mixed(name, policy):
    ranges, sizes = RANGES[name]
    files = {}
    for number, (first, count) in enumerate(ranges):
        volume = smooth(count, 100 * number)
        for index in range(count):
            files[f"{number}-{index}"] = ct_slice(
                volume[index],
                position_mm=(0, 0, 2.0 * (first + index)),
                instance_uid=f"1.2.3.{number}.{index}",
                number=100 * number + index,
                edit=put(AcquisitionNumber=number),
            )
    found = index_series(files, Policy(on_duplicate=policy)).series
    assert [len(series.headers) for series in found] == sizes
    for series in found:
        assert len({header.key.partition("-")[0] for header in series.headers}) == 1


def test_table_positions_of_two_phases_are_two_volumes():
    files = {}
    for phase in range(2):
        for index in range(12):
            files[f"{phase}-{index}"] = ct_slice(
                (ONE, OTHER)[phase][index],
                position_mm=(0, 0, 2.0 * index),
                instance_uid=f"1.2.3.{phase}.{index}",
                edit=put(AcquisitionNumber=3 * phase + index // 4),
            )
    assert [bytes(volume) for volume in volumes(files)] == [bytes(ONE[:12]), bytes(OTHER[:12])]


def test_every_split_shows_in_the_classes():
    places = [ORIGIN + UP * 2.0 * number for number in range(COUNT)]
    stacks = ["a"] * 8 + ["b"] * 8
    files = {"stacks": enhanced_file(ONE, places, stacks=stacks)}
    assert [series.verdict.classes for series in index_series(files).series] == [("split",)] * 2
