"""
Canaries: strings in tags, folder names and file names, and a search for them in all that comes out.

Tags: no hit in any mode. Names: no hit with ``--names hash``. The reader alone is held to the same
in `test_dicom_privacy`.
"""

import base64
import gzip
import io
import os
import pickle
import pty
import select
import subprocess
import sys
import traceback
import zipfile

import pytest
from dicom_writer import EXPLICIT, IMPLICIT, RLE, SERIES_UID, ct_series
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from tiny_series import chest

from fastlung.cli import main
from fastlung.dicom import read_series
from fastlung.errors import FastlungError, StoreError

pytestmark = pytest.mark.compiled

#: Every canary holds this word; hashed, none of them does.
TAG = "QUERCETIN"
NAME = "ZEAXANTHIN"
#: SeriesInstanceUIDs begin so. They name outputs unless names are hashed.
UID = "1.2.3.31415926535"
#: What somebody may write who wants a forged line in a log, or another screen.
ESCAPES = f"{TAG}\n2026 forged line {TAG}\r\x1b[2J{TAG}"


def with_canaries(ds):
    """Canaries in everything that may identify a patient, a place or a person."""
    ds.PatientName = f"{TAG}^NAME"
    ds.PatientID = f"{TAG}-1"
    ds.add_new("PatientBirthDate", "DA", f"19700101 {TAG}")  # no date: pydicom warns, and quotes
    ds.add_new("PatientAge", "AS", f"{TAG}Y")
    ds.InstitutionName = f"{TAG} HOSPITAL"
    ds.ReferringPhysicianName = f"{TAG}^DOCTOR"
    ds.add_new("StudyDescription", "LO", ESCAPES)
    ds.add_new("SeriesDescription", "LO", f"{TAG} SERIES")
    ds.ProtocolName = f"{TAG} PROTOCOL"
    ds.add_new("StudyInstanceUID", "UI", ESCAPES)
    ds.AccessionNumber = f"{TAG}-2"
    ds.add_new("ImageComments", "LT", ESCAPES)
    ds.add_new(0x00091010, "LO", f"{TAG} PRIVATE")
    ds.add_new(0x00091011, "UN", ESCAPES.encode())
    item = Dataset()
    item.add_new("PatientID", "LO", f"{TAG}-3")
    item.add_new(0x00091010, "LO", f"{TAG} NESTED")
    ds.OtherPatientIDsSequence = Items([item])


def also(keyword, vr, value):
    """Canaries, and one more in a tag that is read."""

    def edit(ds):
        with_canaries(ds)
        ds.add_new(keyword, vr, value)

    return edit


