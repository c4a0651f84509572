"""Lists name what they name; s5cmd manifests are taken as they are."""

import json
import re

import pytest
import tiny_series
from lying_s3 import LyingS3

from fastlung.cli import main
from fastlung.errors import ConfigError, NothingFoundError
from fastlung.source.open import read_list

SMALL = ("--names", "hash", "--workers", "0", "--spacing", "6", "--mask", "none")


@pytest.mark.parametrize(
    ("line", "source"),
    [
        ("scans/patient 1", "scans/patient 1"),
        ("  /data/scans/  ", "/data/scans/"),
        ("s3://bucket/prefix/", "s3://bucket/prefix/"),
        ("cp", "cp"),
        ("cp s3://bucket/uid/* .", "s3://bucket/uid/"),
        ("cp 's3://bucket/uid/*' .", "s3://bucket/uid/"),
        ('cp --show-progress -n s3://bucket/uid/* "./my data"', "s3://bucket/uid/"),
        ("cp --concurrency 10 --source-region us-east-1 s3://b1/uid/* ./x/", "s3://b1/uid/"),
        ("s5cmd --no-sign-request --endpoint-url https://h cp s3://b1/uid/* .", "s3://b1/uid/"),
        ("sync s3://bucket/uid/* out", "s3://bucket/uid/"),
        ("cp s3://bucket/uid/1.dcm .", "s3://bucket/uid/1.dcm"),
    ],
)
def test_a_line_names_one_source(line, source):
    text = f"# a comment\n\n{line}\r\n{line}\n"
    assert read_list(text) == (source,)


@pytest.mark.parametrize(
    "line", ["cp a b", "s5cmd ls s3://bucket/*", "cp s3://b1/*/x .", "cp 's3://b1/x .", "a*"]
)
def test_what_cannot_be_understood_is_named_by_its_line(line):
    with pytest.raises(ConfigError, match="line 2 of the list"):
        read_list(f"good\n{line}\n")


@pytest.mark.parametrize("text", ["", "\n# only comments\n"])
def test_a_list_of_nothing_says_so(text):
    with pytest.raises(NothingFoundError, match="one path or URL a line"):
        read_list(text)


DENIED = b"<Error><Code>AccessDenied</Code></Error>"


@pytest.fixture
def guarded(tmp_path, aws_environment, monkeypatch):  # noqa: ARG001 - pytest fixtures
    """A list of two prefixes, the first of which may not be listed, and how to process it."""
    tiny_series.write_group(tmp_path / "scan", 1)
    files = {f"in/fine/{path.name}": path.read_bytes() for path in (tmp_path / "scan").iterdir()}
    monkeypatch.setenv("FASTLUNG_NAMES_KEY", "k" * 32)
    with LyingS3(files) as server:

        def page(query):
            return DENIED if "SECRET" in query.get("prefix", "") else server.honest_page(query)

        server.page_of = page
        entries = tmp_path / "entries.txt"

        def run(*lines, sink="sink"):
            entries.write_text("\n".join(lines))
            words = ["process", entries, tmp_path / sink, "--endpoint-url", server.url, *SMALL]
            return main([str(word) for word in words])

        yield run


def test_a_list_and_options_may_begin_with_a_byte_order_mark(tmp_path, capsys):
    tiny_series.write_group(tmp_path / "one", 1)
    listed, options = tmp_path / "list.txt", tmp_path / "options.toml"
    listed.write_text(f"{tmp_path / 'one'}\n", "utf-8-sig")
    options.write_text("spacing_mm = 6\n", "utf-8-sig")
    assert main(["inspect", str(listed), "--json"]) == 0
    assert [series["slices"] for series in json.loads(capsys.readouterr().out)]
    assert main(["config", "--config", str(options)]) == 0
    assert re.search(r"^spacing_mm = .*6", capsys.readouterr().out, re.MULTILINE)


def test_a_prefix_that_may_not_be_listed_is_one_failed_entry(guarded, capsys):
    code = guarded("s3://bucket/in/SECRET-NAME/", "s3://bucket/in/fine/")
    said = capsys.readouterr()
    summary = json.loads(said.out.splitlines()[-1])
    assert (code, summary["done"], summary["failed"]) == (1, 1, 1)
    assert "access denied" in said.out
    assert "SECRET" not in said.out + said.err


def test_so_it_is_where_it_is_the_only_entry(guarded, capsys):
    assert guarded("s3://bucket/in/SECRET-NAME/") == 1
    said = capsys.readouterr()
    assert "SECRET" not in said.out + said.err


@pytest.mark.parametrize("line", ["s3://AKIA:SECRET@bucket/x", "cp s3://AKIA:SECRET@bucket/x/* ."])
def test_credentials_in_a_list_are_refused_and_not_shown(guarded, capsys, line):
    assert guarded(line, "s3://bucket/in/fine/") == 2
    said = capsys.readouterr()
    assert "credentials in it" in said.err
    assert "SECRET" not in said.out + said.err
