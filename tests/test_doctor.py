"""The doctor says what is there, where it knows it from, and what is wrong."""

import json

import pytest

from fastlung import doctor
from fastlung.cli import main
from fastlung.dicom import codecs

pytestmark = pytest.mark.compiled


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """No credentials from anywhere, and no question to any network."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "BOTO_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def facts(sink=None):
    return {fact.name: fact for fact in doctor.examine(sink)}


def test_every_number_has_an_origin_and_every_syntax_a_reader():
    found = doctor.examine()
    assert {fact.topic for fact in found} == {
        "processors", "memory", "network", "decoders", "kernels", "versions", "aws",
    }  # fmt: skip
    assert all(fact.origin for fact in found if isinstance(fact.value, (int, float)))
    decoders = [fact for fact in found if fact.topic == "decoders"]
    assert len(decoders) == len(codecs.CODECS) + 4
    assert all(fact.value for fact in decoders)
    by_name = facts()
    assert by_name["identity"].value == "anonymous"
    assert by_name["allowed, bytes"].value <= by_name["of this machine, bytes"].value


def test_what_is_missing_is_a_problem_with_a_way_on(monkeypatch, capsys):
    missing = type("JPEGLS", (), {"available": False})
    monkeypatch.setattr(codecs.imagecodecs, "JPEGLS", missing)
    assert "pip install" in facts()["JPEG-LS Lossless"].problem
    assert main(["doctor", "--quiet"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("JPEG-LS Lossless: ")
    assert main(["doctor"]) == 1
    assert "  ! JPEG-LS Lossless" in capsys.readouterr().out


def test_lines_and_json_say_the_same(tmp_path, capsys):
    main(["doctor", str(tmp_path)])
    lines = capsys.readouterr().out
    main(["doctor", str(tmp_path), "--json"])
    found = json.loads(capsys.readouterr().out)
    for fact in found:
        assert fact["name"].removesuffix(", bytes") in lines
        assert fact["origin"] in lines, fact


def test_a_sink_is_tried_out_and_left_as_it_was(tmp_path):
    sink = tmp_path / "sink"
    assert "a run makes it" in facts(str(sink))[str(sink)].value
    assert not sink.exists()
    sink.mkdir()
    assert facts(str(sink))[str(sink)].value == "writable"
    assert facts(str(sink))["conditional create"].value == "enforced"
    assert list(sink.iterdir()) == []
    (sink / "file").touch()
    for unusable in (sink / "file", sink / "file" / "below"):
        assert facts(str(unusable))[str(unusable)].problem


def test_credentials_that_nobody_confirms_are_no_problem(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA-SECRET")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nobody answers there
    fact = facts()["identity"]
    assert (fact.value, fact.problem) == ("credentials, not confirmed", "")
    assert fact.origin.startswith("env, ")
    assert "SECRET" not in repr(fact)
    monkeypatch.setenv("AWS_PROFILE", "no such profile")
    assert facts()["identity"].origin == "boto3: ProfileNotFound"


def test_a_question_without_an_answer_does_not_hang(monkeypatch):
    monkeypatch.setattr(doctor, "IDENTITY_SECONDS", 0.0)
    assert facts()["identity"].value in ("unknown", "anonymous")
