"""
A profile in words and as a picture: where a scan's time goes, and what more processors bring.

Covers one profile; several beside each other are `fastlung.profiling.compare`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlung.profiling.profile import STAGES
from fastlung.report.bars import Bar, Panel, draw_bars
from fastlung.report.tables import text_table
from fastlung.text import byte_size, count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastlung.profiling.profile import ProfileFile, SizeMeasured

__all__ = ["profile_svg", "profile_text", "size_name", "stage_bytes"]

GIB = 2**30
#: Stages below this part of a scan's processor time are left out.
SMALL = 0.001


def profile_text(profile: ProfileFile) -> str:
    """
    Lay a profile out as text.

    Parameters
    ----------
    profile : ProfileFile
        What was measured.

    Returns
    -------
    str
        Lines, the last one without a line feed.
    """
    return "\n\n".join(
        ("\n".join(_machine_lines(profile)), _size_table(profile), _stage_table(profile))
    )


def profile_svg(profile: ProfileFile) -> str:
    """
    Draw a profile: processor seconds of a scan by stage, and the rate, for each size.

    Parameters
    ----------
    profile : ProfileFile
        What was measured.

    Returns
    -------
    str
        A whole SVG file.
    """
    machine = profile.machine
    name = machine.ec2_type or machine.cpu_model
    stages, rates = [], []
    for size in profile.sizes:
        parts = {stage: size.stage(stage).cpu_seconds for stage in STAGES}
        stages.append(
            Bar(
                label=size_name(size),
                parts={name: s for name, s in parts.items() if s > SMALL * size.cpu_seconds},
                note=f"{size.cpu_seconds:.3f} CPU-s a scan",
            )
        )
        low, high = size.rate_range
        efficiency = profile.efficiency(size)
        scaled = "" if efficiency is None else f", {efficiency:.0%} of linear"
        rates.append(
            Bar(
                label=size_name(size),
                parts={"scans/s": size.scans_per_second},
                note=f"{size.scans_per_second:.2f}/s{scaled}; {size.binds} binds",
                low=low,
                high=high,
            )
        )
    sample = profile.sample
    return draw_bars(
        f"Profile of {name}",
        f"{count(machine.vcpu, 'vCPU')}, {machine.memory_bytes / GIB:.1f} GiB; {sample.origin} "
        f"sample of {byte_size(sample.fetch_bytes)} a scan, {sample.source} to {sample.sink}; "
        f"fastlung {profile.fastlung}, {profile.date}",
        [
            Panel(title="CPU seconds of a scan, by stage", bars=stages),
            Panel(title="Scans per second; the mark is the range of the rounds", bars=rates),
        ],
    )


def size_name(size: SizeMeasured) -> str:
    """Short name of a size."""
    memory = size.memory_limit_bytes
    held = f", {memory / GIB:.3g} GiB" if memory else ""
    return f"{count(size.cpus, 'CPU')}{held}"


def stage_bytes(profile: ProfileFile, stage: str) -> float:
    """
    Bytes that a stage takes in and gives out for a scan, on average.

    Parameters
    ----------
    profile : ProfileFile
        Whose sample.
    stage : str
        One of `STAGES`.
    """
    sample = profile.sample
    words, volume = 2 * sample.acquired_voxels, 2 * sample.output_voxels
    through = {
        "fetch": sample.fetch_bytes,
        "read": sample.fetch_bytes + words,
        "hu": 2 * words,
        "resample": words + volume,
        "mask": volume + sample.output_voxels,
        "store": sample.store_bytes,
    }
    return through.get(stage, volume + sample.store_bytes)


def _machine_lines(profile: ProfileFile) -> Iterator[str]:
    machine, sample = profile.machine, profile.sample
    caches = ", ".join(f"{name} {byte_size(size)}" for name, size in machine.caches.items())
    kind = machine.ec2_type or "not an EC2 instance"
    yield f"{kind}: {machine.cpu_model}, {machine.architecture}"
    yield (
        f"{count(machine.vcpu, 'vCPU')} on {count(machine.cores, 'core')}, "
        f"{machine.memory_bytes / GIB:.1f} GiB, {caches or 'caches unknown'}, kernel "
        f"{machine.kernel}"
    )
    yield f"vector instructions: {' '.join(machine.simd) or 'none known'}"
    yield (
        f"sample: {sample.origin}, {count(sample.scans, 'scan')} of "
        f"{byte_size(sample.fetch_bytes)} in {sample.fetch_objects:.0f} objects, "
        f"{byte_size(sample.store_bytes)} out; {sample.source} to {sample.sink}"
    )


def _size_table(profile: ProfileFile) -> str:
    header = ("size", "workers", "scans/s", "range", "scans/s/CPU", "of linear", "CPU-s/scan",
              "CPUs busy", "peak RSS", "binds")  # fmt: skip
    rows = []
    for size in profile.sizes:
        low, high = size.rate_range
        efficiency = profile.efficiency(size)
        rows.append(
            (
                size_name(size),
                str(size.workers),
                f"{size.scans_per_second:.2f}",
                f"{low:.2f} to {high:.2f}",
                f"{size.scans_per_second / size.cpus:.2f}",
                "" if efficiency is None else f"{efficiency:.0%}",
                f"{size.cpu_seconds:.3f}",
                f"{size.cpu_share:.0%}",
                byte_size(size.peak_rss_bytes),
                size.binds,
            )
        )
    return text_table(header, rows)


def _stage_table(profile: ProfileFile) -> str:
    """CPU and wall seconds of every stage at every size, and its throughput at the largest."""
    header = ["stage"]
    for size in profile.sizes:
        header += [f"CPU s, {size_name(size)}", "wall s"]
    rows = []
    for stage, meaning in STAGES.items():
        measured = [size.stage(stage) for size in profile.sizes]
        if max(one.cpu_seconds for one in measured) < SMALL * profile.whole.cpu_seconds:
            continue
        cells = [stage]
        for one in measured:
            cells += [f"{one.cpu_seconds:.4f}", f"{one.wall_seconds:.4f}"]
        busy = profile.whole.stage(stage).cpu_seconds
        rate = f"{stage_bytes(profile, stage) / busy / 1e9:.2f}" if busy else ""
        rows.append((*cells, rate, meaning))
    return text_table((*header, "GB per CPU-s", ""), rows)
