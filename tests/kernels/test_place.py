"""Compiled kernels are kept where they can be, and never where a stranger could put others."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fastlung.kernels import jit as places
from fastlung.kernels.jit import kernel_place

#: What loads no Numba; `process` and others that compute do.
LIGHT = ("status", "config", "inspect", "verify", "manifest", "doctor", "plan", "completion")


@pytest.fixture(autouse=True)
def _asked_anew(monkeypatch, tmp_path):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    kernel_place.cache_clear()
    yield
    kernel_place.cache_clear()


@pytest.fixture
def read_only(monkeypatch, tmp_path):
    """Let only what lies below these folders be written."""
    real = places._is_writable
    allowed = []

    def may_be_written(folder):
        return any(folder.is_relative_to(tmp_path / name) for name in allowed) and real(folder)

    monkeypatch.setattr(places, "_is_writable", may_be_written)
    return allowed


def test_beside_the_package_comes_first():
    assert kernel_place().folder == str(Path(places.__file__).parent / "__pycache__")
    assert not kernel_place().note


@pytest.mark.parametrize(("allowed", "folder"), [("cache", "cache/numba"), ("given", "given")])
def test_then_the_users_cache_and_before_all_what_is_given(
    read_only, tmp_path, monkeypatch, allowed, folder
):
    read_only.append(allowed)
    if allowed == "given":
        monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "given"))
    found = kernel_place()
    assert (found.folder, found.is_numbas, found.note) == (str(tmp_path / folder), True, "")


def test_then_a_private_temporary_folder(read_only, tmp_path):
    read_only.append("tmp")
    folder = Path(kernel_place().folder)
    assert folder.parent == tmp_path / "tmp"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert "a minute" in kernel_place().note


def occupied_by_a_link(folder, tmp_path):
    (tmp_path / "theirs").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "theirs")


def open_to_others(folder, tmp_path):  # noqa: ARG001 - as the others
    folder.mkdir()
    folder.chmod(0o777)


def somebody_elses(folder, tmp_path):  # noqa: ARG001
    if os.geteuid():
        pytest.skip("only root can give a folder away")
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)


@pytest.mark.parametrize("laid", [occupied_by_a_link, open_to_others, somebody_elses])
def test_a_temporary_folder_that_a_stranger_laid_out_is_not_used(read_only, tmp_path, laid):
    read_only.append("tmp")
    laid(tmp_path / "tmp" / f"fastlung-kernels-{os.geteuid()}", tmp_path)
    assert kernel_place().folder == ""
    assert "in memory only" in kernel_place().note


def test_a_user_without_a_home_makes_no_folder_called_tilde(read_only, monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.chdir(tmp_path)
    read_only.append(".")
    kernel_place()
    assert not (tmp_path / "~").exists()


def test_commands_that_compute_nothing_load_no_kernel():
    code = (
        "import sys, importlib\n"
        "from fastlung.cli import CARRIED_OUT_BY\n"
        f"for name in {LIGHT}:\n"
        "    importlib.import_module('fastlung.cli.' + CARRIED_OUT_BY[name][0])\n"
        "import fastlung.doctor, fastlung.inspection, fastlung.verification\n"
        "assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - our interpreter
