"""
Inside a worker process: how it begins, what it heeds, and how it ends with its parent.

Starting, watching and killing it from outside is `fastlung.run.executors`' work.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import resource
import signal
import sys
import threading
import warnings
from multiprocessing import connection, sharedctypes
from typing import TYPE_CHECKING

import psutil

from fastlung.run.worker import run_chunk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastlung.run.commit import Job, Task
    from fastlung.scan import Outcome

__all__ = ["aws_variables", "run_in_worker", "start_worker"]


def aws_variables() -> dict[str, str]:
    """Variables of this process that say who it is to AWS."""
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}


def start_worker(
    position: sharedctypes.Synchronized[int], memory_bytes: int, aws_environment: dict[str, str]
) -> None:
    """Prepare a new worker process."""
    _Here.position = position
    # The fork server keeps the environment of the first run in its life; a notebook may have
    # chosen other credentials since.
    for name in aws_variables():
        del os.environ[name]
    os.environ.update(aws_environment)
    # Ctrl-C reaches the whole process group; the parent decides what becomes of the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _drop_chunk)
    threading.Thread(target=_end_with_parent, daemon=True, name="fastlung-parent").start()
    # Foreign warnings and logs quote values of tags; nobody reads them here.
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
    _limit_memory(memory_bytes)


class _Here:
    """What a worker process knows of itself."""

    position: sharedctypes.Synchronized[int]


def run_in_worker(job: Job, tasks: Sequence[Task]) -> list[Outcome]:
    """Run a chunk in a worker process."""

    def begin(number: int) -> None:
        _Here.position.value = number

    return run_chunk(job, tasks, begin)


def _drop_chunk(_signal: int, _frame: object) -> None:
    sys.exit(128 + signal.SIGTERM)


def _end_with_parent() -> None:
    # PR_SET_PDEATHSIG would tell of the fork server's end, not of the parent's. Measured: gone
    # within 0.05 s of the parent's SIGKILL.
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _limit_memory(memory_bytes: int) -> None:
    """Turn an allocation that would exceed the budget of the whole run into a MemoryError."""
    limit = psutil.Process().memory_info().vms + memory_bytes
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY or limit < soft:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
