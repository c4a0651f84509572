"""Fixtures every test may use."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# Kernels compile on their first call, so no deadline; the same cases every time in CI.
settings.register_profile(
    "fastlung", deadline=None, max_examples=50, derandomize="CI" in os.environ
)
settings.load_profile("fastlung")


if os.environ.get("NUMBA_DISABLE_JIT") == "1":
    # As plain Python, kernels should wrap integers as silently as their compiled selves.
    np.seterr(over="ignore")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real scans beside the repository; tests that need them are skipped without."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "chest").is_dir():
        pytest.skip(
            f"real scans are not here: {folder.name}/chest is missing beside the repository"
        )
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what would take minutes as plain Python."""
    if os.environ.get("NUMBA_DISABLE_JIT") == "1":
        slow = pytest.mark.skip(reason="needs the compiled kernels, and NUMBA_DISABLE_JIT is set")
        for item in items:
            if "compiled" in item.keywords:
                item.add_marker(slow)
