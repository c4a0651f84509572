"""
Auto-tune: measure a run, plan it again by the model, try the new setting, keep it or go back.

Pure: no clock, process or file. Measurements in, a setting out, so that the simulator in the tests
runs this very code.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from fastlung.plan.costs import ASSUMED, Calibration, usual_cost
from fastlung.plan.model import predict, request_seconds, worker_bytes
from fastlung.plan.plan import most_requests, most_workers, resources_of
from fastlung.plan.setting import Interval, best_setting
from fastlung.plan.sizes import computing_bytes
from fastlung.text import byte_size

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from fastlung.config import Config
    from fastlung.plan.costs import Routes
    from fastlung.plan.machine import Machine
    from fastlung.plan.model import Prediction, Resources, ScanCost, Setting
    from fastlung.plan.plan import Plan
    from fastlung.plan.setting import Progress
    from fastlung.plan.sizes import ScanSize

__all__ = ["Tuner"]

#: Groups of an interval: for each worker, and at least. A rate counted over fewer jumps by more
#: than what is to be told apart.
INTERVAL_GROUPS_EACH, INTERVAL_GROUPS = 3, 8
#: A change is tried if the model promises so much more, and kept if the run really is so much
#: faster.
WORTH_TRYING, WORTH_KEEPING = 1.05, 1.03
#: A promise beyond this shows in a shorter interval: one group for each worker.
PLAIN = 1.3
#: Intervals until the next try after a change that did not pay; doubled each time.
FIRST_BACKOFF, LONGEST_BACKOFF = 2, 64
#: Workers are multiplied by this at once, at most; and by that where the model knows no reason why
#: processors are idle.
GROWTH, PROBE = 4.0, 1.5
#: Reading is much slower than planned from this factor on, seen in this part of the first scans;
#: then workers may grow by that. Connections that are being made look like a slow store, too: by
#: 1.7 on loopback, and with four times the workers two processors took half as long again a scan.
MUCH_SLOWER, EARLY_PART, EARLY_GROWTH = 1.8, 0.5, 3.0
#: What is left of the workers where memory gets scarce.
SHRINK = 0.8
#: Part of the processors from which on they count as busy: more workers gain nothing.
BUSY = 0.92
#: What a network is taken to carry beyond what it was seen to carry when it bound.
MARGIN = 1.05
#: Memory that stays free whatever happens, as a part of the budget.
SPARE_MEMORY = 0.03
#: How much the last interval counts beside all before, at least; by default as its groups do. More,
#: and the end of a run, when what was computed before is committed, made scans a quarter too cheap.
FRESH = 0.1
#: How much an interval counts, at least, if requests had waited for one another in all before.
AFRESH = 0.5


class Tuner:
    """
    Adjusts workers, bytes ahead and requests of a run.

    It begins with the plan's setting. Once an interval of groups is committed it corrects the
    plan's costs by what they took, asks the model for a better setting, and tries it: if the next
    interval is not faster, it goes back and waits before it tries again. If memory gets scarce
    it goes down at once.

    Parameters
    ----------
    setting : Setting
        What the run begins with.
    cost : ScanCost
        The usual scan, as the plan expects it.
    resources : Resources
        What the machine has.
    most_workers : int
        Never more.
    most_requests : int
        Never more for each worker.
    calibration : Calibration
        What `cost` was made with.

    Attributes
    ----------
    setting : Setting
        What holds now.
    why : str
        Why, in a sentence.
    calibration : Calibration
        What has been measured; worth remembering once its `scans` is not 0.

    Examples
    --------
    >>> tuner = Tuner.of_plan(plan, sizes, machine, config, routes)  # doctest: +SKIP
    >>> while running:  # doctest: +SKIP
    ...     setting = tuner.observe(progress())  # as often as one likes: once a second
    ...     if setting != holding:
    ...         dispatcher.resize(setting)  # and say tuner.why
    >>> remember(machine, config, routes, tuner.calibration)  # doctest: +SKIP
    """

    def __init__(
        self,
        setting: Setting,
        cost: ScanCost,
        resources: Resources,
        *,
        most_workers: int,
        most_requests: int,
        calibration: Calibration = ASSUMED,
    ) -> None:
        self.setting = setting
        self.why = "as planned; measuring"
        self.calibration = calibration
        self._planned = self._cost = cost
        self._known = calibration
        self._resources = resources
        self._most_workers = most_workers
        self._most_requests = most_requests
        self._begun: Progress | None = None
        self._settled = True  # nothing was begun before
        self._intervals = 0
        # What was measured in a whole run is not put right by a first look.
        self._looked = cost.source != "network" or calibration.scans > 0
        self._lightest: Interval | None = None
        self._before: tuple[Setting, Interval] | None = None
        self._promised = 1.0
        self._backoff, self._wait = FIRST_BACKOFF, 0
        self._probes = -1
        self._held_until_groups = 0

    @classmethod
    def of_plan(
        cls,
        plan: Plan,
        sizes: Iterable[ScanSize],
        machine: Machine,
        config: Config,
        routes: Routes,
        calibration: Calibration = ASSUMED,
        groups: int | None = None,
    ) -> Self:
        """
        Take over from a plan.

        Parameters
        ----------
        plan : Plan
            What the run begins with.
        sizes, machine, config, routes, calibration
            What it was made of; `sizes` may be those that are known so far, at least one.
        groups : int, optional
            Source groups to do; None while they are still being found.
        """
        budget = plan.memory_budget_bytes
        resources = resources_of(machine, budget, calibration)
        fitting = [size for size in sizes if computing_bytes(size, config) <= budget]
        return cls(
            plan.setting,
            usual_cost(fitting, config, routes, calibration),
            resources,
            most_workers=max(plan.workers, most_workers(resources, groups)),
            most_requests=most_requests(machine),
            calibration=calibration,
        )

    @property
    def expected(self) -> Prediction:
        """What the model says of the setting that holds, by what was measured."""
        return predict(self._cost, self._resources, self.setting)

    def observe(self, progress: Progress) -> Setting:
        """
        Take in what the run has measured, and return how to go on.

        Parameters
        ----------
        progress : Progress
            Sums since the run began.

        Returns
        -------
        Setting
            What should hold from now on; `why` says why.
        """
        if self._begun is None:
            self._begun = progress
        if self._short_of_memory(progress):
            return self.setting
        if not self._looked:
            self._look_early(progress)
        groups = progress.groups - self._begun.groups
        if not self._settled:
            # Until each worker has ended what it had begun before, a rate belongs to no setting.
            if groups >= self.setting.workers:
                self._begun, self._settled = progress, True
            return self.setting
        # A large promise shows in a short interval.
        short = not self._intervals or (self._before is not None and self._promised > PLAIN)
        each = 1 if short else INTERVAL_GROUPS_EACH
        if groups >= max(INTERVAL_GROUPS, each * self.setting.workers):
            interval = Interval(self._begun, progress)
            self._begun = progress
            self._measure(interval)
            self._decide(interval)
        return self.setting

    def _look_early(self, progress: Progress) -> None:
        """Change the setting before the first scans end, if reading is much slower than planned."""
        planned = self._planned
        if progress.fetched_bytes < EARLY_PART * self.setting.workers * planned.fetch_bytes:
            return
        self._looked = True
        if self._begun is not None and self._is_busy(Interval(self._begun, progress)):
            return
        self._lightest = Interval.since_the_start(progress)
        each = progress.fetch_seconds / progress.fetched_bytes
        slower = _over(each, request_seconds(planned, "fetch") / planned.fetch_bytes)
        if slower is None or slower < MUCH_SLOWER or self._intervals:
            return
        self.calibration = replace(self._known, requests=slower * self._known.requests, scans=0)
        self._cost = self._corrected()
        best = self._best(progress, EARLY_GROWTH)
        if best.workers >= self.setting.workers and best != self.setting:
            words = _words(best, self.setting)
            self._begun = progress
            self._go(best, f"{words}: reading takes {slower:.1f} times as long as planned")

    def _best(self, progress: Progress, growth: float) -> Setting:
        """What the model would choose, within a factor of the setting that holds."""
        return best_setting(
            self._cost,
            self._resources,
            most_workers=min(self._room(progress), math.ceil(growth * self.setting.workers)),
            most_requests=self._most_requests,
        )

    def _decide(self, interval: Interval) -> None:
        if self._before is not None:
            self._judge(interval, self._before)
        elif interval.grown("throttled") >= interval.grown("groups"):
            self._most_requests = max(1, self.setting.requests // 2)
            self._go(
                replace(self.setting, requests=self._most_requests),
                "the store refuses requests: half as many at once",
            )
        elif self._wait > 0:
            self._wait -= 1
        else:
            self._try(interval)

    def _measure(self, interval: Interval) -> None:
        """Correct the cost of a scan by an interval."""
        planned, known = self._planned, self._known
        cpu = interval.ratio("cpu_seconds", "committed_bytes")
        stored = interval.ratio("stored_bytes", "committed_bytes")
        way: Literal["fetch", "store"] = "fetch" if planned.source == "network" else "store"
        each = interval.ratio(
            f"{way}_seconds", "fetched_bytes" if way == "fetch" else "stored_bytes"
        )
        bytes_planned = planned.fetch_bytes if way == "fetch" else planned.store_bytes
        requests = request_seconds(planned, way) / bytes_planned if bytes_planned else 0.0
        now = {
            "cpu": _over(cpu, planned.cpu_seconds / planned.fetch_bytes),
            "stored": _over(stored, planned.store_bytes / planned.fetch_bytes),
            "requests": _over(each, requests),
        }
        scans = self.calibration.scans if self.calibration is not known else 0
        groups = int(interval.grown("groups"))
        # The first interval holds work that is not committed yet: it only shows the way.
        fresh = max(FRESH, groups / (scans + groups)) if self._intervals > 1 else 1.0
        self._intervals += 1
        weights = dict.fromkeys(now, fresh) | {
            "requests": self._weight_of_requests(interval, way, fresh)
        }
        mixed = {
            name: weights[name] * getattr(known, name) * value
            + (1 - weights[name]) * getattr(self.calibration, name)
            for name, value in now.items()
            if value is not None
        }
        self.calibration = replace(self.calibration, **mixed, scans=scans + groups)
        self._cost = self._corrected()

    def _weight_of_requests(
        self, interval: Interval, way: Literal["fetch", "store"], fresh: float
    ) -> float:
        """Weight of an interval's request seconds: 0 where requests waited for something else."""
        if self._is_busy(interval):
            return 0.0
        lightest, self._lightest = self._lightest, self._lightest or interval
        if lightest is None:
            return fresh
        if interval.queued_behind(lightest, way):
            return 0.0
        if lightest.queued_behind(interval, way):
            self._lightest = interval
            return max(fresh, AFRESH)
        return fresh

    def _corrected(self) -> ScanCost:
        """
        Cost of the planned scan by what was measured.

        Not of the scans of the last interval: the largest come first, and the rest are unlike them.
        """
        planned, known, found = self._planned, self._known, self.calibration
        cpu, requests = found.cpu / known.cpu, found.requests / known.requests
        return replace(
            planned,
            compute_cpu_seconds=cpu * planned.compute_cpu_seconds,
            fetch_cpu_seconds=cpu * planned.fetch_cpu_seconds,
            store_cpu_seconds=cpu * planned.store_cpu_seconds,
            store_bytes=found.stored / known.stored * planned.store_bytes,
            first_byte_seconds=requests * planned.first_byte_seconds,
            connection_bytes_per_second=planned.connection_bytes_per_second / requests,
        )

    def _try(self, interval: Interval) -> None:
        """Change something, if the model or an idle processor gives reason to."""
        now, why = self.expected, ""
        best = self._best(interval.end, GROWTH)
        promised = predict(self._cost, self._resources, best).scans_per_second
        gain = promised / now.scans_per_second
        if self._is_busy(interval):
            self.why = "as before: processors are busy, be it with other programs"
        elif gain >= WORTH_TRYING:
            why = f"trying {_words(best, self.setting)}: {now.sentence}"
        else:
            # Processors are idle and the model does not know why: scans differ, after all.
            best = self._probe(interval)
            why = f"trying {_words(best, self.setting)}: processors are idle"
        if best != self.setting and why:
            self._before, self._promised = (self.setting, interval), gain
            self._go(best, why)

    def _probe(self, interval: Interval) -> Setting:
        """More of something: of requests and what is held ahead, and of workers, in turn."""
        setting = self.setting
        wider = replace(setting, requests=min(2 * setting.requests, self._most_requests))
        longer = replace(wider, ahead_bytes=2 * setting.ahead_bytes)
        if longer.workers * worker_bytes(self._cost, longer) <= self._resources.memory_bytes:
            wider = longer
        room = self._room(interval.end)
        more = replace(setting, workers=min(math.ceil(PROBE * setting.workers), room))
        choices = [choice for choice in (wider, more) if choice != setting] or [setting]
        self._probes += 1
        return choices[self._probes % len(choices)]

    def _judge(self, interval: Interval, before: tuple[Setting, Interval]) -> None:
        """Keep what was tried, or go back."""
        (setting, slower), self._before = before, None
        gain = interval.gain(slower)
        words = _words(self.setting, setting)
        if gain >= WORTH_KEEPING:
            self._backoff = FIRST_BACKOFF
            self.why = f"{words}: {gain - 1:+.0%}"
            return
        self._wait, self._backoff = self._backoff, min(2 * self._backoff, LONGEST_BACKOFF)
        if not self._is_busy(interval):
            self._learn_network(interval)
        idle = interval.idle_share(self._resources.cpus)
        self._go(setting, f"back from {words}: no faster ({gain - 1:+.0%}), CPUs {idle:.0%} idle")

    def _learn_network(self, interval: Interval) -> None:
        """Bound the network by what it carried: the store or link gave no more when asked."""
        seconds = interval.grown("seconds")
        coming, going = (
            interval.grown("fetched_bytes") / seconds,
            interval.grown("stored_bytes") / seconds,
        )
        caps = {}
        if self._planned.source == "network":
            caps["network_in_bytes_per_second"] = MARGIN * coming
        if self._planned.sink == "network":
            caps["network_out_bytes_per_second"] = MARGIN * going
        if caps:
            carried = max(caps.values())
            self._resources = replace(self._resources, **caps)
            self.calibration = replace(self.calibration, network_bytes_per_second=carried)

    def _short_of_memory(self, progress: Progress) -> bool:
        """Use fewer workers at once where memory gets scarce; whether it is."""
        spare = SPARE_MEMORY * self._resources.memory_bytes
        if progress.memory_available_bytes >= spare or progress.groups < self._held_until_groups:
            return False
        setting = self.setting
        if setting.workers == 1 and not setting.ahead_bytes:
            return False
        fewer = max(1, math.floor(setting.workers * SHRINK))
        ahead = setting.ahead_bytes if setting.workers > 1 else setting.ahead_bytes // 2
        # What runs is not stopped: memory comes back as scans end.
        self._held_until_groups = progress.groups + setting.workers
        self._before = None
        self._wait, self._backoff = self._backoff, min(2 * self._backoff, LONGEST_BACKOFF)
        left = byte_size(max(0, progress.memory_available_bytes))
        lower = replace(setting, workers=fewer, ahead_bytes=ahead)
        self._begun = progress
        self._go(lower, f"{_words(lower, setting)}: only {left} of memory are free")
        return True

    def _room(self, progress: Progress) -> int:
        """Workers that memory has room for, by what is planned and by what is free."""
        spare = SPARE_MEMORY * self._resources.memory_bytes
        each = max(1.0, worker_bytes(self._cost, self.setting))
        more = max(0, int((progress.memory_available_bytes - spare) // each))
        return max(1, min(self._most_workers, self.setting.workers + more))

    def _is_busy(self, interval: Interval) -> bool:
        """Whether no processor is idle, also where other programs use some."""
        return interval.idle_share(self._resources.cpus) <= 1 - BUSY

    def _go(self, setting: Setting, why: str) -> None:
        self.setting, self.why = setting, why
        self._settled = False


def _over(value: float | None, expected: float) -> float | None:
    """What was measured for each unit expected; None where either is nothing."""
    return value / expected if value and expected > 0 else None


def _words(setting: Setting, before: Setting) -> str:
    """What of a setting differs from another one."""
    parts = []
    if setting.workers != before.workers:
        parts.append(f"{setting.workers} instead of {before.workers} workers")
    if setting.requests != before.requests:
        parts.append(f"{setting.requests} requests each")
    if setting.ahead_bytes != before.ahead_bytes:
        parts.append(f"{byte_size(setting.ahead_bytes)} ahead")
    return ", ".join(parts) or "the same"
