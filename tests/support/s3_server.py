"""
A real S3 server for tests: SeaweedFS on this machine's loopback, one for the whole session.

And `FaultyServer`, which answers whatever a test wants, for what no local server can be made to
say: another region, a requester-pays bucket, an overload.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import boto3
import botocore.config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ACCESS_KEY, SECRET_KEY, REGION = "fastlung-tests", "fastlung-tests-secret", "us-east-1"
PORTS = ("s3", "master", "volume", "filer", "admin")
START_SECONDS = 30.0


def find_weed() -> str | None:
    """Path of the SeaweedFS binary: beside this Python, or on the search path."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


def client(endpoint_url: str) -> Any:
    """Plain boto3, the oracle: knows nothing of fastlung."""
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=botocore.config.Config(retries={"total_max_attempts": 1}),
    )


@contextmanager
def seaweed(weed: str, folder: Path, numbers: list[int] | None = None) -> Iterator[str]:
    """Run the server as long as the context lasts; gives its endpoint URL. Same ports, same URL."""
    ports = dict(zip(PORTS, numbers or free_ports(), strict=True))
    # `-ip.bind`: without it the server would listen on every network of this machine.
    command = [
        weed, "-logtostderr=true", "mini", f"-dir={folder}", "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1", f"-s3.port={ports['s3']}", f"-master.port={ports['master']}",
        f"-volume.port={ports['volume']}", f"-filer.port={ports['filer']}",
        f"-admin.port={ports['admin']}", "-webdav=false", "-admin.ui=false",
        # Each bucket takes seven volumes, and there are only as many as the free space of the disk
        # has room for full ones, unless told: 400 for 50 GB, and the sixtieth bucket had none left.
        "-volume.max=5000",
        "-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
    ]  # fmt: skip
    environment = {
        **os.environ, "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY
    }  # fmt: skip
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603
            command, env=environment, stdout=log, stderr=log, cwd=folder
        )
        try:
            url = f"http://127.0.0.1:{ports['s3']}"
            _wait_until_it_works(url, process)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_ports() -> list[int]:
    """As many ports as `PORTS` that nobody uses; SeaweedFS also takes each of them plus 10000."""
    ports: list[int] = []
    while len(ports) < len(PORTS):
        with socket.socket() as first, socket.socket() as other:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1] - 10_000
            with suppress(OSError):
                other.bind(("127.0.0.1", port))
                ports.append(port)
    return ports


def _wait_until_it_works(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    s3 = client(url)
    while True:
        try:
            with suppress(ClientError):  # it is there, after a restart
                s3.create_bucket(Bucket="ready")
            s3.put_object(Bucket="ready", Key="ready", Body=b"ready")
        except (BotoCoreError, ClientError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


class FaultyServer:
    """
    Answers each request as `answer(method, path, headers, number)` says.

    Parameters
    ----------
    answer : callable
        Gives status, headers and body; `number` counts requests from 0.
    """

    def __init__(self, answer: Callable[[str, str, Any, int], tuple[int, dict, bytes]]) -> None:
        self.requests: list[tuple[str, str]] = []
        requests = self.requests

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _reply(self) -> None:
                number = len(requests)
                requests.append((self.command, self.path))
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, headers, body = answer(self.command, self.path, self.headers, number)
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(body))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)
                if int(headers.get("Content-Length", len(body))) != len(body):
                    self.close_connection = True

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _reply  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
