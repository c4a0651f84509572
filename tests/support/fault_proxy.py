"""
Everything that can go wrong between a client and a bucket, on purpose and repeatably.

`FaultProxy` stands before a real S3 server and passes requests on, except where its plan says
otherwise. A plan is a function of the request alone, so that the same run meets the same faults.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

DROPPED_HEADERS = {"connection", "content-length", "transfer-encoding", "keep-alive"}

Kind = Literal[
    "refuse", "reset", "cut", "shorten", "stall", "trickle", "late", "lose", "twice", "cut-upload"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """
    What is done to one request.

    Attributes
    ----------
    kind : str
        ``refuse``: answered with `status` and `code`, not passed on. ``reset``: connection reset,
        not passed on. ``cut``: the body ends half-way, against its length. ``shorten``: likewise,
        but its length says so, too. ``stall``: the body stops half-way for `seconds`.
        ``trickle``: it comes in ten pieces over `seconds`. ``late``: the answer comes after
        `seconds`. ``lose``: passed on, and its answer lost. ``twice``: passed on twice.
        ``cut-upload``: connection reset while the body comes.
    status, code : int, str
        Of a refusal; without a code its body is a page of HTML.
    seconds : float
        How long to wait.
    """

    kind: Kind
    status: int = 0
    code: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """
    A request.

    Attributes
    ----------
    method, key, query : str
        What is asked for; the key without its bucket.
    number : int
        How often the same was asked before.
    token : str
        Session token of the credentials.
    fault : Fault or None
        What was done to it.
    """

    method: str
    key: str
    query: str
    number: int
    token: str = ""
    fault: Fault | None = None


def refuse(status: int, code: str = "") -> Fault:
    return Fault(kind="refuse", status=status, code=code)


#: What passes if the request is made again.
PASSING = (
    refuse(503, "SlowDown"),
    refuse(500, "InternalError"),
    refuse(429, "TooManyRequests"),
    refuse(400, "RequestTimeout"),
    refuse(502),
    Fault(kind="reset"),
    Fault(kind="cut"),
    Fault(kind="shorten"),
    Fault(kind="late", seconds=0.05),
    Fault(kind="lose"),
    Fault(kind="twice"),
    Fault(kind="cut-upload"),
)


class FaultProxy:
    """
    Stands before a server as long as it is entered.

    Parameters
    ----------
    upstream : str
        URL of the server.
    plan : callable
        From a request to the `Fault` it meets, or None. May be changed meanwhile.

    Attributes
    ----------
    ignores_conditions : bool
        Whether a conditional create always seems to succeed, as with some servers.
    """

    def __init__(self, upstream: str, plan: Callable[[Asked], Fault | None]) -> None:
        self.plan = plan
        self.ignores_conditions = False
        self.log: list[Asked] = []
        self._seen: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        proxy, address = self, urlsplit(upstream).netloc

        class Handler(_Handler):
            def setup(self) -> None:
                super().setup()
                self.proxy = proxy
                self.upstream = http.client.HTTPConnection(address, timeout=30)

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def judge(self, method: str, target: str, token: str) -> Fault | None:
        """Note a request, and say what becomes of it."""
        path, _, query = target.partition("?")
        key = unquote(path).lstrip("/").partition("/")[2]
        with self._lock:
            number = self._seen[method, target]
            self._seen[method, target] += 1
            asked = Asked(method=method, key=key, query=query, number=number, token=token)
            fault = self.plan(asked)
            self.log.append(replace(asked, fault=fault))
        return fault

    def keys(self, method: str) -> list[str]:
        """Keys that were asked for, in order."""
        return [asked.key for asked in self.log if asked.method == method]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients hang up, as they should."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultProxy
    upstream: http.client.HTTPConnection

    def _reply(self) -> None:
        token = self.headers.get("x-amz-security-token", "")
        fault = self.proxy.judge(self.command, self.path, token)
        kind = fault.kind if fault else ""
        length = int(self.headers.get("Content-Length", 0))
        if kind == "cut-upload" and length:
            self.rfile.read(length // 2)
            self._reset()
            return
        body = self.rfile.read(length)
        if kind == "reset":
            self._reset()
        elif kind == "refuse" and fault:
            self._refuse(fault)
        else:
            for _ in range(2 if kind == "twice" else 1):
                status, headers, content = self._pass_on(body)
            if kind == "lose":
                self._reset()
                return
            if kind == "late" and fault:
                time.sleep(fault.seconds)
            self._answer(status, headers, content, fault)

    def _pass_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        self.upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("connection", "expect"):
                self.upstream.putheader(name, value)
        self.upstream.endheaders(body or None)
        answer = self.upstream.getresponse()
        content = answer.read()
        headers = [item for item in answer.getheaders() if item[0].lower() not in DROPPED_HEADERS]
        if self.command == "HEAD":
            headers.append(("Content-Length", answer.getheader("Content-Length", "0")))
        if answer.status == http.client.PRECONDITION_FAILED and self.proxy.ignores_conditions:
            return http.client.OK, [("ETag", '"e"')], b""
        return answer.status, headers, content

    def _answer(
        self, status: int, headers: list[tuple[str, str]], content: bytes, fault: Fault | None
    ) -> None:
        kind = fault.kind if fault else ""
        sent = content[: len(content) // 2] if kind in ("cut", "shorten", "stall") else content
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(sent if kind == "shorten" else content)))
        self.end_headers()
        if kind == "trickle" and fault:
            step = len(content) // 10 + 1
            for at in range(0, len(content), step):
                self.wfile.write(content[at : at + step])
                self.wfile.flush()
                time.sleep(fault.seconds / 10)
            return
        self.wfile.write(sent)
        if kind == "cut" and len(sent) < len(content):
            self.close_connection = True
        elif kind == "stall" and fault:
            self.wfile.flush()
            time.sleep(fault.seconds)
            self.wfile.write(content[len(sent) :])

    def _refuse(self, fault: Fault) -> None:
        body = f"<Error><Code>{fault.code}</Code></Error>" if fault.code else "<html>Sorry<br>"
        self.send_response(fault.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body.encode())

    def _reset(self) -> None:
        # Closed with nothing left to wait for, TCP tells the other end by a reset.
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _reply  # noqa: N815

    def finish(self) -> None:
        self.upstream.close()
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, *_: object) -> None:
        pass


def seeded(seed: int, share: float, *, tries: int = 3) -> Callable[[Asked], Fault | None]:
    """
    Plan of a nemesis: faults for this share of requests, drawn from the request itself.

    The order in which threads ask does not matter. From `tries` times on the same request passes.
    """

    def plan(asked: Asked) -> Fault | None:
        name = f"{seed} {asked.method} {asked.key} {asked.query} {asked.number}"
        draw = random.Random(name)
        if asked.number >= tries or draw.random() >= share:
            return None
        return draw.choice(PASSING)

    return plan
