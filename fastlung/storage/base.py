"""
What a store is: objects with '/'-separated keys below one root.

`Store` is the one seam between fastlung and storage. An object appears under its key whole and
durable, or not at all, and a conditional create has exactly one winner however many writers race.
Stores know nothing of DICOM, scans or records.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fastlung.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Buffer

__all__ = ["ObjectInfo", "Store", "key_parts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """
    One listed object.

    Attributes
    ----------
    key : str
        Path below the root of the store, parts separated by ``/``.
    size_bytes : int
        Length of the object.
    etag : str
        Changes whenever the object does; comparable within one store only.
    """

    key: str
    size_bytes: int
    etag: str


class Store(Protocol):
    """Objects below one root: a local folder, or a prefix of a bucket."""

    @property
    def requests_at_once(self) -> int:
        """How many objects to request at once where nothing is known of the run yet."""
        ...

    @property
    def throttled(self) -> int:
        """How often the store throttled this process."""
        ...

    @property
    def url(self) -> str:
        """What `open_store` reopens this store from, in another process too."""
        ...

    def check_source(self) -> None:
        """
        Refuse a root that cannot be read from.

        Raises
        ------
        ConfigError, StoreError
            With the cause, before any work is done.
        """
        ...

    def check_sink(self) -> None:
        """
        Refuse a root that nothing can be written below; one that does not exist yet is fine.

        Raises
        ------
        ConfigError, StoreError
            With the cause, before any work is done.
        """
        ...

    def key_of(self, other: Store) -> str | None:
        """Key of the other store's root below this one, empty for the same; None for elsewhere."""
        ...

    def list(
        self,
        prefix: str = "",
        *,
        on_unreadable: Callable[[str], None] | None = None,
        on_link: Callable[[str, str], None] | None = None,
    ) -> Iterator[ObjectInfo]:
        """
        Objects below a folder, all objects of one folder together, in the same order every time.

        Parameters
        ----------
        prefix : str
            Key of a folder; empty for the root. A folder that does not exist holds nothing.
        on_unreadable : callable, optional
            Called with the key of a folder that cannot be read, and the walk goes on.
        on_link : callable, optional
            Follow links to folders, and call with the key of each and what became of it:
            ``followed`` or ``seen``. None: links to folders hold nothing.

        Raises
        ------
        StoreError
            For what cannot be listed, where `on_unreadable` is not given.
        """
        ...

    def stat(self, key: str) -> ObjectInfo:
        """
        What a listing says of one object.

        Raises
        ------
        ObjectNotFoundError
            If there is no such object.
        StoreError
            If it cannot be asked for.
        """
        ...

    def get(self, key: str, *, etag: str | None = None, first_bytes: int = -1) -> bytes:
        """
        Read an object.

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
        ...

    def read(self, key: str, *, etag: str) -> memoryview:
        """
        Read a whole object as `get` does, without a copy where the store allows it.

        Raises
        ------
        ObjectNotFoundError
            If there is no such object.
        StoreError
            If it has changed since it was listed, or cannot be read.
        """
        ...

    def put(self, key: str, buffers: Iterable[Buffer]) -> None:
        """
        Write an object, replacing what was there, atomically and durably.

        Raises
        ------
        StoreError
            If it cannot be written; then nothing has changed under `key`.
        """
        ...

    def create(self, key: str, data: bytes) -> bool:
        """
        Write a small object only where there is none yet.

        Returns
        -------
        bool
            True for the one caller whose object it is, False for everyone else.

        Raises
        ------
        StoreError
            If it cannot be written.
        """
        ...

    def delete(self, key: str) -> None:
        """
        Remove an object; a missing object is no error.

        Raises
        ------
        StoreError
            If it is there and cannot be removed.
        """
        ...

    def enforces_create(self) -> bool:
        """
        Try whether `create` really has one winner here.

        Raises
        ------
        StoreError
            If nothing can be written.
        """
        ...

    def sweep(self) -> int:
        """Remove what killed writers have left half-written; return how many there were."""
        ...


def key_parts(key: str) -> list[str]:
    """
    Parts of a key that may be written.

    Raises
    ------
    StoreError
        If the key could leave the root of a store, or cannot be a path in one of another kind.
    """
    parts = key.split("/")
    if "\0" in key or any(part in ("", ".", "..") for part in parts):
        raise StoreError(f"{key!r}: not a key; expected names separated by single slashes")
    return parts
