"""
How fast a run can go, and what binds: arithmetic on the cost of a scan and a machine's resources.

Covers the fluid model of workers that compute one scan while the next is read and the last
written. No file, no clock; where costs come from is `fastlung.plan.costs`'s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from fastlung.text import byte_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "Binding",
    "Prediction",
    "Resources",
    "Route",
    "ScanCost",
    "Setting",
    "mean_cost",
    "predict",
    "request_seconds",
    "shared_rate",
    "worker_bytes",
    "worker_seconds",
]


#: What keeps a run from being faster. ``latency``: workers wait for transfers that neither network
#: nor disk slow down. ``workers``: there are too few of them, by choice or for lack of scans.
Binding = Literal["cpu", "network", "disk", "latency", "memory", "workers"]

#: Over what bytes are read or written.
Route = Literal["network", "disk"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanCost:
    """
    What one scan costs, or the mean of many.

    Attributes
    ----------
    compute_cpu_seconds : float
        Processor seconds from bytes in memory to encoded files, on one core.
    fetch_cpu_seconds, store_cpu_seconds : float
        Processor seconds of the client while it reads and writes.
    fetch_bytes, store_bytes : float
        Bytes read from the source and written to the sink.
    fetch_requests : float
        Requests that reading takes; any of them may be under way together.
    store_turns : float
        Requests that writing makes one after another, those side by side counting as one.
    store_at_once : float
        How many times as fast as over one connection its bytes go, side by side.
    first_byte_seconds : float
        Wall seconds of a request before its first byte; 0 for a local disk.
    connection_bytes_per_second : float
        How fast the bytes of one request flow while nothing else does.
    memory_bytes : float
        Private memory of a worker at the scan's worst moment, without what it holds ahead.
    source, sink : str
        Over what bytes are read and written: ``network`` or ``disk``.
    parallel_share : float
        Part of the compute seconds that threads of a worker share, 0 to 1.
    """

    compute_cpu_seconds: float
    fetch_cpu_seconds: float
    store_cpu_seconds: float
    fetch_bytes: float
    store_bytes: float
    fetch_requests: float
    store_turns: float
    store_at_once: float
    first_byte_seconds: float
    connection_bytes_per_second: float
    memory_bytes: float
    source: Route
    sink: Route
    parallel_share: float = 0.0

    @property
    def cpu_seconds(self) -> float:
        """Processor seconds of everything."""
        return self.compute_cpu_seconds + self.fetch_cpu_seconds + self.store_cpu_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """
    What a machine has for a run; None where it is not known, and so binds nothing.

    Attributes
    ----------
    cpus : float
        Processors; a fraction where a quota allows one.
    memory_bytes : float
        Memory of all workers together.
    network_in_bytes_per_second, network_out_bytes_per_second : float or None
        What all connections together carry, each way.
    disk_read_bytes_per_second, disk_write_bytes_per_second : float or None
        The same of a local disk.
    """

    cpus: float
    memory_bytes: float
    network_in_bytes_per_second: float | None = None
    network_out_bytes_per_second: float | None = None
    disk_read_bytes_per_second: float | None = None
    disk_write_bytes_per_second: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """
    What the model says of a setting.

    Attributes
    ----------
    scans_per_second : float
        Rate of the run while it is neither starting nor ending.
    binds : str
        What keeps it from being higher; see `Binding`.
    worker_bytes : float
        Private memory of one worker at its worst moment.
    utilisation : dict of str to float
        Part of each known resource that is used, 0 to 1: ``cpu``, ``memory``, ``network in``,
        ``network out``, ``disk read``, ``disk write``; ``workers`` is the part of their time in
        which workers compute.
    sentence : str
        The same in words.
    """

    scans_per_second: float
    binds: Binding
    worker_bytes: float
    utilisation: dict[str, float]
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bound:
    """A rate that something allows, in scans a second."""

    scans_per_second: float
    binds: Binding
    words: str


def mean_cost(costs: Sequence[ScanCost], counts: Sequence[int] | None = None) -> ScanCost:
    """
    Average scans: in a long run rates depend on means only.

    Parameters
    ----------
    costs : sequence of ScanCost
        At least one; all over the same routes.
    counts : sequence of int, optional
        How many there are of each; one of each if not given.

    Returns
    -------
    ScanCost
        Means over scans; of memory the mean over processor time, since large scans hold theirs
        for longer.
    """
    weights = [1] * len(costs) if counts is None else counts
    total = sum(weights)
    weighted = list(zip(costs, weights, strict=True))
    first = costs[0]
    means: dict[str, Any] = {
        field.name: math.fsum(getattr(cost, field.name) * weight for cost, weight in weighted)
        / total
        for field in fields(first)
        if field.name not in ("source", "sink", "memory_bytes")
    }
    seconds = math.fsum(cost.cpu_seconds * weight for cost, weight in weighted)
    held = math.fsum(cost.memory_bytes * cost.cpu_seconds * n for cost, n in weighted)
    memory_bytes = held / seconds if seconds else max(cost.memory_bytes for cost in costs)
    return replace(first, **means, memory_bytes=memory_bytes)


def worker_bytes(cost: ScanCost, setting: Setting) -> float:
    """Private memory of a worker at its worst moment, what it holds ahead included, in bytes."""
    return cost.memory_bytes + setting.ahead_bytes


def worker_seconds(cost: ScanCost, setting: Setting, threads: int = 1) -> float:
    """
    Time that one worker takes for a scan when nothing else slows it down.

    Parameters
    ----------
    cost : ScanCost
        The scan.
    setting : Setting
        Bytes held ahead, and requests under way.
    threads : int
        Threads that compute one scan.

    Returns
    -------
    float
        Wall seconds from one scan to the next.

    Notes
    -----
    With ``F`` and ``S`` the seconds of reading and writing a scan and ``C`` those of computing it,

    ``max(C, h F, S) + (1 - h) F``,  ``h = min(1, ahead_bytes / fetch_bytes)``:

    what may be held ahead is read while the scan before is computed, the rest only after it.
    ``F`` is ``n (first byte + bytes / n / connection speed) / requests at once``, and ``S`` is
    ``turns first byte + bytes / connection speed / connections at once``; neither is less than the
    client's own processor seconds.
    """
    held = _share_ahead(cost, setting)
    fetch = _fetch_seconds(cost, setting)
    compute = _compute_seconds(cost, threads)
    return max(compute, held * fetch, _store_seconds(cost)) + (1 - held) * fetch


def request_seconds(cost: ScanCost, way: Literal["fetch", "store"]) -> float:
    """
    Time that the requests of a scan take: reading, one after another; writing, as they are made.

    Parameters
    ----------
    cost : ScanCost
        The scan.
    way : str
        ``fetch`` or ``store``.

    Returns
    -------
    float
        Wall seconds; 0 for a local disk.
    """
    if way == "fetch":
        requests, count, route = cost.fetch_requests, cost.fetch_bytes, cost.source
    else:
        requests, route = cost.store_turns, cost.sink
        count = cost.store_bytes / cost.store_at_once
    if route == "disk":
        return 0.0
    return requests * cost.first_byte_seconds + count / cost.connection_bytes_per_second


def predict(cost: ScanCost, resources: Resources, setting: Setting, threads: int = 1) -> Prediction:
    """
    Say how fast a run goes with a setting, and what binds.

    Parameters
    ----------
    cost : ScanCost
        The usual scan.
    resources : Resources
        What there is.
    setting : Setting
        Workers, bytes ahead, requests.
    threads : int
        Threads that compute one scan.

    Returns
    -------
    Prediction
        The least of what the workers could do alone and of what each shared resource allows.

    Notes
    -----
    Fluid: every resource is shared without loss, and scans are all the usual one. So workers beyond
    the processors gain nothing while computing dominates and everything while waiting does.
    """
    bounds = [*_shared_bounds(cost, resources), _own_bound(cost, resources, setting, threads)]
    # Of equal bounds the shared one, which stands first, is the one that no setting changes.
    least = min(bounds, key=lambda bound: bound.scans_per_second)
    rate = least.scans_per_second
    return Prediction(
        scans_per_second=rate,
        binds=least.binds,
        worker_bytes=worker_bytes(cost, setting),
        utilisation=_utilisation(cost, resources, setting, rate, threads),
        sentence=f"{_rate(rate)}: {least.words}",
    )


def shared_rate(cost: ScanCost, resources: Resources) -> float:
    """What processors, network and disk allow together, whatever the setting, in scans a second."""
    return min(bound.scans_per_second for bound in _shared_bounds(cost, resources))


def _compute_seconds(cost: ScanCost, threads: int) -> float:
    alone = 1 - cost.parallel_share
    return cost.compute_cpu_seconds * (alone + cost.parallel_share / threads)


def _share_ahead(cost: ScanCost, setting: Setting) -> float:
    return min(1.0, setting.ahead_bytes / cost.fetch_bytes) if cost.fetch_bytes else 1.0


def _fetch_seconds(cost: ScanCost, setting: Setting) -> float:
    # Requests of the scan after the next may be under way too, where its bytes may be held.
    scans = max(1.0, setting.ahead_bytes / cost.fetch_bytes) if cost.fetch_bytes else 1.0
    at_once = max(1.0, min(setting.requests, scans * cost.fetch_requests))
    return max(cost.fetch_cpu_seconds, request_seconds(cost, "fetch") / at_once)


def _store_seconds(cost: ScanCost) -> float:
    return max(cost.store_cpu_seconds, request_seconds(cost, "store"))


def _demands(cost: ScanCost, resources: Resources) -> Iterator[tuple[Binding, str, float, float]]:
    """Each shared resource that is known: what it is, its name, a scan's use, all there is."""
    yield "cpu", "cpu", cost.cpu_seconds, resources.cpus
    ways: tuple[tuple[Route, str, float, float | None], ...] = (
        (
            "network",
            "network in",
            _over(cost, "network", "in"),
            resources.network_in_bytes_per_second,
        ),
        (
            "network",
            "network out",
            _over(cost, "network", "out"),
            resources.network_out_bytes_per_second,
        ),
        ("disk", "disk read", _over(cost, "disk", "in"), resources.disk_read_bytes_per_second),
        ("disk", "disk write", _over(cost, "disk", "out"), resources.disk_write_bytes_per_second),
    )
    for route, name, use, capacity in ways:
        if use and capacity is not None:
            yield route, name, use, capacity


