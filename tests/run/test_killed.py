"""
A run killed at any moment leaves a sink that is judged rightly, and that a rerun completes.

Five moments by default, of the whole tree of processes and of a worker in turn; ``nox -s campaign``
tries two hundred.
"""

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest
from tiny_series import payloads, write_source

import fastlung
from fastlung.errors import ConfigError
from fastlung.sink.manifest import write_manifest
from fastlung.storage import LocalStore
from fastlung.verification import verify

pytestmark = pytest.mark.compiled

SCANS = 6
MOMENTS = int(os.environ.get("KILL_MOMENTS", "5"))
SEED = int(os.environ.get("KILL_SEED", "20170112"))
SCRIPT = """
import sys, time
import fastlung

def tell(event):
    if type(event).__name__ != "RunProgressed":  # comes by the clock
        print(type(event).__name__, time.monotonic(), flush=True)

fastlung.process(sys.argv[1], sys.argv[2], workers=2, chunk_size=2, spacing_mm=2.0, on_event=tell)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("source"), SCANS)


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("script") / "script.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture(scope="module")
def calm(source, script, tmp_path_factory):
    """Payloads of a run that nobody kills, and the seconds from each of its events to the next."""
    sink = tmp_path_factory.mktemp("calm")
    fastlung.process(str(source), str(sink), workers=0, spacing_mm=2.0)  # compiles, if need be
    out, _ = launch(script, source, tmp_path_factory.mktemp("timed")).communicate(timeout=120)
    moments = [float(line.split()[1]) for line in out.splitlines()]
    return payloads(sink), [later - moment for moment, later in itertools.pairwise(moments)]


def launch(script, source, sink):
    return subprocess.Popen(  # noqa: S603 - our own interpreter
        [sys.executable, str(script), str(source), str(sink)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def kill(script, source, sink, events, seconds):
    """Kill a run so long after it has told so many events; the first comes before any write."""
    run = launch(script, source, sink)
    for _ in range(events):
        run.stdout.readline()
    time.sleep(seconds)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate(timeout=60)


def committed_folders(sink, calm):
    """Source folders whose record is whole and whose payloads are those of the calm run."""
    found = payloads(sink)
    for path in sink.glob("records/*.json"):
        record = json.loads(path.read_bytes())
        outputs = [key for outcome in record["outcomes"] for key in outcome["outputs"]]
        if outputs and all(found.get(key) == calm[key] for key in outputs):
            yield record["label"]


def kill_worker(run, chance):
    """Kill one of the fork server's children, if there is any yet."""
    workers = [
        worker for child in psutil.Process(run.pid).children() for worker in child.children()
    ]
    if workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            chance.choice(workers).kill()


@pytest.mark.parametrize("moment", range(1, MOMENTS, 2))
def test_a_worker_killed_at_any_moment_costs_nothing_but_time(
    source, script, calm, tmp_path, moment
):
    bytes_of_calm, gaps = calm
    chance = random.Random(SEED + moment)
    event = 2 + moment % (len(gaps) - 2)  # workers begin after the second one
    run = launch(script, source, tmp_path)
    for _ in range(event):
        run.stdout.readline()
    time.sleep(gaps[event] * chance.random())
    kill_worker(run, chance)
    run.communicate(timeout=120)
    assert run.returncode == 0
    for path in tmp_path.rglob(".*.fastlung-tmp"):
        path.unlink()  # what it was writing; a later run sweeps it
    assert payloads(tmp_path) == bytes_of_calm
    assert verify(str(source), str(tmp_path)).findings == ()
    assert write_manifest(LocalStore(tmp_path)) == SCANS


@pytest.mark.parametrize("moment", range(0, MOMENTS, 2))
def test_a_killed_run_is_judged_rightly_and_completed(source, script, calm, tmp_path, moment):
    bytes_of_calm, gaps = calm
    sink = tmp_path / "sink"
    # Evenly over the events, whatever each takes; then anywhere up to the next.
    event = moment * len(gaps) // MOMENTS
    kill(script, source, sink, event + 1, gaps[event] * random.Random(SEED + moment).random())

    folders = {f"patient-{number:02d}/ct" for number in range(SCANS)}
    whole = set(committed_folders(sink, bytes_of_calm))
    if (sink / "run.json").exists():
        result = verify(str(source), str(sink))
        assert {(f.kind, f.place) for f in result.findings} == {
            ("missing", folder) for folder in folders - whole
        }
        assert result.series == ({"done": len(whole)} if whole else {})
        assert write_manifest(LocalStore(sink)) == len(whole)
    else:
        assert not whole
        with pytest.raises(ConfigError, match=r"found no run\.json"):
            verify(str(source), str(sink))

    for path in sink.rglob(".*.fastlung-tmp"):
        os.utime(path, (0, 0))  # as if the kill was long ago
    summary = fastlung.process(str(source), str(sink), workers=0, spacing_mm=2.0)
    assert len(summary.outcomes) == SCANS - len(whole)  # and nothing twice
    assert payloads(sink) == bytes_of_calm
    assert verify(str(source), str(sink)).findings == ()
