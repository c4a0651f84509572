"""Objects below a prefix of an S3 bucket."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError

from fastlung.errors import (
    AccessError,
    ConfigError,
    ListingError,
    ObjectNotFoundError,
    StoreError,
)
from fastlung.storage.base import ObjectInfo, key_parts
from fastlung.storage.s3.access import ask, endpoint_of, limiter_of
from fastlung.storage.s3.listing import Page, listed
from fastlung.storage.s3.read import PARTS_AT_ONCE, Wanted, part_bytes, parts_of, read_object
from fastlung.storage.s3.retry import AT_START, IN_A_RUN, TornError, refusal_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Buffer

    from fastlung.config import StoreOptions
    from fastlung.storage.base import Store
    from fastlung.storage.s3.access import Bucket
    from fastlung.storage.s3.retry import RetryPolicy

__all__ = ["S3Store"]

Result = TypeVar("Result")

KEYS_A_PAGE = 1000
CONFLICT = 409


class S3Store:
    """
    Objects of one bucket whose keys begin with one prefix.

    As in a local folder, names that begin with a dot are hidden, and so are the empty objects by
    which some tools mark folders. Connects when it is first used, in the process that uses it.

    Parameters
    ----------
    place : str
        ``bucket/prefix``.
    options : StoreOptions
        How to reach it.

    Raises
    ------
    ConfigError
        If there is no bucket in it.
    """

    def __init__(self, place: str, options: StoreOptions) -> None:
        self.bucket, _, prefix = place.partition("/")
        self.prefix = prefix.removesuffix("/")
        self._options = options
        self._enforces_create: bool | None = None
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]", self.bucket):
            if any(letter in self.bucket for letter in "@:%"):
                # Not shown: it is a key and its secret, or part of them.
                raise ConfigError(
                    "an s3:// URL with credentials in it, which would end up in logs; give "
                    "s3://bucket/prefix, and credentials by --profile or AWS_ACCESS_KEY_ID"
                )
            raise ConfigError("an s3:// URL without a bucket; expected s3://bucket/prefix")

    #: Some 13 MB/s each at 30 ms to the first byte; more than one worker needs.
    requests_at_once = 16

    @property
    def url(self) -> str:
        # docstring inherited
        return f"s3://{self.bucket}/{self.prefix}".removesuffix("/")

    @property
    def throttled(self) -> int:
        """How often the bucket throttled this process."""
        return limiter_of(self.bucket, endpoint_of(self._options)).throttled

    def check_source(self) -> None:
        """List one object, which distinguishes every way of being refused."""
        try:
            self._page(keys=1, policy=AT_START)
        except AccessError:
            if self._options.request_payer or not self._pays_to_look():
                raise
            raise AccessError(
                f"{self.url}: a requester-pays bucket: whoever downloads pays its owner's bill; "
                "add --request-payer requester to accept that"
            ) from None

    def check_sink(self) -> None:
        """Refuse a bucket that cannot be listed, as `check_source` does."""
        self.check_source()

    def _pays_to_look(self) -> bool:
        """Whether the same listing is allowed to who agrees to pay; costs a LIST request."""
        if self._options.no_sign_request:
            return False
        paying = S3Store(
            f"{self.bucket}/{self.prefix}",
            self._options.model_copy(update={"request_payer": "requester"}),
        )
        try:
            paying._page(keys=1, policy=AT_START)
        except StoreError:
            return False
        return True

    def key_of(self, other: Store) -> str | None:
        # docstring inherited
        if not isinstance(other, S3Store) or other.bucket != self.bucket:
            return None
        if other.prefix == self.prefix:
            return ""
        above = f"{self.prefix}/" if self.prefix else ""
        return other.prefix.removeprefix(above) if other.prefix.startswith(above) else None

    def list(
        self,
        prefix: str = "",
        *,
        on_unreadable: Callable[[str], None] | None = None,  # noqa: ARG002 - a prefix has no rights
        on_link: Callable[[str, str], None] | None = None,  # noqa: ARG002 - nor links
    ) -> Iterator[ObjectInfo]:
        """Objects of a folder together, after those of its subfolders; whole or not at all."""
        folder = prefix.strip("/")
        return listed(self._pages, f"{folder}/" if folder else "", self.url)

    def _pages(self, prefix: str, *, after: str = "", flat: bool = False) -> Iterator[Page]:
        """Pages of a listing, keys as below this store's root, without what is hidden."""
        token = ""
        while True:
            page = self._page(prefix, after=after, flat=flat, token=token)
            yield page
            token = page.token
            if not token:
                return

    def _page(
        self,
        prefix: str = "",
        *,
        after: str = "",
        flat: bool = False,
        token: str = "",
        keys: int = KEYS_A_PAGE,
        policy: RetryPolicy = IN_A_RUN,
    ) -> Page:
        root = f"{self.prefix}/" if self.prefix else ""
        wanted = {
            "Prefix": root + prefix,
            "StartAfter": after and root + after,
            "Delimiter": "/" if flat else "",
            "ContinuationToken": token,
        }
        arguments = {"Bucket": self.bucket, "MaxKeys": keys, **self._payer()}
        arguments |= {name: value for name, value in wanted.items() if value}
        page: Page = ask(
            self.bucket,
            self._options,
            lambda at: _whole_page(at.client.list_objects_v2(**arguments)),
            action="list",
            where=self.url,
            policy=policy,
        )
        cut = len(root)
        asked = root + prefix
        if not all(key.startswith(asked) for key in _named(page)):
            raise ListingError(
                f"{self.url}: the store lists keys that were not asked for; copy the source to "
                "another store"
            )
        return Page(
            objects=tuple(
                _info(info.key[cut:], info.size_bytes, info.etag)
                for info in page.objects
                if not _is_hidden(info.key[cut:])
            ),
            folders=tuple(f[cut:] for f in page.folders if not _is_dotted(f[cut:])),
            token=page.token,
            truncated=page.truncated,
        )

    def _payer(self) -> dict[str, str]:
        return {"RequestPayer": "requester"} if self._options.request_payer else {}

    def stat(self, key: str) -> ObjectInfo:
        # docstring inherited
        full = f"{self.prefix}/{key}" if self.prefix else key
        arguments = {"Bucket": self.bucket, "Key": full, **self._payer()}
        answer = self._asked("read", key, lambda at: at.client.head_object(**arguments))
        return _info(key, answer["ContentLength"], answer["ETag"])

    def get(self, key: str, *, etag: str | None = None, first_bytes: int = -1) -> bytes:
        """Read an object, and hold its length and ETag against what was listed."""
        return bytes(self._read(key, etag, first_bytes)) if first_bytes else b""

    def read(self, key: str, *, etag: str) -> memoryview:
        """Read a whole object as `get` does, without a copy of what has arrived."""
        return self._read(key, etag, -1)

    def _read(self, key: str, etag: str | None, first_bytes: int) -> memoryview:
        size, _, tag = (etag or "").partition("-")
        wanted = Wanted(
            bucket=self.bucket,
            key=f"{self.prefix}/{key}" if self.prefix else key,
            etag=tag,
            size_bytes=int(size, 16) if size else None,
            first_bytes=first_bytes,
            payer=self._payer(),
        )
        found = self._asked("read", key, lambda at: read_object(at, wanted))
        if found is None:
            raise StoreError(f"{key}: changed since it was listed; run again when it is complete")
        return found

    def put(self, key: str, buffers: Iterable[Buffer]) -> None:
        # docstring inherited
        pieces = [memoryview(buffer).cast("B") for buffer in buffers]
        size_bytes = sum(piece.nbytes for piece in pieces)
        full = self._writable(key)

        def send(at: Bucket) -> None:
            obstore.put(
                at.mover(size_bytes),
                full,
                pieces,
                use_multipart=parts_of(size_bytes) > 1,
                chunk_size=part_bytes(size_bytes),
                max_concurrency=PARTS_AT_ONCE,
            )

        self._asked("write", key, send)

    def create(self, key: str, data: bytes) -> bool:
        # docstring inherited
        full = self._writable(key)
        tries = 0

        def once(at: Bucket) -> bool:
            nonlocal tries
            tries += 1
            mover = at.mover(len(data))
            try:
                obstore.put(mover, full, data, mode="create", use_multipart=False)
            except AlreadyExistsError as error:
                if refusal_of(error).status == CONFLICT:
                    raise TornError from None  # two creators at once, neither of them done yet
                # Our own first try may have arrived while its answer was lost.
                try:
                    return tries > 1 and bytes(obstore.get(mover, full).bytes()) == data
                except FileNotFoundError:
                    raise TornError from None  # removed again meanwhile
            return True

        return self._asked("write", key, once)

    def delete(self, key: str) -> None:
        # docstring inherited
        full = self._writable(key)
        try:
            self._asked("remove", key, lambda at: obstore.delete(at.mover(0), full))
        except ObjectNotFoundError:
            return

    def sweep(self) -> int:
        """Nothing to remove: an object that was not sent whole was never there."""
        return 0

    def enforces_create(self) -> bool:
        """
        Try whether `create` has one winner here: some stores ignore ``If-None-Match``.

        Writes a hidden object of a few bytes, tries to create it again, and removes it; once, and
        later says the same.
        """
        if self._enforces_create is None:
            key = f".fastlung-probe-{secrets.token_hex(8)}"
            self.put(key, [b"first"])
            try:
                self._enforces_create = not self.create(key, b"second")
            finally:
                self.delete(key)
        return self._enforces_create

    def _asked(self, action: str, key: str, do: Callable[[Bucket], Result]) -> Result:
        where = f"object {key} in s3://{self.bucket}"
        return ask(self.bucket, self._options, do, action=action, where=where)

    def _writable(self, key: str) -> str:
        return "/".join([*filter(None, (self.prefix,)), *key_parts(key)])


def _whole_page(answer: dict[str, Any]) -> Page:
    page: Page | None = answer.get("Page")
    if page is None:
        raise TornError  # a proxy's page of apologies, or XML cut short
    return page


def _named(page: Page) -> Iterator[str]:
    yield from (info.key for info in page.objects)
    yield from page.folders


def _is_hidden(key: str) -> bool:
    """Whether a key below the root is a folder's marker, the root's own included, or dotted."""
    return not key or key.endswith(("/", "_$folder$")) or _is_dotted(key)


def _is_dotted(key: str) -> bool:
    return any(part.startswith(".") for part in key.split("/"))


def _info(key: str, size_bytes: int, etag: str) -> ObjectInfo:
    # The size goes along in the tag, so that `get` can hold both against what it is given.
    return ObjectInfo(key=key, size_bytes=size_bytes, etag=f"{size_bytes:x}-{etag}")
