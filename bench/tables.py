"""Write ``docs/benchmarks.md`` from the stored baselines, losses included."""

import json
from pathlib import Path

ROOT = Path(__file__).parent
PAGE = ROOT.parent / "docs" / "benchmarks.md"

HEAD = """\
# Benchmarks

<!-- written by bench/tables.py from bench/baselines; do not edit -->

Each job runs beside its rivals in one process on one pinned core, in turn; shown is the median
ratio of CPU seconds: 80 means that the rival takes eighty times as long, below 1 that it is
faster. Answers are compared before the clock starts. Everything is warm: compiled kernels loaded,
files in the page cache. The scan is a synthetic chest of 180 slices of 512 x 512 at 1.8 x 0.68 x
0.68 mm with 60 HU of noise, to 1 mm (324 x 348 x 348).

Run it yourself with `python -m nox -s bench -- --table`; `python -m nox -s bench` holds this
machine to its stored ratios.
"""


def page(baselines):
    """The page for some baselines, one section a machine."""
    parts = [HEAD]
    for stored in baselines:
        versions = ", ".join(f"{name} {number}" for name, number in stored["versions"].items())
        parts.append(
            f"## {stored['cpu']}, {stored['date']}\n\nPython {stored['python']}, {versions}.\n"
        )
        rows = ["| job | ours, CPU s | against | ratio |", "|---|---|---|---|"]
        for name, job in stored["jobs"].items():
            rivals = stored["rivals"].get(name, {}) or {"-": None}
            for rival, ratio in rivals.items():
                shown = "" if ratio is None else f"{ratio:.1f}"
                rows.append(f"| {name} | {job['seconds']:.3f} | {rival} | {shown} |")
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def main():
    """Write the page."""
    files = sorted((ROOT / "baselines").glob("*.json"))
    PAGE.write_text(page([json.loads(file.read_text()) for file in files]))


if __name__ == "__main__":
    main()
