"""What a run did between two looks at it, and whether that was faster than before: arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastlung.run.setting import Progress

__all__ = ["Window"]


@dataclass(frozen=True, slots=True)
class Window:
    """What a run did between two looks at it."""

    begin: Progress
    end: Progress

    def grown(self, name: str) -> float:
        """How much one of the sums of `Progress` has grown."""
        return float(getattr(self.end, name) - getattr(self.begin, name))

    def gain(self, before: Window) -> float:
        """
        How much faster than another window it was.

        Scans are not alike, and the large ones come first: what is done for each byte drifts. A
        setting that is faster commits, writes and computes more in a second, all three.
        """
        ratios = [
            self.grown(name) / self.grown("seconds") * before.grown("seconds") / before.grown(name)
            for name in ("committed_bytes", "stored_bytes", "cpu_seconds")
            if before.grown(name) > 0 and self.grown("seconds") > 0
        ]
        return min(ratios, default=1.0)

    def idle_share(self, cpus: float) -> float:
        """Part of so many processors that nobody used, 0 to 1."""
        seconds = self.grown("seconds")
        return min(1.0, self.grown("idle_cpu_seconds") / seconds / cpus) if seconds > 0 else 1.0

    def ratio(self, above: str, below: str) -> float | None:
        """One sum for each unit of another; None if there is nothing to tell it from."""
        divisor = self.grown(below)
        return self.grown(above) / divisor if divisor > 0 else None
