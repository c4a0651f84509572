"""Before a run: look at source, sink and machine, and plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastlung.plan.catalogue import with_known_network
from fastlung.plan.costs import ASSUMED, Routes, recall, route_of
from fastlung.plan.machine import probe
from fastlung.plan.plan import plan_run
from fastlung.plan.sizes import Estimator
from fastlung.plan.tune import Tuner
from fastlung.run.search import Search
from fastlung.segmenter import segmenter_of
from fastlung.sink.contents import SinkContents, check_sink, source_groups
from fastlung.sink.names import load_names_key
from fastlung.source.open import open_source, store_of
from fastlung.storage.open import open_store

if TYPE_CHECKING:
    from fastlung.config import Config, RunOptions
    from fastlung.plan.costs import Calibration
    from fastlung.plan.machine import Machine
    from fastlung.plan.plan import Plan
    from fastlung.source.groups import SourceGroup
    from fastlung.source.open import Source
    from fastlung.storage.base import Store

__all__ = ["Places", "Prepared", "look_at_places", "prepare"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """
    From where to where, and usable.

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
    search : Search
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
    search: Search
    machine: Machine
    plan: Plan
    tuner: Tuner | None
    routes: Routes

    @property
    def groups(self) -> int:
        """Source groups to do, as far as they are known."""
        return self.search.found - self.contents.already_done


def look_at_places(source: str, sink: str, config: Config, options: RunOptions) -> Places:
    """
    See that source and sink can be used at all, before anything takes long.

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
    search = Search(groups, contents, Estimator(config, opened), config, options.limits)
    search.look_around(all_of_them=all_of_them)
    machine = with_known_network(probe())
    routes = Routes(source=route_of(source.store.url), sink=route_of(sink.url))
    calibration = recall(machine, config, routes) or ASSUMED
    plan = plan_run(
        search.sizes,
        machine,
        config,
        options,
        routes=routes,
        calibration=calibration,
        more_to_come=not search.listed,
    )
    return Prepared(
        source=source.store,
        sink=sink,
        config=config,
        options=options,
        names_key=places.names_key,
        contents=contents,
        search=search,
        machine=machine,
        plan=plan,
        tuner=_tuner(search, machine, config, options, plan, routes, calibration),
        routes=routes,
    )


def _tuner(
    search: Search,
    machine: Machine,
    config: Config,
    options: RunOptions,
    plan: Plan,
    routes: Routes,
    calibration: Calibration,
) -> Tuner | None:
    if not options.auto_tune or not plan.workers:
        return None
    groups = len(search.sizes) if search.listed else None
    return Tuner.of_plan(plan, search.sizes, machine, config, routes, calibration, groups)
