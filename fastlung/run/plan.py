"""
How a run is carried out on this machine: pure arithmetic, every choice with its sentence.

Covers the memory that a scan needs at its worst moment, and how many workers fit. Looks at no
machine, file or clock.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from fastlung.errors import InsufficientMemoryError
from fastlung.report.summary import byte_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastlung.config import Config, RunOptions
    from fastlung.run.machine import Machine

__all__ = ["Plan", "ScanSize", "output_voxels", "plan_run", "scan_bytes", "scan_stages"]

MB = 1_000_000

#: Private memory of a warm worker: 15 MB when it is forked, up to 60 MB that the allocator keeps
#: from scan to scan, stacks of three threads, and a margin.
RESERVED_BYTES = 120 * MB
#: This process and the server that workers are forked from: 240 MB each with everything imported.
PARENT_BYTES = 500 * MB
#: Part of the free memory that a run plans with unless it is told a number; the rest is for page
#: caches and for everyone else.
SHARE_OF_FREE_MEMORY = 0.8
#: Scratch memory of the lung masks beside the mask itself, in bytes per output voxel: bit rows
#: and tables of runs. Measured on real chests: at most 3.3 for the default, 0.5 for the tutorial's.
MASK_SCRATCH_BYTES = {"default": 3.5, "tutorial": 1.0, "none": 0.0}
#: Bytes of a voxel of the image by `Config.dtype`.
VOXEL_BYTES = {"int16": 2, "float32": 4, "uint8": 1}
#: Scratch memory of finding what to crop to, in bytes per output voxel: tables of runs.
CROP_SCRATCH_BYTES = {"none": 0.0, "body": 1.0, "lungs": 0.5}
#: Chunks each worker should get: more, and reading and writing overlap less with computing (twelve
#: scans on two workers took 14.0 s in chunks of 1 and 11.5 s in chunks of 6); fewer, and the last
#: worker keeps the others waiting.
CHUNKS_PER_WORKER = 4
LARGEST_CHUNK = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanSize:
    """
    What decides how much memory a scan takes.

    Attributes
    ----------
    label : str
        Label of its source group.
    group_bytes : int
        Bytes of all objects of its source group, as stored.
    acquired_voxels, output_voxels : int
        Voxels before and after resampling.
    """

    label: str
    group_bytes: int
    acquired_voxels: int
    output_voxels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    How a run is carried out.

    Attributes
    ----------
    workers : int
        Worker processes; 0 works in the calling process.
    chunk_size : int
        Source groups handed to a worker at once.
    in_flight : int
        Chunks that are with workers at once.
    worker_bytes : int
        Most memory that any scan run beside others needs.
    share_bytes : int
        Memory of one worker; a scan that needs more runs alone, after the others.
    memory_budget_bytes : int
        Memory of all workers together; a scan that needs more fails.
    alone : int
        Scans expected to run alone.
    limit : str
        What keeps the number of workers from being higher: ``cpus``, ``memory``, ``groups`` or
        ``asked``.
    reasons : tuple of str
        A sentence per choice.
    """

    workers: int
    chunk_size: int
    in_flight: int
    worker_bytes: int
    share_bytes: int
    memory_budget_bytes: int
    alone: int
    limit: str
    reasons: tuple[str, ...]


def output_voxels(
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    target_mm: tuple[float, float, float],
) -> int:
    """
    Voxels of a scan after resampling, in whole numbers of any size.

    Parameters
    ----------
    shape : tuple of int
        Acquired shape ``(z, y, x)``.
    spacing_mm, target_mm : tuple of float
        Acquired and wanted spacing along ``(z, y, x)``, in millimetres.
    """
    sizes = zip(shape, spacing_mm, target_mm, strict=True)
    return math.prod(max(1, round(count * have / want)) for count, have, want in sizes)


def scan_stages(size: ScanSize, config: Config) -> dict[str, int]:
    """
    Memory that is live at the worst moment of each step of a scan, in bytes.

    Parameters
    ----------
    size : ScanSize
        The scan.
    config : Config
        What is done to it.

    Returns
    -------
    dict of str to int
        Step -> bytes, in order. All of them hold the bytes of this group, those of the next one,
        which are read meanwhile, and the last scan's outputs, which are written meanwhile.
    """
    acquired, out = size.acquired_voxels, size.output_voxels
    image = VOXEL_BYTES[config.dtype] * out
    mask = 0 if config.mask == "none" else out
    scratch = int(MASK_SCRATCH_BYTES[config.mask] * out)
    held = RESERVED_BYTES + 2 * size.group_bytes + image + mask
    stored = 2 * acquired
    # Words become HU row by row while they are resampled; the tutorial's rule makes a volume first.
    hu = 2 * acquired if config.hu_rule == "tutorial" else 0
    volume = turned = 2 * out  # and a copy where axes turn
    windowed = 0 if config.dtype == "int16" else image
    # How much a crop takes away is known only once lungs or body are found: as if nothing.
    part = 0 if config.crop == "none" else volume + mask
    search = int(CROP_SCRATCH_BYTES[config.crop] * out)
    compressed = 0 if config.format == "npy" else image + mask
    return {
        "hu": held + stored + hu,
        "resample": held + stored + hu + turned + volume,
        "mask": held + stored + volume + mask + scratch,
        "crop": held + stored + volume + mask + search + part,
        "normalise": held + stored + volume + mask + part + windowed,
        "encode": held + image + mask + compressed,
    }


