"""
How often a bucket is asked, and how many requests at once.

Neither boto3 nor obstore retries here: obstore's retries hide an overload, boto3's do not cover the
body. One loop goes round request and whole body. All requests of a process to one bucket share a
`Limiter`, because an overload that each request only answers by waiting goes on.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from fastlung.io.s3_answers import FOREIGN, explain, is_overload, may_pass, retry_after_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastlung.io.s3_answers import Request

__all__ = ["AT_START", "IN_A_RUN", "Limiter", "Patience", "retried"]

Result = TypeVar("Result")

#: Full jitter: a random part of this, doubled after each try, up to the longest; in seconds.
FIRST_WAIT_SECONDS = 0.2
LONGEST_WAIT_SECONDS = 10.0
#: Requests to one bucket that a process may have under way when nobody has complained.
MOST_REQUESTS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """
    When to give a request up.

    Attributes
    ----------
    tries : int
        How often it is made.
    deadline_seconds : float
        No further try begins so long after the first, in seconds.
    """

    tries: int
    deadline_seconds: float


#: Where a typing error in an endpoint should be told at once.
AT_START = Patience(tries=4, deadline_seconds=20.0)
#: Twenty tries wait 70 s on average: a store that is away for half a minute costs no scan.
IN_A_RUN = Patience(tries=20, deadline_seconds=120.0)


class Limiter:
    """
    How many requests a process may have under way, as the store's answers allow.

    Halved when the store says that it is overloaded, and raised by one whenever as many requests
    as are allowed have passed since: the rule by which TCP shares a line. One overload is answered
    by many requests at once, so that those begun before a cut do not cut again.

    Parameters
    ----------
    most : int
        At first, and at most.
    """

    def __init__(self, most: int = MOST_REQUESTS) -> None:
        self._most = self._allowed = most
        self._under_way = self._passed = self._cuts = self._throttled = 0
        self._changed = threading.Condition()

    @property
    def allowed(self) -> int:
        """Requests that may be under way now."""
        return self._allowed

    @property
    def throttled(self) -> int:
        """Requests that were refused because of overload, so far."""
        return self._throttled

    def begin(self) -> int:
        """Wait for a turn; what it gives goes to `end`."""
        with self._changed:
            while self._under_way >= self._allowed:
                self._changed.wait()
            self._under_way += 1
            return self._cuts

    def end(self, turn: int, *, overload: bool) -> None:
        """
        Give a turn back.

        Parameters
        ----------
        turn : int
            From `begin`.
        overload : bool
            Whether the store refused because of overload.
        """
        with self._changed:
            if not overload:
                self._passed += 1
                if self._passed >= self._allowed and self._allowed < self._most:
                    self._allowed, self._passed = self._allowed + 1, 0
            else:
                self._throttled += 1
                if turn == self._cuts:
                    self._allowed = max(1, min(self._allowed, self._under_way) // 2)
                    self._cuts, self._passed = self._cuts + 1, 0
            self._under_way -= 1
            self._changed.notify_all()


def retried(
    ask: Callable[[], Result],
    request: Request,
    limiter: Limiter,
    patience: Patience = IN_A_RUN,
) -> Result:
    """
    Make a request, its whole body included, until it succeeds or will not succeed.

    Parameters
    ----------
    ask : callable
        Does all of it, from the start.
    request : Request
        What it is about, for messages.
    limiter : Limiter
        Gives each try its turn.
    patience : Patience
        When to give up.

    Raises
    ------
    StoreError
        What `explain` makes of the last failure.
    """
    number, until = 0, None
    while True:
        turn = limiter.begin()
        overload = False
        if until is None:  # waiting for the first turn is no fault of this request
            until = time.monotonic() + patience.deadline_seconds
        try:
            return ask()
        except FOREIGN as error:
            overload = is_overload(error)
            number += 1
            longest = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (number - 1))
            jitter = random.uniform(0, longest)  # noqa: S311 - waiting, not hiding
            seconds = max(retry_after_seconds(error), jitter)
            too_late = time.monotonic() + seconds > until
            if number == patience.tries or too_late or not may_pass(error):
                raise explain(error, request, tries=number) from error
        finally:
            limiter.end(turn, overload=overload)
        time.sleep(seconds)
