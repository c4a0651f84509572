"""
What a run finds to do: groups as they are listed, without those that are done.

The first ones are looked at before the run is planned; the rest comes while work goes on.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from fastlung.limits import limited
from fastlung.plan.sizes import computing_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastlung.config import Config
    from fastlung.limits import Limits
    from fastlung.plan.sizes import Estimator, ScanSize
    from fastlung.sink.commit import Task
    from fastlung.sink.contents import SinkContents
    from fastlung.source.groups import SourceGroup

__all__ = ["Search"]

#: A run is planned from so many groups, or from those that are listed in so many seconds. Locally
#: 220,000 files are listed in a second with a warm cache, 68,000 with a cold one.
FIRST_GROUPS = 1000
FIRST_SECONDS = 2.0


class Search:
    """
    Source groups that are to be done, each with the memory it is expected to need.

    Parameters
    ----------
    groups : iterable of SourceGroup
        As they are listed.
    contents : SinkContents
        What the sink holds already.
    estimator : Estimator
        Guesses how large scans are.
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

    def look_around(self, *, all_of_them: bool = False) -> None:
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
            self._estimator.look_around([task.group for task in first])
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
