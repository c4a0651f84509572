"""An instance is asked what it is with tokens, quickly, and never needed."""

import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from fastlung.plan.ec2 import instance_type, is_amazon, metadata

LEASE = "secret-token"


class Metadata(BaseHTTPRequestHandler):
    """The service: a token for a PUT, answers for the token."""

    def do_PUT(self):
        lasting = self.headers["X-aws-ec2-metadata-token-ttl-seconds"] is not None
        if self.path == "/latest/api/token" and lasting and self.server.lets_in:
            self.answer(200, LEASE)
        else:
            self.answer(403, "no")

    def do_GET(self):
        if self.headers["X-aws-ec2-metadata-token"] != LEASE:
            self.answer(401, "version 1 is off")
        elif self.path == "/latest/meta-data/instance-type":
            time.sleep(self.server.delay_seconds)
            self.answer(200, self.server.type)
        else:
            self.answer(404, "nothing")

    def answer(self, code, text):
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


@contextmanager
def serving(kind="c7i.4xlarge", *, lets_in=True, delay_seconds=0.0):
    with ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server:
        server.type, server.lets_in, server.delay_seconds = kind, lets_in, delay_seconds
        server.handle_error = lambda *_: None  # a client that hung up
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        endpoint = f"http://127.0.0.1:{server.server_address[1]}/"
        try:
            yield {"AWS_EC2_METADATA_SERVICE_ENDPOINT": endpoint}
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def amazon(tmp_path):
    def make(name="sys_vendor", text="Amazon EC2\n"):
        folder = tmp_path / "sys/class/dmi/id"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        return tmp_path

    return make


@pytest.mark.parametrize("kind", ["c4.2xlarge", "m7g.metal", "u-6tb1.112xlarge", "c7i-flex.large"])
def test_the_type_of_an_instance(amazon, kind):
    with serving(kind) as environment:
        assert instance_type(amazon(), environment) == kind


def test_old_instances_name_amazon_in_the_version_of_the_firmware(amazon):
    assert is_amazon(amazon("bios_version", "4.11.amazon\n"))


@pytest.mark.parametrize("vendor", ["QEMU\n", "Dell Inc.\n", ""])
def test_other_makers_are_not_asked(amazon, vendor):
    with serving() as environment:
        assert instance_type(amazon(text=vendor), environment) is None


def test_no_answer_in_time_is_no_answer(amazon):
    with serving(delay_seconds=1.0) as environment:
        assert instance_type(amazon(), environment) is None
    with serving(lets_in=False) as environment:
        assert instance_type(amazon(), environment) is None
    nobody = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:9"}
    assert instance_type(amazon(), nobody) is None


@pytest.mark.parametrize("said", ["<html>login</html>", "", "c7i", "a" * 2000, "c7i.large\nx"])
def test_what_is_no_type_is_not_taken_for_one(amazon, said):
    with serving(said) as environment:
        assert instance_type(amazon(), environment) is None


def test_whoever_turns_the_service_off_is_heard():
    with serving() as environment:
        assert metadata("instance-type", environment) == "c7i.4xlarge"
        off = environment | {"AWS_EC2_METADATA_DISABLED": "true"}
        assert metadata("instance-type", off) is None
        assert metadata("no-such-thing", environment) is None
    assert metadata("instance-type", {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "file:///etc"}) is None
