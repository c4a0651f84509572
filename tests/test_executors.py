"""A dead, crashed or hung worker costs its own scan and no other."""

import ast
import signal
import threading
import time
from collections import deque

import psutil
import pytest
from tiny_series import write_source
from traps import BUG, CRASH, DIE, HANG, HOG, PANIC, Trap, once

from fastlung.config import build_config
from fastlung.io.records import load_record, record_key
from fastlung.io.source import discover
from fastlung.io.store import LocalStore
from fastlung.kernels import warm_up
from fastlung.run.commit import Job, Task
from fastlung.run.drive import carry_out
from fastlung.run.executors import ProcessWorker, SerialWorker, work_through
from fastlung.run.plan import Plan

pytestmark = pytest.mark.compiled

GB = 10**9


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    """Three real source groups, and kernels that workers find in the cache."""
    warm_up()
    source = write_source(tmp_path_factory.mktemp("source"), 3)
    return source, [Task(group=group) for group in discover(LocalStore(source))]


@pytest.fixture
def job(groups, tmp_path):
    return Job(
        source=str(groups[0]),
        sink=str(tmp_path / "sink"),
        config=build_config(spacing_mm=6.0),
        names_key=b"",
        writer="token",
        share_bytes=GB,
    )


def plan(workers=1, chunk_size=8):
    return Plan(
        workers=workers,
        chunk_size=chunk_size,
        in_flight=workers,
        worker_bytes=GB,
        share_bytes=GB,
        memory_budget_bytes=4 * GB,
        alone=0,
        limit="cpus",
        reasons=(),
    )


def carried_out(job, tasks, *, timeout_seconds=60.0, **options):
    outcomes = list(
        carry_out(job, plan(**options), shared=tasks, alone=(), timeout_seconds=timeout_seconds)
    )
    for outcome in outcomes:  # every outcome is committed
        record = load_record(LocalStore(job.sink).get(record_key(outcome.group)))
        assert outcome.status in [one.status for one in record.outcomes]
    return {outcome.name: outcome for outcome in outcomes}, outcomes


@pytest.mark.parametrize(
    ("action", "words"), [(DIE, "was killed (SIGKILL"), (CRASH, "crashed (SIGSEGV")]
)
def test_only_the_guilty_scan_is_lost(groups, job, action, words):
    tasks = groups[1]
    trap = Task(group=Trap("guilty", action))
    by_name, outcomes = carried_out(job, [*tasks[:2], trap, *tasks[2:]])
    assert len(outcomes) == 4
    assert {name: one.status for name, one in by_name.items()} == {
        "1.2.3.0": "done",
        "1.2.3.1": "done",
        "1.2.3.2": "done",
        "guilty": "failed",
    }
    assert by_name["guilty"].error == "WorkerDiedError"
    assert by_name["guilty"].transient
    assert words in by_name["guilty"].message


def test_a_scan_that_dies_once_gets_its_second_chance(groups, job, tmp_path):
    trap = Task(group=Trap("unlucky", once(DIE, str(tmp_path / "marker"))))
    by_name, outcomes = carried_out(job, [trap, *groups[1]], workers=2, chunk_size=2)
    assert len(outcomes) == 4
    assert by_name["unlucky"].status == "skipped"  # it holds no series
    assert [by_name[f"1.2.3.{n}"].status for n in range(3)] == ["done"] * 3


def test_workers_compile_and_load_no_kernel(groups, job, tmp_path):
    # What the parent compiled was loaded before the worker was forked, in every signature used.
    count = (
        "open({!r}, 'w').write(repr([(sum(d.stats.cache_hits.values()), "
        "sum(d.stats.cache_misses.values())) for d in __import__('gc').get_objects() "
        "if type(d).__name__ == 'CPUDispatcher' and d.__module__.startswith('fastlung.')]))"
    )
    paths = [tmp_path / "before", tmp_path / "after"]
    traps = [Task(group=Trap(path.name, count.format(str(path)))) for path in paths]
    carried_out(job, [traps[0], *groups[1], traps[1]])
    before, after = (ast.literal_eval(path.read_text()) for path in paths)
    assert sum(hits for hits, _ in before) > 0
    assert sum(misses for _, misses in after) == 0
    assert sorted(before) == sorted(after)


