"""Objects below a prefix of an S3 bucket."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError

from fastlung.errors import AccessError, ConfigError, ObjectNotFoundError, StoreError
from fastlung.io.objects import ObjectInfo, key_parts
from fastlung.io.s3_access import Bucket, TornError, connect, refusal_of, retried

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from obstore import GetOptions
    from typing_extensions import Buffer

    from fastlung.config import StoreOptions
    from fastlung.io.objects import Store

__all__ = ["S3Store"]

#: Keys that obstore takes as they are; it rewrites or refuses empty and dotted parts, control
#: letters and outer slashes, so all other keys are read through boto3, at several times the cost.
PLAIN_KEY = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[\w .,:;=@+()'!~-]+(/[\w .,:;=@+()'!~-]+)*")
#: Above this an object goes up in parts; S3 takes up to 5 GiB in one request.
SINGLE_PUT_BYTES = 2**30
PRECONDITION_FAILED, RANGE_NOT_SATISFIABLE = 412, 416


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
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]", self.bucket):
            raise ConfigError(f"s3://{place}: no bucket in it; expected s3://bucket/prefix")

    #: Some 13 MB/s each at 30 ms to the first byte; more than one worker needs.
    requests_at_once = 16

    @property
    def url(self) -> str:
        """What `open_store` reopens this store from, in another process too."""
        return f"s3://{self.bucket}/{self.prefix}".removesuffix("/")

    @property
    def _at(self) -> Bucket:
        return connect(self.bucket, self._options)

    def check_source(self) -> None:
        """
        List one object, which tells every way of being refused from the others.

        Raises
        ------
        ObjectNotFoundError
            If there is no such bucket.
        AccessError
            Without credentials, without permission, or where whoever downloads must pay.
        StoreError
            For a wrong region, or an endpoint that does not answer.
        """
        try:
            self._page(self.prefix, keys=1)
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
            paying._page(self.prefix, keys=1)
        except StoreError:
            return False
        return True

    def key_of(self, other: Store) -> str | None:
        """Key of the other store's root below this one, empty for the same; None for elsewhere."""
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
    ) -> Iterator[ObjectInfo]:
        """
        Objects below a folder, all objects of one folder together, after those of its subfolders.

        Parameters
        ----------
        prefix : str
            Key of a folder; empty for the root. A folder that does not exist holds nothing.
        on_unreadable : callable, optional
            Never called: a bucket is listed whole or not at all.

        Raises
        ------
        StoreError
            If the bucket cannot be listed.
        """
        return _by_folder(self._listed("/".join(filter(None, (self.prefix, prefix.strip("/"))))))

    def _listed(self, folder: str) -> Iterator[ObjectInfo]:
        cut = len(self.prefix) + 1 if self.prefix else 0
        token = ""
        while True:
            page = self._page(folder, token=token)
            for entry in page.get("Contents", ()):
                key = entry["Key"][cut:]
                if key.endswith("/") or any(part.startswith(".") for part in key.split("/")):
                    continue
                yield _info(key, entry["Size"], entry["ETag"])
            token = page.get("NextContinuationToken", "")
            if not token:
                return

    def _page(self, folder: str, *, keys: int = 1000, token: str = "") -> dict:  # type: ignore[type-arg]
        arguments = {"Bucket": self.bucket, "MaxKeys": keys, **self._payer()}
        if folder:
            arguments["Prefix"] = f"{folder}/"
        if token:
            arguments["ContinuationToken"] = token
        client = self._at.client
        return retried(lambda: client.list_objects_v2(**arguments), self.url, self._options)

    def _payer(self) -> dict[str, str]:
        return {"RequestPayer": "requester"} if self._options.request_payer else {}

    def stat(self, key: str) -> ObjectInfo:
        """
        What a listing says of one object.

        Parameters
        ----------
        key : str
            Key of the object.

        Raises
        ------
        ObjectNotFoundError
            If there is no such object.
        StoreError
            If it cannot be asked for.
        """
        full = f"{self.prefix}/{key}" if self.prefix else key
        client = self._at.client
        answer = retried(
            lambda: client.head_object(Bucket=self.bucket, Key=full, **self._payer()),
            key,
            self._options,
        )
        return _info(key, answer["ContentLength"], answer["ETag"])

    def get(self, key: str, *, etag: str | None = None, first_bytes: int = -1) -> bytes:
        """
        Read an object, and hold its length and ETag against what was listed.

        Parameters
        ----------
        key : str
            Key of the object.
        etag : str, optional
            As listed; anything else there now is an error.
        first_bytes : int
            Read at most so many bytes; all of them if negative.

        Raises
        ------
        ObjectNotFoundError
            If there is no such object.
        StoreError
            If it has changed since it was listed, or cannot be read.
        """
        return bytes(self._read(key, etag, first_bytes)) if first_bytes else b""

    def read(self, key: str, *, etag: str) -> memoryview:
        """
        Read a whole object as `get` does, without a copy of what has arrived.

        Parameters
        ----------
        key : str
            Key of the object.
        etag : str
            As listed; anything else there now is an error.

        Raises
        ------
        ObjectNotFoundError
            If there is no such object.
        StoreError
            If it has changed since it was listed, or cannot be read.
        """
        return self._read(key, etag, -1)

    def _read(self, key: str, etag: str | None, first_bytes: int) -> memoryview:
        size, _, tag = (etag or "").partition("-")
        full = f"{self.prefix}/{key}" if self.prefix else key
        read = self._get_plain if PLAIN_KEY.fullmatch(full) else self._get_odd

        def whole() -> memoryview | None:
            try:
                data, size_bytes = read(full, tag, first_bytes)
            except Exception as error:
                status = refusal_of(error).status
                if status == RANGE_NOT_SATISFIABLE:
                    return memoryview(b"")  # an empty object has no first byte
                if status == PRECONDITION_FAILED:
                    return None
                raise
            if len(data) != (size_bytes if first_bytes < 0 else min(size_bytes, first_bytes)):
                raise TornError
            return data if not size or size_bytes == int(size, 16) else None

        found = retried(whole, key, self._options)
        if found is None:
            raise StoreError(f"{key}: changed since it was listed; run again when it is complete")
        return found

    def _get_plain(self, key: str, tag: str, first_bytes: int) -> tuple[memoryview, int]:
        options: GetOptions = {}
        if tag:
            options["if_match"] = tag
        if first_bytes > 0:
            options["range"] = (0, first_bytes)
        answer = obstore.get(self._at.mover, key, options=options)
        size_bytes = answer.meta["size"]
        return memoryview(answer.bytes()), size_bytes

    def _get_odd(self, key: str, tag: str, first_bytes: int) -> tuple[memoryview, int]:
        arguments = {"Bucket": self.bucket, "Key": key, **self._payer()}
        if tag:
            arguments["IfMatch"] = tag
        if first_bytes > 0:
            arguments["Range"] = f"bytes=0-{first_bytes - 1}"
        answer = self._at.client.get_object(**arguments)
        data: bytes = answer["Body"].read()
        total = answer.get("ContentRange", "").rpartition("/")[2] or answer["ContentLength"]
        return memoryview(data), int(total)

    def put(self, key: str, buffers: Iterable[Buffer]) -> None:
        """
        Write an object, replacing what was there, atomically and durably.

        Parameters
        ----------
        key : str
            Key of the object.
        buffers : iterable of bytes-like
            Contents, in pieces.

        Raises
        ------
        StoreError
            If it cannot be written; then nothing has changed under `key`.
        """
        pieces = [memoryview(buffer).cast("B") for buffer in buffers]
        in_parts = sum(piece.nbytes for piece in pieces) > SINGLE_PUT_BYTES
        self._written(key, pieces, in_parts=in_parts)

    def _written(self, key: str, pieces: Sequence[memoryview], *, in_parts: bool) -> None:
        full, mover = self._writable(key), self._at.mover
        retried(
            lambda: obstore.put(mover, full, pieces, use_multipart=in_parts),
            f"object {key} cannot be written",
            self._options,
        )

    def create(self, key: str, data: bytes) -> bool:
        """
        Write a small object only where there is none yet.

        Parameters
        ----------
        key : str
            Key of the object.
        data : bytes
            Its contents.

        Returns
        -------
        bool
            True for the one caller whose object it is, False for everyone else.

        Raises
        ------
        StoreError
            If it cannot be written.
        """
        full, mover = self._writable(key), self._at.mover
        tries = 0

        def once() -> bool:
            nonlocal tries
            tries += 1
            try:
                obstore.put(mover, full, data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                # Our own first try may have arrived while its answer was lost.
                try:
                    return tries > 1 and bytes(obstore.get(mover, full).bytes()) == data
                except FileNotFoundError:
                    raise TornError from None  # two creators in conflict, neither of them done
            return True

        return retried(once, f"object {key} cannot be written", self._options)

    def delete(self, key: str) -> None:
        """
        Remove an object; a missing object is no error.

        Parameters
        ----------
        key : str
            Key of the object.

        Raises
        ------
        StoreError
            If it is there and cannot be removed.
        """
        full, mover = self._writable(key), self._at.mover
        try:
            retried(
                lambda: obstore.delete(mover, full),
                f"object {key} cannot be removed",
                self._options,
            )
        except ObjectNotFoundError:
            return

    def sweep(self) -> int:
        """Nothing to remove: an object that was not sent whole was never there."""
        return 0

    def _writable(self, key: str) -> str:
        return "/".join([*filter(None, (self.prefix,)), *key_parts(key)])


def _info(key: str, size_bytes: int, etag: str) -> ObjectInfo:
    # The size goes along in the tag, so that `get` can hold both against what it is given.
    return ObjectInfo(key=key, size_bytes=size_bytes, etag=f"{size_bytes:x}-{etag}")


def _by_folder(listed: Iterable[ObjectInfo]) -> Iterator[ObjectInfo]:
    """
    Put together what a listing in order of keys has torn apart: ``a/1``, ``a/b/1``, ``a/c``.

    Only the objects of folders above the current one are held back.
    """
    held: list[tuple[str, list[ObjectInfo]]] = []
    for info in listed:
        folder = info.key.rpartition("/")[0]
        while held and not f"{folder}/".startswith(f"{held[-1][0]}/" if held[-1][0] else ""):
            yield from held.pop()[1]
        if not held or held[-1][0] != folder:
            held.append((folder, []))
        held[-1][1].append(info)
    for _, objects in reversed(held):
        yield from objects
