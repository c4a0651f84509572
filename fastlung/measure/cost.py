"""
Which instance to rent, how many, for how long, at what cost: arithmetic on a profile.

Covers every instance of a catalogue, and the bill of S3. Nothing here is measured on the instances
themselves: each offer says whose processor its speed was measured on. The rate of a machine is
`fastlung.plan.model`'s, its figures are `fastlung.plan.catalogue`'s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from fastlung.config import RunOptions
from fastlung.errors import ConfigError, InsufficientMemoryError
from fastlung.measure.profile import config_facts, first_difference
from fastlung.plan.catalogue import machine_of
from fastlung.plan.costs import ASSUMED, Calibration, Routes, scan_cost, store_requests, usual_cost
from fastlung.plan.machine import probe
from fastlung.plan.plan import memory_budget, plan_run
from fastlung.plan.sizes import ScanSize, computing_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fastlung.config import Config
    from fastlung.measure.profile import ProfileFile, SizeMeasured
    from fastlung.plan.catalogue import Catalogue, Instance, StoragePrices
    from fastlung.plan.machine import Machine

__all__ = [
    "GB",
    "Fleet",
    "Offer",
    "Offers",
    "S3Cost",
    "calibration_of",
    "offers",
    "representative",
    "s3_cost",
]


#: Groups of like scans that stand for all: means are kept, and 272 instances take a second.
STRATA = 100

#: A year, in seconds; a longer deadline is a slip of the hand.
LONGEST_DEADLINE_SECONDS = 3.2e7


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """
    Several instances of one type, at work at once.

    Attributes
    ----------
    count : int
        How many.
    hours : float
        Until the last scan is done, without the time an instance takes to start.
    usd : float or None
        For all of them.
    """

    count: int
    hours: float
    usd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """
    What one type of instance would do.

    Attributes
    ----------
    instance : Instance
        The type.
    workers : int
        Worker processes it would have.
    scans_per_second : float
        Expected rate of one.
    binds : str
        What keeps it from being faster.
    alone : Fleet
        One instance.
    in_time : Fleet or None
        The fewest that meet the deadline; None without a deadline.
    basis : str
        Whose processor the speed was measured on: ``this type``, ``this family``, ``other CPU``,
        ``other architecture`` or ``assumed``.
    network_unknown : bool
        Whether bytes go over a network of which the catalogue does not know what it carries.
    """

    instance: Instance
    workers: int
    scans_per_second: float
    binds: str
    alone: Fleet
    in_time: Fleet | None
    basis: str
    network_unknown: bool

    @property
    def usd(self) -> float:
        """Dollars for all; infinitely many where the price is unknown."""
        chosen = self.in_time or self.alone
        return math.inf if chosen.usd is None else chosen.usd

    @property
    def rank(self) -> tuple[bool, float, int]:
        """Sort key, the best first; what rests on an unknown network comes last."""
        return self.network_unknown, self.usd, self.instance.vcpu


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """
    Every instance of a catalogue.

    Attributes
    ----------
    scans : int
        What is to do.
    source_bytes : int
        Its bytes.
    offers : tuple of Offer
        Cheapest first.
    too_small : tuple of str
        Types without memory for the largest scan.
    s3 : S3Cost
        Requests and storage.
    """

    scans: int
    source_bytes: int
    offers: tuple[Offer, ...]
    too_small: tuple[str, ...]
    s3: S3Cost


def offers(
    sizes: Sequence[ScanSize],
    config: Config,
    routes: Routes,
    catalogue: Catalogue,
    profiles: Sequence[ProfileFile] = (),
    deadline_seconds: float | None = None,
) -> Offers:
    """
    Work out what every instance of a catalogue would do.

    Parameters
    ----------
    sizes : sequence of ScanSize
        What is to do.
    config : Config
        What is done to a scan.
    routes : Routes
        Over what bytes come and go.
    catalogue : Catalogue
        Instances and prices.
    profiles : sequence of ProfileFile
        What was measured; the one closest to an instance counts. Without any, what a run assumes.
    deadline_seconds : float, optional
        When all must be done.

    Returns
    -------
    Offers
        Cheapest first.

    Raises
    ------
    ConfigError
        If nothing is to do, for a deadline that cannot be, or a profile of another configuration.
    """
    if not sizes:
        raise ConfigError("nothing to do: no instance is needed")
    if deadline_seconds is not None and not 0 < deadline_seconds <= LONGEST_DEADLINE_SECONDS:
        raise ConfigError(
            f"--deadline: expected more than nothing and less than a year, found "
            f"{deadline_seconds:g} s"
        )
    for profile in profiles:
        _check_config(profile, config)
    strata = representative(sizes)
    largest = max(computing_bytes(size, config) for size in sizes)
    here, found, too_small = probe(), [], []
    for instance in catalogue.instances.values():
        closest = _closest(instance, profiles)
        machine = replace(machine_of(instance, here), cpus=_cpus(instance, closest))
        if memory_budget(machine, RunOptions())[0] < largest:
            too_small.append(instance.name)
            continue
        calibration = ASSUMED if closest is None else calibration_of(closest, closest.whole, config)
        try:
            offer = _offer(instance, machine, strata, config, routes, calibration)
        except InsufficientMemoryError:
            too_small.append(instance.name)
            continue
        found.append(
            replace(
                offer,
                basis=_basis(instance, closest),
                alone=_fleet(1, len(sizes), offer),
                in_time=_in_time(len(sizes), offer, deadline_seconds),
            )
        )
    mean = usual_cost(strata, config, routes, _first_calibration(profiles, config))
    return Offers(
        scans=len(sizes),
        source_bytes=sum(size.group_bytes for size in sizes),
        offers=tuple(sorted(found, key=lambda offer: offer.rank)),
        too_small=tuple(too_small),
        s3=s3_cost(
            sizes,
            mean.store_bytes * len(sizes),
            store_requests(mean.store_bytes, config),
            catalogue.storage,
        ),
    )


def calibration_of(profile: ProfileFile, size: SizeMeasured, config: Config) -> Calibration:
    """
    Turn a profile into how its machine differs from what a run assumes.

    Parameters
    ----------
    profile : ProfileFile
        What was measured.
    size : SizeMeasured
        At which size of the machine.
    config : Config
        What was done to a scan.

    Returns
    -------
    Calibration
        Of processor seconds and of bytes written; how long requests take is not known from it.
    """
    sample = profile.sample
    assumed = scan_cost(
        ScanSize(
            label="",
            group_bytes=round(sample.fetch_bytes),
            acquired_voxels=round(sample.acquired_voxels),
            output_voxels=round(sample.output_voxels),
            objects=max(1, round(sample.fetch_objects)),
        ),
        config,
        Routes(source=sample.source, sink=sample.sink),
    )
    return Calibration(
        cpu=size.cpu_seconds / assumed.cpu_seconds,
        stored=sample.store_bytes / assumed.store_bytes if assumed.store_bytes else 1.0,
        scans=size.rounds[0].scans * len(size.rounds),
    )


def representative(sizes: Iterable[ScanSize], strata: int = STRATA) -> tuple[ScanSize, ...]:
    """
    Few scans that stand for many: the means of groups of like ones, equally large.

    Parameters
    ----------
    sizes : iterable of ScanSize
        All of them.
    strata : int
        Groups to make.

    Returns
    -------
    tuple of ScanSize
        At most `strata`; bytes and voxels add up to those of all, within rounding.
    """
    ordered = sorted(sizes, key=lambda size: (size.output_voxels, size.group_bytes))
    count = min(strata, len(ordered))
    edges = [len(ordered) * number // count for number in range(count + 1)]
    return tuple(_mean(ordered[start:end]) for start, end in pairwise(edges))


def _offer(
    instance: Instance,
    machine: Machine,
    strata: Sequence[ScanSize],
    config: Config,
    routes: Routes,
    calibration: Calibration,
) -> Offer:
    """One instance, without hours and dollars."""
    plan = plan_run(
        strata,
        machine,
        config,
        RunOptions(),
        routes=routes,
        calibration=calibration,
        more_to_come=True,
    )
    rate = plan.scans_per_second or 0.0
    return Offer(
        instance=instance,
        workers=plan.workers,
        scans_per_second=rate,
        binds=plan.limit,
        alone=Fleet(count=1, hours=math.inf, usd=None),
        in_time=None,
        basis="",
        network_unknown="network" in (routes.source, routes.sink)
        and instance.network_baseline_bytes_per_second is None,
    )


def _fleet(count: int, scans: int, offer: Offer) -> Fleet:
    hours = scans / (count * offer.scans_per_second) / 3600
    price = offer.instance.price_usd_per_hour
    return Fleet(count=count, hours=hours, usd=None if price is None else count * hours * price)


def _in_time(scans: int, offer: Offer, deadline_seconds: float | None) -> Fleet | None:
    if deadline_seconds is None:
        return None
    count = math.ceil(scans / (offer.scans_per_second * deadline_seconds) - 1e-9)
    return _fleet(max(1, count), scans, offer)


def _cpus(instance: Instance, profile: ProfileFile | None) -> int:
    """
    Processors of an instance, in those of the profile; rather too few than too many.

    Where the profile had a core for each hardware thread and the instance has two threads a core,
    a core counts once: what the second thread adds was not measured.
    """
    if instance.cores is None:
        return instance.vcpu
    alone = profile is None or profile.whole.cores == profile.whole.cpus
    return instance.cores if alone else instance.vcpu


def _closest(instance: Instance, profiles: Sequence[ProfileFile]) -> ProfileFile | None:
    """Choose the profile whose machine is most like an instance."""
    order = ("this type", "this family", "other CPU", "other architecture")
    return min(profiles, key=lambda profile: order.index(_basis(instance, profile)), default=None)


def _basis(instance: Instance, profile: ProfileFile | None) -> str:
    if profile is None:
        return "assumed"
    machine = profile.machine
    if machine.ec2_type == instance.name:
        return "this type"
    if (machine.ec2_type or "").partition(".")[0] == instance.family:
        return "this family"
    same = ARCHITECTURES.get(machine.architecture, machine.architecture) == instance.architecture
    return "other CPU" if same else "other architecture"


#: What kernels call an architecture that AWS calls otherwise.
ARCHITECTURES: Mapping[str, str] = {"aarch64": "arm64", "amd64": "x86_64"}


def _check_config(profile: ProfileFile, config: Config) -> None:
    if difference := first_difference(profile.config, config_facts(config)):
        raise ConfigError(
            f"the profile measured something else ({difference}); profile with the same options, "
            "or plan with those of the profile"
        )


def _first_calibration(profiles: Sequence[ProfileFile], config: Config) -> Calibration:
    if not profiles:
        return ASSUMED
    return calibration_of(profiles[0], profiles[0].whole, config)


def _mean(alike: Sequence[ScanSize]) -> ScanSize:
    count = len(alike)
    return ScanSize(
        label=f"{count:,} scans like {alike[count // 2].label}",
        group_bytes=round(sum(size.group_bytes for size in alike) / count),
        acquired_voxels=round(sum(size.acquired_voxels for size in alike) / count),
        output_voxels=round(sum(size.output_voxels for size in alike) / count),
        objects=max(1, round(sum(size.objects for size in alike) / count)),
    )


GB = 2**30  # as S3 bills

#: Keys that one listing request names.
LISTED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Cost:
    """
    The bill of S3, whatever the instance.

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
    Work out the bill of S3.

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
