"""
Measure this machine at several sizes, through the same pipeline that a run uses.

Covers a bounded sample, a child process for each size, and rounds in which all sizes take turns, so
that other load on the machine meets all of them alike. The run at one size is
`fastlung.measure.child`'s, the document `fastlung.measure.profile`'s.
"""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fastlung.config import Config, StoreOptions
from fastlung.errors import ConfigError, ResourceError
from fastlung.measure.child import (
    SYNTHETIC_SHAPE,
    ChildJob,
    Sample,
    request_line,
    sample_of,
    synthetic_sample,
    write_list,
)
from fastlung.measure.hardware import cores_of, cpu_order, package_versions, probe_hardware
from fastlung.measure.profile import (
    FORMAT,
    VERSION,
    ProfileFile,
    Round,
    SampleFacts,
    SizeMeasured,
    config_facts,
)
from fastlung.plan.machine import probe
from fastlung.run.warmup import ready_kernels
from fastlung.storage import open_store
from fastlung.text import byte_size, count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["ProfileOptions", "measure", "usual_cpus"]

#: Scans that warm a size up: they start its fork server and fill the page cache.
WARM_UP_SCANS = 1
#: Part of the free disk that a round may fill.
SHARE_OF_FREE_DISK = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileOptions:
    """
    What to measure, and how.

    Attributes
    ----------
    source : str or None
        Where the sample comes from; None draws a synthetic one.
    sink : str or None
        Where results go meanwhile, and are removed again; None is a temporary folder.
    cpus : tuple of int
        Sizes to measure; empty for the usual ones.
    memory_limits_bytes : tuple of int
        Memory limits to measure each of them with; empty for what the machine has.
    scans_per_cpu : int
        Scans in a run for each CPU of a size: enough that start and end weigh little.
    rounds : int
        How often each size takes its turn.
    shape : tuple of int
        Slices, rows and columns of what is drawn.
    config : Config
        What is done to a scan.
    storage : StoreOptions
        How s3:// is reached.
    """

    source: str | None = None
    sink: str | None = None
    cpus: tuple[int, ...] = ()
    memory_limits_bytes: tuple[int, ...] = ()
    scans_per_cpu: int = 8
    rounds: int = 3
    shape: tuple[int, int, int] = SYNTHETIC_SHAPE
    config: Config = field(default_factory=Config)
    storage: StoreOptions = field(default_factory=StoreOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Size:
    """One size to measure."""

    cpus: int
    memory_limit_bytes: int | None


class _Child:
    """A child process that runs at one size when asked."""

    def __init__(self, job: ChildJob) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fastlung.measure.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._send(job.to_json())

    def run(self, source: str, sink: str, fetched_bytes: float) -> dict[str, Any]:
        """Run once, from a source to a sink that does not exist yet."""
        self._send(request_line(source, sink, fetched_bytes))
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        line = self._process.stdout.readline()
        if not line:
            raise ResourceError(
                f"the process that measured a size ended ({self._process.wait()}); most likely "
                "memory ran out: give a smaller size, or fewer --scans"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ResourceError(answer["error"])
        return answer

    def close(self) -> None:
        """End it; kill it if it has not ended in 10 s."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None  # noqa: S101 - asked for above
        try:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return  # it has ended; `run` raises when it reads no answer


def usual_cpus(most: int) -> tuple[int, ...]:
    """Sizes to measure unless told: powers of two, and all there are."""
    powers = [2**power for power in range(most.bit_length()) if 2**power < most]
    return (*powers, most)


def measure(
    options: ProfileOptions,
    tell: Callable[[str], None] = lambda _line: None,
    ec2_type: str | None = None,
) -> ProfileFile:
    """
    Measure this machine.

    Parameters
    ----------
    options : ProfileOptions
        What to measure.
    tell : callable
        Called with a line of progress.
    ec2_type : str, optional
        Type of EC2 instance that this is known to be.

    Returns
    -------
    ProfileFile
        What was measured.

    Raises
    ------
    ConfigError
        For sizes that this machine does not have.
    ResourceError
        If a scan of the sample fails, or memory runs out.
    FastlungError
        As a run does.
    """
    sizes = _sizes(options)
    most = options.scans_per_cpu * max(size.cpus for size in sizes)
    ready_kernels()  # so that no child compiles
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fastlung-profile-")))
        sink = options.sink or str(folder / "sink")
        tell(f"Sample: {count(most, 'scan')}, {options.source or 'drawn'}")
        sample = (
            synthetic_sample(folder / "source", most, options.shape)
            if options.source is None
            else sample_of(options.source, options.storage, most)
        )
        answers = _take_turns(options, sizes, sample, folder, sink, tell, stack)
    return _profile(options, sizes, sample, answers, ec2_type)


def _sizes(options: ProfileOptions) -> list[_Size]:
    machine = probe()
    cpus = options.cpus or usual_cpus(machine.cpus)
    if min(cpus) < 1 or max(cpus) > machine.cpus:
        raise ConfigError(
            f"--cpus {','.join(map(str, cpus))}: this machine has 1 to {machine.cpus} "
            f"({machine.cpus_origin})"
        )
    limits: Sequence[int | None] = options.memory_limits_bytes or (None,)
    for limit in limits:
        if limit is not None and limit > machine.memory_limit_bytes:
            raise ConfigError(
                f"--memory {limit}: more bytes than the {machine.memory_origin} has "
                f"({machine.memory_limit_bytes})"
            )
    if options.rounds < 1 or options.scans_per_cpu < 1:
        raise ConfigError("--rounds and --scans must be at least 1")
    return [
        _Size(cpus=count, memory_limit_bytes=limit)
        for count in sorted(set(cpus))
        for limit in sorted(set(limits), key=lambda limit: limit or 0)
    ]


def _take_turns(
    options: ProfileOptions,
    sizes: Sequence[_Size],
    sample: Sample,
    folder: Path,
    sink: str,
    tell: Callable[[str], None],
    stack: ExitStack,
) -> dict[_Size, list[dict[str, Any]]]:
    """Run all sizes in turn; answers of each, in the order of the rounds."""
    children, lists = {}, {}
    for number, size in enumerate(sizes):
        lists[size] = folder / f"size-{number}.txt"
        scans = write_list(lists[size], sample, options.scans_per_cpu * size.cpus)
        # All copies of a scan have one UID; only their folders tell them apart.
        config = options.config.model_copy(update={"names": "folder"})
        children[size] = _Child(
            ChildJob(
                cpus=cpu_order()[: size.cpus],
                memory_limit_bytes=size.memory_limit_bytes,
                config=config.model_dump(mode="json"),
                storage=options.storage.model_dump(mode="json"),
            )
        )
        stack.callback(children[size].close)
        tell(f"Warming up: {_words(size)}, {scans} scans a round")
        warm = folder / f"warm-{number}.txt"
        write_list(warm, sample, WARM_UP_SCANS)
        with _temporary_sink(sink, options.storage) as place:
            answer = children[size].run(str(warm), place, sample.fetch_bytes)
        _check_space(sink, scans * answer["sample"]["store_bytes"])
    answers: dict[_Size, list[dict[str, Any]]] = {size: [] for size in sizes}
    for number in range(options.rounds):
        for size in sizes:
            with _temporary_sink(sink, options.storage) as place:
                answer = children[size].run(str(lists[size]), place, sample.fetch_bytes)
            answers[size].append(answer)
            rate = answer["round"]["scans"] / answer["round"]["seconds"]
            tell(f"Round {number + 1} of {options.rounds}, {_words(size)}: {rate:.2f} scans/s")
    return answers


def _check_space(sink: str, needed_bytes: float) -> None:
    """Refuse a round that would fill the disk."""
    if "://" in sink:
        return
    folder = Path(sink)
    free = shutil.disk_usage(folder if folder.exists() else folder.parent).free
    if needed_bytes > free * SHARE_OF_FREE_DISK:
        raise ConfigError(
            f"{folder}: a round writes {byte_size(needed_bytes)}, and {byte_size(free)} are free; "
            "give fewer --scans, smaller --cpus, or a --sink with more room"
        )


@contextmanager
def _temporary_sink(sink: str, storage: StoreOptions) -> Iterator[str]:
    """Yield a new sink below another one; it is removed with all it holds."""
    url = f"{sink.rstrip('/')}/fastlung-profile-{secrets.token_hex(4)}"
    try:
        yield url
    finally:
        if "://" not in url:
            shutil.rmtree(url, ignore_errors=True)
        else:
            store = open_store(url, storage)
            for info in tuple(store.list("")):
                store.delete(info.key)


def _words(size: _Size) -> str:
    memory = size.memory_limit_bytes
    held = f", {memory / 2**30:.3g} GiB" if memory else ""
    return f"{size.cpus} CPU{'s' if size.cpus > 1 else ''}{held}"


def _profile(
    options: ProfileOptions,
    sizes: Sequence[_Size],
    sample: Sample,
    answers: dict[_Size, list[dict[str, Any]]],
    ec2_type: str | None,
) -> ProfileFile:
    order = cpu_order()
    measured = [
        SizeMeasured(
            cpus=size.cpus,
            cores=cores_of(order[: size.cpus]),
            memory_limit_bytes=size.memory_limit_bytes,
            workers=answers[size][0]["workers"],
            plan_limit=answers[size][0]["plan_limit"],
            rounds=[Round(**answer["round"]) for answer in answers[size]],
        )
        for size in sizes
    ]
    return ProfileFile(
        format=FORMAT,
        version=VERSION,
        fastlung=version("fastlung"),
        date=datetime.now(UTC).date().isoformat(),
        machine=probe_hardware(ec2_type=ec2_type),
        versions=package_versions(),
        config=config_facts(options.config),
        sample=SampleFacts(
            origin=sample.origin,
            scans=sample.different,
            fetch_bytes=sample.fetch_bytes,
            fetch_objects=sample.fetch_objects,
            **answers[sizes[-1]][-1]["sample"],
            source=_route(options.source),
            sink=_route(options.sink),
        ),
        sizes=measured,
    )


def _route(url: str | None) -> Literal["disk", "network"]:
    return "network" if url is not None and url.startswith("s3://") else "disk"
