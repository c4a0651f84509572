"""
Several profiles beside each other: rates, prices, what binds, and which differences are noise.

Covers measured machines only; for others there is `fastlung.measure.cost`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastlung.errors import ConfigError
from fastlung.measure.profile import first_difference
from fastlung.measure.report import Bar, Panel, draw_bars
from fastlung.report.summary import text_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastlung.measure.profile import ProfileFile, SizeMeasured
    from fastlung.plan.catalogue import Instance

__all__ = ["NOISE_RULE", "Compared", "compare", "compare_svg", "compare_text", "within_noise"]

#: Ranges of two machines are widened by this part before they are compared: rounds of one day
#: differ less than those of two. Chosen, not measured.
WIDENED = 0.02
NOISE_RULE = (
    "~ within noise of the best: the ranges of their rounds, each widened by "
    f"{WIDENED:.0%}, overlap (one round alone is taken to range 5 % either way)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """
    One profile at its largest size, beside others.

    Attributes
    ----------
    name, machine : str
        What it is called, and the type of instance or processor.
    vcpu, workers : int
        Hardware threads, and worker processes on them.
    scans_per_second, low, high : float
        Median rate of the rounds, and their range.
    scans_per_second_per_vcpu : float
        The same for each hardware thread.
    usd_per_hour, usd_per_1000_scans : float or None
        On demand; None where no price is known.
    binds : str
        What kept the rate from being higher.
    noise : bool
        Whether it may be as good as the best: by price if all have one, else by rate for each vCPU.
    """

    name: str
    machine: str
    vcpu: int
    workers: int
    scans_per_second: float
    low: float
    high: float
    scans_per_second_per_vcpu: float
    usd_per_hour: float | None
    usd_per_1000_scans: float | None
    binds: str
    noise: bool


def within_noise(first: tuple[float, float], other: tuple[float, float]) -> bool:
    """
    Whether a difference between two machines may be chance.

    Parameters
    ----------
    first, other : tuple of float
        Lowest and highest figure of the rounds of each.

    Returns
    -------
    bool
        True if the ranges overlap, each widened by `WIDENED`.
    """
    (low, high), (other_low, other_high) = first, other
    return low * (1 - WIDENED) <= other_high * (1 + WIDENED) and other_low * (1 - WIDENED) <= (
        high * (1 + WIDENED)
    )


def compare(
    profiles: Mapping[str, ProfileFile], instances: Mapping[str, Instance]
) -> tuple[Compared, ...]:
    """
    Put profiles beside each other, the best first.

    Parameters
    ----------
    profiles : mapping of str to ProfileFile
        What each is called -> the profile.
    instances : mapping of str to Instance
        For prices.

    Returns
    -------
    tuple of Compared
        Cheapest first if all have a price, else by rate for each vCPU.

    Raises
    ------
    ConfigError
        If they did not measure the same thing: another configuration, or scans of another size.
    """
    _check_alike(profiles)
    sizes = {name: profile.whole for name, profile in profiles.items()}
    prices = {name: _price(profiles[name], sizes[name], instances) for name in profiles}
    by_price = all(price is not None for price in prices.values())
    # Both are "more is better": scans for a dollar, or scans of a hardware thread.
    worth = {
        name: 3600 / prices[name] if by_price else 1 / size.cpus  # type: ignore[operator]
        for name, size in sizes.items()
    }
    order = sorted(sizes, key=lambda name: -sizes[name].scans_per_second * worth[name])
    best_low, best_high = _scaled(sizes[order[0]], worth[order[0]])
    found = []
    for name in order:
        size, price = sizes[name], prices[name]
        low, high = size.rate_range
        machine = profiles[name].machine
        rate = size.scans_per_second
        found.append(
            Compared(
                name=name,
                machine=machine.ec2_type or machine.cpu_model,
                vcpu=size.cpus,
                workers=size.workers,
                scans_per_second=rate,
                low=low,
                high=high,
                scans_per_second_per_vcpu=rate / size.cpus,
                usd_per_hour=price,
                usd_per_1000_scans=None if price is None else price / 3600 / rate * 1000,
                binds=size.binds,
                noise=name != order[0]
                and within_noise((best_low, best_high), _scaled(size, worth[name])),
            )
        )
    return tuple(found)


def compare_text(compared: Sequence[Compared]) -> str:
    """
    Lay a comparison out as a table, and say what counts as noise.

    Parameters
    ----------
    compared : sequence of Compared
        From `compare`.

    Returns
    -------
    str
        Lines, the last one without a line feed.
    """
    header = ("profile", "machine", "vCPU", "workers", "scans/s", "range", "scans/s/vCPU", "$/h",
              "$/1,000 scans", "binds", "")  # fmt: skip
    rows = [
        (
            entry.name,
            entry.machine,
            str(entry.vcpu),
            str(entry.workers),
            f"{entry.scans_per_second:.2f}",
            f"{entry.low:.2f} to {entry.high:.2f}",
            f"{entry.scans_per_second_per_vcpu:.3f}",
            _money(entry.usd_per_hour),
            _money(entry.usd_per_1000_scans),
            entry.binds,
            "~" if entry.noise else "",
        )
        for entry in compared
    ]
    rank = "dollars for 1,000 scans" if _priced(compared) else "scans per second and vCPU"
    return f"{text_table(header, rows)}\n\nBest first, by {rank}. {NOISE_RULE}."


def compare_svg(compared: Sequence[Compared]) -> str:
    """
    Draw a comparison: rate, rate for each vCPU, and price where all have one.

    Parameters
    ----------
    compared : sequence of Compared
        From `compare`.

    Returns
    -------
    str
        A whole SVG file.
    """
    rates, each, prices = [], [], []
    for entry in compared:
        label = entry.name if entry.name == entry.machine else f"{entry.name} ({entry.machine})"
        mark = "  ~" if entry.noise else ""
        rates.append(
            Bar(
                label=label,
                parts={"scans/s": entry.scans_per_second},
                note=f"{entry.scans_per_second:.2f}/s, {entry.vcpu} vCPUs, {entry.binds} binds",
                low=entry.low,
                high=entry.high,
            )
        )
        each.append(
            Bar(
                label=label,
                parts={"scans/s/vCPU": entry.scans_per_second_per_vcpu},
                note=f"{entry.scans_per_second_per_vcpu:.3f}/s{'' if _priced(compared) else mark}",
                low=entry.low / entry.vcpu,
                high=entry.high / entry.vcpu,
            )
        )
        if entry.usd_per_1000_scans is not None:
            dollars = entry.usd_per_1000_scans
            prices.append(
                Bar(
                    label=label,
                    parts={"$": dollars},
                    note=f"${dollars:.3g}{mark}",
                    low=dollars * entry.scans_per_second / entry.high,
                    high=dollars * entry.scans_per_second / entry.low,
                )
            )
    panels = [
        Panel(title="Scans per second", bars=rates),
        Panel(title="Scans per second and vCPU", bars=each),
    ]
    if prices:
        panels.insert(0, Panel(title="Dollars for 1,000 scans, on demand", bars=prices))
    return draw_bars(
        "Profiles compared",
        "Marks are the range of the rounds; ~ is within noise of the best",
        panels,
    )


def _check_alike(profiles: Mapping[str, ProfileFile]) -> None:
    (first, reference), *others = profiles.items()
    for name, profile in others:
        if difference := first_difference(reference.config, profile.config):
            raise ConfigError(
                f"{first} and {name} measured different things ({difference}); profile both with "
                "the same options"
            )
        ratio = profile.sample.acquired_voxels / reference.sample.acquired_voxels
        if not 1 / SAME_SAMPLE < ratio < SAME_SAMPLE:
            raise ConfigError(
                f"{first} and {name} measured scans of different sizes ({ratio:.2f} times the "
                "voxels); profile both with the same sample"
            )


#: Samples whose scans differ by less than this factor count as the same.
SAME_SAMPLE = 1.02


def _price(
    profile: ProfileFile, size: SizeMeasured, instances: Mapping[str, Instance]
) -> float | None:
    """Dollars an hour, where the whole of a known instance was measured."""
    known = instances.get(profile.machine.ec2_type or "")
    if known is None or size.cpus != known.vcpu:
        return None
    return known.price_usd_per_hour


def _scaled(size: SizeMeasured, worth: float) -> tuple[float, float]:
    low, high = size.rate_range
    return low * worth, high * worth


def _priced(compared: Sequence[Compared]) -> bool:
    return all(entry.usd_per_1000_scans is not None for entry in compared)


def _money(dollars: float | None) -> str:
    return "-" if dollars is None else f"{dollars:.3g}"
