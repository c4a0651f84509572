"""
The document of a profile: what was measured, of which sample, on which machine.

Covers the schema of the JSON and the figures that follow from it alone. Holds no name of a host, a
user, a path, a bucket or a scan. Measuring is `fastlung.measure.measure`'s.
"""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from fastlung.plan.catalogue_file import Part, read_document

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Self

    from fastlung.config import Config

__all__ = [
    "CONFIG_FIELDS",
    "FORMAT",
    "STAGES",
    "VERSION",
    "MachineFacts",
    "ProfileFile",
    "Round",
    "SampleFacts",
    "SizeMeasured",
    "StageMeasured",
    "config_facts",
    "first_difference",
    "read_profile",
]

FORMAT, VERSION = "fastlung-profile", 1

#: Stages of a scan in the order of their work, and what each is. ``fetch`` and ``store`` go on
#: beside the others, so their wall seconds are what a worker had to wait for them.
STAGES = {
    "fetch": "bytes from the source",
    "read": "headers sorted, pixels decoded",
    "hu": "stored words to Hounsfield units, where it is a step of its own",
    "resample": "stored words to Hounsfield units on the target grid",
    "mask": "lungs",
    "crop": "cut out, if asked for",
    "normalise": "window, if asked for",
    "encode": "to the bytes of the format",
    "picture": "a picture to look at",
    "store": "bytes to the sink",
}
#: Options that bear on what a scan costs.
CONFIG_FIELDS = (
    "spacing_mm", "order", "antialias", "hu_rule", "recipe", "mask", "airway", "crop", "size",
    "dtype", "format", "preview",
)  # fmt: skip
#: Half the spread that a single round is taken to have, as a fraction: it was not measured.
UNKNOWN_SPREAD = 0.05
#: CPUs count as what binds from this part of their time on; the rest is start, end and noise.
BUSY = 0.85
#: Wall seconds for each processor second of computing from which on other processes take part.
CROWDED = 1.2

Text = Annotated[str, Field(max_length=200)]
Seconds = Annotated[float, Field(ge=0, le=1e7)]
Bytes = Annotated[float, Field(ge=0, le=1e15)]
Count = Annotated[int, Field(ge=1, le=100_000)]
StageName = Literal[
    "fetch", "read", "hu", "resample", "mask", "crop", "normalise", "encode", "picture", "store"
]


class MachineFacts(Part):
    """
    The machine, as far as it bears on speed.

    Attributes
    ----------
    architecture, cpu_model, kernel : str
        As the kernel says.
    vcpu, cores : int
        Hardware threads and cores that a run may use.
    caches : dict of str to int
        ``L1d``, ``L2``, ``L3`` -> bytes of one.
    simd : list of str
        Vector instructions, from a short list.
    memory_bytes : int
        Memory.
    ec2_type : str or None
        Type of EC2 instance, where it is one.
    """

    architecture: Text
    cpu_model: Text
    vcpu: Count
    cores: Count
    caches: dict[Text, int]
    simd: list[Text]
    memory_bytes: Annotated[int, Field(gt=0)]
    kernel: Text
    ec2_type: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,30}\.[a-z0-9-]{1,30}$")] | None


class SampleFacts(Part):
    """
    What was processed; bytes, objects and voxels are means over its scans.

    Attributes
    ----------
    origin : str
        ``synthetic`` or ``source``.
    scans : int
        Different scans in it.
    fetch_bytes, store_bytes, fetch_objects, store_objects : float
        Read and written for a scan.
    acquired_voxels, output_voxels : float
        Before and after resampling.
    source, sink : str
        Over what bytes came and went: ``disk`` or ``network``.
    """

    origin: Literal["synthetic", "source"]
    scans: Count
    fetch_bytes: Bytes
    store_bytes: Bytes
    fetch_objects: Annotated[float, Field(gt=0, le=1e7)]
    store_objects: Annotated[float, Field(gt=0, le=1e7)]
    acquired_voxels: Annotated[float, Field(gt=0, le=1e12)]
    output_voxels: Annotated[float, Field(gt=0, le=1e12)]
    source: Literal["disk", "network"]
    sink: Literal["disk", "network"]


class StageMeasured(Part):
    """Processor and wall seconds of a stage, mean of a scan."""

    cpu_seconds: Seconds
    wall_seconds: Seconds


class Round(Part):
    """
    One run over the sample.

    Attributes
    ----------
    seconds : float
        Wall seconds from the plan to the last scan.
    scans : int
        Scans done.
    cpu_seconds : float
        Processor seconds of the workers, mean of a scan.
    peak_rss_bytes : int
        Highest resident memory of any worker.
    stages : dict of str to StageMeasured
        By the names in `STAGES`.
    """

    seconds: Annotated[float, Field(gt=0, le=1e7)]
    scans: Count
    cpu_seconds: Annotated[float, Field(gt=0, le=1e7)]
    peak_rss_bytes: Annotated[int, Field(ge=0)]
    stages: dict[StageName, StageMeasured]

    @property
    def scans_per_second(self) -> float:
        """Rate of the whole run."""
        return self.scans / self.seconds


