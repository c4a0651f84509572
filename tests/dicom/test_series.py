"""Files to series to stored words: what is grouped, dropped, skipped, refused, and read."""

import contextlib
import io

import numpy as np
import pydicom
import pytest
from dicom_writer import (
    BIG_ENDIAN,
    EXPLICIT,
    IMPLICIT,
    LOSSLESS,
    NATIVE,
    RLE,
    SERIES_UID,
    ct_series,
    ct_slice,
    name_of,
    random_words,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset

from fastlung.dicom import index_series, load_series
from fastlung.dicom.checks import Policy
from fastlung.errors import (
    DecodeError,
    FormatError,
    GeometryError,
    LimitError,
    MetadataError,
    ScanError,
    TruncatedError,
    UnsupportedError,
)

WORDS = random_words((6, 8, 10), seed=1)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def load(files):
    index = index_series(files)
    assert len(index.series) == 1, index
    return load_series(index.series[0], files)


def delete(*keywords):
    def edit(ds):
        for keyword in keywords:
            delattr(ds, keyword)

    return edit


def put(**values):
    def edit(ds):
        for keyword, value in values.items():
            setattr(ds, keyword, value)

    return edit


def hounsfield(raw):
    """Slow twin of the HU rule, with nothing replaced."""
    scale = raw.scale
    hu = np.empty(raw.stored.shape)
    for z, plane in enumerate(raw.stored.astype(np.int64)):
        value = (plane >> int(scale.shift[z])) & ((1 << int(scale.bits_stored[z])) - 1)
        if scale.signed[z]:
            sign = 1 << (int(scale.bits_stored[z]) - 1)
            value = (value ^ sign) - sign
        hu[z] = value * float(scale.slope[z]) + float(scale.intercept[z])
    return hu


@pytest.mark.parametrize("syntax", [*NATIVE, *LOSSLESS])
def test_every_syntax_gives_the_words_that_were_written(syntax):
    raw = load(ct_series(WORDS, transfer_syntax=syntax))
    np.testing.assert_array_equal(raw.stored, WORDS)
    assert raw.stored.dtype == np.uint16
    assert raw.stored.flags.c_contiguous
    assert raw.verdict.classes == ("regular",)
    assert raw.acquisition["TransferSyntaxUID"] == syntax


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, RLE])
@pytest.mark.parametrize("shape", [(4, 6, 8), (3, 5, 7)])
def test_eight_bit_pixels_of_even_and_odd_count_are_widened(syntax, shape):
    pixels = random_words(shape, bits=8).astype(np.uint8)
    np.testing.assert_array_equal(load(ct_series(pixels, transfer_syntax=syntax)).stored, pixels)


def test_eight_bit_pixels_in_big_endian_words_are_put_in_order():
    pixels = np.arange(3 * 35, dtype=np.uint8).reshape(3, 5, 7)

    def swap(ds):
        pairs = np.frombuffer(ds.PixelData, np.uint8).reshape(-1, 2)
        ds.PixelData = pairs[:, ::-1].tobytes()
        ds["PixelData"].VR = "OW"

    files = ct_series(pixels, transfer_syntax=BIG_ENDIAN, edits=dict.fromkeys(range(3), swap))
    np.testing.assert_array_equal(load(files).stored, pixels)


@given(
    data=st.data(),
    bits_stored=st.integers(9, 16),
    signed=st.booleans(),
    slope=st.sampled_from([1.0, 0.5, 2.0, 1.000061, -1.0]),
    intercept=st.sampled_from([-1024.0, 0.0, -1000.5]),
    syntax=st.sampled_from([IMPLICIT, EXPLICIT, BIG_ENDIAN]),
)
@settings(max_examples=40)
def test_scale_agrees_with_pydicom(data, bits_stored, signed, slope, intercept, syntax):
    values = np.array(
        data.draw(st.lists(st.integers(0, (1 << bits_stored) - 1), min_size=12, max_size=12))
    )
    words = values.astype(np.uint16).reshape(3, 2, 2)
    if signed:  # sign-extend, as the standard asks of writers
        spare = 16 - bits_stored
        words = ((words << spare).view(np.int16) >> spare).view(np.uint16)
    files = ct_series(
        words,
        bits_stored=bits_stored,
        signed=signed,
        slope=slope,
        intercept=intercept,
        transfer_syntax=syntax,
    )
    expected = [
        pydicom.dcmread(io.BytesIO(files[name_of(files, z)])).pixel_array * slope + intercept
        for z in range(3)
    ]
    np.testing.assert_allclose(hounsfield(load(files)), expected, atol=1e-3)


