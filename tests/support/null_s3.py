"""
An S3 that costs next to nothing: for measuring clients, and for latency that loopback has not.

Objects are sent from memory after a first-byte delay, at a bounded rate for each connection and,
if asked, for all together. What is uploaded is counted and dropped, except small objects such as
records and metadata. It knows what fastlung uses: GET, HEAD, PUT, DELETE, listing, conditional
create and parts. It checks no signature.

``python tests/support/null_s3.py FOLDER --copies 24`` serves a folder from its own process.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import math
import re
import socket
import subprocess
import sys
import threading
from bisect import bisect_left, bisect_right
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import heappop, heappush
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import unescape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

DATE = "Sun, 22 Nov 2026 14:25:43 GMT"
REASONS = {200: "OK", 204: "No Content", 206: "Partial Content"}
#: Uploads longer than this are dropped, in bytes.
KEEP_BYTES = 2**18


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """
    How fast the server is.

    Attributes
    ----------
    first_byte_seconds : float
        From a request to its answer, in seconds.
    connection_bytes_per_second : float
        Of one connection.
    total_bytes_per_second : float
        Of all connections together, each way.
    """

    first_byte_seconds: float = 0.030
    connection_bytes_per_second: float = 60e6
    total_bytes_per_second: float = float("inf")


DEFAULT_PACE = Pace()
INSTANT = Pace(first_byte_seconds=0.0, connection_bytes_per_second=float("inf"))


@dataclass(slots=True)
class Counts:
    """What was asked for, so far."""

    requests: dict[str, int] = field(default_factory=dict)
    sent_bytes: int = 0
    received_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Stored:
    """One object; without contents if they were dropped."""

    size: int
    etag: str
    data: bytes | None


class Link:
    """
    One way of a link that all connections share alike, as queues in routers are fair to flows.

    First come first served instead would hold every record up behind the volumes that were sent
    before it.
    """

    def __init__(self, bytes_per_second: float) -> None:
        self._bytes_per_second = bytes_per_second
        self._under_way: list[tuple[float, int, Callable[[], None]]] = []
        self._served = 0.0  # bytes that each transfer has got which was always there
        self._looked = 0.0
        self._numbers = 0
        self._timer: asyncio.TimerHandle | None = None

    def carry(self, size: int, then: Callable[[], None]) -> None:
        """Call back when so many bytes are through."""
        if not size or math.isinf(self._bytes_per_second):
            then()
            return
        self._catch_up()
        self._numbers += 1
        heappush(self._under_way, (self._served + size, self._numbers, then))
        self._wait()

    def _catch_up(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._under_way:
            each = self._bytes_per_second / len(self._under_way)
            self._served += (now - self._looked) * each
        self._looked = now

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        left = self._under_way[0][0] - self._served
        seconds = max(0.0, left * len(self._under_way) / self._bytes_per_second)
        self._timer = asyncio.get_running_loop().call_later(seconds, self._end)

    def _end(self) -> None:
        self._timer = None
        self._catch_up()
        done = []
        while self._under_way and self._under_way[0][0] <= self._served + 1:
            done.append(heappop(self._under_way)[2])
        if self._under_way:
            self._wait()
        for then in done:
            then()


class Bucket:
    """All objects of the server, whatever bucket they are asked from."""

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        etags = {id(data): hashlib.md5(data).hexdigest() for data in objects.values()}  # noqa: S324
        self.objects = {
            key: Stored(len(data), f'"{etags[id(data)]}"', data) for key, data in objects.items()
        }
        self._sorted: list[str] | None = None

    def put(self, key: str, size: int, data: bytes | None) -> str:
        text = data if data is not None else str(size).encode()
        etag = f'"{hashlib.md5(text).hexdigest()}"'  # noqa: S324
        if key not in self.objects:
            self._sorted = None
        self.objects[key] = Stored(size, etag, data)
        return etag

    def delete(self, key: str) -> None:
        if self.objects.pop(key, None) is not None:
            self._sorted = None

    def page(self, query: dict[str, str]) -> bytes:
        """One page of a listing, as XML."""
        if self._sorted is None:
            self._sorted = sorted(self.objects)
        keys, prefix = self._sorted, query.get("prefix", "")
        delimiter, left = query.get("delimiter", ""), int(query.get("max-keys", "1000"))
        after = query.get("continuation-token") or query.get("start-after", "")
        at = max(bisect_left(keys, prefix), bisect_right(keys, after) if after else 0)
        rows, last = [], ""
        while at < len(keys) and left and keys[at].startswith(prefix):
            head, cut, _ = (
                keys[at][len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            )
            if cut:
                last = f"{prefix}{head}{delimiter}\U0010ffff"
                folder = quote(prefix + head + delimiter)
                rows.append(f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>")
                at = bisect_left(keys, last, at)
            else:
                last, found = keys[at], self.objects[keys[at]]
                rows.append(
                    f"<Contents><Key>{quote(last)}</Key><LastModified>2026-11-22T14:25:43Z"
                    f"</LastModified><ETag>{found.etag}</ETag><Size>{found.size}</Size></Contents>"
                )
                at += 1
            left -= 1
        more = at < len(keys) and keys[at].startswith(prefix)
        token = f"<NextContinuationToken>{quote(last)}</NextContinuationToken>" if more else ""
        text = (
            f"<ListBucketResult><EncodingType>url</EncodingType><KeyCount>{len(rows)}</KeyCount>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{''.join(rows)}"
            "</ListBucketResult>"
        )
        return text.encode()


class Connection(asyncio.BufferedProtocol):
    """One client; bodies land in one buffer, again and again."""

    def __init__(self, server: NullS3) -> None:
        self._server = server
        self._buffer = bytearray(2**18)
        self._head = bytearray()
        self._request: tuple[str, str, dict[str, str]] | None = None
        self._missing = self._length = 0
        self._body: bytearray | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._server.open.add(transport)
        link = transport.get_extra_info("socket")
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A whole slice fits: one system call sends it, and nothing is left to be copied.
        link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        self._server.open.discard(self._transport)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - asyncio's name
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._request is None:
            self._head += memoryview(self._buffer)[:nbytes]
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, rest = bytes(self._head[:end]), self._head[end + 4 :]
            self._head = bytearray()
            self._begin(head)
            self._receive(memoryview(rest))
        else:
            self._receive(memoryview(self._buffer)[:nbytes])

    def _begin(self, head: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        self._length = self._missing = int(headers.get("content-length", "0"))
        self._body = bytearray() if self._length <= KEEP_BYTES else None
        self._request = method, target, headers
        if headers.get("expect") == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _receive(self, data: memoryview) -> None:
        self._missing -= len(data)
        if self._body is not None:
            self._body += data
        if self._missing > 0:
            return
        method, target, headers = self._request
        self._request = None
        body = None if self._body is None else bytes(self._body)
        answer = self._server.answer(method, target, headers, self._length, body)
        status, more, content = answer
        sent = b"" if method == "HEAD" else content
        lines = {"Content-Length": str(len(content)), **more}
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        reply = f"HTTP/1.1 {status} {REASONS.get(status, 'Error')}\r\n{text}\r\n".encode("latin-1")
        self._server.after(len(sent), self._length, lambda: self._send(reply, sent))

    def _send(self, reply: bytes, content: bytes | memoryview) -> None:
        if not self._transport.is_closing():
            self._transport.writelines((reply, content) if content else (reply,))


class NullS3:
    """
    The server, in a thread of this process as long as it is entered.

    Parameters
    ----------
    objects : mapping of str to bytes
        What it holds at first; keys may share their bytes.
    pace : Pace
        How fast it is.
    """

    def __init__(self, objects: Mapping[str, bytes], pace: Pace = INSTANT) -> None:
        self.bucket = Bucket(objects)
        self.pace = pace
        self.counts = Counts()
        self.url = ""
        self.open: set[asyncio.BaseTransport] = set()
        self._links = [Link(pace.total_bytes_per_second) for _ in ("out", "in")]

    def after(self, sent: int, received: int, then: Callable[[], None]) -> None:
        """Call back when a request of so many bytes, and its answer of so many, are through."""
        pace = self.pace
        seconds = pace.first_byte_seconds + (sent + received) / pace.connection_bytes_per_second
        left = 3

        def through() -> None:
            nonlocal left
            left -= 1
            if not left:
                then()

        for link, size in zip(self._links, (sent, received), strict=True):
            link.carry(size, through)
        if seconds:
            asyncio.get_running_loop().call_later(seconds, through)
        else:
            through()

    def answer(
        self, method: str, target: str, headers: dict[str, str], length: int, body: bytes | None
    ) -> tuple[int, dict[str, str], bytes | memoryview]:
        counts = self.counts
        counts.requests[method] = counts.requests.get(method, 0) + 1
        counts.received_bytes += length
        url = urlsplit(target)
        key = unquote(url.path).lstrip("/").partition("/")[2]
        query = {name: v[0] for name, v in parse_qs(url.query, keep_blank_values=True).items()}
        if method in ("GET", "HEAD"):
            status, more, content = self._read(key, query, headers)
            counts.sent_bytes += len(content) if method == "GET" else 0
            return status, more, content
        return self._write(method, key, query, headers, length, body)

    def _read(
        self, key: str, query: dict[str, str], headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes | memoryview]:
        if not key:
            return 200, {}, self.bucket.page(query) if "list-type" in query else b""
        found = self.bucket.objects.get(key)
        if found is None or found.data is None:
            return _error(404, "NoSuchKey")
        about = {"ETag": found.etag, "Last-Modified": DATE, "Accept-Ranges": "bytes"}
        if headers.get("if-match", found.etag).strip('"') != found.etag.strip('"'):
            return _error(412, "PreconditionFailed")
        if "range" not in headers:
            return 200, about, memoryview(found.data)
        first, _, last = headers["range"].removeprefix("bytes=").partition("-")
        start, stop = int(first), min(found.size, int(last) + 1 if last else found.size)
        if start >= found.size:
            return _error(416, "InvalidRange")
        about["Content-Range"] = f"bytes {start}-{stop - 1}/{found.size}"
        return 206, about, memoryview(found.data)[start:stop]

    def _write(
        self,
        method: str,
        key: str,
        query: dict[str, str],
        headers: dict[str, str],
        length: int,
        body: bytes | None,
    ) -> tuple[int, dict[str, str], bytes]:
        if method == "DELETE":
            if "uploadId" not in query:
                self.bucket.delete(key)
            return 204, {}, b""
        if method == "POST" and "uploadId" not in query:
            return 200, {}, self._post(query, body or b"")
        if "partNumber" in query:
            return 200, {"ETag": f'"{query["partNumber"]}"'}, b""
        if headers.get("if-none-match") == "*" and key in self.bucket.objects:
            return _error(412, "PreconditionFailed")
        if method == "POST":
            etag = self.bucket.put(key, 0, None)
            text = f"<CompleteMultipartUploadResult><ETag>{etag}</ETag>"
            return 200, {}, f"{text}</CompleteMultipartUploadResult>".encode()
        return 200, {"ETag": self.bucket.put(key, length, body)}, b""

    def _post(self, query: dict[str, str], body: bytes) -> bytes:
        """Begin an upload in parts, or delete what is listed, as obstore always does it."""
        if "uploads" in query:
            text = "<InitiateMultipartUploadResult><UploadId>1</UploadId>"
            return f"{text}</InitiateMultipartUploadResult>".encode()
        keys = re.findall(r"<Key>(.*?)</Key>", body.decode())
        for key in keys:
            self.bucket.delete(unescape(key))
        gone = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        return f"<DeleteResult>{gone}</DeleteResult>".encode()

    async def serve(self, started: threading.Event | None = None) -> None:
        """Answer until cancelled."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(self), "127.0.0.1", 0, backlog=1024)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        if started is None:
            print(self.url, flush=True)  # noqa: T201
        else:
            started.set()
        async with server:
            await server.serve_forever()

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._task = self._loop.create_task(self.serve(started))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        started.wait()
        return self

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            for transport in tuple(self.open):
                transport.abort()
            self._loop.run_until_complete(asyncio.sleep(0))  # they close in the next round
        self._loop.close()

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()


