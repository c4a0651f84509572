"""
Source groups on their way: many objects at a time, the oldest group's first.

Covers when each object is asked for, and what happens to a group when one of its objects cannot be
read. How a request is made, tried again and held back under overload is the store's business.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from fastlung.storage.base import ObjectInfo, Store

    Blobs = dict[str, memoryview]
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["Fetcher", "Traffic", "map_ahead", "share_arenas"]


#: Of each thread. The usual 8 MiB count against the address space that a worker is given, whether
#: touched or not: 16 threads took 128 MB of it.
STACK_BYTES = 2**20

#: How long requests under way are waited for when a fetcher is left, in seconds.
CLOSING_SECONDS = 5.0

#: glibc's name for how many heaps threads may have, and how many that should be.
M_ARENA_MAX, ARENAS = -8, 2

_starting = threading.Lock()


def share_arenas() -> bool:
    """
    Let all threads of this process allocate from two heaps; for workers, before their threads.

    glibc gives each thread a heap of its own that reserves 64 MiB. Measured with 16 requests, two
    heaps take 0.4 instead of 1.0 GB of the address space that a worker is given, and a fifth less
    CPU time, as buffers are used again instead of being faulted in.

    Returns
    -------
    bool
        False where the C library is another one; then nothing has changed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(M_ARENA_MAX, ARENAS) == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """
    What a fetcher has moved so far.

    Attributes
    ----------
    objects : int
        Read whole.
    fetched_bytes : int
        Their bytes.
    request_seconds : float
        Wall seconds of all requests added up, their retries included: with 16 under way, 16 in
        each second. Divided by `objects`, how long one takes.
    failed : int
        Objects that could not be read.
    """

    objects: int = 0
    fetched_bytes: int = 0
    request_seconds: float = 0.0
    failed: int = 0


