"""
A run in virtual time: the real plan, dispatcher and tuner on a machine that is arithmetic.

Processors, network and sink are shared fluidly; scans, workers and requests are discrete. No clock,
no socket, no process: a run of a thousand scans on 192 processors takes a second.

What is modelled: each worker computes one scan on one core, reads the next ones within its bytes
ahead, and writes the last one; a second result waits until the first is written. Clients of the
store use processors, too, and what they use is missing for computing. Requests take their time to
the first byte and then flow at a connection's speed, all slowed down alike where a link is full.
What is not: caches, hyperthreads, garbage collection, the kernel.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastlung.plan.setting import Progress
from fastlung.run.driver import REPORT_SECONDS
from fastlung.run.schedule import Dispatcher

if TYPE_CHECKING:
    from fastlung.plan.model import ScanCost, Setting

#: Processors that clients of the store may take from computing, at most.
CLIENTS = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedScan:
    """A scan as it truly is, and what a plan expects of its memory."""

    cost: ScanCost
    need_bytes: int
    true_need_bytes: int

    @property
    def source_bytes(self) -> int:
        return int(self.cost.fetch_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedMachine:
    cpus: float
    free_bytes: float
    network_bytes_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a simulated run went."""

    seconds: float
    tail_seconds: float
    peak_bytes: float
    settings: tuple[tuple[float, Setting, str], ...]
    groups: int
    committed_at: tuple[float, ...]


class Clock:
    """Work that is shared alike: a heap of ends in units of service, not of time."""

    def __init__(self) -> None:
        self.service = 0.0
        self.rate = 1.0
        self.ends: list[tuple[float, int, Any]] = []

    def seconds_to_next(self) -> float:
        if not self.ends:
            return float("inf")
        return max(0.0, (self.ends[0][0] - self.service) / self.rate)

    def push(self, work: float, number: int, what: Any) -> None:
        heapq.heappush(self.ends, (self.service + work, number, what))


@dataclass(slots=True)
class Worker:
    number: int
    queue: deque[Any] = field(default_factory=deque)
    ready: deque[Any] = field(default_factory=deque)
    coming: Any = None
    coming_left: float = 0.0
    fetching: float = 0.0
    computing: Any = None
    blocked: Any = None
    storing: Any = None
    held_bytes: float = 0.0
    memory_bytes: float = 0.0
    peak_bytes: float = 0.0
    leaving: bool = False

    @property
    def is_empty(self) -> bool:
        busy = (self.coming, self.computing, self.blocked, self.storing)
        return not self.queue and not self.ready and all(scan is None for scan in busy)


