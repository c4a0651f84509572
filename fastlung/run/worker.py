"""
A worker's loop: groups in a prefetch queue, one computed, one written; and its stopwatch.

While a scan is computed the bytes of the next groups are prefetched, as far as memory was planned
for them, and the last scan is written. None of it stops where a chunk ends. The work on one group
is `fastlung.run.group`'s.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fastlung.errors import StoreError
from fastlung.run.group import GroupRun, MoreMemoryError, check_group
from fastlung.run.protocol import Began, Broke, Ended, GaveBack, Tally, unpacked
from fastlung.sink.commit import Storer
from fastlung.source.open import store_of
from fastlung.storage import open_store
from fastlung.storage.prefetch import Fetcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future
    from types import TracebackType
    from typing import Self

    from fastlung.run.group import Blobs
    from fastlung.run.protocol import FromWorker, PackedTask
    from fastlung.run.schedule import Lease
    from fastlung.scan import Outcome
    from fastlung.sink.commit import Job, Task

__all__ = ["Stopwatch", "Worker"]


#: A need by headers that differs less from the predicted one is not reported.
WORTH_REPORTING = 0.05


@dataclass(slots=True, eq=False)
class _Prefetch:
    """A leased group, and the requests for its objects that are under way."""

    lease: Lease[Task]
    parts: list[Future[dict[str, memoryview]]] = field(default_factory=list)
    requested: int = 0
    requested_bytes: int = 0
    error: BaseException | None = None

    def result(self) -> Blobs:
        """Wait for all bytes."""
        if self.error is not None:
            raise self.error
        blobs: Blobs = {}
        try:
            while self.parts:
                blobs |= self.parts.pop(0).result()
        except BaseException:
            self.cancel()
            raise
        return blobs

    def cancel(self) -> None:
        """Cancel the requests that have not begun."""
        for part in self.parts:
            part.cancel()


class Worker:
    """
    Computes source groups in the order of their leases.

    Parameters
    ----------
    job : Job
        What they have in common.
    post : callable
        Takes messages to the driver; called from several threads.
    peak_bytes : callable
        Most private memory of this process since the last call; 0 if not known.
    """

    def __init__(
        self,
        job: Job,
        post: Callable[[FromWorker], None],
        peak_bytes: Callable[[], int] = lambda: 0,
    ) -> None:
        self._job = job
        self._post = post
        self._peak_bytes = peak_bytes
        self._source = open_store(job.source, job.storage)
        sink = open_store(job.sink, job.storage)
        self._storer = Storer(job, sink)
        # Refusals are counted for a bucket, whatever the prefix.
        stores = (self._source, sink)
        self._by_bucket = {tuple(store.url.split("/")[:3]): store for store in stores}
        self._fetcher = Fetcher(job.requests)
        self._ahead_bytes = job.ahead_bytes
        self._queue: deque[_Prefetch] = deque()
        self._changed = threading.Condition()
        self._finishing = False
        self._stack = ExitStack()
        self._cpu_before = self._cpu_reported = time.process_time()
        self._compute_seconds = self._fetch_wait_seconds = 0.0

    def __enter__(self) -> Self:
        self._stack.enter_context(self._fetcher)
        self._stack.enter_context(self._storer)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def submit(self, groups: Sequence[Lease[PackedTask]]) -> None:
        """Queue the leases of a chunk."""
        prefetches = [_Prefetch(unpacked(lease)) for lease in groups]
        with self._changed:
            self._queue.extend(prefetches)
            self._prefetch()
            self._changed.notify_all()

    def tune(self, ahead_bytes: int, requests: int) -> None:
        """Prefetch so many bytes with so many requests from now on."""
        self._fetcher.resize(requests)
        with self._changed:
            self._ahead_bytes = ahead_bytes
            self._prefetch()

    def finish(self, *, begun_only: bool = False) -> None:
        """Let `step` return False when nothing is left; `begun_only` drops what is not begun."""
        with self._changed:
            self._finishing = True
            while begun_only and self._queue:
                self._queue.pop().cancel()
            self._changed.notify_all()

    def drain(self) -> None:
        """Wait until what is being written is written."""
        self._storer.drain()

    def tally(self) -> Tally:
        """Return what was measured so far."""
        traffic = self._fetcher.traffic
        return Tally(
            cpu_seconds=time.process_time() - self._cpu_before,
            compute_seconds=self._compute_seconds,
            fetch_wait_seconds=self._fetch_wait_seconds,
            store_wait_seconds=self._storer.waited_seconds,
            fetch_seconds=traffic.request_seconds,
            store_seconds=self._storer.seconds,
            fetched_bytes=traffic.fetched_bytes,
            stored_bytes=self._storer.stored_bytes,
            throttled=sum(store.throttled for store in self._by_bucket.values()),
        )

    @property
    def is_idle(self) -> bool:
        """Whether nothing is waiting to be computed."""
        return not self._queue

    def step(self) -> bool:
        """
        Compute the next group; wait for one if there is none.

        Returns
        -------
        bool
            False if none will come any more.
        """
        prefetch = self._next()
        if prefetch is None:
            return False
        number = prefetch.lease.number
        clock, started, waited = Stopwatch(), time.perf_counter(), self._storer.waited_seconds
        self._post(Began(number=number))
        run = GroupRun(
            job=self._job,
            lease=prefetch.lease,
            storer=self._storer,
            report_need=lambda need: self._report_need(prefetch.lease, need),
        )
        try:
            committed = run(clock, prefetch.result)
        except MoreMemoryError as short:
            self._post(
                GaveBack(number=number, need_bytes=short.need_bytes, words="ran out of memory")
            )
            return True
        except StoreError as error:
            self._post(Broke(error=error))
            return False
        waited = self._storer.waited_seconds - waited
        fetch_wait = clock.total.get("fetch", 0.0)
        self._fetch_wait_seconds += fetch_wait
        self._compute_seconds += time.perf_counter() - started - fetch_wait - waited
        peak_bytes = self._peak_bytes()
        committed.add_done_callback(lambda future: self._report_end(number, future, peak_bytes))
        return True

    def _next(self) -> _Prefetch | None:
        """Take the oldest group off the queue, and prefetch the next ones."""
        with self._changed:
            while not self._queue:
                if self._finishing:
                    return None
                self._changed.wait()
            prefetch = self._queue.popleft()
            self._request(prefetch, prefetch.lease.task.group.size_bytes)
            self._prefetch()
            return prefetch

    def _prefetch(self) -> None:
        """Request as much of the waiting groups as may be held beside the one in work."""
        room = self._ahead_bytes
        for prefetch in self._queue:
            if room <= 0:
                return
            self._request(prefetch, room)
            room -= prefetch.requested_bytes

    def _request(self, prefetch: _Prefetch, room: int) -> None:
        """Request objects of a group until so many bytes of it are under way."""
        if prefetch.error is not None:
            return
        try:
            task = prefetch.lease.task
            objects = task.group.objects
            if not prefetch.requested:
                check_group(self._job, task.group, prefetch.lease.allowed_bytes)
            first = prefetch.requested
            while prefetch.requested < len(objects):
                size = objects[prefetch.requested].size_bytes
                if prefetch.requested_bytes + size > room:
                    break
                prefetch.requested += 1
                prefetch.requested_bytes += size
            if prefetch.requested > first:
                store = store_of(task.group, self._source, self._job.storage)
                prefetch.parts.append(
                    self._fetcher.fetch(store, objects[first : prefetch.requested])
                )
        except BaseException as error:  # noqa: BLE001 - it becomes this group's outcome
            prefetch.error = error

    def _report_need(self, lease: Lease[Task], need_bytes: int) -> None:
        expected = lease.task.need_bytes
        other = abs(need_bytes - expected) > WORTH_REPORTING * expected
        need_bytes = need_bytes if other else 0
        self._post(Began(number=lease.number, need_bytes=need_bytes, tally=self.tally()))

    def _report_end(
        self, number: int, committed: Future[tuple[Outcome, ...]], peak_bytes: int
    ) -> None:
        error = committed.exception()
        if isinstance(error, StoreError):
            self._post(Broke(error=error))
        elif error is None:
            self._post(
                Ended(
                    number=number,
                    outcomes=self._with_all_cpu_seconds(committed.result()),
                    peak_bytes=peak_bytes,
                    tally=self.tally(),
                )
            )
        else:  # memory ran out, or a bug; the driver can still say so in the sink
            words = f"raised {type(error).__name__} while it wrote"
            self._post(GaveBack(number=number, need_bytes=0, words=words))

    def _with_all_cpu_seconds(self, outcomes: tuple[Outcome, ...]) -> tuple[Outcome, ...]:
        """
        Add what this process has spent since the last group was committed.

        Threads that read and write work beside the scan that is computed. So each second is
        counted once; the record in the sink could not know those of its own writing.
        """
        now = time.process_time()
        spent, self._cpu_reported = now - self._cpu_reported, now
        others = math.fsum(outcome.cpu_seconds.get("process", 0.0) for outcome in outcomes[1:])
        process = {**outcomes[0].cpu_seconds, "process": max(0.0, spent - others)}
        return (replace(outcomes[0], cpu_seconds=process), *outcomes[1:])


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