@dataclass(slots=True, eq=False)
class _Group:
    """Objects that are wanted together."""

    store: Store
    objects: Sequence[ObjectInfo]
    future: Future[Blobs]
    begun: int = 0
    left: int = 0
    ended: bool = False
    blobs: Blobs = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether all its objects have been requested."""
        return self.begun == len(self.objects) or self.ended or self.future.cancelled()


class Fetcher:
    """
    Reads the objects of source groups side by side, in threads of this process.

    One for each worker process, entered as long as it works. Threads, because obstore's blocking
    `get` costs no more than its asynchronous one and shares its retries with everything else.

    Parameters
    ----------
    requests : int
        Objects that may be under way at once; at least 1.

    Examples
    --------
    >>> with Fetcher(requests=16) as fetcher:  # doctest: +SKIP
    ...     this = fetcher.fetch(store, groups[0].objects)
    ...     after = fetcher.fetch(store, groups[1].objects)
    ...     blobs = this.result()
    ...     after.cancel()
    """

    def __init__(self, requests: int) -> None:
        self._most = requests
        self._groups: deque[_Group] = deque()
        self._changed = threading.Condition()
        self._threads: set[threading.Thread] = set()
        self._waiting = 0
        self._closed = False
        self._traffic = Traffic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._closed = True
            for group in self._groups:
                group.future.cancel()
            self._changed.notify_all()
            threads = tuple(self._threads)
        until = time.monotonic() + CLOSING_SECONDS
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    @property
    def traffic(self) -> Traffic:
        """What was moved so far, since the beginning; cheap, and safe from any thread."""
        return self._traffic

    def fetch(self, store: Store, objects: Sequence[ObjectInfo]) -> Future[Blobs]:
        """
        Request all objects of a group, after those of earlier groups.

        Parameters
        ----------
        store : Store
            Where they are.
        objects : sequence of ObjectInfo
            As listed; each is held against its length and ETag.

        Returns
        -------
        Future of dict of str to memoryview
            Key -> contents, in the order of `objects`. Raises the `StoreError` of the first object
            that could not be read; the others are then dropped, other groups go on. Its `cancel`
            works until the last object has arrived: what is not yet asked for never is.
        """
        future: Future[Blobs] = Future()
        group = _Group(store=store, objects=tuple(objects), future=future, left=len(objects))
        if not group.objects:
            future.set_result({})
            return future
        with self._changed:
            self._groups.append(group)
            self._changed.notify(len(group.objects))
            self._hire()
        return future

    def resize(self, requests: int) -> None:
        """
        Change how many objects may be under way; those that are, are finished.

        Parameters
        ----------
        requests : int
            At least 1.
        """
        with self._changed:
            self._most = requests
            self._changed.notify_all()
            self._hire()

    def _hire(self) -> None:
        """Start threads for requests in the queue, as far as idle ones do not suffice."""
        wanted = sum(len(group.objects) - group.begun for group in self._groups)
        missing = min(wanted - self._waiting, self._most - len(self._threads))
        with _starting:
            before = threading.stack_size(STACK_BYTES)
            try:
                for _ in range(missing):
                    # Daemons: a worker that drops everything must not wait for S3.
                    thread = threading.Thread(target=self._work, daemon=True, name="fastlung-fetch")
                    self._threads.add(thread)
                    thread.start()
            finally:
                threading.stack_size(before)

    def _work(self) -> None:
        try:
            while (job := self._next()) is not None:
                self._read(*job)
                del job  # or an idle thread would hold the last group's bytes
        finally:
            with self._changed:
                self._threads.discard(threading.current_thread())

    def _next(self) -> tuple[_Group, ObjectInfo] | None:
        """Object to read now; None if this thread is not needed any more."""
        with self._changed:
            while True:
                if self._closed or len(self._threads) > self._most:
                    self._threads.discard(threading.current_thread())
                    return None
                while self._groups and self._groups[0].is_over:
                    self._drop_first()
                if self._groups:
                    group = self._groups[0]
                    group.begun += 1
                    return group, group.objects[group.begun - 1]
                self._waiting += 1
                self._changed.wait()
                self._waiting -= 1

    def _drop_first(self) -> None:
        group = self._groups.popleft()
        if group.future.cancelled():
            group.blobs.clear()

    def _read(self, group: _Group, info: ObjectInfo) -> None:
        if group.future.cancelled():
            return
        started = time.perf_counter()
        try:
            blob = group.store.read(info.key, etag=info.etag)
        except BaseException as error:  # noqa: BLE001 - raised where the group is waited for
            self._settle(group, info, error, time.perf_counter() - started)
        else:
            self._settle(group, info, blob, time.perf_counter() - started)

    def _settle(
        self, group: _Group, info: ObjectInfo, found: memoryview | BaseException, seconds: float
    ) -> None:
        """Note what became of an object, and end its group if that was the last or a failure."""
        with self._changed:
            self._count(found, seconds)
            group.left -= 1
            if not isinstance(found, BaseException):
                group.blobs[info.key] = found
                if group.left and not group.ended and not group.future.cancelled():
                    return
            blobs, group.blobs = group.blobs, {}
            if group.ended:
                return
            group.ended = True
            # After this a cancel comes too late; before, it has dropped the group.
            if not group.future.set_running_or_notify_cancel():
                return
        # Outside the lock: callbacks of the future may request the next group.
        if isinstance(found, BaseException):
            group.future.set_exception(found)
        else:
            group.future.set_result({each.key: blobs[each.key] for each in group.objects})

    def _count(self, found: memoryview | BaseException, seconds: float) -> None:
        before = self._traffic
        arrived = None if isinstance(found, BaseException) else found
        self._traffic = Traffic(
            objects=before.objects + (arrived is not None),
            fetched_bytes=before.fetched_bytes + (0 if arrived is None else arrived.nbytes),
            request_seconds=before.request_seconds + seconds,
            failed=before.failed + (arrived is None),
        )


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
            for future in going:
                future.cancel()
