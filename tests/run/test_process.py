"""A dead, crashed or hung worker costs its own scan and no other."""

import ast
import os
import signal
import threading
import time
from dataclasses import replace

import psutil
import pytest
from tiny_series import write_source
from traps import BUG, CRASH, DIE, HANG, HOG, PANIC, Trap, once

from fastlung.config import build_config
from fastlung.errors import StoreError
from fastlung.kernels import warm_up
from fastlung.plan.model import Setting
from fastlung.run import warmup as warming_module
from fastlung.run.driver import Driver
from fastlung.run.warmup import ready_kernels
from fastlung.sink.commit import Job, Task
from fastlung.sink.records import load_record, record_key
from fastlung.source.groups import discover
from fastlung.storage import LocalStore

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
        memory_bytes=4 * GB,
    )


def setting(workers=1, ahead_bytes=10**6, requests=4):
    return Setting(workers=workers, ahead_bytes=ahead_bytes, requests=requests)


def driver(job, tell, *, workers=1, chunk_size=8, timeout_seconds=60.0, **options):
    return Driver(
        job,
        setting(workers),
        longest_chunk=chunk_size,
        timeout_seconds=timeout_seconds,
        tell=tell,
        **options,
    )


def carried_out(job, tasks, **options):
    outcomes = []
    driver(job, outcomes.append, **options).run(tasks)
    for outcome in outcomes:  # every outcome is committed
        record = load_record(LocalStore(job.sink).get(record_key(outcome.group)))
        assert outcome.status in [recorded.status for recorded in record.outcomes]
    return {outcome.name: outcome for outcome in outcomes}, outcomes


@pytest.mark.parametrize(
    ("action", "words"), [(DIE, "was killed (SIGKILL"), (CRASH, "crashed (SIGSEGV")]
)
def test_only_the_guilty_scan_is_lost(groups, job, action, words):
    tasks = groups[1]
    trap = Task(group=Trap("guilty", action))
    by_name, outcomes = carried_out(job, [*tasks[:2], trap, *tasks[2:]])
    assert len(outcomes) == 4
    assert {name: outcome.status for name, outcome in by_name.items()} == {
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


def test_what_needs_more_than_the_budget_by_its_listing_runs_alone_at_the_end(groups, job):
    first, two, three = groups[1]
    names = [o.name for o in carried_out(job, [replace(first, need_bytes=5 * GB), two, three])[1]]
    assert sorted(names[:2]) == ["1.2.3.1", "1.2.3.2"]
    assert names[2:] == ["1.2.3.0"]  # and its headers say that it fits


def test_two_guilty_scans_in_one_chunk_are_both_found(groups, job):
    traps = [Task(group=Trap(name, DIE)) for name in ("one", "two")]
    by_name, outcomes = carried_out(job, [traps[0], *groups[1][:1], traps[1], *groups[1][1:]])
    assert len(outcomes) == 5
    assert {name for name, end in by_name.items() if end.status == "failed"} == {"one", "two"}


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


def workers_of_this_process():
    """The fork server's children."""
    server = [child for child in psutil.Process().children() if child.children()]
    return [worker for process in server for worker in process.children()]


def test_leaving_early_ends_what_runs(groups, job):
    class LeaveError(Exception):
        pass

    def leave(_outcome):
        assert len(workers_of_this_process()) == 2
        raise LeaveError

    run = driver(job, leave, workers=2, chunk_size=1)
    with pytest.raises(LeaveError):
        run.run([*groups[1], Task(group=Trap("hung", HANG))])
    assert workers_of_this_process() == []


def test_a_worker_killed_from_outside_costs_nothing_but_time(groups, job):
    killed = []

    def kill_everyone(outcome):
        if not killed:
            killed.extend(worker.pid for worker in workers_of_this_process())
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
        outcomes.append(outcome)

    outcomes = []
    driver(job, kill_everyone, workers=2, chunk_size=1).run(groups[1])
    assert killed
    assert [(o.status, o.message) for o in outcomes] == [("done", "")] * 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("serial", [True, False])
def test_a_signal_lets_scans_in_work_be_finished_and_begins_no_other(job, tmp_path, number, serial):
    outcomes = []
    source = write_source(tmp_path / "many", 8)
    tasks = [Task(group=group) for group in discover(LocalStore(source))]
    job = replace(job, source=str(source))

    def interrupt(outcome):
        outcomes.append(outcome)
        if len(outcomes) == 1:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match=number.name):
        driver(job, interrupt, serial=serial).run(tasks)
    assert signal.getsignal(number) is before
    assert workers_of_this_process() == []
    assert 1 <= len(outcomes) < 8
    records = list(LocalStore(job.sink).list("records"))
    assert len(records) == len(outcomes)  # what was begun is committed


