"""Nothing of the patient leaves the package, whatever is wrong with a file and whoever looks."""

import contextlib
import logging
import pickle
import subprocess
import sys
import textwrap
import warnings

import pytest
from dicom_writer import EXPLICIT, IMPLICIT, ct_series, random_words

from fastlung.dicom import index_series, load_series, read_series
from fastlung.dicom.headers import pydicom_silenced
from fastlung.errors import FastlungError

CANARY = "CANARY"
WORDS = random_words((4, 8, 10))


def with_patient(ds):
    ds.PatientName = f"{CANARY}^NAME"
    ds.PatientID = f"{CANARY}-1"
    ds.add_new("PatientBirthDate", "DA", CANARY)
    ds.add_new("StudyDate", "DA", f"{CANARY}D")
    ds.InstitutionName = f"{CANARY} HOSPITAL"
    ds.SeriesDescription = f"{CANARY} SERIES"
    ds.StudyInstanceUID = f"{CANARY}.1.2"
    ds.add_new(0x00091010, "LO", f"{CANARY} PRIVATE")


def written(edit, **options):
    with warnings.catch_warnings():  # pydicom objects to some of it while writing, too
        warnings.simplefilter("ignore")
        return ct_series(WORDS, edits=dict.fromkeys(range(4), edit), **options)


def everything_said(files, tmp_path):
    """All text that comes of reading these files, results and errors."""
    said = []
    index = index_series(files)
    said += [repr(index.series), repr(index.skipped.values())]
    for series in index.series:
        said += [repr(series.problem), repr(series.defects)]
        try:
            raw = load_series(series, files)
        except FastlungError as error:
            said += [str(error), repr(pickle.loads(pickle.dumps(error)))]  # noqa: S301 -- ours
        else:
            said += [repr(raw.acquisition), repr(raw.verdict), raw.series_uid]
    for name, blob in files.items():
        (tmp_path / name).write_bytes(blob)
    with contextlib.suppress(FastlungError):
        read_series(tmp_path)
    return "\n".join(said)


@pytest.mark.parametrize(
    "keyword",
    [
        "",
        "SeriesInstanceUID",
        "SOPInstanceUID",
        "FrameOfReferenceUID",
        "Modality",
        "ImageType",
        "PhotometricInterpretation",
        "RescaleType",
        "RescaleSlope",
        "RescaleIntercept",
        "PixelSpacing",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "NumberOfFrames",
        "KVP",
        "SliceThickness",
        "InstanceNumber",
        "SpecificCharacterSet",
    ],
)
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_no_value_of_any_other_tag_comes_out(keyword, syntax, tmp_path, caplog, capfd):
    def forge(ds):
        with_patient(ds)
        if keyword:  # text of a patient where a number or code belongs: "LO" takes any
            ds.add_new(keyword, "LO", f"{CANARY}\x1b[2J\\{CANARY}: value")

    files = written(forge, transfer_syntax=syntax)
    caplog.clear()
    caplog.set_level(0)
    said = everything_said(files, tmp_path)
    captured = capfd.readouterr()
    for text in (said, caplog.text, captured.out, captured.err):
        assert CANARY not in text


#: What a filter for "short technical texts" might let pass: names and birth dates all the same.
CODE_LIKE = (
    "DOE JOHN 1970", "DOEJOHN1970", "DOE_JOHN", "DOEJOHN19700101", "CANARY^DOE-1970", "Doe/John.70",
    "197001011234567", "CT DOEJOHN", "MONOCHROME2DOE",
)  # fmt: skip


@pytest.mark.parametrize(
    "keyword",
    ["Modality", "PhotometricInterpretation", "RescaleType", "PatientPosition", "ImageType"],
)
def test_a_coded_tag_shows_the_standards_terms_and_no_code_of_a_patient(keyword, tmp_path):
    for vr in ("CS", "LO", "SH", "UT", "PN", "UN"):
        for canary in CODE_LIKE:
            value = canary.encode() if vr == "UN" else canary
            files = written(lambda ds, vr=vr, value=value: ds.add_new(keyword, vr, value))
            assert canary not in everything_said(files, tmp_path), (vr, canary)


@pytest.mark.parametrize("uid", ["1.9.7.0.0101", "1.2.840.10008.1.2.19700101", "19700101"])
def test_a_transfer_syntax_of_no_standard_is_not_shown(uid, tmp_path):
    padded = uid.encode().ljust(20, b"\0")
    files = {
        name: data.replace(EXPLICIT.encode().ljust(20, b"\0"), padded)
        for name, data in written(lambda _ds: None).items()
    }
    assert uid not in everything_said(files, tmp_path)


@pytest.mark.parametrize("modality", ["MR", "PT", "SR"])
def test_a_term_of_the_standard_is_shown(modality, tmp_path):
    def other(ds):
        ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        ds.Modality = modality

    assert f"modality {modality}" in everything_said(written(other), tmp_path)


def test_no_warning_of_pydicom_gets_out_even_where_warnings_are_errors(tmp_path):
    # In a process of its own: pytest has its own idea of warnings and log handlers.
    for name, blob in written(with_patient).items():
        (tmp_path / name).write_bytes(blob[:-100] if name.endswith("-1.dcm") else blob)
    script = textwrap.dedent("""
        import logging, sys, warnings
        from fastlung.dicom import list_series  # third parties may do as they like until here
        logging.basicConfig(level=1)
        before = (list(warnings.filters), list(logging.getLogger("pydicom").filters))
        index = list_series(sys.argv[1])
        assert len(index.series[0].defects) == 1
        after = (list(warnings.filters), list(logging.getLogger("pydicom").filters))
        assert before == after, (before, after)
    """)
    done = subprocess.run(  # noqa: S603 -- our own interpreter and script
        [sys.executable, "-W", "error", "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == ""


def test_whoever_stops_reading_first_lets_no_warning_of_another_out():
    # As threads do: the second enters before the first has left.
    before = list(warnings.filters)
    first, second = pydicom_silenced(), pydicom_silenced()
    said = []
    handler = logging.Handler()
    handler.emit = said.append
    logger = logging.getLogger("pydicom")
    logger.addHandler(handler)
    try:
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        warnings.warn("CANARY", stacklevel=1)  # an error, were it heard
        logger.warning("CANARY")
        second.__exit__(None, None, None)
        logger.warning("heard again")
    finally:
        logger.removeHandler(handler)
    assert [record.getMessage() for record in said] == ["heard again"]
    assert warnings.filters == before
