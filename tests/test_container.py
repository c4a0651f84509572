"""In a container: another user, no home, no cache, nothing that may be written but the sink."""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import tiny_series

import fastlung
from fastlung.demo.cohort import write_cohort

NOBODY = 65534

pytestmark = pytest.mark.compiled


@pytest.fixture
def contained():
    """Run fastlung as nobody, below a root that is read-only but for some folders."""
    if os.geteuid() or not all(map(shutil.which, ("unshare", "setpriv"))):
        pytest.skip("only root can become another user, with unshare and setpriv")

    def run(*words, **environment):
        given = {
            "PATH": "/usr/bin:/bin",
            "HOME": "/nonexistent",
            "PYTHONPATH": str(Path(fastlung.__file__).parents[1]),
            "PYTHONSAFEPATH": "1",
            **environment,
        }
        program = [sys.executable, "-m", "fastlung", *map(str, words)]
        become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *program]
        # The root read-only; one tmpfs, where the words say so, is all that may be written.
        script = (
            f"mount -o remount,bind,ro / && mount -t tmpfs -o mode=777 none {tmpfs} && "
            f"cp -r {kept}/. {tmpfs}/ && chown -R {NOBODY} {tmpfs} && cd / && "
            f"exec {shlex.join(become)}"
        )
        return subprocess.run(  # noqa: S603 - our own words
            ["unshare", "-m", "bash", "-c", script],  # noqa: S607
            env=given,
            capture_output=True,
            text=True,
            check=False,
        )

    # Not pytest's own folder, which only root may enter.
    with tempfile.TemporaryDirectory() as base:
        Path(base).chmod(0o755)
        run.base, tmpfs, kept = Path(base), Path(base) / "tmpfs", Path(base) / "kept"
        tmpfs.mkdir()
        kept.mkdir()
        run.tmpfs, run.kept = tmpfs, kept
        probe = run("--version")
        if probe.returncode:
            pytest.skip(f"no such container can be made here: {probe.stderr.strip()[-100:]}")
        yield run


def keep_kernels(folder):
    """Copy the compiled kernels to where Numba looks for them in a folder that it is given."""
    from fastlung.kernels import hu, warm_up  # noqa: PLC0415 - compiled where there are none yet

    warm_up()
    cache = Path(hu.rescale.stats.cache_path)
    source = str(Path(hu.__file__).parent)
    digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    shutil.copytree(cache, folder / f"kernels_{digest}", ignore=shutil.ignore_patterns("*.pyc"))


def _workers():
    """1 where this other user can fork processes at all: not below somebody's home folder."""
    code = (
        "import multiprocessing as m\n"
        "if __name__ == '__main__':\n"
        "    p = m.get_context('forkserver').Process(target=print)\n"
        "    p.start()\n    p.join()"
    )
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    tried = subprocess.run(  # noqa: S603 - our own words
        [*become, sys.executable, "-c", code], capture_output=True, check=False
    )
    return 0 if tried.returncode else 1


def upload(s3, folder):
    for path in folder.rglob("*"):
        if path.is_file():
            key = f"in/{path.relative_to(folder).as_posix()}"
            s3.client.put_object(Bucket=s3.bucket, Key=key, Body=path.read_bytes())


def credentials(s3):
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED")
    return {name: os.environ[name] for name in names} | {
        "AWS_ENDPOINT_URL": s3.options.endpoint_url
    }


@pytest.mark.parametrize(
    "command", [("doctor",), ("config",), ("status", "SINK"), ("inspect", "SOURCE")]
)
def test_commands_that_compute_nothing_need_no_place_to_write(contained, command):
    source, sink = tiny_series.write_source(contained.base / "source", 1), contained.base / "sink"
    fastlung.process(str(source), str(sink), workers=0, spacing_mm=6.0, mask="none")
    words = [{"SINK": sink, "SOURCE": source}.get(word, word) for word in command]
    found = contained(*words)
    # The doctor finds something to mend: no place for compiled kernels.
    assert found.returncode == (1 if command[0] == "doctor" else 0), found.stderr
    assert "internal error" not in found.stderr


def test_the_demo_cohort_goes_from_bucket_to_bucket(contained, s3, tmp_path):
    write_cohort(tmp_path / "cohort")
    upload(s3, tmp_path / "cohort")
    environment = credentials(s3)
    if os.environ.get("ATTACK_ROUNDS"):
        compiled = "in memory only"  # a minute or two
    else:
        keep_kernels(contained.kept)
        environment["NUMBA_CACHE_DIR"], compiled = str(contained.tmpfs), ""
    source, sink = f"s3://{s3.bucket}/in", f"s3://{s3.bucket}/out"
    words = ("process", source, sink, "--spacing", "3", "--workers", _workers())
    found = contained(*words, **environment)
    assert found.stdout, found.stderr
    events = [json.loads(line) for line in found.stdout.splitlines()]
    assert events[-1]["event"] == "run_ended", found.stderr + found.stdout[-500:]
    assert events[-1]["done"] >= 5
    assert events[-1]["exit_code"] == found.returncode
    (ready,) = [event for event in events if event["event"] == "kernels_ready"]
    assert compiled in ready.get("note", "")
    again = contained("verify", source, sink, **environment)
    assert again.returncode == 0, again.stdout + again.stderr


def test_a_run_of_this_user_keeps_hashed_names_without_a_home(contained):
    source = tiny_series.write_source(contained.base / "source", 1)
    words = ("process", source, contained.tmpfs / "sink", "--names", "hash", "--dry-run")
    found = contained(*words)
    assert found.returncode == 2
    assert "FASTLUNG_NAMES_KEY" in found.stderr
