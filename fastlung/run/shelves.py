"""Source groups that nobody holds, by need: the largest at hand, and the largest below a bound."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from typing import Generic, Protocol, TypeVar

__all__ = ["Shelves", "Task", "Weighed"]

#: Groups whose needs differ by less than this factor are taken as they came.
ALIKE = 1.05


class Weighed(Protocol):
    """What is dispatched: anything whose memory and bytes are known, or guessed."""

    @property
    def need_bytes(self) -> int:
        """Memory of a worker that computes it, without what is read ahead."""

    @property
    def source_bytes(self) -> int:
        """Bytes to be read."""


Task = TypeVar("Task", bound=Weighed)


class Shelves(Generic[Task]):
    """
    Groups that nobody holds, by need: the largest at hand, and the largest below a bound.

    A shelf takes all needs within a factor, in the order they came. There are a few hundred
    shelves at most, so that nothing here depends on the number of groups.
    """

    def __init__(self) -> None:
        self._shelves: dict[int, deque[Task]] = {}
        self._order: list[int] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, task: Task) -> None:
        """Put one up."""
        number = _shelf(task.need_bytes)
        if number not in self._shelves:
            self._shelves[number] = deque()
            insort(self._order, number)
        self._shelves[number].append(task)
        self._count += 1

    def largest(self) -> Task | None:
        """The one that is due; it stays."""
        return self._shelves[self._order[-1]][0] if self._order else None

    def largest_below(self, need_bytes: float) -> Task | None:
        """One of the largest that need no more; it stays."""
        if need_bytes < 1:
            return None
        number = _shelf(int(need_bytes))
        place = bisect_right(self._order, number)
        if place and self._order[place - 1] == number:
            task = self._shelves[number][0]
            if task.need_bytes <= need_bytes:
                return task
            place -= 1
        return self._shelves[self._order[place - 1]][0] if place else None

    def remove(self, task: Task) -> None:
        """Take away what `largest` or `largest_below` has given."""
        number = _shelf(task.need_bytes)
        shelf = self._shelves[number]
        shelf.popleft()
        self._count -= 1
        if not shelf:
            del self._shelves[number]
            del self._order[bisect_left(self._order, number)]


def _shelf(need_bytes: int) -> int:
    return math.ceil(math.log(max(1, need_bytes), ALIKE))
