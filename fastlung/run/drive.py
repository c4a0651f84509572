"""
Driving the workers: chunks out, outcomes back, and what becomes of a chunk whose worker is lost.

A group that took its worker down, or was too large to run beside others, gets a second chance
with the machine to itself; only then does it count as failed.
"""

from __future__ import annotations

from collections import deque
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from fastlung.errors import (
    InsufficientMemoryError,
    ResourceError,
    ScanTimeoutError,
    WorkerDiedError,
)
from fastlung.io.store import open_store
from fastlung.run.commit import Storer, committed_outcomes, failed
from fastlung.run.executors import ProcessWorker, SerialWorker, work_through

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from fastlung.io.objects import Store
    from fastlung.run.commit import Job, Task
    from fastlung.run.executors import ChunkEnd, Worker
    from fastlung.run.plan import Plan
    from fastlung.scan import Outcome

__all__ = ["carry_out"]


def carry_out(
    job: Job,
    plan: Plan,
    *,
    shared: Sequence[Task],
    alone: Sequence[Task],
    timeout_seconds: float,
) -> Generator[Outcome]:
    """
    Do source groups as planned.

    Parameters
    ----------
    job : Job
        What they have in common.
    plan : Plan
        Workers, chunk size and memory.
    shared : sequence of Task
        Groups that fit into one worker's share of the memory, the largest first.
    alone : sequence of Task
        Groups that do not.
    timeout_seconds : float
        A worker that holds one group longer than this is killed, in seconds.

    Yields
    ------
    Outcome
        Final outcomes, as they come.

    Raises
    ------
    StoreError
        If the sink takes no more writes at all.
    """
    sink = open_store(job.sink, job.storage)
    workers: list[Worker] = [ProcessWorker(plan.memory_budget_bytes) for _ in range(plan.workers)]
    workers = workers or [SerialWorker()]
    chunks = deque(_chunks(shared, plan.chunk_size))
    last: deque[tuple[Task, ...]] = deque((task,) for task in alone)
    try:
        with closing(work_through(workers, chunks, job, timeout_seconds=timeout_seconds)) as ends:
            for end in ends:
                outcomes, suspects, rest = _sorted_out(job, sink, end)
                last.extend((task,) for task in suspects)
                chunks.extendleft([rest] if rest else [])
                yield from outcomes
        job = replace(job, share_bytes=plan.memory_budget_bytes)
        with closing(work_through(workers[:1], last, job, timeout_seconds=timeout_seconds)) as ends:
            for end in ends:
                yield from _for_good(job, sink, end)
    finally:
        for worker in workers:
            worker.close()


def _chunks(tasks: Sequence[Task], size: int) -> list[tuple[Task, ...]]:
    """Deal tasks out so that chunks are alike: each has large and small ones, largest first."""
    count = -(-len(tasks) // size)
    return [tuple(tasks[number::count]) for number in range(count)]


def _sorted_out(
    job: Job, sink: Store, end: ChunkEnd
) -> tuple[list[Outcome], list[Task], tuple[Task, ...]]:
    """Final outcomes of a chunk, groups to be tried once more alone, and groups to be redone."""
    tasks = {task.group.id: replace(task, committed=True) for task in end.tasks}
    if end.outcomes is not None:
        name = InsufficientMemoryError.__name__
        again = {outcome.group for outcome in end.outcomes if outcome.error == name}
        final = [outcome for outcome in end.outcomes if outcome.group not in again]
        return final, [tasks[group] for group in sorted(again)], ()
    suspect = end.tasks[max(end.position, 0)].group.id
    final, again_alone, rest = [], [], []
    for group, task in tasks.items():
        if committed := committed_outcomes(sink, job, task.group):
            final += committed
        elif group != suspect:
            rest.append(task)
        elif end.timed_out:
            final.append(_record_loss(job, sink, task, end))
        else:
            again_alone.append(task)
    return final, again_alone, tuple(rest)


def _for_good(job: Job, sink: Store, end: ChunkEnd) -> Sequence[Outcome]:
    """Outcomes of a group that had its second chance."""
    if end.outcomes is not None:
        return end.outcomes
    (task,) = end.tasks
    committed = committed_outcomes(sink, job, task.group)
    return committed or (_record_loss(job, sink, task, end),)


def _record_loss(job: Job, sink: Store, task: Task, end: ChunkEnd) -> Outcome:
    """Commit the failure of a group whose worker cannot do so any more."""
    error: ResourceError = WorkerDiedError(
        f"its worker {end.last_words}, twice, the second time with no other scan beside it; give "
        "it more memory, or report it if the file may be shared"
    )
    if end.timed_out:
        error = ScanTimeoutError(
            "it took longer than the time limit and its worker was killed; raise "
            "--scan-timeout, or look at the folder"
        )
    outcome = failed(task.group.label, task.group.id, error, transient=True)
    with Storer(job, sink) as storer:
        (recorded,) = storer.commit(task, [outcome], {}).result()
    return recorded