def write(folder, edit, *, prefix="", slices=8, **options):
    folder.mkdir(parents=True)
    files = ct_series(
        chest(1, slices),
        step_mm=8.0,
        pixel_spacing_mm=(5.5, 5.5),
        edits=dict.fromkeys(range(slices), edit),
        **options,
    )
    preamble = f"{TAG} preamble".encode().ljust(128)
    for name, data in files.items():
        (folder / f"{prefix}{name}").write_bytes(preamble + data[128:])
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Series that succeed and series that fail in every step, canaries in all of them."""
    root = tmp_path_factory.mktemp("canaries")
    with pytest.warns(UserWarning, match=TAG):  # pydicom quotes values while writing, too
        _fill(root, f"{NAME}-")
    return root


def _fill(root, prefix):
    uid = iter(range(1, 99))

    def group(label, edit=with_canaries, **options):
        options = {"series_uid": f"{UID}.{next(uid)}", **options}
        return write(root / f"{prefix}{label}", edit, prefix=prefix, **options)

    group("good")
    group("implicit", transfer_syntax=IMPLICIT)
    group("compressed", transfer_syntax=RLE)
    group("uid", series_uid=ESCAPES)
    group("guid", series_uid=f"{{{TAG}-6F9619FF}}")
    group("slope", also("RescaleSlope", "LO", ESCAPES))
    group("spacing", also("PixelSpacing", "LO", f"{TAG}\\{TAG}"))
    group("position", also("ImagePositionPatient", "LO", TAG))
    group("kernel", also("ConvolutionKernel", "LO", ESCAPES))
    group("photometric", also("PhotometricInterpretation", "LO", f"{TAG}: 1"))
    group("modality", also("Modality", "LO", f"{TAG}: 1"))
    group("image-type", also("ImageType", "LO", f"{TAG}\\LOCALIZER"))
    group("charset", also("SpecificCharacterSet", "LO", TAG))
    group("few", slices=2)
    for label, damage in {
        "cut-pixels": lambda data: data[:-100],
        "cut-header": lambda data: data[: data.find(b"\x28\x00\x10\x00")],
        "syntax": lambda data: data.replace(EXPLICIT.encode(), f"1.{TAG}.1".encode().ljust(19)),
    }.items():
        for path in group(label).iterdir():
            path.write_bytes(damage(path.read_bytes()))
    for path in group("frames", transfer_syntax=RLE).iterdir():
        data = path.read_bytes()
        at = data.rfind(b"\xfe\xff\x00\xe0") + 72
        path.write_bytes(data[:at] + b"\xff" * 200 + data[at + 200 :])
    (root / f"{prefix}odd").mkdir()
    (root / f"{prefix}odd" / f"{prefix}report.pdf").write_bytes(f"%PDF {TAG}".encode())
    (root / f"{prefix}odd" / f"{prefix}nowhere.dcm").symlink_to(f"{TAG}-{NAME}")


def unpacked(data):
    """Bytes as they are, and what is in them where they are packed."""
    yield data
    if data[:2] == b"\x1f\x8b":
        yield gzip.decompress(data)
    if data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            yield repr(archive.namelist()).encode()
            yield from map(archive.read, archive.namelist())


def spellings(word):
    """A canary as it may stand in a file: as it is, in UTF-16, in base 64."""
    yield word.encode()
    yield word.encode("utf-16-le")
    yield word.lower().encode()
    for before in range(3):
        encoded = base64.b64encode(b" " * before + word.encode())
        # Only what does not depend on the neighbours; four letters of it would turn up by chance.
        yield encoded[4 if before else 0 : -4 if (before + len(word)) % 3 else None]


def hits(word, said, sink):
    """Where a canary is found: in what was printed, in file names, in files."""
    places = {"printed": said}
    for path in sink.rglob("*") if sink.exists() else ():
        places[f"the name {path}"] = str(path.relative_to(sink)).encode()
        if path.is_file():
            places |= {f"{path} ({n})": d for n, d in enumerate(unpacked(path.read_bytes()))}
    return [
        f"{place}: {data[max(0, data.find(text) - 200) :][:400]!r}"
        for place, data in places.items()
        for text in spellings(word)
        if text in data
    ]


@pytest.fixture
def here(capfdbinary, caplog, monkeypatch):
    """Run a command line in this process; all it printed or logged, and its exit code."""
    monkeypatch.setenv("FASTLUNG_NAMES_KEY", "k" * 32)
    caplog.set_level(0)

    def run(*args):
        code = main([str(arg) for arg in args])
        captured = capfdbinary.readouterr()
        return captured.out + captured.err + caplog.text.encode(), code

    return run


def elsewhere(*args):
    """Run a command line on a terminal, in a process that shows warnings; as `here`."""
    command = [sys.executable, "-W", "always", "-m", "fastlung", *map(str, args)]
    environment = os.environ | {"FASTLUNG_NAMES_KEY": "k" * 32, "COLUMNS": "300"}
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment)  # noqa: S603 -- our own interpreter
    os.close(theirs)
    said = b""
    while select.select([ours], [], [], 120)[0]:
        try:
            said += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    return said, process.wait()


def check_process(said, source, sink, *, hashed):
    assert hits(TAG, said, sink) == []
    assert said.count(b"Error") > 5  # many ways to fail, or this shows nothing
    assert len(list(sink.glob("scans/*/image*"))) >= 5
    found = hits(NAME, said.replace(str(source).encode(), b"SOURCE"), sink)
    # Where names are not hashed they are there, or the search would be blind.
    assert found == [] if hashed else found
    if hashed:
        assert hits(UID, said, sink) == []
    assert hits(SERIES_UID, said, sink) == []  # of instances, and the frame of reference


@pytest.mark.parametrize("names", ["series", "hash"])
def test_process_on_a_terminal_with_debug(names, source, tmp_path):
    sink = tmp_path / "sink"
    options = ("--workers", 0, "--debug", "--names", names, "--format", "nifti")
    said, code = elsewhere("process", source, sink, "--spacing", 4, *options)
    assert code == 1, said
    check_process(said, source, sink, hashed=names == "hash")


@pytest.mark.parametrize("names", ["folder", "hash"])
def test_process_as_json_lines_with_two_workers(names, source, tmp_path, here):
    sink = tmp_path / "sink"
    options = ("--workers", 2, "--names", names, "--preset", "tutorial")
    said, code = here("process", source, sink, "--spacing", 4, *options)
    assert code == 1, said
    check_process(said, source, sink, hashed=names == "hash")
    # What failed is told again, from records.
    again, code = here("process", source, sink, "--spacing", 4, *options)
    assert code == 1
    check_process(said + again, source, sink, hashed=names == "hash")


@pytest.mark.parametrize("mode", ["--quiet", "--dry-run"])
def test_process_with_few_words(mode, source, tmp_path, here):
    sink = tmp_path / "sink"
    options = ("--workers", 0, "--names", "hash", "--mask", "none", "--spacing", 8, mode)
    said, code = here("process", source, sink, *options)
    assert code == (1 if mode == "--quiet" else 0)
    assert hits(TAG, said, sink) == []
    assert hits(NAME, said.replace(str(source).encode(), b"SOURCE"), sink) == []


@pytest.mark.parametrize("form", [(), ("--json",), ("--csv",)], ids=str)
def test_inspect(form, source, tmp_path, here):
    said, code = here("inspect", source, *form)
    assert code == 1
    assert hits(TAG, said, tmp_path / "none") == []
    assert NAME.encode() in said


def test_errors_of_the_reader_hold_no_canary_and_arrive_whole(source):
    errors = []
    for folder in source.iterdir():
        try:
            read_series(folder)
        except FastlungError as error:
            errors.append(error)
    assert len({type(error) for error in errors}) > 5
    for error in errors:
        packed = pickle.dumps(error)
        assert str(pickle.loads(packed)) == str(error)  # noqa: S301 -- ours
        assert TAG.encode() not in packed
        # The chain as well: whoever prints a traceback prints all of it.
        assert TAG not in "".join(traceback.format_exception(error)).replace(str(source), "")


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("ours", [False, True])
def test_tracebacks_hold_no_word_of_foreign_errors(debug, ours, monkeypatch, here):
    def fail(*_source, **_options):
        try:
            {}[f"{TAG} value"]
        except KeyError as error:
            if ours:
                raise StoreError("a folder cannot be listed") from error
            raise OSError(5, TAG, f"/{NAME}") from error

    monkeypatch.setattr("fastlung.cli.inspect.inspect_source", fail)
    said, code = here("inspect", "somewhere", *(["--debug"] if debug else []))
    assert code == (4 if ours else 1)
    assert TAG.encode() not in said
    assert NAME.encode() not in said
    assert (b"KeyError\n" in said and b"inspect_source" in said) == debug
    assert (b"a folder cannot be listed" in said) == ours
