"""
What ends a run early: signals and the interruption notice of a spot instance.

The first SIGINT or SIGTERM lets the scans in work be finished and recorded. A second one raises
KeyboardInterrupt where the run is. Handlers are those of before once the run has ended.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastlung.plan.ec2 import is_amazon, metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType, TracebackType
    from typing import Self

__all__ = ["Interruptions", "SpotNotice", "Wakeup"]


SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Wakeup:
    """Ends a wait for its file descriptor (a self-pipe), from signals and threads."""

    def __init__(self) -> None:
        # Not a pipe: a thread may wake it after the end, and a closed socket, unlike the
        # number of a closed file, is not reused.
        self._out, self._in = socket.socketpair()
        self._out.setblocking(False)
        self._in.setblocking(False)

    def fileno(self) -> int:
        """File descriptor to wait for."""
        return self._out.fileno()

    def wake(self) -> None:
        """End the wait, now or the next time."""
        with suppress(OSError):  # full: woken often enough; or closed: no wait is left
            self._in.send(b"!")

    def clear(self) -> None:
        """Forget that it was woken."""
        with suppress(BlockingIOError):
            while self._out.recv(4096):
                pass

    def close(self) -> None:
        """Release both ends."""
        self._out.close()
        self._in.close()


class Interruptions:
    """
    Handles signals while it is entered; in the main thread only, as Python demands.

    Parameters
    ----------
    wakeup : Wakeup
        Woken by the first signal.
    """

    def __init__(self, wakeup: Wakeup) -> None:
        self._wakeup = wakeup
        self._before: dict[int, Any] = {}
        #: What asked the run to end; empty as long as nothing did.
        self.reason = ""

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def ask(self, reason: str) -> None:
        """Ask the run to end, from any thread."""
        self.reason = self.reason or reason
        self._wakeup.wake()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.reason:
            raise KeyboardInterrupt
        self.ask(signal.Signals(number).name)


#: What AWS recommends, in seconds.
POLL_SECONDS = 5.0

#: Terminate, stop or hibernate, as JSON; there is no such page before the notice.
ITEM = "spot/instance-action"


class SpotNotice:
    """
    Polls for the spot interruption notice while it is entered, in a thread of its own.

    Parameters
    ----------
    notify : callable
        Called once, with a few words, when the notice comes.
    root : Path
        Where ``sys`` is, which says whether this is EC2.
    environment : mapping
        Names the endpoint of the metadata service where it is not the usual one, or forbids it.
    poll_seconds : float
        Seconds between two requests.
    """

    def __init__(
        self,
        notify: Callable[[str], None],
        *,
        root: Path = Path("/"),
        environment: Mapping[str, str] = os.environ,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._notify = notify
        self._environment = environment
        self._poll_seconds = poll_seconds
        self._left = threading.Event()
        self._thread = None
        if is_amazon(root):
            self._thread = threading.Thread(target=self._poll, daemon=True, name="fastlung-spot")

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

    def _poll(self) -> None:
        while not self._left.wait(self._poll_seconds):
            if metadata(ITEM, self._environment) is not None:
                self._notify("the notice that this spot instance will be taken away")
                return
