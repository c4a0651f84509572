"""Groups that are found while others are already being worked on."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from fastlung.run.parcel import Parcel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastlung.run.interrupt import Bell
    from fastlung.sink.commit import Task

__all__ = ["Finder"]

#: Packed groups that may wait in memory; beyond it the search rests until some are handed out.
#: At least 40,000 folders of 200 slices.
WAITING_BYTES = 256 * 2**20


class Finder:
    """
    Goes through what is found in a thread of its own.

    Parameters
    ----------
    tasks : iterable of Task
        Found as it is iterated over; may raise.
    bell : Bell
        Rung when there is something new.
    """

    def __init__(self, tasks: Iterable[Task], bell: Bell) -> None:
        self._tasks = tasks
        self._bell = bell
        self._found: deque[Parcel] = deque()
        self._room = threading.Event()
        self._room.set()
        self._error: BaseException | None = None
        self._stopped = self._ended = False
        self._thread = threading.Thread(target=self._find, daemon=True, name="fastlung-finder")
        self._thread.start()

    @property
    def over(self) -> bool:
        """
        Whether all has been found and taken.

        Raises
        ------
        FastlungError
            What ended the search.
        """
        if self._ended and not self._found and self._error is not None:
            raise self._error
        return self._ended and not self._found

    def taken(self) -> Iterator[Parcel]:
        """Take what was found since."""
        while self._found:
            yield self._found.popleft()

    def gone(self, waiting_bytes: int) -> None:
        """Hear how many bytes of what was taken still wait for a worker."""
        if waiting_bytes < WAITING_BYTES:
            self._room.set()
        else:
            self._room.clear()

    def stop(self) -> None:
        """Look no further."""
        self._stopped = True
        self._found.clear()
        self._room.set()

    def _find(self) -> None:
        try:
            for task in self._tasks:
                if self._stopped:
                    break
                self._found.append(Parcel.of(task))
                self._bell.ring()
                self._room.wait()
        except BaseException as error:  # noqa: BLE001 - raised again where the run is
            self._error = error
        finally:
            self._ended = True
            self._bell.ring()
