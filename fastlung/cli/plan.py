"""The command `plan`: how a run would go here, or on instances to rent."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastlung.cli.output import say
from fastlung.cli.process import asked_for
from fastlung.errors import ConfigError
from fastlung.limits import limited
from fastlung.measure.cost import offers
from fastlung.measure.forecast import TABLE_SUFFIX, forecast, read_series_table
from fastlung.measure.profile import read_profile
from fastlung.plan.catalogue import imagined, read_catalogue
from fastlung.plan.costs import Routes, route_of
from fastlung.plan.sizes import estimate_sizes
from fastlung.report.summary import text_table
from fastlung.source.open import open_source, store_of
from fastlung.text import byte_size, count, duration

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from fastlung.config import Config, RunOptions
    from fastlung.measure.cost import Fleet, Offer, Offers
    from fastlung.measure.forecast import Forecast
    from fastlung.plan.catalogue import Catalogue
    from fastlung.plan.machine import Machine
    from fastlung.plan.sizes import ScanSize

__all__ = ["answer_compare_instances", "answer_plan"]


def answer_plan(args: Namespace) -> int:
    """Carry out ``fastlung plan``; always 0."""
    if args.compare_instances:
        return answer_compare_instances(args)
    for option in ("deadline", "measured", "all", "catalogue", "refresh"):
        if getattr(args, option):
            raise ConfigError(f"--{option}: goes with --compare-instances")
    if args.source.lower().endswith(".csv"):
        raise ConfigError(
            f"{args.source}: a table of series has no pixels to plan a run for; what processing it "
            "would cost is said with --compare-instances"
        )
    config, options = asked_for(args)
    machine = imagined(
        instance=args.instance,
        cpus=args.cpus,
        memory_bytes=args.memory,
        network_bytes_per_second=args.network,
    )
    found = forecast(args.source, args.sink, config, options, machine)
    if args.json:
        plain = asdict(found) | {"config_digest": config.digest}
        sys.stdout.write(json.dumps(plain, indent=1) + "\n")
    elif not args.quiet:
        say(*_lines(found))
    return 0


def _lines(found: Forecast) -> list[str]:
    plan = found.plan
    groups = count(found.groups, "folder")
    left = f"{groups} to process, {byte_size(found.source_bytes)}"
    lines = [
        f"{left}; {found.already_done:,} already done. Nothing is written.",
        _machine(found.machine),
        f"Plan: {count(plan.workers, 'worker')}, chunks of {plan.chunk_size}.",
        *(f"  {reason}" for reason in plan.reasons),
    ]
    if found.seconds is not None:
        lines.append(f"About {duration(found.seconds)}, limited by {plan.limit}.")
    return lines


def _machine(machine: Machine) -> str:
    link = machine.link_bytes_per_second
    network = f"{machine.link_origin}, so it is taken never to bind"
    if link is not None:
        network = f"{link * 8 / 1e9:g} Gbit/s ({machine.link_origin})"
    return (
        f"Machine: {machine.cpus} {machine.cpus_origin}; "
        f"{byte_size(machine.memory_available_bytes)} free of "
        f"{byte_size(machine.memory_limit_bytes)} ({machine.memory_origin}); network: {network}."
    )


GIB = 2**30

CPU_SPEED = (
    "CPU speed: that of the closest profile given, or assumed; other CPUs and architectures are "
    "taken to be as fast, so profile an instance of a family before renting many. Of a core "
    "with two threads one counts, unless the profile used both. Hours leave out the time that an "
    "instance takes to start."
)

#: Offers of a family whose prices differ by less count as equal; the larger rate is shown.
EQUAL = 0.01


def answer_compare_instances(args: Namespace) -> int:
    """Carry out ``fastlung plan --compare-instances``; always 0."""
    config, options = asked_for(args)
    for option in ("instance", "cpus", "memory", "network"):
        if getattr(args, option) is not None:
            raise ConfigError(
                f"--{option}: left out with --compare-instances, which tries them all"
            )
    profiles = [read_profile(file) for file in args.measured]
    if args.refresh:
        # Imported here: boto3 costs 0.2 s, and only this option needs it.
        from fastlung.measure.refresh import refresh  # noqa: PLC0415

        refresh(args.region, args.profile)
    catalogue = read_catalogue(args.catalogue)
    sizes, routes = _to_do(args, config, options)
    found = offers(sizes, config, routes, catalogue, profiles, args.deadline)
    if args.json:
        sys.stdout.write(json.dumps(_plain(found, catalogue), indent=1) + "\n")
    elif not args.quiet:
        say(*_offer_lines(found, catalogue, args))
    return 0


def _to_do(
    args: Namespace, config: Config, options: RunOptions
) -> tuple[Sequence[ScanSize], Routes]:
    """Every scan as if new, and whether its bytes cross a network."""
    if args.source.lower().endswith(TABLE_SUFFIX):
        # What a table of series stands for is far away.
        return read_series_table(args.source, config), Routes(source="network", sink="network")
    places = open_source(args.source, options.storage)
    places.check()
    with limited(options.limits):
        groups = tuple(places.groups())
        sizes = estimate_sizes(
            groups, config, lambda group: store_of(group, places.store, options.storage)
        )
    route = route_of(places.store.url)
    return sizes, Routes(source=route, sink=route_of(args.sink) if args.sink else route)


def _offer_lines(found: Offers, catalogue: Catalogue, args: Namespace) -> list[str]:
    shown = found.offers if args.all else best_of_families(found.offers)
    scans = f"{count(found.scans, 'scan')}, {byte_size(found.source_bytes)}"
    origin = f"Instances: catalogue {catalogue.origin}, of {catalogue.date}"
    lines = [
        f"{scans}; no pixel was read. Every row is modelled.",
        "",
        _offer_table(shown, deadline_given=args.deadline is not None),
        "",
        f"{origin}, on-demand prices in {catalogue.region}.",
        CPU_SPEED,
        _s3_line(found),
        f"S3 prices: {catalogue.storage.source.address}, {catalogue.storage.source.date}.",
    ]
    if any(offer.network_unknown for offer in shown):
        lines.append(
            "Last, whatever they cost: types whose network is unknown, marked ?; it is "
            "taken never to bind."
        )
    if found.too_small:
        lines.append(f"Too little memory for the largest scan: {len(found.too_small)} types.")
    if not args.all and len(shown) < len(found.offers):
        lines.append("The best of each family; --all shows every size.")
    return lines


def best_of_families(found: Sequence[Offer]) -> list[Offer]:
    """
    Choose one offer of each family: the cheapest, and of equally cheap ones the fastest.

    Parameters
    ----------
    found : sequence of Offer
        Cheapest first.
    """
    best: dict[str, Offer] = {}
    for offer in found:
        family = offer.instance.family
        kept = best.setdefault(family, offer)
        alike = offer.network_unknown == kept.network_unknown
        if alike and offer.usd <= kept.usd * (1 + EQUAL) and _hours(offer) < _hours(kept):
            best[family] = offer
    return sorted(best.values(), key=lambda offer: offer.rank)


def _hours(offer: Offer) -> float:
    return (offer.in_time or offer.alone).hours


def _offer_table(shown: Sequence[Offer], *, deadline_given: bool) -> str:
    header = ["instance", "vCPU", "memory", "$/h", "workers", "scans/s", "binds", "hours", "$"]
    if deadline_given:
        header += ["in time", "hours", "$"]
    rows = []
    for offer in shown:
        instance = offer.instance
        row = [
            instance.name,
            str(instance.vcpu),
            f"{instance.memory_bytes / GIB:g} GiB",
            _money(instance.price_usd_per_hour),
            str(offer.workers),
            f"{offer.scans_per_second:.2f}",
            f"{offer.binds}{' ?' if offer.network_unknown else ''}",
            *_fleet_cells(offer.alone),
        ]
        if offer.in_time is not None:
            row += [f"{offer.in_time.count} x", *_fleet_cells(offer.in_time)]
        rows.append([*row, offer.basis])
    return text_table([*header, "CPU speed"], rows)


def _fleet_cells(fleet: Fleet) -> tuple[str, str]:
    return f"{fleet.hours:.2f}", _money(fleet.usd)


def _s3_line(found: Offers) -> str:
    s3 = found.s3
    return (
        f"S3 beside that: {s3.gets:,} reads and {s3.puts:,} writes, ${s3.requests_usd:,.2f}; "
        f"{byte_size(s3.stored_bytes)} of results, ${s3.storage_usd_per_month:,.2f} a month. "
        "Transfer within a region is free."
    )


def _money(dollars: float | None) -> str:
    if dollars is None:
        return "-"
    return f"{dollars:,.2f}" if dollars >= 1 else f"{dollars:.4g}"


def _plain(found: Offers, catalogue: Catalogue) -> dict[str, Any]:
    return {
        "scans": found.scans,
        "source_bytes": found.source_bytes,
        "catalogue": {"date": catalogue.date, "region": catalogue.region},
        "s3": asdict(found.s3),
        "too_small": list(found.too_small),
        "instances": [
            {
                "instance": offer.instance.name,
                "usd_per_hour": offer.instance.price_usd_per_hour,
                "workers": offer.workers,
                "scans_per_second": offer.scans_per_second,
                "binds": offer.binds,
                "one": asdict(offer.alone),
                "in_time": asdict(offer.in_time) if offer.in_time else None,
                "cpu_speed": offer.basis,
            }
            for offer in found.offers
        ],
    }
