"""The first errors a newcomer meets: each one sentence, with its own exit code and a way on."""

import numpy as np
import pytest
from dicom_writer import ct_series
from tiny_series import write_group, write_source

import fastlung
from fastlung.cli import main
from fastlung.dicom import codecs
from fastlung.errors import SeveralSeriesError, UnsupportedError

pytestmark = pytest.mark.compiled

QUICK = ["--spacing", "6", "--workers", "0", "--quiet"]


def refused(capsys, *words):
    """Exit code and the one sentence that a command ends with."""
    code = main([str(word) for word in words])
    printed = capsys.readouterr()
    assert printed.err.startswith("fastlung: error: ")
    assert printed.err.count("\n") == 1
    return code, printed.err


def test_no_dicom_says_how_many_files_were_looked_at_and_why_not(tmp_path, capsys):
    for name, data in {"a/x.txt": b"hi", "a/y.txt": b"hi", "b/c/empty": b""}.items():
        path = tmp_path / "junk" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    expected = "found none in 3 files of 2 folders (2 not DICOM, 1 an empty file); give a folder"
    for _ in range(2):  # the second time from the records
        code, sentence = refused(capsys, "process", tmp_path / "junk", tmp_path / "sink", *QUICK)
        assert code == 3
        assert expected in sentence
    code, sentence = refused(capsys, "inspect", tmp_path / "junk")
    assert code == 3
    assert expected in sentence


def test_a_nifti_that_is_none_is_named(tmp_path, capsys):
    volume = tmp_path / "nifti" / "scan.nii.gz"
    volume.parent.mkdir()
    volume.write_bytes(b"no volume" * 100)
    for source in (volume, volume.parent):
        sink = str(tmp_path / f"sink of {source.name}")
        assert main(["process", str(source), sink, *QUICK]) == 1
        printed = capsys.readouterr()
        assert "neither MetaImage nor NIfTI" in printed.out + printed.err


def test_a_file_where_a_folder_is_expected(tmp_path, capsys):
    write_group(tmp_path / "source", 1)
    file = next((tmp_path / "source").iterdir())
    code, sentence = refused(capsys, "process", file, tmp_path / "sink", *QUICK)
    assert code == 2
    assert f"give the folder that holds the slices: {file.parent}" in sentence
    code, sentence = refused(capsys, "process", tmp_path / "source", file, *QUICK)
    assert code == 2
    assert "expected a folder, or nothing yet, and found a file" in sentence


def test_a_sink_of_other_options_says_which_and_how_to_get_them_back(tmp_path, capsys):
    source, sink = write_source(tmp_path / "source", 1), tmp_path / "sink"
    assert main(["process", str(source), str(sink), *QUICK]) == 0
    words = ["process", source, sink, "--workers", "0", "--quiet"]
    code, sentence = refused(capsys, *words)
    assert code == 2
    assert "spacing_mm [6.0, 6.0, 6.0] -> [1.0, 1.0, 1.0]" in sentence
    way_on = sentence.partition("(--config ")[2].partition(")")[0]
    assert main([*map(str, words), "--config", way_on]) == 0


def test_a_sink_that_cannot_be_written_is_named(tmp_path, capsys):
    source = write_source(tmp_path / "source", 1)
    code, sentence = refused(capsys, "process", source, "/proc/fastlung-sink", *QUICK)
    assert code == 4
    assert "sink /proc/fastlung-sink: " in sentence


def test_too_little_memory_says_what_one_scan_needs(tmp_path, capsys):
    source = write_source(tmp_path / "source", 1)
    code, sentence = refused(
        capsys, "process", source, tmp_path / "sink", *QUICK, "--memory-limit", "1MB"
    )
    assert code == 1
    assert "the smallest scan needs" in sentence
    assert "1.0 MB may be used" in sentence
    assert "coarser spacing" in sentence


def test_several_series_are_listed_with_how_to_choose(tmp_path):
    words = np.full((5, 8, 8), 1000, np.uint16)
    for number, step_mm in ((1, 2.0), (2, 5.0)):
        for name, data in ct_series(words, series_uid=f"1.2.{number}", step_mm=step_mm).items():
            (tmp_path / f"{number}-{name}").write_bytes(data)
    with pytest.raises(SeveralSeriesError) as caught:
        fastlung.read_series(tmp_path)
    assert "found 2 CT series here: 1) 5 slices of " in str(caught.value)
    assert "number=1" in str(caught.value)
    assert "1.2.1" not in str(caught.value)


def test_a_missing_decoder_is_not_taken_for_a_damaged_file(monkeypatch):
    missing = type("JPEG2K", (), {"available": False})
    monkeypatch.setattr(codecs.imagecodecs, "JPEG2K", missing)
    codec = codecs.CODECS["1.2.840.10008.1.2.4.90"]
    size = b"".join(n.to_bytes(4, "big") for n in (8, 8, 0, 0, 8, 8, 0, 0))
    frame = b"\xff\x4f\xff\x51\x00\x29\x00\x00" + size + b"\x00\x01\x0f\x01\x01"
    with pytest.raises(UnsupportedError, match="lacks its decoder, jpeg2k; pip install"):
        codecs.decode_frame(
            codec, frame, np.zeros((8, 8), np.uint16), bits_allocated=16, bits_stored=16,
            signed=False,
        )  # fmt: skip


def test_an_unknown_transfer_syntax_is_named_with_a_way_on(tmp_path):
    words = np.full((5, 8, 8), 1000, np.uint16)
    for name, data in ct_series(words).items():
        video = data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0")
        (tmp_path / name).write_bytes(video)
    with pytest.raises(fastlung.errors.FastlungError) as caught:
        fastlung.read_series(tmp_path)
    assert "transfer syntax 1.2.840.10008.1.2.9 (which no decoder here knows)" in str(caught.value)
    assert "gdcmconv --raw" in str(caught.value)


def test_a_gap_says_where_and_what_was_done(tmp_path, capsys):
    write_group(tmp_path / "source", 1)
    sorted((tmp_path / "source").iterdir())[9].unlink()
    assert main(["inspect", str(tmp_path / "source")]) == 0
    printed = capsys.readouterr().out
    assert "interpolated across the gap at true positions; slices missing: 1 after slice" in printed


def test_no_lung_is_flagged_and_the_image_written(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    for name, data in ct_series(np.full((12, 32, 32), 1064, np.uint16), step_mm=8.0).items():
        (folder / name).write_bytes(data)
    summary = fastlung.process(str(folder), str(tmp_path / "sink"), workers=0, spacing_mm=6.0)
    (outcome,) = summary.outcomes
    assert outcome.status == "done"
    (flag,) = outcome.flags
    assert flag.name == "no_lung"
    assert "is it a chest, and are its HU right?" in flag.text
    assert any("image" in key for key in outcome.outputs)
