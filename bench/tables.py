"""Write ``docs/benchmarks.md`` from the stored baselines, losses and missed targets included."""

import json
from pathlib import Path

from targets import CORES_AT_LEAST, CORES_LIMIT, LIMITS, TARGETS

__all__ = ["missed", "page"]

ROOT = Path(__file__).parent
PAGE = ROOT.parent / "docs" / "benchmarks.md"
MIB = 1 << 20

HEAD = """\
# Benchmarks

<!-- written by bench/tables.py from bench/baselines; do not edit -->

Each job runs beside its rivals in one process on one pinned core, in turn; a ratio is the median
of the rival's CPU seconds over ours: 80 means that it takes eighty times as long, below 1 that it
is faster. Answers are compared before the clock starts; masks of other methods must be mostly the
same. Everything is warm: compiled kernels loaded, files in the page cache.

- **synthetic**: a drawn chest of 180 slices of 512 x 512 at 1.8 x 0.68 x 0.68 mm with 60 HU of
  noise, without table, to 1 mm (324 x 348 x 348 voxels).
- **0306**: LIDC-IDRI-0306, a noisy real chest of 123 slices at 2.5 x 0.62 x 0.62 mm, to 1 mm.

Work on masks takes runs and gives runs, where rivals take and give voxels. Whole scans go from
DICOM files to `.npy` files.

Run it yourself: `python -m nox -s bench -- --table`; `python -m nox -s bench` holds this machine
to its stored ratios.
"""


def page(baselines) -> str:
    """The page for some baselines, one section a machine."""
    parts = [HEAD]
    for stored in baselines:
        versions = ", ".join(f"{name} {number}" for name, number in stored["versions"].items())
        parts += [
            f"## {stored['cpu']}, {stored['cores']} cores, {stored['date']}\n",
            (
                f"Python {stored['python']}; {versions}. When the last of it was measured, "
                f"{stored['load']:.0f} processes wanted a core.\n"
            ),
            _table(stored),
            _costs(stored["costs"]),
            _why(stored),
        ]
    return "\n".join(parts)


def missed(stored) -> list[str]:
    """Jobs of a baseline with a rival that is less far behind than it should be."""
    names = []
    for key, rivals in stored["rivals"].items():
        name = key.partition(" | ")[0]
        for rival, ratio in rivals.items():
            target = _target(name, rival)
            if target and ratio["median"] < target and name not in names:
                names.append(name)
    return names


def _target(name: str, rival: str) -> float | None:
    return next(
        (
            target.at_least
            for target in TARGETS
            if target.job == name and rival.startswith(target.rival)
        ),
        None,
    )


def _table(stored) -> str:
    rows = [
        "| job | scan | ours, s | against | theirs, s | ratio | target | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key, job in stored["jobs"].items():
        name, _, scan = key.partition(" | ")
        for rival, ratio in (stored["rivals"].get(key) or {"": None}).items():
            if ratio is None:
                rows.append(f"| {name} | {scan} | {job['seconds']:.4f} | | | | | |")
                continue
            target = _target(name, rival)
            low, high = ratio["low"], ratio["high"]
            verdict = "" if target is None else "met" if ratio["median"] >= target else "**missed**"
            if ratio["median"] < 1:
                verdict = f"{verdict} **slower**".strip()
            rows.append(
                f"| {name} | {scan} | {ratio['seconds']:.4f} | {rival} "
                f"| {ratio['other_seconds']:.3f} | {ratio['median']:.1f} ({low:.1f} to {high:.1f}) "
                f"| {'' if target is None else f'{target:g}'} | {verdict} |"
            )
    return "\n".join(rows) + "\n"


def _costs(costs) -> str:
    parts = []
    if "start" in costs:
        start = costs["start"]
        parts.append(
            "### Before the first scan\n\n"
            f"Imports take {start['imports']:.1f} CPU seconds, compiling all kernels "
            f"{start['compile']:.0f} (once a machine), loading them from the cache "
            f"{start['load']:.1f}. A run pays once: workers are forked from a process that has.\n"
        )
    if "memory" in costs:
        rows = [
            "### Memory of a whole scan, int16 `npy` with its mask, in MiB\n",
            "| scan | words | image and mask | peak | peak over both | reserved by a run |",
            "|---|---|---|---|---|---|",
        ]
        for scan, memory in costs["memory"].items():
            arrays = memory["source"] + memory["output"]
            rows.append(
                f"| {scan} | {memory['source'] / MIB:.0f} | {memory['output'] / MIB:.0f} "
                f"| {memory['peak'] / MIB:.0f} | {memory['peak'] / arrays:.2f} "
                f"| {memory['planned'] / MIB:.0f} |"
            )
        rows.append(
            "\nThe peak is that of resident memory, beyond the warm process. What a run reserves "
            "also holds that process and the scan it writes meanwhile.\n"
        )
        parts.append("\n".join(rows))
    if "cores" in costs:
        cores = costs["cores"]
        busy = cores["load"] > 0.5
        met = cores["speedup"] >= CORES_AT_LEAST
        verdict = "met" if met else "**missed**"
        parts.append(
            "### Two cores, many scans\n\n"
            f"Two workers do {cores['speedup']:.2f} times the scans a second of one "
            f"({cores['low']:.2f} to {cores['high']:.2f}; target {CORES_AT_LEAST:g}, {verdict}), "
            "by the wall clock, start-up apart. Before it began, "
            f"{cores['load']:.1f} other processes wanted a core on average"
            + ("; on a machine as busy as that the number says little." if busy else ".")
            + ("\n" if met else f" {CORES_LIMIT}\n")
        )
    return "\n".join(parts)


def _why(stored) -> str:
    names = [name for name in missed(stored) if name in LIMITS]
    if not names:
        return ""
    return (
        "### What stops the rest\n\n"
        + "\n\n".join(f"**{name}.** {LIMITS[name]}" for name in names)
        + "\n"
    )


def main() -> None:
    """Write the page."""
    files = sorted((ROOT / "baselines").glob("*.json"))
    PAGE.write_text(page([json.loads(file.read_text()) for file in files]).rstrip() + "\n")


if __name__ == "__main__":
    main()
