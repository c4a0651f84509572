"""Many small requests side by side, their answers in order."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

__all__ = ["map_ahead"]

#: Requests under way: an answer takes 30 ms from a bucket, so that 200,000 records one after
#: another would take 100 minutes.
AT_ONCE = 32

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], at_once: int = AT_ONCE
) -> Iterator[Result]:
    """
    Apply a function to items in threads.

    Unlike an executor's own ``map``, it takes in no more items than are under way: a million keys
    need not be in memory.

    Parameters
    ----------
    function : callable
        Called with one item; what it raises is raised at its place.
    items : iterable
        Gone through as results are asked for.
    at_once : int
        Calls under way, at most.

    Yields
    ------
    object
        Results, in the order of the items.
    """
    going: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(at_once, "fastlung-ahead") as threads:
        try:
            for item in items:
                going.append(threads.submit(function, item))
                if len(going) >= at_once:
                    yield going.popleft().result()
            while going:
                yield going.popleft().result()
        finally:
            for one in going:
                one.cancel()