def _over(cost: ScanCost, route: Route, way: Literal["in", "out"]) -> float:
    if way == "in":
        return cost.fetch_bytes if cost.source == route else 0.0
    return cost.store_bytes if cost.sink == route else 0.0


def _shared_bounds(cost: ScanCost, resources: Resources) -> Iterator[_Bound]:
    for binds, name, use, capacity in _demands(cost, resources):
        if binds == "cpu":
            words = f"{capacity:g} CPUs bind, at {use:.2f} CPU seconds a scan"
        else:
            words = f"{name} binds: {byte_size(capacity)}/s, at {byte_size(use)} a scan"
        rate = capacity / use if use else math.inf
        yield _Bound(scans_per_second=rate, binds=binds, words=words)


def _own_bound(cost: ScanCost, resources: Resources, setting: Setting, threads: int) -> _Bound:
    """What the workers could do if they shared nothing but memory."""
    seconds = worker_seconds(cost, setting, threads)
    each = worker_bytes(cost, setting)
    # A scan waits until it fits, so on average so many workers have one.
    fitting = resources.memory_bytes / each if each else math.inf
    if fitting < setting.workers + 1:
        return _Bound(
            scans_per_second=min(fitting, setting.workers) / seconds,
            binds="memory",
            words=f"memory binds: {byte_size(resources.memory_bytes)} have room for "
            f"{int(fitting)} workers of {byte_size(each)}",
        )
    compute = _compute_seconds(cost, threads)
    rate = setting.workers / seconds
    if seconds > compute:
        return _Bound(
            scans_per_second=rate,
            binds="latency",
            words=f"latency binds: each of {setting.workers} workers waits "
            f"{seconds - compute:.2f} of {seconds:.2f} s for transfers",
        )
    return _Bound(
        scans_per_second=rate,
        binds="workers",
        words=f"the number of workers binds: {setting.workers}, at {seconds:.2f} s a scan each",
    )


def _utilisation(
    cost: ScanCost, resources: Resources, setting: Setting, rate: float, threads: int
) -> dict[str, float]:
    used = {name: rate * use / capacity for _, name, use, capacity in _demands(cost, resources)}
    held = setting.workers * worker_bytes(cost, setting)
    used["memory"] = min(1.0, held / resources.memory_bytes) if resources.memory_bytes else 1.0
    used["workers"] = min(1.0, rate * _compute_seconds(cost, threads) / setting.workers)
    return used


def _rate(scans_per_second: float) -> str:
    if scans_per_second >= 1:
        return f"{scans_per_second:.1f} scans/s"
    return f"{scans_per_second * 60:.2g} scans/min"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """
    What may be changed while a run goes on.

    Attributes
    ----------
    workers : int
        Worker processes.
    ahead_bytes : int
        Source bytes that one worker may hold beside those of the scan it computes.
    requests : int
        Requests that one worker may have under way at once.
    """

    workers: int
    ahead_bytes: int
    requests: int