def test_slopes_signs_and_bits_may_change_from_slice_to_slice():
    edits = {
        1: put(RescaleSlope="0.5", RescaleIntercept="-2"),
        2: put(PixelRepresentation=1),
        3: put(BitsStored=12, HighBit=13, PixelData=(WORDS[3].astype("<u2") << 2).tobytes()),
    }
    scale = load(ct_series(WORDS, edits=edits)).scale
    np.testing.assert_array_equal(scale.slope, np.float32([1, 0.5, 1, 1, 1, 1]))
    np.testing.assert_array_equal(scale.intercept, [-1024, -2, -1024, -1024, -1024, -1024])
    np.testing.assert_array_equal(scale.signed, [0, 0, 1, 0, 0, 0])
    np.testing.assert_array_equal(scale.bits_stored, [16, 16, 16, 12, 16, 16])
    np.testing.assert_array_equal(scale.shift, [0, 0, 0, 2, 0, 0])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"padding": 63536}, (63536, 63536)),
        ({"padding": -2000, "signed": True}, (-2000, -2000)),
        ({"padding": -3024, "padding_limit": -2000, "signed": True}, (-3024, -2000)),
        ({"padding": -2000, "padding_limit": -3024, "signed": True}, (-3024, -2000)),
        ({"signed": True}, (-2000, -2000)),
        ({"signed": True, "bits_stored": 12}, (-2000, -2000)),
        ({"signed": True, "bits_stored": 11}, (0, -1)),
        ({}, (0, -1)),
    ],
)
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
def test_padding_takes_its_sign_from_the_pixels(options, expected, syntax):
    scale = load(ct_series(WORDS, transfer_syntax=syntax, **options)).scale
    assert (scale.padding_low[0], scale.padding_high[0]) == expected
    assert scale.padding_low.dtype == np.int32


@pytest.mark.parametrize(
    ("signed", "bits", "vr", "written", "meant"),
    [
        (True, 16, "US", 63536, -2000),
        (False, 16, "SS", -2000, 63536),
        (True, 12, "US", 0x0830, -2000),  # not sign-extended beyond the stored bits
    ],
)
def test_padding_with_the_wrong_representation(signed, bits, vr, written, meant):
    def edit(ds):
        ds.add_new("PixelPaddingValue", vr, written)

    edits = dict.fromkeys(range(len(WORDS)), edit)
    scale = load(ct_series(WORDS, signed=signed, bits_stored=bits, edits=edits)).scale
    assert set(scale.padding_low) == set(scale.padding_high) == {meant}


def test_the_order_of_files_names_and_instance_numbers_does_not_matter():
    files = ct_series(WORDS)  # instance numbers run down, names at random
    shuffled = dict(reversed(files.items()))
    renamed = {f"{9 - i}": files[name_of(files, i)] for i in range(6)}
    expected = load(files)
    for other in (shuffled, renamed):
        raw = load(other)
        np.testing.assert_array_equal(raw.stored, expected.stored)
        assert raw.grid == expected.grid
        assert raw.verdict == expected.verdict
    np.testing.assert_allclose(expected.slice_positions_mm, np.arange(6) * 2.0)
    assert expected.grid.origin_mm == (-10.0, -20.0, 30.0)
    assert expected.grid.spacing_mm == (2.0, 0.7, 0.6)


def test_memoryviews_do_as_well_as_bytes():
    files = {name: memoryview(blob) for name, blob in ct_series(WORDS).items()}
    np.testing.assert_array_equal(load(files).stored, WORDS)


def test_a_slice_sent_twice_is_dropped():
    files = ct_series(WORDS)
    again = files[name_of(files, 2)]
    other_uid = ct_slice(WORDS[4], position_mm=(-10, -20, 38), instance_uid="1.2.3.99")
    index = index_series({**files, "zz-same-instance": again, "zz-same-pixels": other_uid})
    (series,) = index.series
    assert series.verdict.classes == ("duplicate",)
    assert series.verdict.numbers["duplicate_slices"] == 2
    assert {"zz-same-instance", "zz-same-pixels"} <= set(series.keys)
    assert len(series.headers) == 6
    assert len(series.keys) == 8
    files |= {"zz-same-instance": again, "zz-same-pixels": other_uid}
    np.testing.assert_array_equal(load_series(series, files).stored, WORDS)


