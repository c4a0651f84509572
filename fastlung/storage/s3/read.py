"""
One object of a bucket, read once: whole, and the one that was listed.

Nothing that a store or a proxy says of itself is believed: length and ETag of every answer are held
against the listing before its body is read, and a body that is somebody's page of apologies is
told from an object.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import obstore

from fastlung.storage.s3.retry import ErrorPageError, TornError, refusal_of

if TYPE_CHECKING:
    from obstore import GetOptions

    from fastlung.storage.s3.access import Bucket

__all__ = [
    "PARTS_AT_ONCE",
    "PLAIN_KEY",
    "Wanted",
    "part_bytes",
    "parts_of",
    "read_object",
    "turns_of",
]


#: Keys that obstore takes as they are; it rewrites or refuses empty and dotted parts, control
#: letters and outer slashes, so all other keys are read through boto3, at several times the cost.
PLAIN_KEY = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[\w .,:;=@+()'!~-]+(/[\w .,:;=@+()'!~-]+)*")

PRECONDITION_FAILED, RANGE_NOT_SATISFIABLE = 412, 416
#: How a page begins that stands where an object should: HTML, S3's XML, a gateway's JSON.
ERROR_PAGE = re.compile(
    rb"(?:<\?xml[^>]*>\s*(?:<!--.*?-->\s*)?)?(?:<!doctype html|<html|<error[ >])"
    rb"|\{\s*\"(?:error|errors|message|code|status|fault|__type)\"\s*:",
    re.IGNORECASE | re.DOTALL,
)
#: Where such pages are looked for, in bytes; padding before them is passed over.
PAGE_HEAD = 1024
#: Objects whose own content may look like one. That of others is held against its ETag, which is
#: its MD5 unless it was sent in parts or encrypted with a key of KMS.
TEXT_SUFFIXES = (".htm", ".html", ".xhtml", ".xml", ".json", ".txt", ".svg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """
    What is to be read.

    Attributes
    ----------
    bucket, key : str
        Where it is.
    etag : str
        As listed; empty where any will do.
    size_bytes : int or None
        As listed; None where any will do.
    first_bytes : int
        Read at most so many bytes; all of them if negative.
    payer : dict of str to str
        Who pays, as boto3 wants to be told.
    """

    bucket: str
    key: str
    etag: str
    size_bytes: int | None
    first_bytes: int
    payer: dict[str, str]


def read_object(at: Bucket, wanted: Wanted) -> memoryview | None:
    """
    Read an object once.

    Parameters
    ----------
    at : Bucket
        Where it is.
    wanted : Wanted
        Which, and how much of it.

    Returns
    -------
    memoryview or None
        None if it is another than was listed.

    Raises
    ------
    TornError
        If another number of bytes came than was promised, or listed with this ETag.
    ErrorPageError
        If something on the way sent a page of its own instead.
    Exception
        What boto3 or obstore raise.
    """
    read = _read_plain if PLAIN_KEY.fullmatch(wanted.key) else _read_odd
    try:
        data = read(at, wanted)
    except _OtherError:
        return None
    except Exception as error:
        status = refusal_of(error).status
        if status == RANGE_NOT_SATISFIABLE and not wanted.size_bytes:
            return memoryview(b"")  # an empty object has no first byte
        if status == PRECONDITION_FAILED:
            return None
        raise
    if not _looks_like_a_page(data, wanted):
        return data
    if wanted.first_bytes >= 0:  # only all of it can be told from a page
        whole = read_object(at, replace(wanted, first_bytes=-1))
        return None if whole is None else whole[: wanted.first_bytes]
    if hashlib.md5(data, usedforsecurity=False).hexdigest() != _bare(wanted.etag):
        raise ErrorPageError
    return data


class _OtherError(Exception):
    """The answer is of another object than was listed."""


def _hold_to(wanted: Wanted, size_bytes: int, etag: str) -> int:
    """Hold an answer's own words against the listing; how many bytes are to come."""
    if wanted.etag and not etag:
        raise TornError
    # Not left to If-Match: a store, or a cache before it, may not know it.
    if wanted.etag and _bare(etag) != _bare(wanted.etag):
        raise _OtherError
    if wanted.size_bytes not in (None, size_bytes):
        # Of this ETag: something on the way cut it and mended its length.
        raise TornError
    return size_bytes if wanted.first_bytes < 0 else min(size_bytes, wanted.first_bytes)


def _bare(etag: str) -> str:
    return etag.removeprefix("W/").strip('"').lower()


def _looks_like_a_page(data: memoryview, wanted: Wanted) -> bool:
    head = bytes(data[:PAGE_HEAD])
    if not head.isspace() and not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<", b"{")):
        return False  # all but one in a million, at the cost of a microsecond
    text = bytes(data).lstrip(b"\xef\xbb\xbf \t\r\n")[:PAGE_HEAD]
    is_one = ERROR_PAGE.match(text) or (not text and wanted.first_bytes >= 0)
    return bool(is_one) and not wanted.key.lower().endswith(TEXT_SUFFIXES)


def _read_plain(at: Bucket, wanted: Wanted) -> memoryview:
    options: GetOptions = {}
    if wanted.etag:
        options["if_match"] = wanted.etag
    if wanted.first_bytes > 0:
        options["range"] = (0, wanted.first_bytes)
    expected = wanted.first_bytes if wanted.first_bytes > 0 else wanted.size_bytes
    answer = obstore.get(at.mover(expected), wanted.key, options=options)
    expected = _hold_to(wanted, answer.meta["size"], answer.meta["e_tag"] or "")
    data = memoryview(answer.bytes())
    if len(data) != expected:
        raise TornError
    return data


def _read_odd(at: Bucket, wanted: Wanted) -> memoryview:
    arguments = {"Bucket": wanted.bucket, "Key": wanted.key, **wanted.payer}
    if wanted.etag:
        arguments["IfMatch"] = wanted.etag
    if wanted.first_bytes > 0:
        arguments["Range"] = f"bytes=0-{wanted.first_bytes - 1}"
    answer = at.client.get_object(**arguments)
    total = answer.get("ContentRange", "").rpartition("/")[2] or answer["ContentLength"]
    expected = _hold_to(wanted, int(total), answer.get("ETag", ""))
    data: bytes = answer["Body"].read(expected + 1)
    if len(data) != expected:
        raise TornError
    return memoryview(data)


#: Above this an object goes up in parts: one connection of 60 MB/s would hold the image of a chest
#: (62 MB) for a second, in which two such chests are computed.
SINGLE_PUT_BYTES = 2**24

#: Parts of one object that are under way at once. Image and mask of a chest take 1.74 s one after
#: another, 1.16 s side by side, 0.33 s in parts, and 0.075 CPU seconds each way.
PARTS_AT_ONCE = 8

#: Parts are at least so long, and at most so many: S3's limit.
PART_BYTES, MOST_PARTS = 2**23, 10_000


def part_bytes(size_bytes: int) -> int:
    """Length of the parts in which so many bytes go up: a whole number of MiB."""
    return max(PART_BYTES, -(-size_bytes // MOST_PARTS // 2**20) * 2**20)


def parts_of(size_bytes: int) -> int:
    """Count the requests that carry so many bytes up."""
    if size_bytes <= SINGLE_PUT_BYTES:
        return 1
    return -(-size_bytes // part_bytes(size_bytes))


def turns_of(size_bytes: int) -> int:
    """Count how often parts of one object wait for those before them; 1 where none does."""
    return -(-parts_of(size_bytes) // PARTS_AT_ONCE)
