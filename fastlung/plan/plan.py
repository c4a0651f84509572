"""
The plan of a run: workers, threads, chunks and prefetch, each with a sentence that says why.

Pure arithmetic on sizes and a machine: no file, no clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fastlung.errors import InsufficientMemoryError
from fastlung.plan.costs import ASSUMED, LOCAL, Calibration, Routes, usual_cost
from fastlung.plan.model import Binding, Resources, Setting, predict, worker_bytes
from fastlung.plan.setting import REQUESTS, best_setting
from fastlung.plan.sizes import (
    ScanSize,
    computing_bytes,
    output_bytes,
    output_voxels,
    scan_bytes,
    scan_stages,
)
from fastlung.text import byte_size, count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastlung.config import Config, RunOptions
    from fastlung.plan.machine import Machine
    from fastlung.plan.model import ScanCost

__all__ = [
    "Plan",
    "ScanSize",
    "memory_budget",
    "most_requests",
    "most_workers",
    "output_voxels",
    "plan_run",
    "resources_of",
    "scan_bytes",
    "scan_stages",
]

MB = 1_000_000

#: This process and the server that workers are forked from: 240 MB each with everything imported.
PARENT_BYTES = 500 * MB
#: Part of the free memory that a run plans with unless it is told a number; the rest is for page
#: caches and for other programs.
SHARE_OF_FREE_MEMORY = 0.8
#: Chunks each worker should get: more, and reading and writing overlap less with computing (twelve
#: scans on two workers took 14.0 s in chunks of 1 and 11.5 s in chunks of 6); fewer, and the last
#: worker keeps the others waiting.
CHUNKS_PER_WORKER = 4
LARGEST_CHUNK = 8
#: Open files that a worker needs beside its connections.
OTHER_FILES = 100
#: Worker processes for each CPU, at most, unless asked for: waiting workers cost 60 MB and a start
#: each, and a store that is so slow is in trouble that more requests would make worse.
MOST_WORKERS_A_CPU = 8
#: Groups for each worker, at least, where there are more workers than processors: with fewer, all
#: read at first and all write at last: 24 chests over 200 MB/s took 20 s with 15 workers, 14 with
#: five.
GROUPS_EACH = 4
#: What a plan calls the causes of `fastlung.plan.model.Binding`.
LIMITS: dict[Binding, str] = {"cpu": "cpus", "workers": "cpus"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    How a run is carried out.

    Attributes
    ----------
    workers : int
        Worker processes; 0 works in the calling process.
    threads : int
        Threads that compute one scan.
    chunk_size : int
        Source groups leased to a worker at once, at most.
    ahead_bytes : int
        Source bytes that one worker may hold beside those of the scan it computes.
    requests : int
        Requests that one worker may have under way at once.
    upload_bytes : int
        Results of one worker that may wait to be written: those of the largest scan.
    worker_bytes : int
        Most memory that a worker may need, with what it reads ahead.
    share_bytes : int
        An equal part of the budget; a scan that needs more waits until so much is free.
    memory_budget_bytes : int
        Memory of all workers together; a scan that needs more fails.
    alone : int
        Scans expected to need more than a share.
    scans_per_second : float or None
        Expected rate; None where nothing is left to do.
    limit : str
        What keeps the rate from being higher: ``cpus``, ``memory``, ``network``, ``disk``,
        ``latency``, ``groups`` or ``asked``.
    reasons : tuple of str
        A sentence per choice.
    """

    workers: int
    threads: int = 1
    chunk_size: int
    ahead_bytes: int = 0
    requests: int = 1
    upload_bytes: int = 0
    worker_bytes: int
    share_bytes: int
    memory_budget_bytes: int
    alone: int
    scans_per_second: float | None = None
    limit: str
    reasons: tuple[str, ...]

    @property
    def setting(self) -> Setting:
        """The part of it that may change while the run goes on."""
        return Setting(
            workers=max(1, self.workers), ahead_bytes=self.ahead_bytes, requests=self.requests
        )


