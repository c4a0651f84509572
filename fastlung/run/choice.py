"""
Which setting the model thinks best.

Covers what there is to choose from, and choosing; how fast each would be is `fastlung.run.model`'s.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from fastlung.run.model import predict, shared_rate, worker_bytes, worker_seconds
from fastlung.run.setting import Setting

if TYPE_CHECKING:
    from fastlung.run.model import Resources, ScanCost

__all__ = ["REQUESTS", "best_setting"]

#: Requests that one worker may have under way, to choose from.
REQUESTS = (4, 8, 16, 32, 64)
#: Source bytes held ahead, in usual scans, to choose from. One keeps the next scan coming; two
#: keep on when a small scan is followed by a large one.
AHEAD_SCANS = (1.0, 2.0)
#: How much slower transfers are taken to be when a setting is chosen: scans differ and stores have
#: slow moments, and what only just keeps up on average leaves processors idle (simulated: a tenth).
HASTE = 1.5
#: Settings whose predicted rates differ by less count as equal; the cheaper one is taken.
EQUAL = 0.01


def best_setting(
    cost: ScanCost,
    resources: Resources,
    *,
    most_workers: int,
    most_requests: int = REQUESTS[-1],
    threads: int = 1,
) -> Setting:
    """
    Find the setting with the highest predicted rate; among equals the one that takes least memory.

    Parameters
    ----------
    cost : ScanCost
        The usual scan.
    resources : Resources
        What there is.
    most_workers : int
        No more: scans that are left, or what was asked for. At least 1.
    most_requests : int
        No more requests a worker.
    threads : int
        Threads that compute one scan.

    Returns
    -------
    Setting
        At least one worker, even if its memory does not fit.
    """
    slow = replace(
        cost,
        first_byte_seconds=HASTE * cost.first_byte_seconds,
        connection_bytes_per_second=cost.connection_bytes_per_second / HASTE,
    )
    tried = []
    most_ahead = max(0.0, resources.memory_bytes - cost.memory_bytes)  # of a single worker
    for ahead in AHEAD_SCANS:
        for requests in REQUESTS:
            one = Setting(
                workers=1,
                ahead_bytes=int(min(ahead * cost.fetch_bytes, most_ahead)),
                requests=min(requests, most_requests),
            )
            workers = _workers_for(slow, resources, one, most_workers, threads)
            tried.append(replace(one, workers=workers))
    rates = [predict(slow, resources, one, threads).scans_per_second for one in tried]
    enough = (1 - EQUAL) * max(rates)
    equals = [one for one, rate in zip(tried, rates, strict=True) if rate >= enough]
    return min(equals, key=lambda one: (one.workers * worker_bytes(cost, one), one.requests))


def _workers_for(
    cost: ScanCost, resources: Resources, one: Setting, most_workers: int, threads: int
) -> int:
    """Workers that use up what is shared, within memory."""
    shared = shared_rate(cost, resources)
    wanted = math.ceil(shared * worker_seconds(cost, one, threads) - 1e-9)
    if resources.cpus / cost.cpu_seconds <= shared:
        # Where processors bind, one worker for each: clients of the stores fill the gaps.
        wanted = max(wanted, math.ceil(resources.cpus / threads - 1e-9))
    fitting = int(resources.memory_bytes // max(1.0, worker_bytes(cost, one)))
    return max(1, min(wanted, fitting, most_workers))
