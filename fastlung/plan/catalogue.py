"""
The catalogue of EC2 instances: processors, memory, network, price, each figure with its source.

Covers reading a catalogue: the shipped one, one that was fetched from AWS, or a file of yours.
Fetching is `fastlung.measure.refresh`'s, arithmetic on prices `fastlung.measure.cost`'s. And a
machine as the catalogue describes it, for plans of machines that are not at hand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fastlung.errors import ConfigError
from fastlung.plan.catalogue_file import (
    FORMAT,
    VERSION,
    CatalogueFile,
    parse_document,
    read_document,
)
from fastlung.plan.machine import probe
from fastlung.storage.cache import cache_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastlung.plan.catalogue_file import FamilyEntry
    from fastlung.plan.machine import Machine

__all__ = [
    "Catalogue",
    "Instance",
    "Source",
    "StoragePrices",
    "cached_catalogue",
    "find_instance",
    "imagined",
    "load_catalogue",
    "machine_of",
    "read_catalogue",
    "with_known_network",
]


#: The shipped catalogue, in `fastlung.instances`.
SHIPPED = "catalogue.json"

GIB = 2**30

BYTES_PER_GBIT = 125_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """
    Where a figure comes from.

    Attributes
    ----------
    address : str
        Where it was found.
    date : str
        Day it is of, or the day it was read, as ``2026-01-19``.
    says : str
        What is found there.
    """

    address: str
    date: str
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """
    One type of EC2 instance; a figure that no source could be cited for is None.

    Attributes
    ----------
    name : str
        Such as ``c7i.2xlarge``.
    family : str
        Such as ``c7i``.
    region : str
        Where the price holds.
    architecture : str
        ``x86_64`` or ``arm64``.
    cpu_model : str or None
        What processor it is.
    vcpu : int
        Hardware threads.
    cores : int or None
        Physical cores.
    memory_bytes : int
        Memory.
    network_baseline_bytes_per_second : float or None
        What its network carries without limit of time, each way.
    network_burst_bytes_per_second : float or None
        What it may carry for some minutes.
    price_usd_per_hour : float or None
        On demand, Linux.
    sources : mapping of str to Source
        Name of each attribute above that is a known figure -> where it comes from.
    """

    name: str
    family: str
    region: str
    architecture: Literal["x86_64", "arm64"]
    cpu_model: str | None
    vcpu: int
    cores: int | None
    memory_bytes: int
    network_baseline_bytes_per_second: float | None
    network_burst_bytes_per_second: float | None
    price_usd_per_hour: float | None
    sources: Mapping[str, Source]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoragePrices:
    """
    What S3 costs.

    Attributes
    ----------
    usd_per_put, usd_per_get : float
        A request that writes or lists, and one that reads.
    tiers : tuple of (float or None, float)
        Gigabytes (2**30 bytes, as S3 bills) up to which a price holds, and dollars a gigabyte and
        month.
    source : Source
        Where they come from.
    """

    usd_per_put: float
    usd_per_get: float
    tiers: tuple[tuple[float | None, float], ...]
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """
    Every instance that is known.

    Attributes
    ----------
    origin : str
        Which catalogue this is, in words.
    date : str
        When it was put together.
    region : str
        Where its prices hold.
    instances : mapping of str to Instance
        By name, in the order of the file.
    storage : StoragePrices
        What S3 costs there.
    """

    origin: str
    date: str
    region: str
    instances: Mapping[str, Instance]
    storage: StoragePrices


def load_catalogue(path: str | Path | None = None) -> dict[str, Instance]:
    """
    Instances of a catalogue, by name.

    Parameters
    ----------
    path : str or Path, optional
        As for `read_catalogue`.

    Raises
    ------
    ConfigError
        As `read_catalogue` does.
    """
    return dict(read_catalogue(path).instances)


def read_catalogue(path: str | Path | None = None) -> Catalogue:
    """
    Read a catalogue of instances.

    Parameters
    ----------
    path : str or Path, optional
        A file; without, the one that ``--refresh`` has fetched for this user if it is younger than
        the shipped one, else the shipped one.

    Returns
    -------
    Catalogue
        Checked: every figure has a source and a date.

    Raises
    ------
    ConfigError
        If the file cannot be read or is not a catalogue.
    """
    if path is not None:
        found = read_document(path, CatalogueFile, form=FORMAT, version=VERSION)
        return _catalogue(found, f"{Path(path).name}")
    shipped = _shipped()
    fetched_at = cached_catalogue()
    if fetched_at.is_file():
        try:
            fetched = read_document(fetched_at, CatalogueFile, form=FORMAT, version=VERSION)
        except ConfigError:
            return _catalogue(
                shipped, "shipped with fastlung"
            )  # of another version: fetch it again
        if fetched.date >= shipped.date:
            return _catalogue(fetched, "fetched from AWS")
    return _catalogue(shipped, "shipped with fastlung")


def find_instance(instances: Mapping[str, Instance], name: str) -> Instance:
    """
    Look up one type of instance.

    Parameters
    ----------
    instances : mapping of str to Instance
        From `load_catalogue`.
    name : str
        Such as ``c7i.2xlarge``.

    Raises
    ------
    ConfigError
        If the catalogue does not have it; the message names those of its family.
    """
    if name in instances:
        return instances[name]
    family = name.partition(".")[0]
    same = [known for known in instances if known.partition(".")[0] == family]
    known = ", ".join(same) or ", ".join(
        dict.fromkeys(instance.family for instance in instances.values())
    )
    what = "sizes" if same else "families"
    raise ConfigError(f"unknown instance type {name!r}; {what} in the catalogue: {known}"[:600])


def cached_catalogue() -> Path:
    """Where ``--refresh`` keeps what it has fetched."""
    return cache_folder() / "instances.json"


def _shipped() -> CatalogueFile:
    text = resources.files("fastlung.instances").joinpath(SHIPPED).read_text("utf-8")
    return parse_document(text, SHIPPED, CatalogueFile, form=FORMAT, version=VERSION)


def _catalogue(found: CatalogueFile, origin: str) -> Catalogue:
    sources = {
        name: Source(address=source.address, date=source.date, says=source.says)
        for name, source in found.sources.items()
    }
    instances = {}
    for family, entry in found.families.items():
        for size in sorted(entry.sizes, key=_size_order):
            instance = _instance(family, size, entry, found.region, sources)
            instances[instance.name] = instance
    storage = found.storage
    return Catalogue(
        origin=origin,
        date=found.date,
        region=found.region,
        instances=instances,
        storage=StoragePrices(
            usd_per_put=storage.usd_per_1000_puts / 1000,
            usd_per_get=storage.usd_per_1000_gets / 1000,
            tiers=tuple((tier.up_to_gb, tier.usd) for tier in storage.usd_per_gb_month),
            source=sources[storage.source],
        ),
    )


#: Attribute of `Instance` by the name of its figure in a file.
ATTRIBUTES = {
    "architecture": "architecture",
    "cpu_model": "cpu_model",
    "vcpu": "vcpu",
    "cores": "cores",
    "memory_gib": "memory_bytes",
    "baseline_gbps": "network_baseline_bytes_per_second",
    "burst_gbps": "network_burst_bytes_per_second",
    "usd_per_hour": "price_usd_per_hour",
}


def _instance(
    family: str, size: str, entry: FamilyEntry, region: str, sources: Mapping[str, Source]
) -> Instance:
    figures = entry.sizes[size]
    given = figures.model_dump() | {
        "architecture": entry.architecture,
        "cpu_model": entry.cpu_model,
    }
    cited = {
        ATTRIBUTES[name]: sources[source]
        for name, source in entry.sources.items()
        if source and given[name] is not None
    }
    return Instance(
        name=f"{family}.{size}",
        family=family,
        region=region,
        architecture=entry.architecture,
        cpu_model=entry.cpu_model,
        vcpu=figures.vcpu,
        cores=figures.cores,
        memory_bytes=round(figures.memory_gib * GIB),
        network_baseline_bytes_per_second=_bytes_per_second(figures.baseline_gbps),
        network_burst_bytes_per_second=_bytes_per_second(figures.burst_gbps),
        price_usd_per_hour=figures.usd_per_hour,
        sources=cited,
    )


def _bytes_per_second(gbps: float | None) -> float | None:
    return None if gbps is None else gbps * BYTES_PER_GBIT


def _size_order(size: str) -> tuple[int, str]:
    """Order of sizes: medium, large, xlarge, 2xlarge, ..."""
    small = {"nano": -6, "micro": -5, "small": -4, "medium": -3, "large": -2, "xlarge": -1}
    number = re.match(r"\d+", size)
    return (int(number[0]) if number else small.get(size, 10**6), size)


#: Part of the memory that is free before a run starts on a machine that is not at hand: kernel and
#: services take a few hundred megabytes.
FREE_SHARE = 0.95


def imagined(
    *,
    instance: str | None = None,
    cpus: int | None = None,
    memory_bytes: int | None = None,
    network_bytes_per_second: float | None = None,
) -> Machine:
    """
    Describe another machine than this one, or this one with more or less of something.

    Parameters
    ----------
    instance : str, optional
        EC2 type in the catalogue; the rest is then its own, unless given.
    cpus : int, optional
        Hardware threads.
    memory_bytes : int, optional
        Memory.
    network_bytes_per_second : float, optional
        What its network carries, each way.

    Returns
    -------
    Machine
        What was not given is this machine's.

    Raises
    ------
    ConfigError
        For a type that the catalogue does not have.
    """
    machine = probe()
    if instance is not None:
        machine = machine_of(find_instance(load_catalogue(), instance), machine)
    if cpus is not None:
        machine = _with_cpus(machine, cpus, "as asked for")
    if memory_bytes is not None:
        machine = _with_memory(machine, memory_bytes, "memory asked for")
    if network_bytes_per_second is not None:
        machine = replace(
            machine, link_bytes_per_second=network_bytes_per_second, link_origin="as asked for"
        )
    return with_known_network(machine)


def machine_of(instance: Instance, machine: Machine) -> Machine:
    """
    Describe an EC2 instance.

    Parameters
    ----------
    instance : Instance
        What the catalogue says of it.
    machine : Machine
        Any; what the catalogue does not say is taken from it.
    """
    name = instance.name
    described = _with_memory(_with_cpus(machine, instance.vcpu, name), instance.memory_bytes, name)
    return replace(
        described,
        link_bytes_per_second=instance.network_baseline_bytes_per_second,
        link_origin=f"baseline of {name}",
        instance_type=name,
        instance_origin="as asked for",
        cpu_model=instance.cpu_model or "",
        open_files=None,
    )


def with_known_network(machine: Machine) -> Machine:
    """Add what the catalogue knows of an instance's network, where its driver says nothing."""
    if machine.link_bytes_per_second is not None or machine.instance_type is None:
        return machine
    found = load_catalogue().get(machine.instance_type)
    if found is None or found.network_baseline_bytes_per_second is None:
        return machine
    return replace(
        machine,
        link_bytes_per_second=found.network_baseline_bytes_per_second,
        link_origin=f"baseline of {machine.instance_type}",
    )


def _with_cpus(machine: Machine, cpus: int, origin: str) -> Machine:
    if cpus < 1:
        raise ConfigError(f"cpus: expected 1 or more, and found {cpus}")
    return replace(
        machine,
        cpus_logical=cpus,
        cpus_physical=cpus,
        cpus_affinity=cpus,
        cpu_quota=None,
        cpus=cpus,
        cpus_origin=f"CPUs ({origin})",
    )


def _with_memory(machine: Machine, memory_bytes: int, origin: str) -> Machine:
    return replace(
        machine,
        memory_total_bytes=memory_bytes,
        memory_limit_bytes=memory_bytes,
        memory_available_bytes=int(FREE_SHARE * memory_bytes),
        memory_origin=origin,
    )
