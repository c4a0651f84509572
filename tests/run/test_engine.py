"""A run does everything once, can be killed at any moment, and says truly what it did."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tiny_series import CANARY, payloads, write_group, write_source

import fastlung
from fastlung.config import build_config, build_run_options
from fastlung.errors import (
    ConfigError,
    InsufficientMemoryError,
    NothingFoundError,
    ObjectNotFoundError,
    SinkConflictError,
    StoreError,
)
from fastlung.inspection import inspect
from fastlung.plan.plan import ScanSize, output_voxels, scan_bytes
from fastlung.run import engine
from fastlung.run.events import KernelsReady, RunEnded, RunPlanned, RunProgressed, ScanEnded
from fastlung.storage import LocalStore

pytestmark = pytest.mark.compiled

SCANS = 6
#: A run in a process of its own; says when each scan has ended.
SCRIPT = """
import sys
import fastlung

def tell(event):
    print(type(event).__name__, flush=True)

fastlung.process(sys.argv[1], sys.argv[2], workers=int(sys.argv[3]), chunk_size=2,
                 spacing_mm=2.0, on_event=tell)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("source"), SCANS)


@pytest.fixture(scope="module")
def calm(source, tmp_path_factory):
    """Payloads of a run that nothing disturbed, made in this process."""
    sink = tmp_path_factory.mktemp("calm")
    assert process(source, sink).exit_code == 0
    return payloads(sink)


@pytest.fixture
def own_source(source, tmp_path):
    """A copy that a test may spoil."""
    return Path(shutil.copytree(source, tmp_path / "source"))


def process(source, sink, **options):
    return fastlung.process(str(source), str(sink), **{"workers": 0, "spacing_mm": 2.0, **options})


def statuses(outcomes):
    return sorted(outcome.status for outcome in outcomes)