def scan_bytes(size: ScanSize, config: Config) -> int:
    """Memory that a worker needs for a scan, in bytes: the worst of `scan_stages`."""
    return max(scan_stages(size, config).values())


def plan_run(
    sizes: Sequence[ScanSize], machine: Machine, config: Config, options: RunOptions
) -> Plan:
    """
    Choose workers and chunks so that the run is over soonest and memory is never exceeded.

    Parameters
    ----------
    sizes : sequence of ScanSize
        Every source group that is left to do, estimated.
    machine : Machine
        What may be used.
    config : Config
        What is done to a scan.
    options : RunOptions
        What the user decides.

    Returns
    -------
    Plan
        With a sentence per choice.

    Raises
    ------
    InsufficientMemoryError
        If not even the smallest scan fits.
    """
    budget, budget_reason = _memory_budget(machine, options)
    if not sizes:
        return _nothing_to_do(budget)
    needs = sorted(scan_bytes(size, config) for size in sizes)
    if needs[0] > budget:
        smallest = min(sizes, key=lambda size: scan_bytes(size, config))
        raise InsufficientMemoryError(
            f"{smallest.label}: the smallest scan needs {byte_size(needs[0])}, and "
            f"{byte_size(budget)} may be used ({budget_reason}); free memory, raise the memory "
            f"limit, or ask for a coarser spacing"
        )
    most, limit, most_reason = _most_workers(len(sizes), machine, options)
    workers = _best_workers(needs, budget, max(1, most))
    share = budget // workers
    beside = bisect_right(needs, share)
    alone = bisect_right(needs, budget) - beside
    worker_bytes = needs[beside - 1]

    reasons = [budget_reason, most_reason]
    reasons.append(f"{byte_size(worker_bytes)} a worker at most, in {_worst(sizes, share, config)}")
    if workers < most:
        limit = "memory"
        reasons.append(f"{workers} of {most} workers: memory has room for no more")
    if alone:
        reasons.append(f"{alone} larger scans run alone, after the others")
    if needs[-1] > budget:
        reasons.append(
            f"{len(needs) - beside - alone} scans seem too large for the memory and may fail"
        )
    chunk_size, chunk_reason = _chunk_size(len(sizes), workers, options)
    return Plan(
        workers=workers if most else 0,
        chunk_size=chunk_size,
        in_flight=workers,
        worker_bytes=worker_bytes,
        share_bytes=share,
        memory_budget_bytes=budget,
        alone=alone,
        limit=limit,
        reasons=(*reasons, chunk_reason),
    )


def _nothing_to_do(budget: int) -> Plan:
    return Plan(
        workers=0,
        chunk_size=1,
        in_flight=0,
        worker_bytes=0,
        share_bytes=budget,
        memory_budget_bytes=budget,
        alone=0,
        limit="groups",
        reasons=("no workers: nothing is left to do",),
    )


def _memory_budget(machine: Machine, options: RunOptions) -> tuple[int, str]:
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


def _most_workers(groups: int, machine: Machine, options: RunOptions) -> tuple[int, str, str]:
    """Workers wanted before memory is looked at, what limits them, and why."""
    asked = options.workers
    if asked == 0:
        return 0, "asked", "no worker processes, as asked for: the run stays in this process"
    wanted, limit, why = machine.cpus, "cpus", machine.cpus_origin
    if asked is not None:
        wanted, limit, why = asked, "asked", "as asked for"
    if groups < wanted:
        return groups, "groups", f"at most {groups} workers: there are no more source groups"
    return wanted, limit, f"at most {wanted} workers: {why}"


def _best_workers(needs: Sequence[int], budget: int, most: int) -> int:
    """
    Find the number of workers with which the run should be over soonest; the larger in a tie.

    `needs` are the bytes of each scan, ascending. A scan's time is taken as proportional to them.
    With w workers, scans that fit into a w-th of the budget share them, larger ones run alone.
    """
    total = [0, *accumulate(needs)]
    possible = total[bisect_right(needs, budget)]

    def time(workers: int) -> float:
        shared = total[bisect_right(needs, budget // workers)]
        return shared / workers + (possible - shared)

    # At least one scan runs beside the others, else there is nothing to share.
    fitting = [w for w in range(most, 0, -1) if needs[0] <= budget // w]
    return min(fitting, key=time)


def _worst(sizes: Sequence[ScanSize], share: int, config: Config) -> str:
    """Name the scan that needs most of those that fit into a share, and its worst step."""
    fitting = [size for size in sizes if scan_bytes(size, config) <= share]
    largest = max(fitting, key=lambda size: scan_bytes(size, config))
    stages = scan_stages(largest, config)
    return f"step {max(stages, key=lambda name: stages[name])!r} of {largest.label}"


def _chunk_size(groups: int, workers: int, options: RunOptions) -> tuple[int, str]:
    if options.chunk_size is not None:
        return options.chunk_size, f"chunks of {options.chunk_size}, as asked for"
    size = max(1, min(-(-groups // (CHUNKS_PER_WORKER * workers)), LARGEST_CHUNK))
    return size, (
        f"chunks of {size}: about {CHUNKS_PER_WORKER} for each worker, at most {LARGEST_CHUNK} "
        "source groups long"
    )