class Simulation:
    """One run; `run` carries it out."""

    def __init__(
        self, scans, machine, setting, *, budget_bytes, longest_chunk=8, tuner=None
    ) -> None:
        self.machine, self.setting, self.tuner = machine, setting, tuner
        self.dispatcher = Dispatcher(
            setting, budget_bytes=int(budget_bytes), longest_chunk=longest_chunk
        )
        self.dispatcher.add(scans)
        self.dispatcher.close()
        self.count = len(scans)
        self.now = self.looked = 0.0
        self.numbers = itertools.count()
        self.cpu, self.coming, self.going = Clock(), Clock(), Clock()
        self.wanted = {"in": 0.0, "out": 0.0}  # bytes a second, if nothing were in the way
        self.clients = {"in": 0.0, "out": 0.0}  # processors that takes
        self.connections = {"in": 0.0, "out": 0.0}
        self.workers: dict[int, Worker] = {}
        self.sums = dict.fromkeys(Progress.__slots__, 0.0)
        self.told = dict(self.sums)
        self.memory = self.peak = 0.0
        self.out_of_work_at: float | None = None
        self.settings = [(0.0, setting, "")]
        self.committed_at: list[float] = []

    def run(self) -> Ended:
        for number in range(self.setting.workers):
            self._start(number)
        self._share()
        while self.sums["groups"] < self.count:
            clock = min((self.cpu, self.coming, self.going), key=Clock.seconds_to_next)
            seconds = clock.seconds_to_next()
            assert seconds < float("inf"), "nothing happens any more, and work is left"
            self._advance(seconds)
            _, _, (what, worker, *rest) = heapq.heappop(clock.ends)
            what(worker, *rest)
            if self.now - self.looked >= REPORT_SECONDS:
                self.looked = self.now
                self._tune()
            self._share()
        assert self.dispatcher.over
        return Ended(
            seconds=self.now,
            tail_seconds=self.now - (self.out_of_work_at or 0.0),
            peak_bytes=self.peak,
            settings=tuple(self.settings),
            groups=int(self.sums["groups"]),
            committed_at=tuple(self.committed_at),
        )

    def _advance(self, seconds: float) -> None:
        self.now += seconds
        for clock in (self.cpu, self.coming, self.going):
            clock.service += clock.rate * seconds
        computing = len(self.cpu.ends)
        clients = self.coming.rate * self.clients["in"] + self.going.rate * self.clients["out"]
        self.sums["cpu_seconds"] += seconds * (self.cpu.rate * computing + clients)
        idle = self.machine.cpus - self.cpu.rate * computing - clients
        self.sums["idle_cpu_seconds"] += seconds * max(0.0, idle)
        self.sums["compute_seconds"] += seconds * computing
        self.sums["fetched_bytes"] += seconds * self.coming.rate * self.wanted["in"]
        self.sums["stored_bytes"] += seconds * self.going.rate * self.wanted["out"]
        self.sums["fetch_seconds"] += seconds * self.connections["in"]
        self.sums["store_seconds"] += seconds * self.connections["out"]

    def _share(self) -> None:
        """Speeds of all work that is under way."""
        network, cpus = self.machine.network_bytes_per_second, self.machine.cpus
        rates = {
            way: min(1.0, network / wanted) if wanted else 1.0
            for way, wanted in self.wanted.items()
        }
        clients = sum(rates[way] * self.clients[way] for way in rates)
        if clients > CLIENTS * cpus:
            rates = {way: rate * CLIENTS * cpus / clients for way, rate in rates.items()}
            clients = CLIENTS * cpus
        self.coming.rate, self.going.rate = rates["in"], rates["out"]
        computing = len(self.cpu.ends)
        self.cpu.rate = min(1.0, (cpus - clients) / computing) if computing else 1.0

    def _start(self, number: int) -> None:
        worker = self.workers.setdefault(number, Worker(number))
        worker.leaving = False
        self._pump(worker)

    def _pump(self, worker: Worker) -> None:
        """Give a worker all that it can do now."""
        if not worker.leaving:
            worker.queue.extend(self.dispatcher.take(worker.number))
        if worker.computing is None and worker.blocked is None and worker.ready:
            handed = worker.ready.popleft()
            worker.computing = handed
            worker.held_bytes -= handed.task.source_bytes
            self.dispatcher.began(worker.number, handed.number, handed.task.need_bytes)
            work = handed.task.cost.compute_cpu_seconds
            self.cpu.push(work, next(self.numbers), (self._computed, worker))
            self.told |= self.sums
            if not worker.leaving:
                worker.queue.extend(self.dispatcher.take(worker.number))
        self._fetch(worker)
        self._weigh(worker)
        if self.out_of_work_at is None and not self.dispatcher.pending:
            self.out_of_work_at = self.now

    def _fetch(self, worker: Worker) -> None:
        if worker.fetching:
            return
        if worker.coming is None:
            if not worker.queue:
                return
            worker.coming = worker.queue.popleft()
            worker.coming_left = worker.coming.task.cost.fetch_bytes
        waiting = worker.computing is None and worker.blocked is None and not worker.ready
        part = worker.coming_left
        if not waiting:
            part = min(part, self.setting.ahead_bytes - worker.held_bytes)
        if part <= 1.0:
            return
        cost = worker.coming.task.cost
        at_once = max(1.0, min(self.setting.requests, cost.fetch_requests))
        requests = 0.0
        if cost.source == "network":
            requests = cost.fetch_requests * cost.first_byte_seconds
            requests += cost.fetch_bytes / cost.connection_bytes_per_second
        seconds = max(cost.fetch_cpu_seconds, requests / at_once, 1e-6)
        worker.fetching = part
        flow = self._flow("in", cost.fetch_bytes, cost.fetch_cpu_seconds, seconds, at_once)
        work = seconds * part / cost.fetch_bytes
        self.coming.push(work, next(self.numbers), (self._fetched, worker, flow))

    def _flow(self, way, count, cpu_seconds, seconds, at_once):
        """Add a transfer to what is shared; what to take away once it is over."""
        flow = (way, count / seconds, cpu_seconds / seconds, at_once)
        self._change(flow, 1)
        return flow

    def _change(self, flow, sign) -> None:
        way, wanted, clients, connections = flow
        self.wanted[way] = max(0.0, self.wanted[way] + sign * wanted)
        self.clients[way] = max(0.0, self.clients[way] + sign * clients)
        self.connections[way] = max(0.0, self.connections[way] + sign * connections)
        if not (self.coming.ends if way == "in" else self.going.ends) and sign < 0:
            self.wanted[way] = self.clients[way] = self.connections[way] = 0.0  # no rounding left

    def _fetched(self, worker: Worker, flow) -> None:
        self._change(flow, -1)
        worker.held_bytes += worker.fetching
        worker.coming_left -= worker.fetching
        worker.fetching = 0.0
        if worker.coming_left <= 1.0:
            worker.ready.append(worker.coming)
            worker.coming = None
        self._pump(worker)

    def _computed(self, worker: Worker) -> None:
        handed, worker.computing = worker.computing, None
        if worker.storing is None:
            self._store(worker, handed)
        else:
            worker.blocked = handed
        self._pump(worker)

    def _store(self, worker: Worker, handed) -> None:
        worker.storing = handed
        cost = handed.task.cost
        requests = 0.0
        if cost.sink == "network":
            speed = cost.store_at_once * cost.connection_bytes_per_second
            requests = cost.store_turns * cost.first_byte_seconds + cost.store_bytes / speed
        seconds = max(cost.store_cpu_seconds, requests, 1e-6)
        # A worker tells the wall seconds of writing, however many parts are under way.
        flow = self._flow("out", cost.store_bytes, cost.store_cpu_seconds, seconds, 1.0)
        self.going.push(seconds, next(self.numbers), (self._stored, worker, flow))

    def _stored(self, worker: Worker, flow) -> None:
        self._change(flow, -1)
        handed, worker.storing = worker.storing, None
        self.dispatcher.ended(worker.number, handed.number, int(worker.peak_bytes))
        worker.peak_bytes = worker.memory_bytes
        self.sums["groups"] += 1
        self.committed_at.append(self.now)
        self.told |= self.sums
        self.sums["committed_bytes"] += handed.task.source_bytes
        if worker.blocked is not None:
            self._store(worker, worker.blocked)
            worker.blocked = None
        self._pump(worker)
        if worker.leaving and worker.is_empty:
            self.dispatcher.lost(worker.number)
        for other in self.workers.values():
            if other.is_empty and not other.leaving:
                self._pump(other)
                if other.is_empty:
                    break  # nothing for one is nothing for any

    def _tune(self) -> None:
        if self.tuner is None:
            return
        found = self.tuner.observe(self.progress())
        if found == self.setting:
            return
        self.setting = found
        self.settings.append((self.now, found, self.tuner.why))
        self.dispatcher.resize(found)
        for number, worker in self.workers.items():
            if number >= found.workers and not worker.leaving:
                worker.leaving = True
                for handed in worker.queue:
                    self.dispatcher.add([self.dispatcher.ended(number, handed.number)])
                worker.queue.clear()
        for number in range(found.workers):
            if number not in self.workers or self.workers[number].leaving:
                self._start(number)

    def progress(self) -> Progress:
        whole = {"groups", "fetched_bytes", "stored_bytes", "committed_bytes", "throttled"}
        # Workers tell when they begin to compute, and when a group is committed.
        now = {name: self.sums[name] for name in ("groups", "committed_bytes", "idle_cpu_seconds")}
        sums = {name: int(x) if name in whole else x for name, x in (self.told | now).items()}
        sums |= {
            "seconds": self.now,
            "workers": self.setting.workers,
            "peak_worker_bytes": int(self.sums["peak_worker_bytes"]),
            "memory_available_bytes": int(self.machine.free_bytes - self.memory),
        }
        return Progress(**sums)

    def _weigh(self, worker: Worker) -> None:
        """Memory of a worker: that of the scan it computes, or results that are being written."""
        need = 0.0
        if worker.computing is not None:
            need = worker.computing.task.true_need_bytes
        else:
            writing = [scan for scan in (worker.storing, worker.blocked) if scan is not None]
            need = sum(scan.task.cost.store_bytes for scan in writing)
        now = need + max(0.0, worker.held_bytes) + worker.fetching
        self.memory += now - worker.memory_bytes
        worker.memory_bytes = now
        worker.peak_bytes = max(worker.peak_bytes, now)
        self.sums["peak_worker_bytes"] = max(self.sums["peak_worker_bytes"], worker.peak_bytes)
        self.peak = max(self.peak, self.memory)