def launch(script, *args, **options):
    return subprocess.Popen(  # noqa: S603
        [sys.executable, str(script), *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


def test_a_run_tells_what_happens_in_order(source, tmp_path):
    events = []
    summary = process(source, tmp_path / "sink", on_event=events.append)
    kinds = [type(event) for event in events if not isinstance(event, RunProgressed)]
    assert kinds == [RunPlanned, KernelsReady, *[ScanEnded] * SCANS, RunEnded]
    assert (events[0].groups, events[0].already_done) == (SCANS, 0)
    assert events[-1].summary is summary
    assert statuses(summary.outcomes) == ["done"] * SCANS
    assert (summary.groups_total, summary.groups_already_done) == (SCANS, 0)
    assert summary.limited_by.startswith("Limited by ")
    run_file = json.loads((tmp_path / "sink" / "run.json").read_text())
    assert run_file["config"]["spacing_mm"] == [2.0, 2.0, 2.0]
    assert run_file["plan"]["workers"] == 0


@pytest.mark.parametrize(("workers", "chunk_size"), [(1, 6), (2, 1), (2, 3)])
def test_payloads_do_not_depend_on_workers_or_chunks(source, calm, tmp_path, workers, chunk_size):
    summary = process(source, tmp_path, workers=workers, chunk_size=chunk_size)
    assert summary.plan.workers == workers
    assert statuses(summary.outcomes) == ["done"] * SCANS
    assert payloads(tmp_path) == calm
    assert all(outcome.peak_rss_bytes > 0 for outcome in summary.outcomes)


def test_a_rerun_does_only_what_is_missing(own_source, tmp_path, monkeypatch):
    sink = tmp_path / "sink"
    process(own_source, sink)
    before = payloads(sink)
    opened = []
    get = LocalStore.get
    monkeypatch.setattr(
        LocalStore, "get", lambda *args, **options: opened.append(args[1]) or get(*args, **options)
    )
    summary = process(own_source, sink)
    assert (summary.outcomes, len(summary.earlier)) == ((), SCANS)
    assert not any(key.endswith(".dcm") for key in opened)  # no DICOM was opened

    (sink / "scans/1.2.3.1/mask.npy").unlink()
    (sink / "scans/1.2.3.2/image.npy").write_bytes(b"cut")
    write_group(own_source / "patient-09", 9)
    os.utime(next((own_source / "patient-03/ct").iterdir()))
    for record in sink.glob("records/*.json"):
        if b"1.2.3.4/" in record.read_bytes():
            record.write_bytes(record.read_bytes()[:100])
    summary = process(own_source, sink)
    names = sorted(outcome.name for outcome in summary.outcomes)
    assert names == ["1.2.3.1", "1.2.3.2", "1.2.3.3", "1.2.3.4", "1.2.3.9"]
    assert {key: payloads(sink)[key] for key in before} == before
    assert process(own_source, sink).outcomes == ()


def test_bad_scans_stay_failed_until_asked_and_passing_ones_are_tried_again(own_source, tmp_path):
    sink = tmp_path / "sink"
    bad = next((own_source / "patient-01/ct").iterdir())
    bad.write_bytes(bad.read_bytes()[:-3000])
    (own_source / "patient-02/ct/gone.dcm").symlink_to("nowhere")
    summary = process(own_source, sink)
    assert summary.exit_code == 1
    failed = {o.error: o.transient for o in summary.outcomes if o.status == "failed"}
    assert failed == {"TruncatedError": False, "ObjectNotFoundError": True}

    summary = process(own_source, sink)
    assert [outcome.error for outcome in summary.outcomes] == ["ObjectNotFoundError"]
    assert "TruncatedError" in [outcome.error for outcome in summary.earlier]
    assert summary.exit_code == 1

    summary = process(own_source, sink, retry_failed=True)
    assert statuses(summary.outcomes) == ["failed", "failed"]
    (own_source / "patient-02/ct/gone.dcm").unlink()
    bad.unlink()
    summary = process(own_source, sink)
    assert statuses(summary.outcomes) == ["done", "done"]
    assert summary.exit_code == 0


def test_a_sink_of_another_configuration_is_refused_or_replaced(source, calm, tmp_path):
    process(source, tmp_path, format="nifti", names="folder")
    with pytest.raises(SinkConflictError, match=r"format 'nifti' -> 'npy'.*--overwrite"):
        process(source, tmp_path)
    summary = process(source, tmp_path, overwrite=True)
    assert statuses(summary.outcomes) == ["done"] * SCANS
    assert payloads(tmp_path) == calm  # and nothing of the other format or names is left
    assert not list(tmp_path.rglob("*.nii.gz"))
    assert len(list((tmp_path / "scans").iterdir())) == SCANS


def test_another_key_of_hashed_names_is_another_configuration(source, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTLUNG_NAMES_KEY", "the first of two keys")
    process(source, tmp_path, names="hash", spacing_mm=6.0)
    monkeypatch.setenv("FASTLUNG_NAMES_KEY", "the second of two keys")
    with pytest.raises(SinkConflictError, match="another key of hashed names"):
        process(source, tmp_path, names="hash", spacing_mm=6.0)


def test_nothing_else_in_the_sink_is_touched(source, tmp_path):
    (tmp_path / "scans/mine").mkdir(parents=True)
    (tmp_path / "scans/mine/image.npy").write_bytes(b"precious")
    (tmp_path / "notes.txt").write_text("precious")
    process(source, tmp_path, spacing_mm=6.0)
    process(source, tmp_path, spacing_mm=5.0, overwrite=True)
    assert (tmp_path / "scans/mine/image.npy").read_bytes() == b"precious"
    assert (tmp_path / "notes.txt").read_text() == "precious"


def test_a_sink_inside_the_source_is_not_a_source(own_source):
    sink = own_source / "out"
    assert process(own_source, sink).groups_total == SCANS
    assert process(own_source, sink).groups_total == SCANS


def test_what_cannot_be_a_run_is_refused_at_once(source, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_bytes(b"")
    for source_path, sink_path, error in [
        (source, source, ConfigError),
        (tmp_path / "nowhere", tmp_path / "sink", ObjectNotFoundError),
        (tmp_path / "file", tmp_path / "sink", ConfigError),
        (source, tmp_path / "file", ConfigError),
        (tmp_path / "empty", tmp_path / "sink", NothingFoundError),
        ("gs://bucket/stage1", tmp_path / "sink", ConfigError),
    ]:
        with pytest.raises(error):
            process(source_path, sink_path)
    with pytest.raises(ConfigError, match="did you mean 'spacing_mm'"):
        process(source, tmp_path / "sink", spacing=1.0)
    with pytest.raises(InsufficientMemoryError, match="patient-"):
        process(source, tmp_path / "sink", memory_limit_bytes="1MB")
    assert not (tmp_path / "sink").exists()


def test_a_source_without_ct_says_so_after_looking(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source/README").write_text("not DICOM")
    for _ in range(2):  # the second time from the record
        with pytest.raises(
            NothingFoundError, match=r"found none in 1 file of 1 folder \(1 not DICOM\)"
        ):
            process(tmp_path / "source", tmp_path / "sink")


def test_a_dry_run_writes_nothing(source, tmp_path):
    config, options = build_config(), build_run_options(workers=2)
    dry = engine.dry_run(str(source), str(tmp_path / "sink"), config, options)
    assert (len(dry.pending), dry.already_done, dry.plan.workers) == (SCANS, 0, 2)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_stops_the_run(source, tmp_path, monkeypatch):
    put, written = LocalStore.put, []

    def full(store, key, buffers):
        written.append(key)
        if "1.2.3.2/image" in key:
            raise StoreError(f"object {key} cannot be written") from OSError(errno.ENOSPC, "")
        put(store, key, buffers)

    monkeypatch.setattr(LocalStore, "put", full)
    with pytest.raises(StoreError, match=r"1\.2\.3\.2/image\.npy cannot be written"):
        process(source, tmp_path, chunk_size=1)
    assert len([key for key in written if "image" in key]) == 3  # and none after
    monkeypatch.undo()
    assert statuses(process(source, tmp_path).outcomes) == ["done"] * (SCANS - 2)


def test_what_needs_more_than_expected_waits_until_so_much_is_free(own_source, tmp_path, calm):
    write_group(own_source / "giant", 50, slices=60)
    config = build_config(spacing_mm=2.0)
    needs = [
        scan_bytes(
            ScanSize(
                label="",
                group_bytes=slices * 9000,
                acquired_voxels=slices * 64 * 64,
                output_voxels=output_voxels((slices, 64, 64), (8.0, 5.5, 5.5), config.spacing_mm),
            ),
            config,
        )
        for slices in (20, 60)
    ]
    # Each of two workers has room for a small scan, and both together for the giant. By its first
    # header, with slices thinner than they are far apart, the giant seems small.
    summary = process(own_source, tmp_path / "sink", workers=2, memory_limit_bytes=sum(needs))
    assert summary.plan.workers == 2
    assert statuses(summary.outcomes) == ["done"] * (SCANS + 1)
    found = payloads(tmp_path / "sink")
    assert {key: found[key] for key in calm} == calm


#: A run in a process that may not take more memory; prints what became of each scan.
LIMITED = """
import resource
import sys

import psutil

import fastlung
from fastlung.kernels import warm_up

warm_up()
limit = psutil.Process().memory_info().vms + 1_600_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
summary = fastlung.process(sys.argv[1], sys.argv[2], workers=2, spacing_mm=2.0)
for outcome in summary.outcomes:
    print(outcome.name, outcome.status, outcome.error, outcome.message, sep="|")
"""


def test_where_memory_is_limited_only_the_scan_that_cannot_fit_fails(own_source, calm, tmp_path):
    # Seven metres long: by its first header, whose slices are thin, it is a usual scan.
    write_group(own_source / "giant", 50, slices=900)
    (tmp_path / "limited.py").write_text(LIMITED)
    run = launch(tmp_path / "limited.py", own_source, tmp_path / "sink")
    out, errors = run.communicate(timeout=300)
    assert (run.returncode, errors) == (0, "")
    ended = {line.split("|")[0]: line.split("|")[1:] for line in out.splitlines()}
    status, error, message = ended.pop("1.2.3.50")
    assert (status, error) == ("failed", "InsufficientMemoryError")
    assert "and the run may use" in message
    assert [end[0] for end in ended.values()] == ["done"] * SCANS
    found = payloads(tmp_path / "sink")
    assert {key: found[key] for key in calm} == calm


@pytest.mark.data
def test_a_real_chest_stays_within_the_planned_memory(data_dir, tmp_path):
    # What workers share with the server they are forked from is in the peak of any scan.
    def peak_and_plan(source, sink):
        summary = process(source, sink, workers=1, spacing_mm=1.0)
        return max(o.peak_rss_bytes for o in summary.outcomes), summary.plan.worker_bytes

    chest = data_dir / "chest" / "lung-dx-a0002-8mm"
    small = tmp_path / "small"
    write_group(small, 1, slices=1)
    peak, planned = peak_and_plan(chest, tmp_path / "chest")
    shared, _ = peak_and_plan(small, tmp_path / "sink")
    assert peak - shared < planned


def test_no_patient_data_in_anything_a_run_leaves(own_source, tmp_path):
    bad = next((own_source / "patient-01/ct").iterdir())
    bad.write_bytes(bad.read_bytes()[:400])
    summary = process(own_source, tmp_path / "sink", workers=2)
    assert summary.exit_code == 1
    texts = [repr(summary).encode()]
    texts += [path.read_bytes() for path in (tmp_path / "sink").rglob("*") if path.is_file()]
    assert len(texts) > 4 * SCANS
    assert not any(CANARY.encode() in text for text in texts)


def test_inspect_reads_headers_and_names_problems(own_source):
    bad = next((own_source / "patient-01/ct").iterdir())
    bad.write_bytes(bad.read_bytes()[:-3000])
    (own_source / "patient-02/ct/README").write_text("hello")
    found = {info.group: info for info in inspect(own_source)}
    assert len(found) == SCANS
    plain = found["patient-00/ct"]
    assert (plain.number, plain.series_uid, plain.slices) == (1, "1.2.3.0", 20)
    assert (plain.shape, plain.spacing_mm) == ((20, 64, 64), (8.0, 5.5, 5.5))
    assert (plain.verdict, plain.problem) == (("regular",), "")
    assert found["patient-01/ct"].problem
    assert found["patient-02/ct"].skipped_files == {"not DICOM": 1}
    (own_source.parent / "empty").mkdir()
    with pytest.raises(NothingFoundError):
        inspect(own_source.parent / "empty")


def test_a_script_without_a_main_guard_works(source, calm, script, tmp_path):
    run = launch(script, source, tmp_path / "sink", 2)
    out, errors = run.communicate(timeout=120)
    assert (run.returncode, errors) == (0, "")
    assert out.splitlines().count("RunPlanned") == 1  # no worker ran the script again
    assert payloads(tmp_path / "sink") == calm


def test_results_are_never_taken_for_patients(source, calm, tmp_path):
    """Sinks of other runs may lie below the source; NIfTI in them is input elsewhere."""
    patients = tmp_path / "patients"
    shutil.copytree(source, patients)
    process(patients, patients / "nifti", format="nifti")

    summary = process(patients, tmp_path / "sink")

    assert [outcome.status for outcome in summary.outcomes].count("done") == SCANS
    assert payloads(tmp_path / "sink") == calm


def test_workers_import_nothing_from_the_current_folder(source, calm, script, tmp_path):
    """A checkout, or results, in a folder that is called as a module of ours."""
    here = tmp_path / "here"
    for name in ("fastlung", "numpy"):
        (here / name).mkdir(parents=True)
        text = f"open({str(tmp_path / 'imported')!r}, 'a').write({name!r})"
        (here / name / "__init__.py").write_text(text)

    run = launch(script, source, tmp_path / "sink", 2, cwd=here)
    _, errors = run.communicate(timeout=120)

    assert (run.returncode, errors) == (0, "")
    assert not (tmp_path / "imported").exists()
    assert payloads(tmp_path / "sink") == calm


@pytest.mark.parametrize("after", ["KernelsReady", "ScanEnded"])
def test_killed_at_any_moment_a_rerun_completes_the_same_bytes(
    source, calm, script, tmp_path, after
):
    sink = tmp_path / "sink"
    for delay in (0.0, 0.15):
        run = launch(script, source, sink, 2)
        while (line := run.stdout.readline()) and line.strip() != after:
            pass
        time.sleep(delay)
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate(timeout=60)
        for record in sink.glob("records/*.json"):  # what is committed is whole
            outputs = json.loads(record.read_bytes())["outcomes"][0]["outputs"]
            assert {key: payloads(sink)[key] for key in outputs} == {k: calm[k] for k in outputs}
    for path in sink.rglob(".*.fastlung-tmp"):
        os.utime(path, (0, 0))  # as if the kill was long ago
    for record in list(sink.glob("records/*.json"))[:1]:
        record.unlink()  # the kill may have come after the last commit; only a run at work sweeps
    assert process(source, sink).exit_code == 0
    assert payloads(sink) == calm
    assert not list(sink.rglob(".*"))


def test_workers_end_with_their_parent(source, script, tmp_path):
    marker = f"FASTLUNG_TEST_{tmp_path.name}_{os.getpid()}"
    run = launch(script, source, tmp_path / "sink", 2, env={**os.environ, marker: "1"})
    while run.stdout.readline().strip() != "ScanEnded":
        pass
    children = psutil.Process(run.pid).children(recursive=True)
    assert len(children) >= 3  # the fork server and two workers
    os.kill(run.pid, signal.SIGKILL)
    run.communicate(timeout=60)
    _gone, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []


def test_ctrl_c_ends_the_run_and_its_workers(source, calm, script, tmp_path):
    run = launch(script, source, tmp_path / "sink", 2)
    while run.stdout.readline().strip() != "ScanEnded":
        pass
    children = psutil.Process(run.pid).children(recursive=True)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal sends it, to everybody
    _out, errors = run.communicate(timeout=60)
    assert run.returncode == -signal.SIGINT
    assert errors.count("Traceback") == 1  # the parent's only
    assert "KeyboardInterrupt" in errors.splitlines()[-1]
    assert psutil.wait_procs(children, timeout=20)[1] == []
    assert process(source, tmp_path / "sink").exit_code == 0
    assert payloads(tmp_path / "sink") == calm


def test_outcomes_beyond_the_first_are_kept_in_short(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "KEPT_WHOLE", 2)
    write_source(tmp_path / "source", 3)
    told = []
    summary = fastlung.process(
        tmp_path / "source", tmp_path / "sink", workers=0, spacing_mm=6.0, on_event=told.append
    )
    assert [bool(outcome.figures) for outcome in summary.outcomes] == [True, True, False]
    assert all(outcome.outputs for outcome in summary.outcomes)
    whole = [event.outcome for event in told if isinstance(event, ScanEnded)]
    assert [outcome.in_short() for outcome in whole[2:]] == list(summary.outcomes[2:])
    assert all(outcome.figures for outcome in whole)


@pytest.fixture
def disk(tmp_path):
    """A disk, and what sets its size in bytes; only root may mount one."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options):
        command = ["/bin/mount", "-t", "tmpfs", "-o", options, "fastlung-test", str(place)]
        done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - our own
        return done.returncode == 0

    if not Path("/bin/mount").exists() or not mount("size=1m"):
        pytest.skip("no right to mount a small disk here")
    yield place, lambda size_bytes: mount(f"remount,size={size_bytes}")
    subprocess.run(["/bin/umount", str(place)], check=True)  # noqa: S603 - our own


def test_a_disk_that_fills_up_ends_the_run_and_leaves_nothing_half_written(tmp_path, disk):
    place, resize = disk
    source, calm, sink = write_source(tmp_path / "source", 5), tmp_path / "calm", place / "sink"
    options = {"workers": 1, "spacing_mm": 4.0}
    fastlung.process(source, calm, **options)
    whole = payloads(calm)
    total = sum(map(len, whole.values()))
    assert resize(total // 2)
    with pytest.raises(StoreError, match="No space left"):
        fastlung.process(source, sink, **options)
    # Whatever bears its final name is what a calm run writes.
    assert all(whole[key] == data for key, data in payloads(sink).items())
    done = len(list(sink.glob("records/*")))
    assert 0 < done < 5
    assert resize(4 * total)
    summary = fastlung.process(source, sink, **options)
    assert (summary.exit_code, len(summary.outcomes)) == (0, 5 - done)
    assert payloads(sink) == whole
