"""
The notice that EC2 gives before it takes a spot instance away.

Two minutes before, the metadata service says so. Elsewhere than on EC2 nobody is asked.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from fastlung.plan.ec2 import is_amazon, metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

__all__ = ["SpotNotice"]

#: What AWS recommends, in seconds.
ASK_SECONDS = 5.0
#: Terminate, stop or hibernate, as JSON; there is no such page before the notice.
ITEM = "spot/instance-action"


class SpotNotice:
    """
    Looks out for the notice while it is entered, in a thread of its own.

    Parameters
    ----------
    notify : callable
        Told once, in a few words, when the notice comes.
    root : Path
        Where ``sys`` is, which says whether this is EC2.
    environment : mapping
        Names the endpoint where it is not the usual one, or forbids to ask.
    ask_seconds : float
        Seconds between two questions.
    """

    def __init__(
        self,
        notify: Callable[[str], None],
        *,
        root: Path = Path("/"),
        environment: Mapping[str, str] = os.environ,
        ask_seconds: float = ASK_SECONDS,
    ) -> None:
        self._notify = notify
        self._environment = environment
        self._ask_seconds = ask_seconds
        self._left = threading.Event()
        self._thread = None
        if is_amazon(root):
            self._thread = threading.Thread(target=self._look, daemon=True, name="fastlung-spot")

    def __enter__(self) -> Self:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._left.set()
        if self._thread is not None:
            self._thread.join()

    def _look(self) -> None:
        while not self._left.wait(self._ask_seconds):
            if metadata(ITEM, self._environment) is not None:
                self._notify("the notice that this spot instance will be taken away")
                return
