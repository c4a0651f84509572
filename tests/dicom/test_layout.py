"""Headers that are recognised read as if each stood alone."""

import pytest
from dicom_writer import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, JPEG_LS, ct_series, random_words
from fuzz_cases import damaged, originals
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from fastlung.dicom import layout
from fastlung.dicom.headers import Broken, Lost, pydicom_silenced, read_headers
from fastlung.dicom.layout import MAX_LAYOUTS, HeaderReader
from fastlung.errors import ScanError

WORDS = random_words((12, 6, 5))


def comparable(answer):
    """Errors are equal by class and words."""
    if isinstance(answer, Broken | Lost):
        fields = {name: getattr(answer, name) for name in answer.__dataclass_fields__}
        return {**fields, "error": (type(answer.error), str(answer.error))}
    if not isinstance(answer, list):
        return answer
    plain = []
    for header in answer:
        fields = {name: getattr(header, name) for name in header.__dataclass_fields__}
        if isinstance(header.pixel_format, ScanError):
            fields["pixel_format"] = type(header.pixel_format), str(header.pixel_format)
        # Records are written in the order of this mapping.
        fields["acquisition"] = list(header.acquisition.items())
        plain.append(fields)
    return plain


def together(files):
    """Answers for files read one after the other."""
    reader = HeaderReader()
    with pydicom_silenced():
        return {
            key: comparable(reader.read(key, len(blob), lambda count, blob=blob: blob[:count]))
            for key, blob in files.items()
        }


def alone(files):
    """Answers for files that know nothing of each other."""
    with pydicom_silenced():
        return {
            key: comparable(read_headers(key, len(blob), lambda count, blob=blob: blob[:count]))
            for key, blob in files.items()
        }


@pytest.fixture
def walks(monkeypatch):
    """Keys walked, counted."""
    walked = []
    walk = layout.walk

    def counted(head, *arguments):
        walked.append(head)
        return walk(head, *arguments)

    monkeypatch.setattr(layout, "walk", counted)
    return walked


def modulated(number):
    """What a scanner writes anew into each slice, of other lengths each time, and a sequence."""

    def edit(dataset):
        dataset.ContentTime = f"1200{number:02d}.{number * 37}"
        dataset.XRayTubeCurrent = 3**number
        dataset.SliceLocation = number * 2.5
        dataset.add_new(0x00091001, "LO", "x" * (2 * number % 9))
        item = Dataset()
        item.ReferencedSOPInstanceUID = "1.2.3"
        dataset.ReferencedImageSequence = [item]
        dataset["ReferencedImageSequence"].is_undefined_length = True

    return edit


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, JPEG_LS])
def test_a_series_is_walked_a_few_times_only(syntax, walks):
    edits = {number: modulated(number) for number in range(12)}
    files = ct_series(WORDS, transfer_syntax=syntax, edits=edits)

    found = together(files)

    assert len(walks) <= 4
    assert found == alone(files)
    tubes = {dict(fields["acquisition"])["XRayTubeCurrent"] for (fields,) in found.values()}
    assert tubes == {float(3**number) for number in range(12)}


@pytest.mark.parametrize("syntax", [DEFLATED, BIG_ENDIAN])
def test_other_syntaxes_are_walked(syntax, walks):
    files = ct_series(WORDS, transfer_syntax=syntax)

    assert together(files) == alone(files)
    assert len(walks) == len(files)


def test_series_that_alternate_are_recognised_each(walks):
    several = [
        ct_series(WORDS, series_uid=f"1.2.{number}", bits_stored=12 + number) for number in range(3)
    ]
    mixed = {
        f"{key}-{number}": blob
        for files in zip(*(series.items() for series in several), strict=True)
        for number, (key, blob) in enumerate(files)
    }

    assert together(mixed) == alone(mixed)
    assert len(walks) <= 4 * 3


def test_what_is_remembered_is_bounded():
    reader = HeaderReader()
    for number in range(3 * MAX_LAYOUTS):
        (blob,) = ct_series(WORDS[:1], series_uid=f"1.2.{number}").values()
        reader.read("key", len(blob), lambda count, blob=blob: blob[:count])
    assert len(reader._kinds) <= MAX_LAYOUTS


@pytest.mark.parametrize(
    "change",
    [
        {"RescaleSlope": 2},
        {"RescaleIntercept": None},
        {"ImagePositionPatient": [1, 2, 1e9]},
        {"ImagePositionPatient": b"1\\2 "},
        {"InstanceNumber": b"nine"},
        {"XRayTubeCurrent": 99999999},
        {"BitsStored": 11},
        {"Rows": 7},
        {"PhotometricInterpretation": "RGB"},
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        {"SOPInstanceUID": b"Doe^John"},
        {"PixelData": b"1234"},
        {"ImageComments": "x" * 2000},
        {"Manufacturer": None},
        {"SeriesInstanceUID": "1.2.99"},
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value")  # pydicom writes what it calls invalid
def test_one_odd_slice_reads_as_if_alone(change):
    def odd(dataset):
        for keyword, value in change.items():
            if value is None:
                delattr(dataset, keyword)
            elif isinstance(value, bytes) and keyword != "PixelData":
                replaced = dataset[keyword]
                raw = (replaced.tag, replaced.VR, len(value), value, 0, False, True)
                dataset._dict[replaced.tag] = RawDataElement(*raw)
            else:
                setattr(dataset, keyword, value)

    files = ct_series(WORDS, edits={6: odd})
    order = sorted(files, key=lambda name: int(name.partition("-")[2].partition(".")[0]))
    files = {name: files[name] for name in order}

    assert together(files) == alone(files)


@pytest.mark.parametrize("cut", [100, 131, 200, 400, 700])
def test_a_header_that_breaks_off_is_not_recognised(cut):
    files = ct_series(WORDS)
    files["zzz"] = files[max(files)][:cut]

    assert together(files) == alone(files)


def test_damaged_series_read_as_if_each_file_stood_alone():
    for number in range(300):
        files = damaged(5, number)
        assert together(files) == alone(files), number


def test_intact_series_of_every_kind():
    for original in originals():
        assert together(original.files) == alone(original.files)


@pytest.mark.data
@pytest.mark.parametrize("folder", ["lidc-idri-0306", "lung-dx-a0001-5mm", "lung-dx-a0002-8mm"])
def test_real_series_are_walked_a_few_times_only(data_dir, folder, walks):
    files = {
        path.name: path.read_bytes()[: 64 * 1024]
        for path in sorted((data_dir / "chest" / folder).iterdir())
    }

    assert together(files) == alone(files)
    assert len(walks) <= 8
