"""
An S3 that lies as a test wants it to: about ETags, lengths, pages, tokens and bodies.

It tells the truth by default, from a dictionary in memory, and checks no signature. A lie is a
function that a test puts in place of `page` or `answer`.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Answer = tuple[int, dict[str, str], bytes]


def etag_of(data: bytes) -> str:
    """ETag of an object that was sent in one piece."""
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


@dataclass
class Page:
    """One page of a listing, as it will be written."""

    contents: list[tuple[str, int, str]] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    truncated: bool = False
    next_page: str = ""

    def xml(self) -> bytes:
        parts = [
            f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size><ETag>{escape(etag)}</ETag>"
            "</Contents>"
            for key, size, etag in self.contents
        ]
        parts += [f"<CommonPrefixes><Prefix>{escape(p)}</Prefix></CommonPrefixes>"
                  for p in self.folders]  # fmt: skip
        more = f"<NextContinuationToken>{self.next_page}</NextContinuationToken>"
        token = more if self.next_page else ""
        return (
            f"<ListBucketResult><IsTruncated>{str(self.truncated).lower()}</IsTruncated>{token}"
            f"{''.join(parts)}</ListBucketResult>"
        ).encode()


class LyingS3:
    """
    A server that runs as long as it is entered.

    Parameters
    ----------
    objects : dict of str to bytes
        Keys to contents, in one bucket of any name.

    Attributes
    ----------
    page_of : callable
        From a query to the `Page` that answers it, or any bytes; `honest_page` by default.
    answer_of : callable
        From a key and its contents to status, headers and body; `honest_answer` by default.
    asked : list of tuple
        Method and key of each request, in order; a listing has its query for a key.
    """

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects = dict(objects)
        self.page_of: Callable[[dict[str, str]], Page | bytes] = self.honest_page
        self.answer_of: Callable[[str, bytes], Answer] = self.honest_answer
        self.asked: list[tuple[str, str]] = []
        self.page_keys = 1000
        server = self

        class Handler(_Handler):
            lying = server

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def honest_page(self, query: dict[str, str]) -> Page:
        """Keys in order, so many a page; the token is the last key of the page before."""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token") or query.get("start-after", "")
        most = min(self.page_keys, int(query.get("max-keys", "1000")))
        page, last = Page(), ""
        for entry in _entries(sorted(self.objects), prefix, delimiter):
            if entry <= after:
                continue
            if len(page.contents) + len(page.folders) == most:
                page.truncated, page.next_page = True, last
                break
            last = entry
            if delimiter and entry.endswith(delimiter) and entry != prefix:
                page.folders.append(entry)
            else:
                data = self.objects[entry]
                page.contents.append((entry, len(data), etag_of(data)))
        return page

    def honest_answer(self, key: str, data: bytes) -> Answer:  # noqa: ARG002 - lies look at it
        """All of it, with its ETag."""
        return 200, {"ETag": etag_of(data)}, data


def _entries(keys: Iterable[str], prefix: str, delimiter: str) -> list[str]:
    """Keys below a prefix, cut after the delimiter."""
    found: dict[str, None] = {}
    for key in keys:
        if not key.startswith(prefix):
            continue
        head, slash, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
        found[prefix + head + slash if delimiter else key] = None
    return list(found)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    lying: LyingS3

    def _reply(self) -> None:
        parts = urlsplit(self.path)
        key = unquote(parts.path).lstrip("/").partition("/")[2]
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.lying.asked.append((self.command, key or parts.query))
        self._send(*self._answer(key, query, body))

    def _answer(self, key: str, query: dict[str, str], body: bytes) -> Answer:
        objects = self.lying.objects
        if not key:
            page = b"" if self.command == "HEAD" else self.lying.page_of(query)
            body = page if isinstance(page, bytes) else page.xml()
            status = 403 if body.startswith(b"<Error>") else 200
            return status, {"x-amz-bucket-region": "us-east-1"}, body
        if self.command == "PUT":
            if key in objects and self.headers.get("If-None-Match"):
                return 412, {}, b"<Error><Code>PreconditionFailed</Code></Error>"
            objects[key] = body
            return 200, {"ETag": etag_of(body)}, b""
        if self.command == "DELETE":
            objects.pop(key, None)
            return 204, {}, b""
        if key not in objects:
            return 404, {}, b"<Error><Code>NoSuchKey</Code></Error>"
        return self._part(*self.lying.answer_of(key, objects[key]))

    def _part(self, status: int, headers: dict[str, str], data: bytes) -> Answer:
        """First bytes, where only these were asked for."""
        asked = self.headers.get("Range")
        if status != 200 or not asked:
            return status, headers, data
        end = min(int(asked.rpartition("-")[2]) + 1, len(data))
        where = {"Content-Range": f"bytes 0-{end - 1}/{len(data)}"}
        return 206, headers | where, data[:end]

    def _send(self, status: int, headers: dict[str, Any], body: bytes) -> None:
        self.send_response(status)
        date = {"Last-Modified": "Sun, 22 Nov 2026 14:25:43 GMT"}
        for name, value in ({"Content-Length": str(len(body))} | date | headers).items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _reply  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass
