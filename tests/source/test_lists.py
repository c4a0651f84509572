"""Lists name what they name; s5cmd manifests are taken as they are."""

import pytest

from fastlung.errors import ConfigError, NothingFoundError
from fastlung.source.open import read_list


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