def plan_run(
    sizes: Sequence[ScanSize],
    machine: Machine,
    config: Config,
    options: RunOptions,
    *,
    routes: Routes = LOCAL,
    calibration: Calibration = ASSUMED,
    more_to_come: bool = False,
) -> Plan:
    """
    Choose workers and the rest so that the run is over soonest and memory is never exceeded.

    Parameters
    ----------
    sizes : sequence of ScanSize
        Source groups that are left to do, estimated: all, or those that are known so far.
    machine : Machine
        What may be used.
    config : Config
        What is done to a scan.
    options : RunOptions
        What the user decides.
    routes : Routes
        Over what bytes come and go.
    calibration : Calibration
        What has been measured before.
    more_to_come : bool
        Whether more groups than these are expected, of the same kinds.

    Returns
    -------
    Plan
        With a sentence per choice.

    Raises
    ------
    InsufficientMemoryError
        If not even the smallest scan fits.
    """
    budget, budget_reason = memory_budget(machine, options)
    scans = [size for size in sizes if size.is_scan] or list(sizes)
    if not scans:
        return _nothing_to_do(budget)
    smallest = min(scans, key=lambda size: computing_bytes(size, config))
    if computing_bytes(smallest, config) > budget:
        raise _too_little(smallest, config, budget, budget_reason)

    fitting = [size for size in scans if computing_bytes(size, config) <= budget]
    cost = usual_cost(fitting, config, routes, calibration)
    resources = resources_of(machine, budget, calibration)
    groups = None if more_to_come else len(sizes)
    threads, threads_reason = _threads(groups, machine, options)
    # Memory is given out scan by scan, so that workers may be as many as usual scans fit, though
    # now and then one of them waits for a large scan to end.
    usual_bytes = sum(computing_bytes(size, config) for size in fitting) / len(fitting)
    usual = replace(cost, memory_bytes=usual_bytes)
    chosen, limit, choices = _setting(usual, resources, machine, options, groups, threads)
    expected = predict(cost, resources, chosen, threads)
    share = budget // chosen.workers
    needs = [computing_bytes(size, config) for size in fitting]
    largest = fitting[max(range(len(needs)), key=lambda number: needs[number])]
    alone = sum(need > share for need in needs)
    chunk_size, chunk_reason = _chunk_size(groups, chosen.workers, options)
    reasons = [budget_reason, *choices, *threads_reason, *_memory_reasons(largest, config, chosen)]
    if alone:
        reasons.append(f"larger scans that wait until memory is free for them: {alone}")
    if len(fitting) < len(scans):
        reasons.append(f"scans that seem too large for the memory: {len(scans) - len(fitting)}")
    reasons += [chunk_reason, f"expected: {expected.sentence}; {calibration.origin}"]
    return Plan(
        workers=0 if options.workers == 0 else chosen.workers,
        threads=threads,
        chunk_size=chunk_size,
        ahead_bytes=chosen.ahead_bytes,
        requests=chosen.requests,
        upload_bytes=max(output_bytes(size, config) for size in fitting),
        worker_bytes=min(budget, max(needs) + chosen.ahead_bytes),
        share_bytes=share,
        memory_budget_bytes=budget,
        alone=alone,
        scans_per_second=expected.scans_per_second,
        limit=limit or LIMITS.get(expected.binds, expected.binds),
        reasons=tuple(reasons),
    )


def memory_budget(machine: Machine, options: RunOptions) -> tuple[int, str]:
    """
    Memory that all workers together may use.

    Returns
    -------
    tuple of int and str
        Bytes, and why so many.
    """
    asked = options.memory_limit_bytes
    if asked is None:
        free = machine.memory_available_bytes
        budget = max(0, int(free * SHARE_OF_FREE_MEMORY) - PARENT_BYTES)
        return budget, (
            f"{byte_size(budget)} of memory: {SHARE_OF_FREE_MEMORY:.0%} of the {byte_size(free)} "
            f"that are free under the {machine.memory_origin}, less {byte_size(PARENT_BYTES)} for "
            f"this process"
        )
    if asked > machine.memory_limit_bytes:
        budget = machine.memory_limit_bytes
        return budget, (
            f"{byte_size(budget)} of memory: {byte_size(asked)} were asked for, the "
            f"{machine.memory_origin} has no more"
        )
    return int(asked), f"{byte_size(asked)} of memory, as asked for"


def resources_of(
    machine: Machine, budget_bytes: int, calibration: Calibration = ASSUMED
) -> Resources:
    """
    Express a machine in the model's terms.

    Parameters
    ----------
    machine : Machine
        As probed.
    budget_bytes : int
        Memory of all workers together.
    calibration : Calibration
        What the network was found to carry, if it ever bound.
    """
    known = [machine.link_bytes_per_second, calibration.network_bytes_per_second]
    network = min((speed for speed in known if speed is not None), default=None)
    quota = machine.cpu_quota
    return Resources(
        cpus=quota if quota is not None and quota < machine.cpus_affinity else machine.cpus,
        memory_bytes=budget_bytes,
        network_in_bytes_per_second=network,
        network_out_bytes_per_second=network,
    )


