"""Profiles that nobody measured, for tests of what is made of profiles."""

from fastlung.config import Config
from fastlung.measure.profile import ProfileFile, config_facts

STAGES = {"fetch": 0.02, "read": 0.05, "hu": 0.02, "resample": 0.25, "mask": 0.1, "store": 0.02}


def made_up(
    rates=(2.0, 2.02, 1.98),
    *,
    cpus=2,
    vcpu=2,
    cores=None,
    ec2_type=None,
    cpu_seconds=0.9,
    **changes,
):
    """One size of a machine; `changes` replace keys of the document."""
    scans = 20
    rounds = [
        {
            "seconds": scans / rate,
            "scans": scans,
            "cpu_seconds": cpu_seconds,
            "peak_rss_bytes": 500_000_000,
            "stages": {
                name: {"cpu_seconds": seconds, "wall_seconds": seconds}
                for name, seconds in STAGES.items()
            },
        }
        for rate in rates
    ]
    size = {
        "cpus": cpus,
        "cores": cores or cpus,
        "memory_limit_bytes": None,
        "workers": cpus,
        "plan_limit": "cpus",
        "rounds": rounds,
    }
    return {
        "format": "fastlung-profile",
        "version": 1,
        "fastlung": "0.1.0",
        "date": "2026-11-22",
        "machine": {
            "architecture": "x86_64",
            "cpu_model": "Made Up 1",
            "vcpu": vcpu,
            "cores": cores or vcpu,
            "caches": {"L2": 2**20},
            "simd": ["avx2"],
            "memory_bytes": 8 * 2**30,
            "kernel": "6.1",
            "ec2_type": ec2_type,
        },
        "versions": {"numpy": "2.0"},
        "config": config_facts(Config()),
        "sample": {
            "origin": "synthetic",
            "scans": 2,
            "fetch_bytes": 80e6,
            "store_bytes": 115e6,
            "fetch_objects": 150.0,
            "store_objects": 5.0,
            "acquired_voxels": 39e6,
            "output_voxels": 38e6,
            "source": "disk",
            "sink": "disk",
        },
        "sizes": [size],
    } | changes


def profile(*args, **kwargs):
    """The same, read."""
    return ProfileFile.model_validate(made_up(*args, **kwargs))
