"""
Every simulated machine as a line: what was reached of the bound, and of the best fixed setting.

Fixed settings are tried one by one, 54 of them, for machines of up to eight processors.
"""

import sys

from simulation.cohorts import GIB, Case, Prepared, best_of_grid, least_seconds, simulate

from fastlung.plan.costs import Calibration

GBPS = 125e6
#: Fixed settings are compared with up to here; beyond, they would take hours.
GRID_CPUS = 8
#: How long requests truly take for each second assumed.
REQUESTS = (0.3, 1.0, 2.0, 6.0)


def cases():
    """Machines and stores, with 150 scans a processor."""
    for cpus in (1, 2, 4, 8, 16, 32, 64, 96, 192):
        for gib in (4, 8) if cpus <= GRID_CPUS else (4,):
            for gbps in (0.1, 1.0, 10.0, 25.0):
                for cohort in ("nlst", "thin", "mixed"):
                    for requests in REQUESTS if cpus <= GRID_CPUS else (1.0,):
                        yield Case(
                            cpus=cpus,
                            memory_bytes=gib * cpus * GIB,
                            network_bytes_per_second=gbps * max(1, cpus / 8) * GBPS,
                            cohort=cohort,
                            scans=max(200, 150 * min(cpus, 32)),
                            truth=Calibration(requests=requests),
                        )


def line(case: Case) -> tuple[str, float, float]:
    """One case: its line, and what the first and the second run reach of the best setting."""
    prepared = Prepared(case)
    tuner = prepared.tuner()
    ended = simulate(prepared, tuner)
    bound = least_seconds(prepared)
    words = (
        f"{case.cpus:4} CPUs {case.memory_bytes // GIB:4} GiB "
        f"{case.network_bytes_per_second / GBPS:6.1f} Gbps {case.cohort:6} "
        f"requests x{case.truth.requests:<4g} of bound {bound / ended.seconds:5.3f}"
    )
    if case.cpus > GRID_CPUS:
        return words, 1.0, 1.0
    _, fixed = best_of_grid(prepared)
    second = prepared.planned_again(tuner.calibration if tuner.calibration.scans else Calibration())
    again = simulate(second, second.tuner())
    first, later = fixed.seconds / ended.seconds, fixed.seconds / again.seconds
    words += (
        f"  best fixed {bound / fixed.seconds:5.3f}  first run {first:5.3f}  second {later:5.3f}"
    )
    return words, first, later


def main(part: int, parts: int) -> None:
    """Print the table, or a part of it."""
    found = []
    for number, case in enumerate(cases()):
        if number % parts == part:
            words, first, later = line(case)
            found.append((case, first, later))
            sys.stdout.write(words + "\n")
            sys.stdout.flush()
    for requests in REQUESTS:
        ratios = [
            (f, s) for c, f, s in found if c.truth.requests == requests and c.cpus <= GRID_CPUS
        ]
        for name, values in (("first", [f for f, _ in ratios]), ("second", [s for _, s in ratios])):
            within = sum(value >= 0.95 for value in values)
            sys.stdout.write(
                f"requests x{requests:g}, {name} run: {within} of {len(values)} within 5 % of the "
                f"best fixed setting, the worst at {min(values, default=1):.3f}\n"
            )


if __name__ == "__main__":
    numbers = [int(number) for number in sys.argv[1:]]
    main(*(numbers or (0, 1)))
