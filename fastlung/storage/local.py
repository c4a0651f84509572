"""Objects that are files below one local folder."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fastlung.errors import (
    AccessError,
    ConfigError,
    LinkedAwayError,
    ObjectNotFoundError,
    StoreError,
)
from fastlung.storage.base import ObjectInfo, key_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Buffer

    from fastlung.storage.base import Store

__all__ = ["LocalStore"]

#: A temporary file untouched for this long has lost its writer. A living writer touches its file
#: with every write, and one object is written in seconds; an hour also forgives a skewed clock.
STALE_AFTER_SECONDS = 3600.0

#: How temporary files end; `sweep` must never touch another program's.
TEMPORARY = ".fastlung-tmp"

#: What a file system without hard links (FAT, some network mounts) answers to `link`.
NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV}


class LocalStore:
    """
    Objects that are files below one local folder.

    Names that begin with a dot are hidden: temporary files of writers, and what ``ls`` hides.
    Folder links are not followed, so that a walk ends and stays below the root; a link to a file
    reads as that file. Whatever is neither folder nor regular file (pipes, devices, sockets) is
    left out without being opened. Nothing is written or removed through a link that leads out of
    the root.

    Parameters
    ----------
    root : path-like
        The folder; `put` makes it if it is missing.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)

    #: A warm cache needs one reader; a cold one, or a network, gains from four.
    requests_at_once = 4

    @property
    def throttled(self) -> int:
        """Never: a folder does not throttle."""
        return 0

    @property
    def url(self) -> str:
        # docstring inherited
        return str(self.root.absolute())

    def check_source(self) -> None:
        """Refuse a root that is no folder."""
        if not _is_there(self.root, "source"):
            raise ObjectNotFoundError(
                f"source {self.root}: no such folder; is it spelt right, and mounted here?"
            )
        if not self.root.is_dir():
            raise ConfigError(
                f"source {self.root}: expected a folder, archive, volume or list (.txt), and found "
                f"another file; give the folder that holds the slices: {self.root.parent}"
            )

    def check_sink(self) -> None:
        """Refuse a root that is a file."""
        if _is_there(self.root, "sink") and not self.root.is_dir():
            raise ConfigError(
                f"sink {self.root}: expected a folder, or nothing yet, and found a file; name "
                "another place for the results"
            )

    def key_of(self, other: Store) -> str | None:
        # docstring inherited
        if not isinstance(other, LocalStore):
            return None
        here, there = self.root.resolve(), other.root.resolve()
        if not there.is_relative_to(here):
            return None
        return "" if there == here else there.relative_to(here).as_posix()

    def list(
        self,
        prefix: str = "",
        *,
        on_unreadable: Callable[[str], None] | None = None,
        on_link: Callable[[str, str], None] | None = None,
    ) -> Iterator[ObjectInfo]:
        """Objects of a folder together, before those of its subfolders."""
        pending = [prefix.strip("/")]
        links: list[str] = []
        seen = [os.path.realpath(self.root)]
        while pending or (on_link is not None and links):
            if pending:
                folder = pending.pop()
            else:
                folder = links.pop(0)
                target = os.path.realpath(self._path(folder))
                known = any(_holds(other, target) or _holds(target, other) for other in seen)
                on_link(folder, "seen" if known else "followed")  # type: ignore[misc]
                if known:
                    continue
                seen.append(target)
            try:
                path = self._path(folder) if folder else self.root
                objects, folders, linked = _read_folder(path, folder)
            except (FileNotFoundError, NotADirectoryError):
                continue  # gone since it was seen, or never there
            except OSError as error:
                if on_unreadable is None:
                    raise _store_error("folder", folder, "listed", error) from error
                on_unreadable(folder)
                continue
            yield from objects
            pending.extend(reversed(folders))
            links += linked

    def stat(self, key: str) -> ObjectInfo:
        # docstring inherited
        try:
            status = self._path(key).stat()
        except (FileNotFoundError, NotADirectoryError):
            raise ObjectNotFoundError(f"{key}: no such object; was it moved meanwhile?") from None
        except OSError as error:
            raise _store_error("object", key, "read", error) from error
        if not stat.S_ISREG(status.st_mode):
            raise StoreError(f"{key}: not a regular file; move it out of the source")
        return _info(key, status)

    def get(self, key: str, *, etag: str | None = None, first_bytes: int = -1) -> bytes:
        # docstring inherited
        try:
            # Without O_NONBLOCK, opening a pipe without a writer would hang for ever.
            descriptor = os.open(self._path(key), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise StoreError(f"{key}: not a regular file; move it out of the source")
                # Before a byte is read: a file that grew to gigabytes is no longer what was listed.
                if etag is not None and _info(key, status).etag != etag:
                    raise _changed(key)
                expected = status.st_size if first_bytes < 0 else min(first_bytes, status.st_size)
                data = _read_up_to(descriptor, expected + (first_bytes < 0))
            finally:
                os.close(descriptor)
        except (FileNotFoundError, NotADirectoryError):
            raise ObjectNotFoundError(f"{key}: no such object; was it moved meanwhile?") from None
        except OSError as error:
            raise _store_error("object", key, "read", error) from error
        if len(data) != expected:
            raise _changed(key)
        return data

    def read(self, key: str, *, etag: str) -> memoryview:
        # docstring inherited
        return memoryview(self.get(key, etag=etag))

    def put(self, key: str, buffers: Iterable[Buffer]) -> None:
        # docstring inherited
        path = self._writable(key)
        try:
            with self._temporary(path, buffers) as temporary:
                temporary.rename(path)
            _sync_folder(path.parent)
        except OSError as error:
            raise _store_error("object", key, "written", error) from error

    def create(self, key: str, data: bytes) -> bool:
        # docstring inherited
        path = self._writable(key)
        try:
            with self._temporary(path, [data]) as temporary:
                try:
                    _link_or_create(temporary, path, data)
                except FileExistsError:
                    return False
            _sync_folder(path.parent)
        except OSError as error:
            raise _store_error("object", key, "written", error) from error
        return True

    def delete(self, key: str) -> None:
        """
        Remove an object, and folders that are empty then.

        The folders right below the root stay: other writers may be about to use them.
        """
        path = self._writable(key)
        try:
            path.unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            raise _store_error("object", key, "removed", error) from error
        with suppress(OSError):  # not empty
            for folder in path.parents[: max(0, key.count("/") - 1)]:
                folder.rmdir()

    def enforces_create(self) -> bool:
        """Yes: the file system does."""
        return True

    def sweep(self) -> int:
        """Remove temporary files whose writers were killed, and return how many there were."""
        oldest = time.time() - STALE_AFTER_SECONDS
        swept = 0
        for path in self.root.rglob(f".*{TEMPORARY}"):
            with suppress(FileNotFoundError):
                try:
                    if path.lstat().st_mtime < oldest:
                        path.unlink()
                        swept += 1
                except PermissionError as error:
                    raise _store_error("object", path.name, "removed", error) from error
        return swept

    def _path(self, key: str) -> Path:
        return self.root.joinpath(*key_parts(key))

    def _writable(self, key: str) -> Path:
        """Path of a key that may be written: whose folder is below the root, links followed."""
        path = self._path(key)
        # 20 us; a write that must be durable takes milliseconds.
        root, folder = os.path.realpath(self.root), os.path.realpath(path.parent)
        if os.path.commonpath((root, folder)) != root:
            raise LinkedAwayError(
                f"{key}: a link inside the sink leads out of it, and nothing is written through "
                "such a link; remove it, or make the sink itself a link"
            )
        return path

    @contextmanager
    def _temporary(self, path: Path, buffers: Iterable[Buffer]) -> Iterator[Path]:
        """Write `buffers` to a hidden file beside `path`, durably; it is gone afterwards."""
        _make_folder(path.parent)
        temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}{TEMPORARY}")
        try:
            with temporary.open("xb", buffering=0) as file:
                for buffer in buffers:
                    _write_all(file.fileno(), buffer)
                os.fsync(file.fileno())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)


