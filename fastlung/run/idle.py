"""How much of its processors a run leaves unused, whoever else uses them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil

from fastlung.run.machine import quotas

__all__ = ["IdleClock"]


class IdleClock:
    """
    Counts the processor seconds that this process and its children could have had, and had not.

    What its workers used would not tell: on a machine that other programs share, processors that
    they leave may still be busy.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` are mounted.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._quotas = quotas(root)
        self._before = self._look()
        self._seconds = 0.0

    def __call__(self) -> float:
        """Seconds since this was made; at most what the tightest quota leaves."""
        now = self._look()
        self._seconds += max(0.0, min(b - a for a, b in zip(self._before, now, strict=True)))
        self._before = now
        return self._seconds

    def _look(self) -> tuple[float, ...]:
        """Sums that grow by a second for each second of an idle processor, one for each bound."""
        own = os.sched_getaffinity(0)
        each = psutil.cpu_times(percpu=True)
        idle = sum(
            one.idle + getattr(one, "iowait", 0.0)
            for number, one in enumerate(each)
            if number in own
        )
        now = time.monotonic()
        return idle, *(quota.cpus * now - quota.used_seconds() for quota in self._quotas)
