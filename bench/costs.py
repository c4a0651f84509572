"""
What is no ratio of two ways of one job: start-up, memory, and what a second core brings.

Each is measured in processes of its own, because compiled kernels, memory and workers outlive what
asked for them. ``python bench/costs.py JOB ARGUMENT`` is such a process and prints JSON.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

__all__ = ["measure_cold", "measure_cores", "measure_memory"]

MIB = 1 << 20
#: Scans of a short and of a long run; what both pay once cancels out.
FEW, MANY = 4, 20
#: Pairs of runs with one and with two workers.
PAIRS = 3


def measure_cold() -> dict[str, float]:
    """
    CPU seconds before the first scan of a process.

    Returns
    -------
    dict
        ``imports``; ``compile``, all kernels with an empty cache; ``load``, with a full one.
    """
    with tempfile.TemporaryDirectory() as cache:
        first, second = (_child("start", cache, NUMBA_CACHE_DIR=cache) for _ in range(2))
    return {
        "imports": second["imports"],
        "compile": first["kernels"],
        "load": second["kernels"],
    }


def measure_memory(folder: Path, spacing_mm: float) -> dict[str, int]:
    """
    Bytes that one scan takes at its peak, beyond those of the warm process.

    Returns
    -------
    dict
        ``source`` and ``output`` (arrays, mask included), ``peak``, and ``planned``, what a run
        reserves for such a scan.
    """
    return _child("scan", f"{folder}:{spacing_mm}")


def measure_cores(folder: Path, spacing_mm: float) -> dict[str, float]:
    """
    Compare scans a second of two workers on two cores with those of one on one, by the wall clock.

    Runs alternate, and each number is the median of `PAIRS`. Other work on the machine only makes
    it worse.

    Returns
    -------
    dict
        ``speedup``, ``low``, ``high`` (least and most of the pairs), and ``load``, processes
        that wanted a core besides, before it began.
    """
    load = os.getloadavg()[0]
    pairs = []
    with tempfile.TemporaryDirectory(dir=folder.parent) as source:
        for count in (FEW, MANY):
            for number in range(count):
                group = Path(source, str(count), f"scan-{number:02d}")
                group.mkdir(parents=True)
                for file in folder.iterdir():
                    os.link(file, group / file.name)
        for _ in range(PAIRS):
            alone, two = (
                _run(source, MANY, workers, spacing_mm) - _run(source, FEW, workers, spacing_mm)
                for workers in (1, 2)
            )
            pairs.append(alone / two)
    return {
        "speedup": float(np.median(pairs)), "low": min(pairs), "high": max(pairs), "load": load,
    }  # fmt: skip


def _run(source: str, count: int, workers: int, spacing_mm: float) -> float:
    with tempfile.TemporaryDirectory(dir=source) as sink:
        argument = f"{source}/{count}:{sink}:{workers}:{spacing_mm}"
        return _child("process", argument)["seconds"]


def _child(job: str, argument: str, **environment: str) -> dict:
    answer = subprocess.run(  # noqa: S603 -- ourselves
        [sys.executable, __file__, job, argument],
        env={**os.environ, **environment}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return json.loads(answer.stdout)


def _start(_cache: str) -> dict[str, float]:
    from fastlung.kernels.warm import warm_up  # noqa: PLC0415

    imported = time.process_time()
    warm_up()
    return {"imports": imported, "kernels": time.process_time() - imported}


def _scan(argument: str) -> dict[str, int]:
    import psutil  # noqa: PLC0415

    from fastlung.config import build_config  # noqa: PLC0415
    from fastlung.dicom import read_series  # noqa: PLC0415
    from fastlung.kernels.warm import warm_up  # noqa: PLC0415
    from fastlung.pipeline import process_scan  # noqa: PLC0415
    from fastlung.plan.sizes import ScanSize, output_voxels, scan_bytes  # noqa: PLC0415
    from fastlung.sink.writer import encode  # noqa: PLC0415

    folder, _, spacing_mm = argument.rpartition(":")
    config = build_config(spacing_mm=float(spacing_mm))
    warm_up()
    before = psutil.Process().memory_info().rss
    Path("/proc/self/clear_refs").write_text("5")  # the peak of resident memory starts again
    raw = read_series(folder)
    result = process_scan(raw, config)
    files = encode(
        result,
        acquired=raw.grid,
        verdict=raw.verdict,
        acquisition=raw.acquisition,
        config=config,
    )
    status = Path("/proc/self/status").read_text()
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 - before
    size = ScanSize(
        label="",
        group_bytes=0,  # read from where it lies, not held
        acquired_voxels=raw.stored.size,
        output_voxels=output_voxels(raw.grid.shape, raw.grid.spacing_mm, config.spacing_mm),
    )
    return {
        "source": raw.stored.nbytes,
        "output": result.image.nbytes + (0 if result.mask is None else result.mask.nbytes),
        "encoded": sum(memoryview(part).nbytes for file in files.values() for part in file),
        "peak": peak,
        "planned": scan_bytes(size, config),
    }


def _process(argument: str) -> dict[str, float]:
    import fastlung  # noqa: PLC0415

    source, sink, workers, spacing_mm = argument.split(":")
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[: int(workers)])
    started = time.perf_counter()
    summary = fastlung.process(
        source, sink, workers=int(workers), spacing_mm=float(spacing_mm), names="folder",
        overwrite=True,
    )  # fmt: skip
    if any(outcome.status != "done" for outcome in summary.outcomes):
        raise SystemExit("a scan of the run failed")
    return {"seconds": time.perf_counter() - started}


JOBS: dict[str, Callable[[str], dict]] = {"start": _start, "scan": _scan, "process": _process}

if __name__ == "__main__":
    print(json.dumps(JOBS[sys.argv[1]](sys.argv[2])))  # noqa: T201