@pytest.mark.parametrize(
    "edit", [put(RescaleIntercept="0"), put(PixelData=WORDS[0].tobytes())], ids=["scale", "pixels"]
)
def test_another_image_at_the_same_position_is_refused(edit):
    files = ct_series(WORDS)
    files["zz"] = ct_slice(WORDS[4], position_mm=(-10, -20, 38), instance_uid="1.2.3.99", edit=edit)
    (series,) = index_series(files).series
    assert "multi_acquisition" in series.verdict.classes
    with pytest.raises(GeometryError, match=r"38\.00 mm"):
        load_series(series, files)


def test_a_broken_copy_of_a_good_slice_is_not_dropped_in_silence():
    files = ct_series(WORDS)
    whole = files[name_of(files, 2)]
    for name in ("000", "zzz"):  # whichever of the two comes first
        (series,) = index_series({**files, name: whole[:-20]}).series
        assert isinstance(series.problem, TruncatedError)
        assert name in series.keys


def test_a_copy_whose_frame_is_cut_breaks_no_index():
    files = ct_series(WORDS, transfer_syntax=RLE)
    copy = ct_slice(
        WORDS[4], position_mm=(-10, -20, 38), instance_uid="1.2.3.99", transfer_syntax=RLE
    )
    (series,) = index_series({**files, "zz": copy[:-30]}).series
    assert isinstance(series.problem, GeometryError)
    assert "zz" in series.keys


def test_one_instance_uid_on_every_slice_hides_no_slice():
    files = ct_series(WORDS, instance_uid="1.2.3")
    files["zz"] = ct_slice(WORDS[0], position_mm=(-10, -20, 38), instance_uid="1.2.3")
    (series,) = index_series(files).series
    assert isinstance(series.problem, GeometryError)


def test_empty_uids_make_one_series():
    edits = dict.fromkeys(range(6), put(SeriesInstanceUID="", SOPInstanceUID="", SOPClassUID=""))
    raw = load(ct_series(WORDS, edits=edits))
    assert raw.series_uid == ""
    np.testing.assert_array_equal(raw.stored, WORDS)


@pytest.mark.parametrize("start", [132, 0], ids=["no preamble", "no file meta"])
def test_a_bare_data_set_is_read_only_with_force(start):
    files = {}
    for name, blob in ct_series(WORDS).items():
        meta_end = 144 + int.from_bytes(blob[140:144], "little")
        files[name] = blob[start:] if start else blob[:132] + blob[meta_end:]
    (series,) = index_series(files).series
    assert isinstance(series.problem, FormatError)
    assert "--force" in str(series.problem)
    (series,) = index_series(files, Policy(force=True)).series
    np.testing.assert_array_equal(load_series(series, files).stored, WORDS)


def test_a_file_whose_syntax_lies_about_explicit_vr_is_read():
    files = {
        name: blob.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0")
        for name, blob in ct_series(WORDS).items()
    }
    np.testing.assert_array_equal(load(files).stored, WORDS)


def test_a_header_longer_than_the_first_look_is_read():
    def long_header(ds):
        ds.add_new(0x00091001, "OB", bytes(200_000))

    files = ct_series(WORDS, edits=dict.fromkeys(range(6), long_header))
    np.testing.assert_array_equal(load(files).stored, WORDS)


@pytest.mark.parametrize(
    "options",
    [
        {"series_uid": f"{SERIES_UID}.9"},
        {"pixel_spacing_mm": (0.7, 0.61)},
        {"orientation": SAGITTAL},
        {"edits": dict.fromkeys(range(6), put(FrameOfReferenceUID="1.2.3.4"))},
    ],
    ids=["uid", "pixel spacing", "orientation", "frame of reference"],
)
def test_what_cannot_share_a_volume_is_another_series(options):
    files = ct_series(WORDS)
    others = {f"b{name}": blob for name, blob in ct_series(WORDS + 1, **options).items()}
    index = index_series({**files, **others})
    assert [len(series.headers) for series in index.series] == [6, 6]
    one_uid = "series_uid" not in options
    assert [(s.part, s.parts) for s in index.series] == (
        [(1, 2), (2, 2)] if one_uid else [(1, 1)] * 2
    )
    volumes = [load_series(series, {**files, **others}).stored for series in index.series]
    assert {volume.tobytes() for volume in volumes} == {WORDS.tobytes(), (WORDS + 1).tobytes()}