def _error(status: int, code: str) -> tuple[int, dict[str, str], bytes]:
    return (
        status,
        {"Content-Type": "application/xml"},
        f"<Error><Code>{code}</Code></Error>".encode(),
    )


@contextmanager
def null_s3_process(
    folder: Path, *, copies: int = 1, pace: Pace = DEFAULT_PACE, cpu: int | None = None
) -> Iterator[tuple[str, int]]:
    """
    Serve a folder from another process; gives its URL and process id, whose CPU time is the cost.

    Every file is there `copies` times, as ``bucket/COPY/path``.
    """
    command = [
        *(["taskset", "-c", str(cpu)] if cpu is not None else []),
        sys.executable, __file__, str(folder), f"--copies={copies}",
        f"--first-byte-seconds={pace.first_byte_seconds}",
        f"--connection-bytes-per-second={pace.connection_bytes_per_second}",
        f"--total-bytes-per-second={pace.total_bytes_per_second}",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.terminate()


def copies_of(folder: Path, copies: int) -> dict[str, bytes]:
    """Files of a folder under as many prefixes as wanted, sharing their bytes."""
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    return {f"{n:04d}/{key}": data for n in range(copies) for key, data in files.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--copies", type=int, default=1)
    for name, value in (
        ("first-byte-seconds", DEFAULT_PACE.first_byte_seconds),
        ("connection-bytes-per-second", DEFAULT_PACE.connection_bytes_per_second),
        ("total-bytes-per-second", DEFAULT_PACE.total_bytes_per_second),
    ):
        parser.add_argument(f"--{name}", type=float, default=value)
    arguments = vars(parser.parse_args())
    folder, copies = arguments.pop("folder"), arguments.pop("copies")
    asyncio.run(NullS3(copies_of(folder, copies), Pace(**arguments)).serve())


if __name__ == "__main__":
    main()
