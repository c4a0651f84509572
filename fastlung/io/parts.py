"""
How an object goes up: in one request, or in parts side by side.

Pure arithmetic, which the store follows and a plan counts with.
"""

from __future__ import annotations

__all__ = ["PARTS_AT_ONCE", "part_bytes", "parts_of", "turns_of"]

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