def odd_one():
    """A series of six axial slices with one sagittal slice among them."""
    files = ct_series(WORDS)
    files["odd"] = ct_slice(WORDS[0], orientation=SAGITTAL, instance_uid="1.2.3.99")
    return files


def test_one_slice_of_another_orientation_is_left_out_and_named():
    index = index_series(odd_one())
    (series,) = index.series
    assert series.verdict.classes == ("mixed_orientation",)
    assert series.verdict.actions == (
        "1 of 7 slices left out: another orientation than the most slices of the series",
    )
    assert "another orientation" in index.skipped["odd"]
    np.testing.assert_array_equal(load_series(series, odd_one()).stored, WORDS)


def test_every_orientation_is_a_series_if_asked():
    index = index_series(odd_one(), Policy(on_mixed_orientation="split"))
    odd, main = sorted(index.series, key=lambda series: len(series.headers))
    assert isinstance(odd.problem, GeometryError)
    assert main.verdict.classes == ("mixed_orientation",)
    assert main.verdict.actions[0].startswith("split by orientation: ")
    assert main.verdict.actions[0].endswith(" slices stand as 2 series")
    np.testing.assert_array_equal(load_series(main, odd_one()).stored, WORDS)


def test_mixed_orientations_are_refused_if_asked():
    for series in index_series(odd_one(), Policy(on_mixed_orientation="fail")).series:
        assert isinstance(series.problem, GeometryError)
        assert "mixed_orientation" in series.verdict.classes


def test_a_slice_without_orientation_is_never_left_out_in_silence():
    files = ct_series(WORDS, edits={2: delete("ImageOrientationPatient")})
    assert any("no_position" in s.verdict.classes for s in index_series(files).series)
    assert index_series(files).skipped == {}


