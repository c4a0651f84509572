"""A sink is judged rightly: what is whole, missing, damaged, stale, orphaned, and what is left."""

import json
import shutil
import zlib
from pathlib import Path

import pytest
from tiny_series import CANARY, payloads, write_group, write_source

import fastlung
from fastlung.errors import ConfigError, NothingFoundError
from fastlung.verification import forget, sink_status, verify

pytestmark = pytest.mark.compiled


def process(source, sink, **options):
    return fastlung.process(str(source), str(sink), **{"workers": 0, "spacing_mm": 4.0, **options})


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A source of four series, one of them bad, beside what became of it."""
    folder = tmp_path_factory.mktemp("done")
    source = write_source(folder / "source", 4)
    bad = next((source / "patient-03/ct").iterdir())
    bad.write_bytes(bad.read_bytes()[:-3000])
    (source / "notes").mkdir()
    (source / "notes/README").write_text("hello")
    process(source, folder / "sink")
    return folder


@pytest.fixture
def own(done, tmp_path):
    """A copy that a test may spoil; times of files are kept."""
    return Path(shutil.copytree(done, tmp_path / "own"))


def found(folder, **options):
    result = verify(str(folder / "source"), str(folder / "sink"), **options)
    return sorted((finding.kind, finding.place) for finding in result.findings)


def record_of(sink, name):
    return next(path for path in sink.glob("records/*.json") if f'"{name}"' in path.read_text())


def test_a_finished_sink_has_nothing_to_find(done):
    result = verify(str(done / "source"), str(done / "sink"))
    assert result.findings == ()
    assert result.exit_code == 0
    assert (result.groups, result.series) == (5, {"done": 3, "failed": 1, "skipped": 1})
    assert result.failures == {"TruncatedError": 1}


@pytest.mark.parametrize("file_format", ["npy", "nifti"])
def test_every_kind_of_damage_is_named(file_format, tmp_path):
    source, sink = write_source(tmp_path / "source", 3), tmp_path / "sink"
    process(source, sink, format=file_format)
    files = sorted(sink.glob("scans/*/*.n*"))
    flipped, cut, gone = files[0], files[3], files[4]
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)
    cut.write_bytes(cut.read_bytes()[:-1])
    gone.unlink()

    def key(path):
        return str(path.relative_to(sink))

    assert found(tmp_path) == [
        ("damaged", key(flipped)), ("damaged", key(cut)), ("missing", key(gone))
    ]  # fmt: skip
    assert found(tmp_path, read_outputs=False) == [("damaged", key(cut)), ("missing", key(gone))]


def test_damage_that_keeps_the_size_is_done_again_once_forgotten(own):
    sink = own / "sink"
    before = payloads(sink)
    victim = sink / "scans/1.2.3.0/image.npy"
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    assert process(own / "source", sink).outcomes == ()  # a resume compares sizes only
    result = verify(str(own / "source"), str(sink))
    assert [finding.kind for finding in result.findings] == ["damaged"]
    assert "CRC-32" in result.findings[0].text
    assert forget(str(sink), result) == 1
    assert found(own) == [("missing", "patient-00/ct")]
    assert [outcome.name for outcome in process(own / "source", sink).outcomes] == ["1.2.3.0"]
    assert payloads(sink) == before
    assert found(own) == []


def test_a_changed_source_is_stale_and_a_new_folder_missing(own):
    write_group(own / "source/patient-09", 9)
    next((own / "source/patient-00/ct").iterdir()).unlink()
    assert found(own) == [("missing", "patient-09"), ("stale", "patient-00/ct")]
    process(own / "source", own / "sink")
    assert found(own) == []


def test_another_configuration_half_way_is_stale(own):
    sink = own / "sink"
    run_file = json.loads((sink / "run.json").read_text())
    (sink / "run.json").write_text(json.dumps(run_file | {"config_digest": "f" * 16}))
    assert {kind for kind, _ in found(own)} == {"stale"}
    status = sink_status(str(sink))
    assert (status.groups, status.groups_other, status.groups_left) == (0, 5, 5)


def test_orphans_are_told_from_what_a_killed_run_leaves(own):
    sink = own / "sink"
    shutil.rmtree(own / "source/patient-00")
    (sink / "scans/mine").mkdir()
    (sink / "scans/mine/image.npy").write_bytes(b"precious")
    (sink / "scans/1.2.3.1/image.nii.gz").write_bytes(b"of another format")
    record_of(sink, "1.2.3.2").unlink()  # as if killed before the commit
    assert found(own) == [
        ("missing", "patient-02/ct"),
        ("orphaned", f"records/{record_of(sink, '1.2.3.0').name}"),
        ("orphaned", "scans/1.2.3.1"),
        ("orphaned", "scans/mine"),
    ]


def test_damaged_records_and_outcomes(own):
    sink = own / "sink"
    record = record_of(sink, "1.2.3.0")
    record.write_bytes(record.read_bytes()[:200])
    (sink / "scans/1.2.3.1/outcome.json").write_text("{}")
    (sink / "scans/1.2.3.2/outcome.json").unlink()
    assert found(own) == [
        ("damaged", "patient-00/ct"),
        ("damaged", "scans/1.2.3.1/outcome.json"),
        ("missing", "scans/1.2.3.2/outcome.json"),
    ]
    forget(str(sink), verify(str(own / "source"), str(sink)))
    process(own / "source", sink)
    assert found(own) == []


def test_two_folders_cannot_both_own_an_output(own):
    sink = own / "sink"
    first, second = record_of(sink, "1.2.3.0"), record_of(sink, "1.2.3.1")
    theirs = json.loads(first.read_text())["outcomes"]
    plain = json.loads(second.read_text())
    second.write_text(json.dumps(plain | {"outcomes": theirs}))
    assert ("damaged", "scans/1.2.3.0/image.npy") in found(own)


def test_only_a_sink_is_verified_and_only_with_its_key(own, monkeypatch, tmp_path):
    (tmp_path / "empty").mkdir()
    for sink in ("empty", "nowhere"):
        with pytest.raises(ConfigError, match=r"expected a sink, and found no run\.json"):
            verify(str(own / "source"), str(tmp_path / sink))
    with pytest.raises(NothingFoundError):
        verify(str(tmp_path / "empty"), str(own / "sink"))
    (own / "sink/run.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be read; run the same"):
        sink_status(str(own / "sink"))
    monkeypatch.setenv("FASTLUNG_NAMES_KEY", "the first of two keys")
    process(own / "source", tmp_path / "hashed", names="hash", retry_failed=True)
    result = verify(str(own / "source"), str(tmp_path / "hashed"))
    assert result.findings == ()
    assert "patient" not in repr(result)
    monkeypatch.setenv("FASTLUNG_NAMES_KEY", "the second of two keys")
    with pytest.raises(ConfigError, match="another key of hashed names"):
        verify(str(own / "source"), str(tmp_path / "hashed"))


def test_status_counts_what_the_records_say(own):
    sink = own / "sink"
    status = sink_status(str(sink))
    assert status.series == {"done": 3, "failed": 1, "skipped": 1}
    assert (status.failures, status.retried) == ({"TruncatedError": 1}, 0)
    assert (status.groups, status.groups_total, status.groups_left) == (5, 5, 0)
    assert status.written_at.startswith("20")
    assert status.config["spacing_mm"] == [4.0, 4.0, 4.0]
    record_of(sink, "1.2.3.0").unlink()
    assert sink_status(str(sink)).groups_left == 1
    assert CANARY not in repr(status)


@pytest.mark.parametrize("file_format", ["npy", "npz", "nifti", "mha", "zarr"])
def test_what_was_written_wrongly_does_not_pass(file_format, tmp_path):
    """Sizes and checksums agree, and still it is no scan."""
    source, sink = write_source(tmp_path / "source", 1), tmp_path / "sink"
    process(source, sink, format=file_format)
    assert found(tmp_path) == []
    record = next(sink.glob("records/*.json"))
    plain = json.loads(record.read_text())
    outputs = plain["outcomes"][0]["outputs"]
    victim = max(outputs, key=lambda key: outputs[key][0])
    garbage = b"not what it claims to be" * 9
    (sink / victim).write_bytes(garbage)
    outputs[victim] = [len(garbage), zlib.crc32(garbage)]
    record.write_text(json.dumps(plain))
    assert found(tmp_path) == [("damaged", "scans/1.2.3.0")]
