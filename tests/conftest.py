"""Fixtures every test may use."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real scans, kept beside the repository; tests that need them are skipped without."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "chest").is_dir():
        pytest.skip(f"real scans are not here: {folder.name}/chest is missing beside the repository")
    return folder
