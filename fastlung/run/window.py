"""What a run did between two looks at it, and whether that was faster than before: arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fastlung.run.setting import Progress

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Window"]

#: Where more requests are under way, so much of what they should add must come through, or they
#: wait for one another.
THROUGH = 0.5


@dataclass(frozen=True, slots=True)
class Window:
    """What a run did between two looks at it."""

    begin: Progress
    end: Progress

    @classmethod
    def since_the_start(cls, end: Progress) -> Self:
        """From the moment the first group was handed out."""
        return cls(Progress.nothing(), end)

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

    def queued_behind(self, lighter: Window, way: Literal["fetch", "store"]) -> bool:
        """
        Whether its transfers waited for one another more than for their own answers.

        That is so where more was under way than in another window and hardly more came through:
        what a request takes then tells how many there were, not how slow the store is.
        """
        loads, rates = [], []
        for window in (lighter, self):
            seconds = window.grown("seconds")
            moved = window.grown("fetched_bytes" if way == "fetch" else "stored_bytes")
            loads.append(window.grown(f"{way}_seconds") / seconds if seconds > 0 else 0.0)
            rates.append(moved / seconds if seconds > 0 else 0.0)
        if min(*loads, *rates) <= 0 or loads[1] <= loads[0]:
            return False
        return rates[1] / rates[0] - 1 < THROUGH * (loads[1] / loads[0] - 1)

    def ratio(self, above: str, below: str) -> float | None:
        """One sum for each unit of another; None if there is nothing to tell it from."""
        divisor = self.grown(below)
        return self.grown(above) / divisor if divisor > 0 else None
