"""
What a run would do and how long it would take, on this machine or another.

Covers listing, a few headers and arithmetic: no pixel is read and nothing is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastlung.limits import limited
from fastlung.plan.costs import ASSUMED, Routes, recall, route_of
from fastlung.plan.plan import plan_run
from fastlung.plan.sizes import estimate_sizes
from fastlung.sink.contents import SinkContents, check_sink, source_groups
from fastlung.sink.names import load_names_key
from fastlung.source.open import open_source, store_of
from fastlung.storage.open import open_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastlung.config import Config, RunOptions
    from fastlung.plan.machine import Machine
    from fastlung.plan.plan import Plan
    from fastlung.source.groups import SourceGroup
    from fastlung.source.open import Source

__all__ = ["Forecast", "forecast"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """
    What a run would do.

    Attributes
    ----------
    machine : Machine
        What it could use.
    plan : Plan
        How it would be carried out.
    groups, already_done : int
        Source groups to do, and groups that the sink holds already.
    source_bytes : int
        Bytes of what is to do.
    seconds : float or None
        How long it would take; None if nothing is to do.
    """

    machine: Machine
    plan: Plan
    groups: int
    already_done: int
    source_bytes: int
    seconds: float | None


def forecast(
    source: str, sink: str | None, config: Config, options: RunOptions, machine: Machine
) -> Forecast:
    """
    Plan a run.

    Parameters
    ----------
    source : str
        What would be processed.
    sink : str or None
        Where results would go; what it holds already is not done again. None takes all for new
        and results to go where the source is.
    config : Config
        What would be done to each scan.
    options : RunOptions
        How the run would be carried out.
    machine : Machine
        Where it would run.

    Raises
    ------
    FastlungError
        As `fastlung.run.engine.run` does before it starts.
    """
    places = open_source(source, options.storage)
    with limited(options.limits):
        groups, already_done = _to_do(places, sink, config, options)
        sizes = estimate_sizes(
            groups, config, lambda group: store_of(group, places.store, options.storage)
        )
    routes = Routes(source=route_of(places.store.url), sink=route_of(sink or places.store.url))
    calibration = recall(machine, config, routes) or ASSUMED
    plan = plan_run(sizes, machine, config, options, routes=routes, calibration=calibration)
    rate = plan.scans_per_second
    return Forecast(
        machine=machine,
        plan=plan,
        groups=len(groups),
        already_done=already_done,
        source_bytes=sum(group.size_bytes for group in groups),
        seconds=None if rate is None else len(groups) / rate,
    )


def _to_do(
    places: Source, sink: str | None, config: Config, options: RunOptions
) -> tuple[Sequence[SourceGroup], int]:
    names_key = load_names_key() if config.names == "hash" else b""
    sink_store = None if sink is None else open_store(sink, options.storage)
    if sink_store is not None:
        check_sink(sink_store, config, names_key, options)
    groups = source_groups(
        places,
        sink_store,
        group_by=config.group_by,
        names_key=names_key,
        storage=options.storage,
    )
    if sink_store is None:
        return list(groups), 0
    contents = SinkContents(sink_store, config, options)
    left = [group for group in groups if contents.task(group) is not None]
    return left, contents.already_done