class SizeMeasured(Part):
    """
    One size of the machine.

    Attributes
    ----------
    cpus, cores : int
        Hardware threads that the run was held to, and the cores they are on.
    memory_limit_bytes : int or None
        Memory that all workers were held to; None for what the machine has.
    workers : int
        Worker processes, as planned.
    plan_limit : str
        What kept the plan from more workers.
    rounds : list of Round
        In the order they were run.
    """

    cpus: Count
    cores: Count
    memory_limit_bytes: Annotated[int, Field(gt=0)] | None
    workers: Annotated[int, Field(ge=0, le=100_000)]
    plan_limit: Text
    rounds: Annotated[list[Round], Field(min_length=1, max_length=1000)]

    @property
    def scans_per_second(self) -> float:
        """Median rate of the rounds."""
        return statistics.median(round_.scans_per_second for round_ in self.rounds)

    @property
    def rate_range(self) -> tuple[float, float]:
        """Lowest and highest rate of the rounds; of one round alone, 5 % either way."""
        rates = [round_.scans_per_second for round_ in self.rounds]
        if len(rates) == 1:
            return rates[0] * (1 - UNKNOWN_SPREAD), rates[0] * (1 + UNKNOWN_SPREAD)
        return min(rates), max(rates)

    @property
    def cpu_seconds(self) -> float:
        """Median processor seconds of a scan."""
        return statistics.median(round_.cpu_seconds for round_ in self.rounds)

    @property
    def peak_rss_bytes(self) -> int:
        """Highest resident memory of any worker in any round."""
        return max(round_.peak_rss_bytes for round_ in self.rounds)

    @property
    def cpu_share(self) -> float:
        """Part of the processors' time that the workers used, 0 to 1."""
        return min(1.0, self.cpu_seconds * self.scans_per_second / self.cpus)

    def stage(self, name: str) -> StageMeasured:
        """Median seconds of a stage; zeros where no round had it."""
        measured = [round_.stages[name] for round_ in self.rounds if name in round_.stages]
        if not measured:
            return StageMeasured(cpu_seconds=0.0, wall_seconds=0.0)
        return StageMeasured(
            cpu_seconds=statistics.median(stage.cpu_seconds for stage in measured),
            wall_seconds=statistics.median(stage.wall_seconds for stage in measured),
        )

    @property
    def binds(self) -> str:
        """
        What kept the rate from being higher.

        ``cpu``, ``memory``, ``reading``, ``writing``, ``workers`` where there are fewer than CPUs,
        or ``others``: stages that only compute took much longer than their processor time.
        """
        if self.cpu_share >= BUSY:
            return "cpu"
        computing = [self.stage(name) for name in STAGES if name not in ("fetch", "store")]
        if math.fsum(stage.wall_seconds for stage in computing) > CROWDED * math.fsum(
            stage.cpu_seconds for stage in computing
        ):
            return "others"
        if self.plan_limit == "memory":
            return "memory"
        waits = {"reading": self.stage("fetch"), "writing": self.stage("store")}
        longest = max(waits, key=lambda name: waits[name].wall_seconds)
        worker_seconds = max(1, self.workers) / self.scans_per_second
        if waits[longest].wall_seconds >= (1 - BUSY) * worker_seconds:
            return longest
        return "workers" if self.workers < self.cpus else "cpu"


class ProfileFile(Part):
    """
    A profile.

    Attributes
    ----------
    format, version : str, int
        What this is.
    fastlung, date : str
        Version of fastlung, and the day.
    machine : MachineFacts
        Where.
    versions : dict of str to str
        Packages that decide the speed.
    config : dict of str to str
        What was done to a scan: the options in `CONFIG_FIELDS`.
    sample : SampleFacts
        What was processed.
    sizes : list of SizeMeasured
        By CPUs, then memory; at least one.
    """

    format: Literal["fastlung-profile"]
    version: Literal[1]
    fastlung: Text
    date: Annotated[str, Field(pattern=r"^20\d\d-[01]\d-[0-3]\d$")]
    machine: MachineFacts
    versions: dict[Text, Text]
    config: dict[Text, Text]
    sample: SampleFacts
    sizes: Annotated[list[SizeMeasured], Field(min_length=1, max_length=1000)]

    @model_validator(mode="after")
    def sizes_are_of_this_machine(self) -> Self:
        """Refuse a size larger than the machine, or given twice."""
        seen = [(size.cpus, size.memory_limit_bytes) for size in self.sizes]
        if len(set(seen)) != len(seen):
            raise ValueError("sizes: one of them is there twice")
        if max(size.cpus for size in self.sizes) > self.machine.vcpu:
            raise ValueError("sizes: more cpus than the machine has")
        return self

    @property
    def whole(self) -> SizeMeasured:
        """The largest size: most CPUs, then most memory."""
        return max(self.sizes, key=lambda size: (size.cpus, size.memory_limit_bytes or math.inf))

    def efficiency(self, size: SizeMeasured) -> float | None:
        """Rate for each CPU as a part of what the smallest size has; None for that size alone."""
        smallest = min(self.sizes, key=lambda size: (size.cpus, -(size.memory_limit_bytes or 1e18)))
        if smallest is size:
            return None
        own, alone = size.scans_per_second / size.cpus, smallest.scans_per_second / smallest.cpus
        return own / alone


def config_facts(config: Config) -> dict[str, str]:
    """Write the options that bear on cost as text."""
    values = {name: getattr(config, name) for name in CONFIG_FIELDS}
    return {
        name: " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        for name, value in values.items()
    }


def first_difference(first: Mapping[str, str], other: Mapping[str, str]) -> str:
    """
    Find out in what two configurations differ.

    Parameters
    ----------
    first, other : mapping of str to str
        From `config_facts`. An option that one of them does not have is younger than it.

    Returns
    -------
    str
        Name and values of the first option that differs; empty if none does.
    """
    for name in CONFIG_FIELDS:
        if name in first and name in other and first[name] != other[name]:
            return f"{name} is {first[name]} and {other[name]}"
    return ""


def read_profile(path: str | Path) -> ProfileFile:
    """
    Read a profile.

    Parameters
    ----------
    path : str or Path
        What ``fastlung profile --output`` has written.

    Raises
    ------
    ConfigError
        If the file cannot be read, is of another version, or holds what cannot be.
    """
    return read_document(path, ProfileFile, form=FORMAT, version=VERSION)
