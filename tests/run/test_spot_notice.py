"""The notice that a spot instance will be taken away is heard, and only on EC2."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fastlung.run.signals import SpotNotice


class Metadata(BaseHTTPRequestHandler):
    """The metadata service of an instance; no notice before it was asked twice."""

    def do_PUT(self):
        self.answer(200, "token")

    def do_GET(self):
        self.server.asked.append(self.path)
        if self.headers["X-aws-ec2-metadata-token"] != "token":
            self.answer(401, "")
        elif len(self.server.asked) < 3:
            self.answer(404, "")
        else:
            self.answer(200, '{"action": "terminate", "time": "2026-11-22T08:22:00Z"}')

    def answer(self, code, text):
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        """Say nothing."""


@contextmanager
def serving():
    with ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host, port = server.server_address
        yield server, {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{host}:{port}"}
        server.shutdown()


@pytest.fixture
def machine(tmp_path):
    def of(vendor):
        folder = tmp_path / "sys/class/dmi/id"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sys_vendor").write_text(vendor)
        return tmp_path

    return of


def test_the_notice_is_passed_on_once(machine):
    heard, told = threading.Event(), []

    def notify(words):
        told.append(words)
        heard.set()

    with serving() as (server, environment):
        root = machine("Amazon EC2\n")
        with SpotNotice(notify, root=root, environment=environment, poll_seconds=0.01):
            assert heard.wait(30)
        assert told == ["the notice that this spot instance will be taken away"]
        assert server.asked == ["/latest/meta-data/spot/instance-action"] * 3


def test_other_machines_ask_nobody(machine):
    with serving() as (server, environment):
        root = machine("QEMU\n")
        with SpotNotice(
            lambda _: pytest.fail("nobody asked"),
            root=root,
            environment=environment,
            poll_seconds=0.0,
        ):
            pass
        assert server.asked == []
