"""Runs from buckets and into buckets write what runs from folders into folders write."""

import os

import pytest
from tiny_series import CANARY, payloads, write_source

import fastlung
from fastlung.cli import main
from fastlung.storage import LocalStore, open_store

pytestmark = pytest.mark.compiled
SCANS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("source"), SCANS)


@pytest.fixture(scope="module")
def calm(folder, tmp_path_factory):
    """Payloads of a run from folder to folder."""
    sink = tmp_path_factory.mktemp("calm")
    process(folder, sink)
    return payloads(sink)


def process(source, sink, **options):
    return fastlung.process(str(source), str(sink), **{"workers": 0, "spacing_mm": 2.0, **options})


def copy(source, sink):
    for info in source.list():
        sink.put(info.key, [source.get(info.key)])


def bucket_payloads(s3, key):
    """Outputs in a bucket, by plain boto3."""
    prefix = f"{key}/"
    pages = s3.client.get_paginator("list_objects_v2").paginate(Bucket=s3.bucket, Prefix=prefix)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
    return {
        key.removeprefix(prefix): s3.client.get_object(Bucket=s3.bucket, Key=key)["Body"].read()
        for key in keys
        if key.startswith(f"{prefix}scans/") and not key.endswith("/outcome.json")
    }


@pytest.mark.parametrize("workers", [0, 2])
def test_bucket_to_bucket_equals_folder_to_folder(s3, folder, calm, workers):
    source, sink = f"s3://{s3.bucket}/in/", f"s3://{s3.bucket}/out/"
    copy(LocalStore(folder), open_store(source, s3.options))
    options = {"storage": s3.options, "workers": workers}
    summary = process(source, sink, **options)
    assert summary.exit_code == 0
    assert bucket_payloads(s3, "out") == calm
    again = process(source, sink, **options)
    assert (again.groups_already_done, again.outcomes) == (SCANS, ())


def test_folder_to_bucket_to_folder(s3, folder, calm, tmp_path):
    sink = f"s3://{s3.bucket}/out"
    process(folder, sink, storage=s3.options)
    assert bucket_payloads(s3, "out") == calm
    bucket = f"s3://{s3.bucket}"
    copy(LocalStore(folder), open_store(f"{bucket}/in", s3.options))
    process(f"{bucket}/in", tmp_path, storage=s3.options)
    assert payloads(tmp_path) == calm


def test_a_sink_inside_the_source_is_left_out(s3, folder):
    copy(LocalStore(folder), open_store(f"s3://{s3.bucket}", s3.options))
    for done in (0, SCANS):
        summary = process(f"s3://{s3.bucket}", f"s3://{s3.bucket}/out", storage=s3.options)
        assert (summary.groups_total, summary.groups_already_done) == (SCANS, done)


def test_an_object_that_changes_during_the_run_fails_its_scan_and_is_done_again(s3, folder):
    source = f"s3://{s3.bucket}/in"
    store = open_store(source, s3.options)
    copy(LocalStore(folder), store)
    victim = max(info.key for info in store.list())

    def change(event):
        if type(event).__name__ == "RunPlanned" and not event.already_done:
            store.put(victim, [store.get(victim), b"\0\0"])

    sink = f"s3://{s3.bucket}/out"
    summary = process(source, sink, storage=s3.options, on_event=change)
    (lost,) = [outcome for outcome in summary.outcomes if outcome.status == "failed"]
    assert "changed since it was listed" in lost.message
    assert lost.transient
    assert process(source, sink, storage=s3.options).exit_code == 0


def test_the_command_line_reaches_a_bucket_with_the_aws_options(s3, folder, capsys):
    source, sink = f"s3://{s3.bucket}/in", f"s3://{s3.bucket}/out"
    copy(LocalStore(folder), open_store(source, s3.options))
    reach = ["--endpoint-url", s3.options.endpoint_url, "--region", "us-east-1"]
    assert main(["inspect", source, "--csv", *reach]) == 0
    assert len(capsys.readouterr().out.splitlines()) == SCANS + 1
    assert main(["process", source, sink, "--spacing", "2", "--workers", "0", *reach]) == 0
    out = capsys.readouterr()
    assert f"Results: {sink}/scans" in out.out
    assert CANARY not in out.out + out.err
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in out.out + out.err
    for question in (["status", sink], ["manifest", sink], ["verify", source, sink]):
        assert main([*question, *reach]) == 0
    said = capsys.readouterr().out
    assert f"{SCANS} scans done, 0 failed" in said
    assert f"{SCANS} rows in {sink}/manifest.csv" in said
    assert main(["doctor", sink, *reach]) == 0
    assert "wrote an object and removed it" in capsys.readouterr().out


def test_a_scan_is_read_back_from_a_bucket(s3, folder, calm):
    sink = f"s3://{s3.bucket}/out"
    process(folder, sink, storage=s3.options)

    scan = fastlung.open_scan(f"{sink}/scans/1.2.3.0", storage=s3.options)

    assert scan.image.tobytes() == calm["scans/1.2.3.0/image.npy"][-scan.image.nbytes :]
    assert scan.mask is not None


@pytest.mark.parametrize(
    ("source", "options", "sentence"),
    [
        ("s3://nosuchbucket/in", [], "no such bucket"),
        ("s3://{bucket}/in", ["--no-sign-request"], "access denied without credentials"),
    ],
)
def test_a_refused_bucket_ends_with_one_sentence_and_code_4(
    s3, tmp_path, capsys, source, options, sentence
):
    source = source.format(bucket=s3.bucket)
    reach = ["--endpoint-url", s3.options.endpoint_url, *options]
    assert main(["process", source, str(tmp_path / "sink"), *reach]) == 4
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "sink").exists()


def test_an_empty_prefix_ends_with_code_3(s3, tmp_path, capsys):
    source = f"s3://{s3.bucket}/nothing"
    reach = ["--endpoint-url", s3.options.endpoint_url]
    assert main(["process", source, str(tmp_path / "sink"), *reach]) == 3
    assert source in capsys.readouterr().err


def test_an_option_that_cannot_be_meant_ends_with_code_2(tmp_path, capsys):
    sink = str(tmp_path / "sink")
    assert main(["process", "s3://bucket/in", sink, "--endpoint-url", "127.0.0.1:9000"]) == 2
    assert "endpoint_url" in capsys.readouterr().err
