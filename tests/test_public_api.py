"""What ``import fastlung`` offers, and what it does not load."""

import ast
import importlib
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import fastlung

HEAVY = {
    "boto3", "imagecodecs", "nibabel", "numba", "numpy", "obstore", "psutil", "pydantic", "pydicom",
    "rich", "scipy", "zarr",
}  # fmt: skip

PUBLIC = {
    "Config", "Crop", "Flag", "Grid", "Limits", "LungMask", "Outcome", "Picture", "Policy",
    "RawScan", "RunOptions", "ScanComparison", "ScanResult", "StoreOptions", "StoredScan",
    "Verdict", "__version__",
    "assess_mask", "build_config", "build_run_options", "compare", "errors", "inspect", "limited",
    "list_series",
    "load_for", "lung_mask", "open_scan", "preview", "process", "process_scan", "read_series",
    "resample", "to_hu",
}  # fmt: skip


def modules_after(code: str) -> set[str]:
    """Names of top-level modules that a fresh interpreter has loaded after some code."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split("\n")[-2].split())


def test_the_surface_is_exactly_this():
    assert set(fastlung.__all__) == PUBLIC
    assert set(dir(fastlung)) >= PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_name_resolves_to_where_it_is_defined(name):
    value = getattr(fastlung, name)
    if name == "__version__":
        assert value == version("fastlung")
    elif name == "errors":
        assert value is importlib.import_module("fastlung.errors")
    else:
        assert value.__name__ == name
        assert value.__module__.startswith(f"fastlung.{fastlung._HOMES[name]}")
        assert value.__doc__


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(fastlung.__file__).read_text())
    (block,) = (
        node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node)
    )
    imports = {
        alias.asname: node.module.removeprefix("fastlung").removeprefix(".")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imports.pop("errors") == ""
    assert imports == fastlung._HOMES


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'proces'"):
        _ = fastlung.proces


@pytest.mark.parametrize(
    "code",
    [
        "import fastlung; fastlung.__version__; dir(fastlung)",
        "from fastlung.cli import main; main(['--help'])",
        "from fastlung.cli import main; main(['process', '--help'])",
        "from fastlung.cli import main; main(['--version'])",
        "from fastlung.cli import main; main(['proces'])",
        "import fastlung.errors",
    ],
)
def test_importing_and_asking_for_help_loads_nothing_heavy(code):
    assert modules_after(code).isdisjoint(HEAVY)


def test_the_nouns_load_without_compiler_or_dicom():
    loaded = modules_after("import fastlung; fastlung.Grid; fastlung.Config")
    assert loaded.isdisjoint({"numba", "scipy", "pydicom", "nibabel", "imagecodecs", "rich"})


def test_importing_changes_nothing_in_the_process():
    code = """
import logging, os, threading
before = dict(os.environ), threading.active_count(), list(logging.root.handlers)
import fastlung, fastlung.cli, fastlung.cli.process, fastlung.run.engine
assert before == (dict(os.environ), threading.active_count(), list(logging.root.handlers))
assert not logging.getLogger("fastlung").handlers
"""
    modules_after(code)