def _is_there(root: Path, what: str) -> bool:
    try:
        return root.exists()
    except OSError as error:  # pathlib passes over a missing folder, not over a forbidden one
        raise AccessError(
            f"{what} {root}: cannot be looked at ({os.strerror(error.errno or 0)}); ask its owner "
            "for permission to enter the folders above it"
        ) from error


def _holds(folder: str, other: str) -> bool:
    """Whether a real path is, or lies below, another."""
    return f"{other}/".startswith(f"{folder.rstrip('/')}/")


def _read_folder(path: Path, folder: str) -> tuple[list[ObjectInfo], list[str], list[str]]:
    """Objects directly in a folder, its subfolders, and links to folders, as keys in order."""
    objects, folders, links = [], [], []
    with os.scandir(path) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            key = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                folders.append(key)
                continue
            try:
                status = entry.stat()
            except OSError:
                # A dangling or endless link. Left out it would be lost without a word; listed,
                # reading it fails with its name.
                objects.append(ObjectInfo(key=key, size_bytes=0, etag="missing"))
                continue
            if stat.S_ISREG(status.st_mode):
                objects.append(_info(key, status))
            elif stat.S_ISDIR(status.st_mode):
                links.append(key)
    return objects, folders, links


def _info(key: str, status: os.stat_result) -> ObjectInfo:
    etag = f"{status.st_mtime_ns:x}-{status.st_size:x}"
    return ObjectInfo(key=key, size_bytes=status.st_size, etag=etag)


def _read_up_to(descriptor: int, count: int) -> bytes:
    """Read so many bytes, or all there are; a single read() moves at most 2 GiB."""
    data = os.read(descriptor, count)
    while data and len(data) < count and (more := os.read(descriptor, count - len(data))):
        data += more
    return data


def _changed(key: str) -> StoreError:
    return StoreError(f"{key}: changed since it was listed; run again when it is complete")


def _write_all(descriptor: int, buffer: Buffer) -> None:
    # One write() moves at most 2 GiB, and fewer bytes when the disk fills up.
    rest = memoryview(buffer).cast("B")
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _make_folder(folder: Path) -> None:
    """Make a folder and its parents, each durable in its own parent."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link_or_create(temporary: Path, path: Path, data: bytes) -> None:
    """Give `temporary` its final name; FileExistsError if something has that name."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        # No hard links here: still one winner, and a few bytes go out in a single write.
        with path.open("xb", buffering=0) as file:
            _write_all(file.fileno(), data)
            os.fsync(file.fileno())


def _store_error(kind: str, key: str, verb: str, error: OSError) -> StoreError:
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    return StoreError(f"{kind} {key or '.'} cannot be {verb}: {reason}")
