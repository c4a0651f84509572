"""
What a run has to do: source groups as they are listed, without those that are done.

Headers of the first ones are read before the run is planned; the rest is listed by a thread while
workers compute. `prepare` puts listing, machine and plan together.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fastlung.errors import StoreError
from fastlung.limits import limited
from fastlung.plan.catalogue import with_known_network
from fastlung.plan.costs import ASSUMED, Routes, recall, route_of
from fastlung.plan.machine import probe
from fastlung.plan.plan import plan_run
from fastlung.plan.sizes import Estimator, computing_bytes
from fastlung.plan.tune import Tuner
from fastlung.run.protocol import PackedTask
from fastlung.segmenter import segmenter_of
from fastlung.sink.contents import SinkContents, check_sink, source_groups
from fastlung.sink.names import load_names_key
from fastlung.source.open import open_source, store_of
from fastlung.storage import open_store

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastlung.config import Config, RunOptions
    from fastlung.limits import Limits
    from fastlung.plan.costs import Calibration
    from fastlung.plan.machine import Machine
    from fastlung.plan.plan import Plan
    from fastlung.plan.sizes import ScanSize
    from fastlung.run.signals import Wakeup
    from fastlung.sink.commit import Task
    from fastlung.source.groups import SourceGroup
    from fastlung.source.open import Source
    from fastlung.storage.base import Store

__all__ = [
    "Listing",
    "ListingThread",
    "Places",
    "Prepared",
    "entries_hidden",
    "open_places",
    "prepare",
]


#: A run is planned from so many groups, or from those that are listed in so many seconds. Locally
#: 220,000 files are listed in a second with a warm cache, 68,000 with a cold one.
FIRST_GROUPS = 1000

FIRST_SECONDS = 2.0


class Listing:
    """
    Source groups that are to be done, each with the memory it is predicted to need.

    Parameters
    ----------
    groups : iterable of SourceGroup
        As they are listed.
    contents : SinkContents
        What the sink holds already.
    estimator : Estimator
        Predicts how large scans are.
    config : Config
        What is done to a scan.
    limits : Limits
        In force while headers are read.

    Attributes
    ----------
    found : int
        Groups that were found so far, done ones included.
    listed : bool
        Whether these are all.
    first : tuple of Task
        Groups to do that were found before the run was planned.
    sizes : tuple of ScanSize
        How large these seem to be.
    """

    def __init__(
        self,
        groups: Iterable[SourceGroup],
        contents: SinkContents,
        estimator: Estimator,
        config: Config,
        limits: Limits,
    ) -> None:
        self._groups = iter(groups)
        self._contents = contents
        self._estimator = estimator
        self._config = config
        self._limits = limits
        self.found = 0
        self.listed = False
        self.first: tuple[Task, ...] = ()
        self.sizes: tuple[ScanSize, ...] = ()

    def find_first(self, *, all_of_them: bool = False) -> None:
        """
        Find the first groups, at least one that is to be done; or all.

        Raises
        ------
        NothingFoundError
            If there are no files at all.
        StoreError
            If the source cannot be listed.
        """
        until = time.monotonic() + FIRST_SECONDS
        first = []
        for task in self._left():
            first.append(task)
            enough = len(first) >= FIRST_GROUPS or time.monotonic() > until
            if enough and not all_of_them:
                break
        with limited(self._limits):
            self._estimator.read_headers([task.group for task in first])
            self.sizes = tuple(self._estimator.size(task.group) for task in first)
        self.first = tuple(map(self._weighed, first, self.sizes))

    def __iter__(self) -> Iterator[Task]:
        """All that is to be done, as it is found; the first ones again."""
        yield from self.first
        for task in self._left():
            with limited(self._limits):
                size = self._estimator.estimate(task.group)
            yield self._weighed(task, size)

    def _weighed(self, task: Task, size: ScanSize) -> Task:
        return replace(task, need_bytes=computing_bytes(size, self._config))

    def _left(self) -> Iterator[Task]:
        while True:
            with limited(self._limits):
                group = next(self._groups, None)
            if group is None:
                self.listed = True
                return
            self.found += 1
            task = self._contents.task(group)
            if task is not None:
                yield task


#: Packed groups that may wait in memory; beyond it the listing pauses until some are leased.
#: At least 40,000 folders of 200 slices.
WAITING_BYTES = 256 * 2**20


class ListingThread:
    """
    Iterates over the listing in a thread of its own, ahead of the driver.

    Parameters
    ----------
    tasks : iterable of Task
        Found as it is iterated over; may raise.
    wakeup : Wakeup
        Woken when a task was found.
    """

    def __init__(self, tasks: Iterable[Task], wakeup: Wakeup) -> None:
        self._tasks = tasks
        self._wakeup = wakeup
        self._found: deque[PackedTask] = deque()
        self._room = threading.Event()
        self._room.set()
        self._error: BaseException | None = None
        self._stopped = self._ended = False
        self._thread = threading.Thread(target=self._find, daemon=True, name="fastlung-listing")
        self._thread.start()

    @property
    def over(self) -> bool:
        """
        Whether all has been found and taken.

        Raises
        ------
        FastlungError
            What ended the listing.
        """
        if self._ended and not self._found and self._error is not None:
            raise self._error
        return self._ended and not self._found

    def taken(self) -> Iterator[PackedTask]:
        """Take the tasks that were found since."""
        while self._found:
            yield self._found.popleft()

    def throttle(self, waiting_bytes: int) -> None:
        """Pause or resume the listing, by the bytes of packed tasks that wait for a worker."""
        if waiting_bytes < WAITING_BYTES:
            self._room.set()
        else:
            self._room.clear()

    def stop(self) -> None:
        """End the listing."""
        self._stopped = True
        self._found.clear()
        self._room.set()

    def _find(self) -> None:
        try:
            for task in self._tasks:
                if self._stopped:
                    break
                self._found.append(PackedTask.of(task))
                self._wakeup.wake()
                self._room.wait()
        except BaseException as error:  # noqa: BLE001 - raised again where the run is
            self._error = error
        finally:
            self._ended = True
            self._wakeup.wake()


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """
    Source and sink, checked to be usable.

    Attributes
    ----------
    source : Source
        What is processed.
    sink : Store
        Where results go.
    names_key : bytes
        Key of hashed names; empty where names are not hashed.
    """

    source: Source
    sink: Store
    names_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """
    A run that is ready to start; nothing has been written yet.

    Attributes
    ----------
    source, sink : Store
        From where to where.
    config : Config
        What is done to a scan.
    options : RunOptions
        How the run is carried out.
    names_key : bytes
        Key of hashed names; empty where names are not hashed.
    contents : SinkContents
        What the sink held before.
    listing : Listing
        What there is to do.
    machine : Machine
        What may be used.
    plan : Plan
        How to begin.
    tuner : Tuner or None
        Adjusts the plan while the run goes on, where that is wanted.
    routes : Routes
        Over what bytes come and go.
    """

    source: Store
    sink: Store
    config: Config
    options: RunOptions
    names_key: bytes
    contents: SinkContents
    listing: Listing
    machine: Machine
    plan: Plan
    tuner: Tuner | None
    routes: Routes

    @property
    def groups(self) -> int:
        """Source groups to do, as far as they are known."""
        return self.listing.found - self.contents.already_done


@contextmanager
def entries_hidden(source: Source, config: Config) -> Iterator[None]:
    """Keep the entries of a list out of errors that end a run, where names are hashed."""
    try:
        yield
    except StoreError as error:
        if config.names != "hash":
            raise
        raise type(error)(source.hidden(str(error))) from None


def open_places(source: str, sink: str, config: Config, options: RunOptions) -> Places:
    """
    Open source and sink and check that both can be used, before anything takes long.

    Parameters
    ----------
    source, sink : str
        As typed.
    config : Config
        What is to be done to each scan.
    options : RunOptions
        How.

    Raises
    ------
    FastlungError
        As `fastlung.run.engine.run` does before it starts.
    """
    found, sink_store = open_source(source, options.storage), open_store(sink, options.storage)
    with entries_hidden(found, config):
        found.check()
    segmenter_of(config)  # refused here, not once a scan
    sink_store.check_sink()
    names_key = load_names_key() if config.names == "hash" else b""
    check_sink(sink_store, config, names_key, options)
    return Places(source=found, sink=sink_store, names_key=names_key)


def prepare(
    places: Places, config: Config, options: RunOptions, *, all_of_them: bool = False
) -> Prepared:
    """
    List, look at the machine, and plan.

    Parameters
    ----------
    places : Places
        From where to where.
    config : Config
        What is to be done to each scan.
    options : RunOptions
        How.
    all_of_them : bool
        Whether to find all groups before planning, not only the first.

    Raises
    ------
    FastlungError
        As `fastlung.run.engine.run` does before it starts.
    """
    source, sink = places.source, places.sink

    def opened(group: SourceGroup) -> Store:
        return store_of(group, source.store, options.storage)

    groups = source_groups(
        source,
        sink,
        group_by=config.group_by,
        names_key=places.names_key,
        storage=options.storage,
    )
    contents = SinkContents(sink, config, options)
    listing = Listing(groups, contents, Estimator(config, opened), config, options.limits)
    listing.find_first(all_of_them=all_of_them)
    machine = with_known_network(probe())
    routes = Routes(source=route_of(source.store.url), sink=route_of(sink.url))
    calibration = recall(machine, config, routes) or ASSUMED
    plan = plan_run(
        listing.sizes,
        machine,
        config,
        options,
        routes=routes,
        calibration=calibration,
        more_to_come=not listing.listed,
    )
    return Prepared(
        source=source.store,
        sink=sink,
        config=config,
        options=options,
        names_key=places.names_key,
        contents=contents,
        listing=listing,
        machine=machine,
        plan=plan,
        tuner=_tuner(listing, machine, config, options, plan, routes, calibration),
        routes=routes,
    )


def _tuner(
    listing: Listing,
    machine: Machine,
    config: Config,
    options: RunOptions,
    plan: Plan,
    routes: Routes,
    calibration: Calibration,
) -> Tuner | None:
    if not options.auto_tune or not plan.workers:
        return None
    groups = len(listing.sizes) if listing.listed else None
    return Tuner.of_plan(plan, listing.sizes, machine, config, routes, calibration, groups)
