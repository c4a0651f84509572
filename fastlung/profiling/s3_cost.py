"""
What S3 asks for a run, whatever machine it is on: requests, and keeping the results.

Covers arithmetic on a listing and prices. Transfer between S3 and EC2 in one region is free.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastlung.plan.catalogue import StoragePrices
    from fastlung.plan.sizes import ScanSize

__all__ = ["GB", "S3Cost", "s3_cost"]

GB = 2**30  # as S3 bills
#: Keys that one listing request names.
LISTED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Cost:
    """
    What S3 asks for, whatever the instance.

    Attributes
    ----------
    gets, puts : int
        Requests that read, and that write or list.
    requests_usd : float
        For them.
    stored_bytes : float
        Results.
    storage_usd_per_month : float
        For keeping them.
    """

    gets: int
    puts: int
    requests_usd: float
    stored_bytes: float
    storage_usd_per_month: float


def s3_cost(
    sizes: Sequence[ScanSize], stored_bytes: float, puts_each: int, prices: StoragePrices
) -> S3Cost:
    """
    Price what S3 asks for.

    Parameters
    ----------
    sizes : sequence of ScanSize
        What is to do.
    stored_bytes : float
        Bytes of all results.
    puts_each : int
        Requests that write one scan.
    prices : StoragePrices
        Of the region.
    """
    gets = sum(size.objects for size in sizes)
    puts = puts_each * len(sizes) + math.ceil(gets / LISTED_AT_ONCE)
    left, start, month = stored_bytes / GB, 0.0, 0.0
    for end, usd in prices.tiers:
        part = left if end is None else min(left, end - start)
        month, left, start = month + part * usd, left - part, end or start
    return S3Cost(
        gets=gets,
        puts=puts,
        requests_usd=gets * prices.usd_per_get + puts * prices.usd_per_put,
        stored_bytes=stored_bytes,
        storage_usd_per_month=month,
    )