def test_what_runs_alone_runs_last(groups, job):
    one, two, three = groups[1]
    ended = carry_out(job, plan(workers=2), shared=[two, three], alone=[one], timeout_seconds=60)
    names = [outcome.name for outcome in ended]
    assert sorted(names[:2]) == ["1.2.3.1", "1.2.3.2"]
    assert names[2:] == ["1.2.3.0"]


def test_two_guilty_scans_in_one_chunk_are_both_found(groups, job):
    traps = [Task(group=Trap(name, DIE)) for name in ("one", "two")]
    by_name, outcomes = carried_out(job, [traps[0], *groups[1][:1], traps[1], *groups[1][1:]])
    assert len(outcomes) == 5
    assert {name for name, one in by_name.items() if one.status == "failed"} == {"one", "two"}


def test_a_hung_scan_is_killed_and_named_and_the_rest_goes_on(groups, job):
    trap = Task(group=Trap("hung", HANG))
    by_name, outcomes = carried_out(job, [trap, *groups[1][:1]], timeout_seconds=3.0)
    assert len(outcomes) == 2
    assert by_name["hung"].error == "ScanTimeoutError"
    assert by_name["hung"].transient
    assert by_name["1.2.3.0"].status == "done"


@pytest.mark.parametrize(
    ("action", "error"),
    [(HOG, "InsufficientMemoryError"), (PANIC, "PanicException"), (BUG, "KeyError")],
)
def test_errors_of_others_fail_the_scan_and_quote_nobody(groups, job, action, error):
    # A Rust panic would end a worker that catches `Exception` only.
    trap = Task(group=Trap("odd", action, at="objects"))
    by_name, outcomes = carried_out(job, [trap, *groups[1][:1]])
    assert len(outcomes) == 2
    assert by_name["1.2.3.0"].status == "done"
    assert by_name["odd"].error == error
    assert "SECRET" not in by_name["odd"].message


def test_workers_ignore_ctrl_c_and_end_when_asked(groups, job):
    worker = ProcessWorker(4 * GB)
    future = worker.submit(job, [Task(group=Trap("hung", HANG))])
    process = psutil.Process(worker._process.pid)
    while worker.position() < 0:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    assert not future.done()
    worker.interrupt()
    assert isinstance(future.exception(timeout=30), SystemExit)
    outcomes = worker.submit(job, groups[1][:1]).result(timeout=60)
    assert [outcome.status for outcome in outcomes] == ["done"]
    worker.close()
    assert not process.is_running()


def test_an_idle_worker_that_was_killed_is_replaced(groups, job):
    worker = ProcessWorker(4 * GB)
    assert worker.submit(job, groups[1][:1]).result(timeout=60)
    worker.kill()
    time.sleep(0.3)
    outcomes = worker.submit(job, groups[1][1:2]).result(timeout=60)
    assert [outcome.name for outcome in outcomes] == ["1.2.3.1"]
    worker.close()


def test_leaving_early_ends_what_runs(groups, job):
    workers = [ProcessWorker(4 * GB) for _ in range(2)]
    chunks = deque([(groups[1][0],), (Task(group=Trap("hung", HANG)),)])
    ends = work_through(workers, chunks, job, timeout_seconds=600)
    assert next(ends).outcomes
    ends.close()  # would wait for an hour if it were not ended
    for worker in workers:
        worker.close()


def test_the_serial_worker_works_in_this_process(groups, job):
    threads = threading.active_count()
    outcomes = SerialWorker().submit(job, groups[1]).result()
    assert [outcome.name for outcome in outcomes] == ["1.2.3.0", "1.2.3.1", "1.2.3.2"]
    assert threading.active_count() == threads
