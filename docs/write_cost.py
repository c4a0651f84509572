"""
Write the tables of the page on cost: ``python docs/write_cost.py``.

What was measured comes from a stored profile, and a test holds the page against it. What is
modelled is marked so, and follows the catalogue and the model as they were when this was run.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fastlung.cli.plan import best_of_families
from fastlung.config import Config, RunOptions
from fastlung.measure.cost import calibration_of, offers
from fastlung.measure.profile import read_profile
from fastlung.measure.report import profile_svg, size_name
from fastlung.plan.catalogue import read_catalogue
from fastlung.plan.costs import Routes
from fastlung.plan.machine import probe
from fastlung.plan.plan import plan_run
from fastlung.plan.sizes import ScanSize

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fastlung.measure.profile import ProfileFile, SizeMeasured

DOCS = Path(__file__).parent
PROFILE = DOCS / "profiles" / "two-cpus.json"
PICTURE = DOCS / "_static" / "profile-two-cpus.svg"
PAGE = DOCS / "explanation" / "cost.md"
MARKS = ("<!-- measured: python docs/write_cost.py -->", "<!-- modelled -->", "<!-- end -->")
#: As many series as NLST has, alike to those of the profile.
SERIES, DEADLINE_SECONDS = 200_000, 6 * 3600.0
ROWS = 12


def measured_part(profile: ProfileFile) -> str:
    """Tables of what was measured, and of what the smallest size says of the others."""
    return "\n".join([sizes_table(profile), "", *_predictions(profile)])


def modelled_part(profile: ProfileFile) -> str:
    """Table of what an archive of such series would cost."""
    found = offers(
        [_scan(profile)] * SERIES,
        Config(),
        Routes(source="network", sink="network"),
        read_catalogue(),
        [profile],
        DEADLINE_SECONDS,
    )
    rows = [
        "| modelled | vCPU | $/h | scans/s | binds | hours | $ | for 6 h |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for offer in best_of_families(found.offers)[:ROWS]:
        instance, fleet = offer.instance, offer.in_time
        count = "" if fleet is None else f"{fleet.count} x, {fleet.hours:.1f} h"
        rows.append(
            f"| {instance.name} | {instance.vcpu} | {instance.price_usd_per_hour:.4g} | "
            f"{offer.scans_per_second:.1f} | {offer.binds} | {offer.alone.hours:.1f} | "
            f"{offer.alone.usd:.2f} | {count} |"
        )
    s3 = found.s3
    catalogue = read_catalogue()
    requests = f"{s3.gets:,} reads and {s3.puts:,} writes for ${s3.requests_usd:,.2f}"
    kept = f"${s3.storage_usd_per_month:,.2f} a month to keep {s3.stored_bytes / 1e12:.1f} TB"
    beside = f"S3 beside that: {requests}, and {kept}."
    dated = f"Catalogue of {catalogue.date}, {catalogue.region}."
    return "\n".join([*rows, "", f"{beside} {dated}"])


def page(measured: str, modelled: str) -> str:
    """Put both parts between their marks in the page."""
    head, _, rest = PAGE.read_text().partition(MARKS[0])
    between = rest.partition(MARKS[1])[2]
    tail = between.partition(MARKS[2])[2]
    parts = [MARKS[0], "", measured, "", MARKS[1], "", modelled, "", MARKS[2]]
    return head + "\n".join(parts) + tail


def sizes_table(profile: ProfileFile) -> str:
    """Table of what was measured at every size."""
    rows = [
        "| measured | workers | scans/s | range | CPU-s a scan | CPUs busy | binds |",
        "|---|---|---|---|---|---|---|",
    ]
    for size in profile.sizes:
        low, high = size.rate_range
        rows.append(
            f"| {size_name(size)} | {size.workers} | {size.scans_per_second:.2f} | {low:.2f} to "
            f"{high:.2f} | {size.cpu_seconds:.3f} | {size.cpu_share:.0%} | {size.binds} |"
        )
    return "\n".join(rows)


def _predictions(profile: ProfileFile) -> Iterator[str]:
    """Rates that the model makes of the smallest size's processor seconds alone."""
    base = min(profile.sizes, key=lambda size: (size.cpus, -(size.memory_limit_bytes or 0)))
    yield "| predicted from 1 CPU | workers | scans/s | best round | error | error of CPU-s |"
    yield "|---|---|---|---|---|---|"
    for size in profile.sizes:
        workers, rate = _predicted(profile, base, size)
        best = size.rate_range[1]
        error = f"{rate / best - 1:+.0%}" + (" (others)" if size.binds == "others" else "")
        seconds = "" if size is base else f"{base.cpu_seconds / size.cpu_seconds - 1:+.0%}"
        yield f"| {size_name(size)} | {workers} | {rate:.2f} | {best:.2f} | {error} | {seconds} |"


def _predicted(profile: ProfileFile, base: SizeMeasured, size: SizeMeasured) -> tuple[int, float]:
    here = probe()
    memory = profile.machine.memory_bytes
    machine = replace(
        here,
        cpus=size.cpus,
        cpus_affinity=size.cpus,
        cpu_quota=None,
        memory_limit_bytes=memory,
        memory_available_bytes=memory,
        link_bytes_per_second=None,
    )
    plan = plan_run(
        [_scan(profile)],
        machine,
        Config(),
        RunOptions(memory_limit_bytes=size.memory_limit_bytes),
        routes=Routes(source=profile.sample.source, sink=profile.sample.sink),
        calibration=calibration_of(profile, base, Config()),
        more_to_come=True,
    )
    return plan.workers, plan.scans_per_second or 0.0


def _scan(profile: ProfileFile) -> ScanSize:
    sample = profile.sample
    return ScanSize(
        label="a scan of the sample",
        group_bytes=round(sample.fetch_bytes),
        acquired_voxels=round(sample.acquired_voxels),
        output_voxels=round(sample.output_voxels),
        objects=round(sample.fetch_objects),
    )


def main(arguments: Sequence[str] = ()) -> None:
    """Write page and picture; an argument names a profile that becomes the stored one."""
    if arguments:
        new = read_profile(arguments[0])
        PROFILE.write_text(json.dumps(new.model_dump(mode="json"), indent=1) + "\n")
    profile = read_profile(PROFILE)
    PICTURE.write_text(profile_svg(profile))
    PAGE.write_text(page(measured_part(profile), modelled_part(profile)))


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