def most_workers(resources: Resources, groups: int | None) -> int:
    """Bound the number of workers where the user gives none."""
    most = math.ceil(MOST_WORKERS_A_CPU * resources.cpus)
    if groups is None:  # not counted yet
        return most
    return min(most, max(math.ceil(resources.cpus), groups // GROUPS_EACH))


def most_requests(machine: Machine) -> int:
    """Bound the requests of a worker, so that enough files can be opened beside them."""
    files = machine.open_files
    return REQUESTS[-1] if files is None else max(1, min(REQUESTS[-1], files - OTHER_FILES))


def _nothing_to_do(budget: int) -> Plan:
    return Plan(
        workers=0,
        chunk_size=1,
        worker_bytes=0,
        share_bytes=budget,
        memory_budget_bytes=budget,
        alone=0,
        limit="groups",
        reasons=("no workers: nothing is left to do",),
    )


def _too_little(size: ScanSize, config: Config, budget: int, why: str) -> InsufficientMemoryError:
    return InsufficientMemoryError(
        f"{size.label}: the smallest scan needs {byte_size(computing_bytes(size, config))}, and "
        f"{byte_size(budget)} may be used ({why}); free memory, raise the memory limit, or ask "
        "for a coarser spacing"
    )


def _threads(
    groups: int | None, machine: Machine, options: RunOptions
) -> tuple[int, tuple[str, ...]]:
    """Threads that compute one scan: more than one where processors would be left over."""
    workers = options.workers or machine.cpus
    if options.workers == 0 or groups is None or min(groups, workers) >= machine.cpus:
        return 1, ()
    threads = machine.cpus // min(groups, workers)
    if threads == 1:
        return 1, ()
    at_once = min(groups, workers)
    return threads, (f"{threads} threads a scan: {at_once} at once leave CPUs free",)


def _setting(
    cost: ScanCost,
    resources: Resources,
    machine: Machine,
    options: RunOptions,
    groups: int | None,
    threads: int,
) -> tuple[Setting, str, list[str]]:
    """What may be tuned later; what limits the workers where no resource does; sentences."""
    asked = options.workers
    most = asked or most_workers(resources, groups)
    most = most if groups is None else min(most, groups)
    best = best_setting(
        cost,
        resources,
        most_workers=most,
        most_requests=most_requests(machine),
        threads=threads,
    )
    room = max(1, int(resources.memory_bytes // worker_bytes(cost, best)))
    sentences, limit = [], ""
    if asked == 0:
        chosen, limit = replace(best, workers=1), "asked"
        sentences.append("no worker processes, as asked for: the run stays in this process")
    elif asked is not None:
        chosen = replace(best, workers=min(most, room))
        limit = "asked" if chosen.workers == asked else ""
        sentences.append(f"{count(chosen.workers, 'worker')}: {asked} asked for")
    else:
        chosen = best
        why = predict(cost, resources, best, threads).sentence.partition(": ")[2]
        sentences.append(
            f"{count(chosen.workers, 'worker')} on {resources.cpus:g} {machine.cpus_origin}: {why}"
        )
    if groups is not None and chosen.workers == groups < (asked or resources.cpus):
        limit = "groups"
        sentences.append(f"at most {count(groups, 'worker')}: there are no more source groups")
    elif chosen.workers == room < min(most, asked or math.ceil(resources.cpus)):
        limit = "memory"
        sentences.append(f"{count(room, 'worker')}: memory has room for no more")
    sentences += _transfer_reasons(cost, chosen)
    return chosen, limit, sentences


def _transfer_reasons(cost: ScanCost, chosen: Setting) -> list[str]:
    scans = chosen.ahead_bytes / cost.fetch_bytes if cost.fetch_bytes else 1.0
    ahead = f"{byte_size(chosen.ahead_bytes)} read ahead in each worker, {scans:.2g} usual scans"
    sentences = [f"{ahead}, so that the next one is there when it is wanted"]
    if "network" in (cost.source, cost.sink):
        sentences.append(
            f"{chosen.requests} requests at once in each worker, at "
            f"{cost.first_byte_seconds * 1000:.0f} ms before the first byte"
        )
    return sentences


def _memory_reasons(largest: ScanSize, config: Config, chosen: Setting) -> list[str]:
    stages = scan_stages(largest, config)
    worst = max(stages, key=lambda name: stages[name])
    need = computing_bytes(largest, config)
    together = byte_size(need + chosen.ahead_bytes)
    written = byte_size(output_bytes(largest, config))
    at_most = f"{together} a worker at most, in step {worst!r} of {largest.label}"
    return [
        f"{at_most}: {byte_size(need)} to compute it, the rest read ahead",
        f"{written} of results at most wait to be written in each worker: one scan",
    ]


def _chunk_size(groups: int | None, workers: int, options: RunOptions) -> tuple[int, str]:
    if options.chunk_size is not None:
        return options.chunk_size, f"chunks of {options.chunk_size}, as asked for"
    if groups is None:
        return LARGEST_CHUNK, f"chunks of {LARGEST_CHUNK}: no one knows yet how many groups come"
    size = max(1, min(-(-groups // (CHUNKS_PER_WORKER * workers)), LARGEST_CHUNK))
    return size, (
        f"chunks of {size}: about {CHUNKS_PER_WORKER} for each worker, at most {LARGEST_CHUNK} "
        "source groups long"
    )
