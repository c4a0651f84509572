"""
Twelve settings chosen by hand against ``auto_tune``, from bucket to bucket.

Real chests from a null server in three profiles: one in which computing takes the time, one in
which answers do, one in which a link does. In each round every setting runs once, so that what
else the machine does falls on all of them. ``auto`` knows nothing of the machine, ``auto again``
remembers one run.

    python bench/fixed_settings.py FOLDER [--scans 24] [--rounds 5] [--profile latency]
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from null_s3 import INSTANT, Pace
from s3_to_s3 import measure, null, say

from fastlung.kernels import warm_up
from fastlung.plan.plan import Plan, plan_run
from fastlung.run import listing as prepare

PROFILES = {
    "compute": INSTANT,
    "latency": Pace(first_byte_seconds=0.1),
    "bandwidth": Pace(total_bytes_per_second=200e6),
}
#: Workers and requests of each; all hold one scan ahead.
FIXED = [(workers, requests) for workers in (1, 2, 3, 4, 6, 8) for requests in (8, 32)]


@contextmanager
def fixed(workers: int, requests: int) -> Iterator[None]:
    """Plan a run as ever, and then do it with other numbers."""

    def planned(*args: Any, **kwargs: Any) -> Plan:
        return replace(plan_run(*args, **kwargs), workers=workers, requests=requests)

    with mock.patch.object(prepare, "plan_run", planned):
        yield


def one_run(folder: Path, scans: int, pace: Pace, setting: str) -> dict[str, float | str]:
    """What a setting reaches, by name."""
    with null(folder, scans, pace) as server:
        if setting == "auto again":
            return measure(server, remember=True)
        if setting == "auto":
            with (
                tempfile.TemporaryDirectory() as home,
                mock.patch.dict(os.environ, {"XDG_CACHE_HOME": home}),
            ):
                return measure(server)
        workers, requests = map(int, setting.split(" x "))
        with fixed(workers, requests):
            return measure(server, auto_tune=False)


def compare(folder: Path, scans: int, rounds: int, profile: str) -> None:
    """Run all settings of a profile, and say what each reached."""
    names = ["auto", "auto again", *(f"{workers} x {requests}" for workers, requests in FIXED)]
    rates: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as home:
        os.environ["XDG_CACHE_HOME"] = home  # where runs are remembered: of this profile only
        one_run(folder, scans, PROFILES[profile], "auto again")
        for _ in range(rounds):
            for name in names:
                found = one_run(folder, scans, PROFILES[profile], name)
                say({"profile": profile, "setting": name, **found})
                rates[name].append(float(found["scans_per_second"]))
    for name in names:
        ratios = [mine / auto for mine, auto in zip(rates[name], rates["auto"], strict=True)]
        say(
            {
                "profile": profile,
                "setting": name,
                "median_scans_per_second": statistics.median(rates[name]),
                "times_auto": statistics.median(ratios),
                "least": min(ratios),
                "most": max(ratios),
            }
        )


def main() -> None:
    """Compare what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("folder", type=Path, help="one chest, a file a slice")
    parser.add_argument("--scans", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", choices=sorted(PROFILES), action="append")
    args = parser.parse_args()
    warm_up()
    for profile in args.profile or list(PROFILES):
        compare(args.folder, args.scans, args.rounds, profile)


if __name__ == "__main__":
    sys.exit(main())
