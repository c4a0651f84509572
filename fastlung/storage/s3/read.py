"""One object of a bucket, read once: whole, and the one that was listed; and sizes of parts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import obstore

from fastlung.storage.s3.retry import TornError, refusal_of

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
    Exception
        What boto3 or obstore raise.
    """
    read = _read_plain if PLAIN_KEY.fullmatch(wanted.key) else _read_odd
    try:
        data, size_bytes = read(at, wanted)
    except Exception as error:
        status = refusal_of(error).status
        if status == RANGE_NOT_SATISFIABLE:
            return memoryview(b"")  # an empty object has no first byte
        if status == PRECONDITION_FAILED:
            return None
        raise
    first = wanted.first_bytes
    if len(data) != (size_bytes if first < 0 else min(size_bytes, first)):
        raise TornError
    if wanted.size_bytes not in (None, size_bytes):
        # The store holds it to the ETag already: something on the way cut it and mended its length.
        raise TornError
    return data


def _read_plain(at: Bucket, wanted: Wanted) -> tuple[memoryview, int]:
    options: GetOptions = {}
    if wanted.etag:
        options["if_match"] = wanted.etag
    if wanted.first_bytes > 0:
        options["range"] = (0, wanted.first_bytes)
    expected = wanted.first_bytes if wanted.first_bytes > 0 else wanted.size_bytes
    answer = obstore.get(at.mover(expected), wanted.key, options=options)
    size_bytes = answer.meta["size"]
    return memoryview(answer.bytes()), size_bytes


def _read_odd(at: Bucket, wanted: Wanted) -> tuple[memoryview, int]:
    arguments = {"Bucket": wanted.bucket, "Key": wanted.key, **wanted.payer}
    if wanted.etag:
        arguments["IfMatch"] = wanted.etag
    if wanted.first_bytes > 0:
        arguments["Range"] = f"bytes=0-{wanted.first_bytes - 1}"
    answer = at.client.get_object(**arguments)
    data: bytes = answer["Body"].read()
    total = answer.get("ContentRange", "").rpartition("/")[2] or answer["ContentLength"]
    return memoryview(data), int(total)


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
