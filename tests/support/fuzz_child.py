"""
A process that reads hostile files one case after the other, and is expected to survive them all.

Each line of standard input is a case as JSON, each line of answer says how it ended, what it cost
and what it took. Nothing else may ever be printed: standard output joins standard error, and who
started this process looks at both. The limits of address space and CPU time are set anew for each
case, counted from where the process stands.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import re
import resource
import struct
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 2**20


def main() -> None:
    """Answer cases until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from fuzz_cases import damaged, originals  # noqa: PLC0415 -- imports are not part of a case

    from fastlung.kernels import warm_up  # noqa: PLC0415

    warm_up()
    for original in originals():  # decoders, and whatever else is set up once
        attempt(original.files)
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        case = json.loads(line)
        if "python" in case:  # harm done on purpose, to see that it is noticed
            work = partial(eval, case["python"])
        elif "file" in case:
            work = partial(attempt, stacked(Path(case["file"])))
        else:
            work = partial(attempt, damaged(*case["damaged"]))
        answers.write(json.dumps(measured(work, **case["limits"])) + "\n")
        answers.flush()


def stacked(path: Path) -> dict[str, bytes]:
    """
    One file as a series of five that lacks nothing, so that its damage comes as far as the pixels.

    The corpus is made of slices without spacing, position and rescale. Each copy gets them, before
    everything else the data set holds.
    """
    data = path.read_bytes()
    first = re.search(rb"\x08\x00[\x00-\x20]\x00", data[132:])
    if first is None:
        return {path.name: data}
    at = 132 + first.start()
    explicit = data[at + 4 : at + 6].isalpha()
    return {
        str(n): data[:at]
        + _element(0x0020, 0x0032, f"0\\0\\{n}", explicit=explicit)
        + _element(0x0020, 0x0037, "1\\0\\0\\0\\1\\0", explicit=explicit)
        + _element(0x0028, 0x0030, "1\\1", explicit=explicit)
        + _element(0x0028, 0x1052, "-1024", explicit=explicit)
        + _element(0x0028, 0x1053, "1", explicit=explicit)
        + data[at:]
        for n in range(5)
    }


def _element(group: int, number: int, text: str, *, explicit: bool) -> bytes:
    value = text.encode().ljust(len(text) + len(text) % 2)
    if explicit:
        return struct.pack("<HH2sH", group, number, b"DS", len(value)) + value
    return struct.pack("<HHI", group, number, len(value)) + value


def measured(work: Callable[[], list[str]], *, cpu_seconds: int, mib: int) -> dict[str, object]:
    """How a case ended, with its CPU seconds and the memory it took on top of the process'."""
    here = psutil.Process()
    before = here.memory_info()
    Path("/proc/self/clear_refs").write_text("5")  # the peak of resident memory starts again
    started = time.process_time()
    resource.setrlimit(resource.RLIMIT_AS, (before.vms + mib * MIB, resource.RLIM_INFINITY))
    resource.setrlimit(
        resource.RLIMIT_CPU, (math.ceil(started) + cpu_seconds, resource.RLIM_INFINITY)
    )
    ended = work()
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return {
        "ended": ended,
        "cpu_seconds": time.process_time() - started,
        "mib": (int(peak[1]) * 1024 - before.rss) / MIB,
    }


def attempt(files: dict[str, bytes]) -> list[str]:
    """Read, load and process: for each series "result" or the class of our error."""
    from fastlung.config import build_config  # noqa: PLC0415
    from fastlung.dicom import index_series, load_series  # noqa: PLC0415
    from fastlung.errors import FastlungError  # noqa: PLC0415
    from fastlung.pipeline import process_scan  # noqa: PLC0415

    ended = []
    try:
        index = index_series(files)
        ended += ["skipped"] * (len(index.skipped) - len(index.broken))
        ended += ["broken"] * len(index.broken)
        for series in index.series:
            try:
                raw = load_series(series, files)
                result = process_scan(raw, build_config())
                if result.mask.shape != result.image.shape or not result.image.size:
                    ended.append("escaped: a result that is no volume")
                ended.append("result")
            except FastlungError as error:
                again = pickle.loads(pickle.dumps(error))  # noqa: S301 -- ours
                ended.append(type(again).__name__)
    except BaseException as error:  # noqa: BLE001 -- that is what this process is for
        ended.append(f"escaped: {type(error).__name__}: {error}")
    return ended


if __name__ == "__main__":
    main()