@pytest.mark.usefixtures("groups")
def test_a_second_signal_ends_the_run_at_once(job):
    def interrupt():
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    run = driver(job, lambda _outcome: None, timeout_seconds=600)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run.run([Task(group=Trap("hung", HANG))])
    thread.join()
    assert workers_of_this_process() == []


def test_a_broken_sink_ends_the_run(groups, job, tmp_path):
    (tmp_path / "sink").mkdir()
    (tmp_path / "sink").chmod(0o500)
    if os.access(tmp_path / "sink", os.W_OK):
        pytest.skip("this user may write anywhere")
    with pytest.raises(StoreError):
        carried_out(job, groups[1])


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_search_goes_on_while_others_are_at_work_and_its_error_ends_the_run(
    groups, job, workers
):
    done = threading.Event()

    def found():
        yield groups[1][0]
        assert done.wait(60)  # work begins before the search is over
        yield groups[1][1]
        raise StoreError("the listing broke off")

    outcomes = []

    def tell(outcome):
        outcomes.append(outcome)
        done.set()

    with pytest.raises(StoreError, match="broke off"):
        driver(job, tell, workers=max(1, workers), serial=not workers).run(found())
    assert "1.2.3.0" in [outcome.name for outcome in outcomes]
    assert workers_of_this_process() == []


def test_the_serial_worker_works_in_this_process(groups, job):
    threads = threading.active_count()
    _, outcomes = carried_out(job, groups[1], serial=True)
    assert sorted(outcome.name for outcome in outcomes) == ["1.2.3.0", "1.2.3.1", "1.2.3.2"]
    assert workers_of_this_process() == []
    assert threading.active_count() == threads


def slow_groups(count):
    return [Task(group=Trap(f"slow-{n}", "time.sleep(0.1)")) for n in range(count)]


def test_workers_come_and_go_as_the_setting_says(job, tmp_path, monkeypatch):
    monkeypatch.setattr("fastlung.run.driver.REPORT_SECONDS", 0.0)
    real = [Task(group=group) for group in discover(LocalStore(write_source(tmp_path / "many", 4)))]
    seen, outcomes = [], []

    def report(now):
        seen.append(now)
        return setting(3 if now.progress.groups < 10 else 1)

    job = replace(job, source=str(tmp_path / "many"), sink=str(tmp_path / "many-sink"))
    run = driver(job, outcomes.append, workers=3, chunk_size=1, report=report)
    run.run([*real, *slow_groups(60)])
    assert len({outcome.name for outcome in outcomes}) == len(outcomes) == 64
    assert {1, 3} <= {now.progress.workers for now in seen}
    last = seen[-1].progress
    assert last.cpu_seconds > 0
    assert last.compute_seconds > 0
    assert last.fetched_bytes > 100_000
    assert last.stored_bytes > 10_000
    assert 10**6 < last.peak_worker_bytes < 10**9


@pytest.mark.usefixtures("groups")
def test_scarce_memory_stops_admission_and_what_is_left_goes_on_one_by_one(job, monkeypatch):
    monkeypatch.setattr("fastlung.run.driver.REPORT_SECONDS", 0.0)
    held, outcomes = [], []

    def report(now):
        assert now.short_of_memory
        held.append(now.held)
        return now.setting

    run = driver(
        job, outcomes.append, workers=3, chunk_size=1, report=report,
        available_bytes=lambda: 10, floor_bytes=100,
    )  # fmt: skip
    run.run(slow_groups(12))
    assert len(outcomes) == 12
    # What was handed out before memory was looked at ends; from then on one group at a time.
    ends = held.index(min(held))
    assert held[: ends + 1] == sorted(held[: ends + 1], reverse=True)
    assert max(held[ends:]) == 1


def test_kernels_are_made_ready_by_one_process_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    inside, most = 0, 0

    def warming():
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.05)
        inside -= 1

    monkeypatch.setattr(warming_module, "warm_up", warming)
    # A lock belongs to an open file: threads that open it each for themselves are as processes.
    threads = [threading.Thread(target=ready_kernels) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_kernels_are_made_ready_where_no_lock_can_be_had(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    called = []
    monkeypatch.setattr(warming_module, "warm_up", lambda: called.append(1))
    ready_kernels()
    assert called == [1]