def test_spacing_noise_that_straddles_a_rounding_boundary_stays_one_series():
    files = {}
    for i, words in enumerate(WORDS):
        spacing = 0.70005 + (1e-6 if i % 2 else -1e-6)
        files[f"{i}"] = ct_slice(
            words, position_mm=(0, 0, i), pixel_spacing_mm=(spacing, 0.6), instance_uid=f"1.{i}"
        )
    assert len(index_series(files).series) == 1


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (put(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "a localizer"),
        (put(SOPClassUID="1.2.840.10008.1.3.10"), "a DICOMDIR"),
        (put(SOPClassUID="1.2.840.10008.5.1.4.1.1.7"), "a secondary capture"),
        (put(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11"), "a structured report"),
        (put(SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4"), "a segmentation"),
        (put(SOPClassUID="1.2.840.10008.5.1.4.1.1.481.3"), "a radiotherapy object"),
        (put(SOPClassUID="1.2.840.10008.5.1.4.1.1.4", Modality="MR"), "modality MR"),
        (put(SamplesPerPixel=3), "a colour picture"),
    ],
)
def test_what_is_no_ct_slice_is_skipped_with_the_reason(edit, reason):
    files = ct_series(WORDS)
    files["odd"] = ct_slice(WORDS[0], instance_uid="1.2.3.99", edit=edit)
    index = index_series(files)
    assert reason in index.skipped["odd"]
    assert index.broken == ()
    np.testing.assert_array_equal(load_series(index.series[0], files).stored, WORDS)


def test_an_empty_file_that_is_named_as_a_slice_is_a_lost_slice():
    files = {f"{name}.dcm": blob for name, blob in ct_series(WORDS).items()}
    lost = max(files)
    index = index_series({**files, lost: b""})
    assert index.broken == (lost,)
    assert "the file is empty" in index.skipped[lost]
    assert index_series({"only.DCM": b""}).broken == ("only.DCM",)


def test_what_is_not_dicom_is_skipped():
    junk = {
        "empty": b"",
        "text": b"hello " * 100,
        "elf": b"\x7fELF" + bytes(500),
        "like a tag": b"\x08\x00\x05\x00" + b"\xff" * 500,
    }
    index = index_series(junk)
    assert index.series == ()
    assert index.broken == ()
    assert index.skipped["empty"] == "an empty file"
    assert {index.skipped[name] for name in ("text", "elf", "like a tag")} == {"not DICOM"}


@pytest.mark.parametrize(
    ("edit", "error", "text"),
    [
        (put(RescaleSlope="0"), MetadataError, "RescaleSlope is 0"),
        (put(RescaleSlope="1e300"), MetadataError, "RescaleSlope"),
        (delete("RescaleSlope"), MetadataError, "RescaleSlope is absent"),
        (put(RescaleIntercept="-1e9"), MetadataError, "RescaleIntercept"),
        (put(BitsStored=17), MetadataError, "BitsStored is 17"),
        (put(HighBit=16), MetadataError, "HighBit is 16"),
        (put(PixelRepresentation=2), MetadataError, "PixelRepresentation is 2"),
        (delete("PhotometricInterpretation"), MetadataError, "absent"),
        (put(PhotometricInterpretation="MONOCHROME1"), UnsupportedError, "MONOCHROME1"),
        (put(RescaleType="OD"), UnsupportedError, "RescaleType is OD"),
        (put(ModalityLUTSequence=[Dataset()]), UnsupportedError, "ModalityLUTSequence"),
        (put(BitsAllocated=32, PixelData=bytes(320)), UnsupportedError, "BitsAllocated is 32"),
        (put(NumberOfFrames=1_000_000), LimitError, "NumberOfFrames is 1,000,000"),
        (put(PixelData=bytes(158)), TruncatedError, "158 bytes"),
        (put(PixelData=bytes(320)), FormatError, "2 images"),
    ],
)
def test_one_bad_slice_fails_its_series_with_its_own_error(edit, error, text):
    files = ct_series(WORDS, edits={2: edit})
    index = index_series(files)
    assert index.skipped == {}
    (series,) = index.series
    assert type(series.problem) is error
    assert len(series.defects) == 1
    assert sorted(series.keys) == sorted(files)
    with pytest.raises(error, match=text) as caught:
        load_series(series, files)
    assert "1 of 6 files" in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "error", "text"),
    [
        (put(PixelSpacing=["1e-12", "0.7"]), MetadataError, "PixelSpacing"),
        (put(PixelSpacing=["0.7", "40"]), MetadataError, "PixelSpacing"),
        (delete("PixelSpacing"), MetadataError, "PixelSpacing is absent"),
        (put(ImagePositionPatient=["0", "0", "1e9"]), MetadataError, "ImagePositionPatient"),
        (put(ImageOrientationPatient=["1", "0", "0", "1", "0", "0"]), MetadataError, "angles"),
        (put(Rows=5000, Columns=5000), LimitError, "5000 x 5000"),
        (put(Rows=0), MetadataError, "0 x 10"),
        (delete("PixelData"), TruncatedError, "ends before its Pixel Data"),
        (put(SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1"), MetadataError, "NumberOfFrames"),
    ],
)
def test_a_file_that_is_no_slice_fails_alone_and_flags_its_series(edit, error, text):
    files = ct_series(WORDS, edits={2: edit})
    good, broken = index_series(files).series
    assert len(load_series(good, files).stored) == 5
    assert type(broken.problem) is error
    assert text in str(broken.problem)
    assert (good.part, broken.part) == (1, 2)
    another_matrix = "5000" in text
    assert [flag.name for flag in good.flags] == [] if another_matrix else ["files_not_read"]


def test_many_broken_files_fail_the_series():
    files = ct_series(WORDS, edits=dict.fromkeys((1, 3), delete("PixelSpacing")))
    (series,) = index_series(files).series
    with pytest.raises(MetadataError, match="2 of 6 files"):
        load_series(series, files)


@pytest.mark.parametrize("kind", ["HU", "", "US", "hu "])
def test_rescale_types_that_mean_hounsfield_are_taken(kind):
    raw = load(ct_series(WORDS, edits=dict.fromkeys(range(6), put(RescaleType=kind))))
    np.testing.assert_array_equal(raw.stored, WORDS)


def test_an_unknown_transfer_syntax_is_named_before_any_pixel_is_read():
    blob = ct_slice(WORDS[0]).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0")
    (series,) = index_series({"a": blob}).series
    assert isinstance(series.problem, UnsupportedError)
    assert "1.2.840.10008.1.2.9" in str(series.problem)


@pytest.mark.parametrize("left", [100, 1000, 20])
def test_a_download_cut_in_its_pixels_is_truncated(left):
    files = ct_series(random_words((3, 32, 32)))
    name = name_of(files, 1)
    files[name] = files[name][: len(files[name]) - left]
    (series,) = index_series(files).series
    with pytest.raises(TruncatedError, match=r"slice 2 of 3: .* holds"):
        load_series(series, files)


def test_a_download_cut_anywhere_never_vanishes():
    files = ct_series(WORDS)
    name = name_of(files, 1)
    whole = files[name]
    for length in range(133, len(whole), 7):
        index = index_series({**files, name: whole[:length]})
        told = [entry.problem for entry in index.series if entry.problem] + [index.loss]
        assert isinstance(told[0], FormatError), length
        whole_one = index.series[0]
        assert whole_one.problem or whole_one.flags[0].name == "files_not_read"


def test_a_compressed_slice_that_does_not_decode_names_its_place():
    files = ct_series(WORDS, transfer_syntax=RLE)
    name = name_of(files, 3)
    files[name] = files[name].replace(b"\x02\0\0\0\x40\0\0\0", b"\x03\0\0\0\x40\0\0\0")
    (series,) = index_series(files).series
    assert series.problem is None
    with pytest.raises(DecodeError, match="slice 4 of 6: RLE Lossless"):
        load_series(series, files)


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient"])
def test_slices_without_position_are_shown_and_refused(keyword):
    files = ct_series(WORDS, edits=dict.fromkeys(range(6), delete(keyword)))
    (series,) = index_series(files).series
    assert series.verdict.classes == ("no_position",)
    assert series.grid is None
    with pytest.raises(GeometryError, match="6 of 6 slices"):
        load_series(series, files)


def test_two_slices_are_shown_and_refused():
    files = ct_series(WORDS[:2])
    (series,) = index_series(files).series
    assert series.verdict.classes == ("short",)
    with pytest.raises(GeometryError, match="at least 3"):
        load_series(series, files)


def test_technical_tags_are_shared_or_left_out():
    edits = {
        0: put(ConvolutionKernel=["Br40f", "3"], XRayTubeCurrent=100),
        1: put(ConvolutionKernel=["Br40f", "3"], XRayTubeCurrent=300, ManufacturerModelName="a\nb"),
        2: put(ConvolutionKernel="Br40f", XRayTubeCurrent=200, PatientPosition="FFS"),
    }
    acquisition = load(ct_series(WORDS[:3], edits=edits)).acquisition
    assert acquisition["ConvolutionKernel"] == "Br40f"
    assert acquisition["XRayTubeCurrent"] == 200.0
    assert acquisition["KVP"] == 120.0
    assert "PatientPosition" not in acquisition
    assert "ManufacturerModelName" not in acquisition
    assert acquisition["Rows"] == 8.0


def test_oblique_series_map_to_their_positions():
    orientation = tuple(np.round([0.8, 0.6, 0, -0.36, 0.48, 0.8], 6))
    raw = load(ct_series(WORDS, orientation=orientation, step_mm=1.25))
    normal = np.cross(orientation[:3], orientation[3:])
    index = np.array([[z, 0, 0] for z in range(6)])
    expected = np.array([-10.0, -20, 30]) + np.arange(6)[:, None] * 1.25 * normal
    np.testing.assert_allclose(raw.grid.to_patient(index), expected, atol=0.01)
    # Along a row x grows: the second voxel lies one column spacing along the row cosines.
    step = raw.grid.to_patient([0, 0, 1]) - raw.grid.to_patient([0, 0, 0])
    np.testing.assert_allclose(step, np.array(orientation[:3]) * 0.6, atol=1e-9)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=150)
def test_damaged_files_end_in_our_own_errors(seed):
    random = np.random.default_rng(seed)
    syntax = [*NATIVE, *LOSSLESS][seed % 10]
    files = ct_series(WORDS[:3], transfer_syntax=syntax)
    name = name_of(files, 1)
    blob = bytearray(files[name])
    for _ in range(random.integers(1, 6)):
        at = random.integers(132, len(blob))
        if random.random() < 0.3:
            del blob[at : at + int(random.integers(1, 9))]
        else:
            blob[at] = random.integers(256)
    files[name] = bytes(blob)
    for series in index_series(files).series:
        with contextlib.suppress(ScanError):
            load_series(series, files)
