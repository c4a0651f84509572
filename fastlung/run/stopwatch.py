"""Where the seconds of a source group go."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Stopwatch"]


class Stopwatch:
    """
    Wall and processor seconds of each step; entered around it by name.

    Attributes
    ----------
    seconds : dict of str to float
        Step -> wall seconds of this series.
    cpu_seconds : dict of str to float
        Step -> processor seconds of the thread that entered it, for this series.
    total : dict of str to float
        Step -> wall seconds of all series.
    stage : str
        The step entered last.
    """

    def __init__(self) -> None:
        self.total: dict[str, float] = {}
        self.stage = "fetch"
        self.restart()

    def restart(self) -> None:
        """Begin another series: its own seconds start at nothing, the totals go on."""
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}
        self._process_started = time.process_time()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time one step."""
        started, cpu_started = time.perf_counter(), time.thread_time()
        self.stage = stage
        try:
            yield
        finally:
            elapsed = time.perf_counter() - started
            cpu = time.thread_time() - cpu_started
            self.seconds[stage] = self.seconds.get(stage, 0.0) + elapsed
            self.total[stage] = self.total.get(stage, 0.0) + elapsed
            self.cpu_seconds[stage] = self.cpu_seconds.get(stage, 0.0) + cpu

    def all_cpu_seconds(self) -> dict[str, float]:
        """Processor seconds of the steps, and of the whole process since this series began."""
        # Clients of stores have threads of their own, which no clock of ours can be entered around.
        process = time.process_time() - self._process_started
        return {**self.cpu_seconds, "process": process}
