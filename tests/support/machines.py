"""Machines that are made up."""

from fastlung.plan.machine import Machine

GB = 10**9


def machine(*, cpus=8, available=16 * GB, limit=None):
    return Machine(
        cpus_logical=cpus,
        cpus_physical=cpus,
        cpus_affinity=cpus,
        cpu_quota=None,
        cpus=cpus,
        cpus_origin="CPUs of this machine",
        memory_total_bytes=limit or available,
        memory_limit_bytes=limit or available,
        memory_available_bytes=available,
        memory_origin="memory of this machine",
    )
