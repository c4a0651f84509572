"""
What becomes of groups whose worker was lost, killed or at its wits' end.

Covers what was committed before the loss, who is suspected, and the record that says why a group
failed where its worker cannot write it any more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fastlung.errors import ScanTimeoutError, WorkerDiedError
from fastlung.sink.commit import Storer, committed_outcomes, failed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastlung.errors import ResourceError
    from fastlung.run.dispatch import Handed
    from fastlung.run.parcel import Parcel
    from fastlung.scan import Outcome
    from fastlung.sink.commit import Job, Task
    from fastlung.storage.base import Store

__all__ = ["Aftermath", "after_loss", "record_failure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Aftermath:
    """
    What is left of a worker's groups.

    Attributes
    ----------
    outcomes : tuple of Outcome
        Final ones.
    again : tuple of Parcel
        Groups to be done again, like any other.
    alone : tuple of Parcel
        Groups to be done again with nothing beside them.
    """

    outcomes: tuple[Outcome, ...]
    again: tuple[Parcel, ...]
    alone: tuple[Parcel, ...]


def after_loss(
    job: Job,
    sink: Store,
    held: Sequence[Handed[Parcel]],
    suspect: int,
    *,
    last_words: str,
    timed_out: bool,
) -> Aftermath:
    """
    Sort out what a lost worker held.

    Parameters
    ----------
    job : Job
        The run.
    sink : Store
        Where records are.
    held : sequence of Handed
        Its groups, of which it had told no end.
    suspect : int
        Number of the one that is to blame; -1 for none.
    last_words : str
        How the worker ended.
    timed_out : bool
        Whether it was killed for holding the suspect too long.
    """
    outcomes: list[Outcome] = []
    again: list[Parcel] = []
    alone: list[Parcel] = []
    for handed in held:
        # A worker may die after a commit and before it could tell; or half way through one.
        parcel = replace(handed.task, touched=True)
        task = parcel.task()
        if committed := committed_outcomes(sink, job, task.group):
            outcomes += committed
        elif handed.number != suspect:
            (alone if handed.alone else again).append(parcel)
        elif timed_out:
            error = ScanTimeoutError(
                "it took longer than the time limit and its worker was killed; raise "
                "--scan-timeout, or look at the folder"
            )
            outcomes += record_failure(job, sink, task, error)
        elif handed.alone:
            outcomes += record_failure(job, sink, task, died(last_words))
        else:
            alone.append(parcel)
    return Aftermath(outcomes=tuple(outcomes), again=tuple(again), alone=tuple(alone))


def died(last_words: str) -> WorkerDiedError:
    """Say that a group had its second chance."""
    return WorkerDiedError(
        f"its worker {last_words}, twice, the second time with no other scan beside it; give "
        "it more memory, or report it if the file may be shared"
    )


def record_failure(job: Job, sink: Store, task: Task, error: ResourceError) -> tuple[Outcome, ...]:
    """Commit the failure of a group whose worker cannot do so any more."""
    outcome = failed(task.group.label, task.group.id, error, transient=True)
    with Storer(job, sink) as storer:
        return storer.commit(task, [outcome], {}).result()
