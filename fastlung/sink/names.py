"""
What scans are called in the sink.

A name is one path part of ``[A-Za-z0-9._-]`` that never begins with a dot. It comes from a
SeriesInstanceUID only where that is made of digits and dots, so that no tag can choose a path.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from fastlung.errors import ConfigError, ObjectNotFoundError, StoreError
from fastlung.storage.cache import data_folder
from fastlung.text import stable_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastlung.source.groups import SourceGroup
    from fastlung.storage.base import Store

__all__ = [
    "SHARED_NAMES",
    "claim_key",
    "claim_name",
    "holder_of",
    "load_names_key",
    "other_names",
    "pseudonym",
    "recorded_uid",
    "scan_names",
    "wish_key",
]

#: Environment variable with the key of hashed names, for several machines that share a sink.
KEY_VARIABLE = "FASTLUNG_NAMES_KEY"
SHORTEST_KEY, LONGEST_KEY = 16, 4096
#: Longest claim that is read, in bytes; ours are ids.
CLAIM_BYTES = 128
#: Folder of the wishes for names that another source group had first.
SHARED_NAMES = "shared-names"
LONGEST_NAME = 128
# For fullmatch: `$` would let a trailing line break through. A leading dot would be a hidden name.
_PLAIN_UID = re.compile(r"[0-9][0-9.]{0,63}|uid-[0-9a-f]{16}")


def load_names_key() -> bytes:
    """
    Key of hashed names: from the environment, or from a file made once for this user.

    Raises
    ------
    ConfigError
        For a key that is too short, or a key file that cannot be read or made.
    """
    given = os.environ.get(KEY_VARIABLE, "")
    where = KEY_VARIABLE
    if not given:
        where = "names.key"
        try:
            path = data_folder() / "names.key"
            where = str(path)
            if not path.exists():
                _make_key_file(path)
            given = _read_key_file(path)
        except OSError as error:
            raise ConfigError(
                f"{where}: the key of hashed names cannot be read or made "
                f"({os.strerror(error.errno or 0)}); set {KEY_VARIABLE} instead"
            ) from error
    if len(given) < SHORTEST_KEY:
        raise ConfigError(
            f"{where}: a key of hashed names needs at least {SHORTEST_KEY} characters, "
            f"this has {len(given)}; 'openssl rand -hex 32' makes a good one"
        )
    return given.encode("utf-8", "surrogateescape")


def _read_key_file(path: Path) -> str:
    """Read a key that nobody else can read or replace."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123
        status, folder = os.fstat(descriptor), path.parent.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_uid not in (0, os.geteuid()):
            raise ConfigError(
                f"{path}: the key of hashed names is another user's, or no file; remove it, and "
                f"the next run makes one, or set {KEY_VARIABLE}"
            )
        if status.st_mode & 0o077:
            raise ConfigError(
                f"{path}: others may read the key of hashed names (mode {status.st_mode & 0o777:o})"
                f"; 'chmod 600 {path}' if nobody did, else remove it: names hashed with a new key "
                "are other names, and need another sink"
            )
        if folder.st_uid not in (0, os.geteuid()) or folder.st_mode & 0o022:
            raise ConfigError(
                f"{path.parent}: others may replace the key of hashed names in it (mode "
                f"{folder.st_mode & 0o7777:o}); 'chmod 700 {path.parent}'"
            )
        return file.read(LONGEST_KEY).strip()


def _make_key_file(path: Path) -> None:
    """Make a key file that only its owner can read; of several processes one wins."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
    finally:
        Path(temporary).unlink()


def pseudonym(key: bytes, text: str) -> str:
    """Sixteen hex digits that stand for a text, and that only the key's owner can check."""
    message = text.encode("utf-8", "surrogateescape")
    return hmac.new(key, message, hashlib.sha256).hexdigest()[:16]


def scan_names(
    series_uids: Sequence[str], group: SourceGroup, names: str, key: bytes
) -> tuple[str, ...]:
    """
    Names of the series of one source group, no two alike.

    Parameters
    ----------
    series_uids : sequence of str
        SeriesInstanceUIDs in the order they were found; may repeat, be empty or be hostile.
    group : SourceGroup
        Where they come from.
    names : str
        ``series``, ``folder`` or ``hash``, as in `Config`.
    key : bytes
        Key of hashed names; not used by the others.
    """
    if names == "folder":
        plain = [_folder_name(group.label)] * len(series_uids)
    elif names == "hash":
        plain = [pseudonym(key, uid or f"{group.id} without UID") for uid in series_uids]
    else:
        plain = [_series_name(uid, group.id) for uid in series_uids]
    seen: Counter[str] = Counter()
    unique = []
    for name in plain:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return tuple(unique)


def recorded_uid(uid: str, key: bytes) -> str:
    """
    SeriesInstanceUID as records may hold it.

    Parameters
    ----------
    uid : str
        As found; may be empty or hostile.
    key : bytes
        Key of hashed names; empty where names are not hashed.

    Returns
    -------
    str
        The UID, a hash of it where it is malformed or names are hashed, or an empty text.
    """
    if not uid:
        return ""
    if key:
        return pseudonym(key, uid)
    return _told(uid)


def _told(uid: str) -> str:
    """
    Give a UID as it may be told: itself, or a hash of what stands in its place, such as a GUID.

    The same wherever it is told, in names, records and `inspect`, and wherever the source begins.
    """
    return uid if _PLAIN_UID.fullmatch(uid) else f"uid-{stable_id(uid)}"


def _series_name(uid: str, group_id: str) -> str:
    return _told(uid) if uid else stable_id(f"{group_id}\0")


def _folder_name(label: str) -> str:
    """Label with ``__`` for slashes; a hash follows where two labels could come out alike."""
    cleaned = re.sub(r"[^A-Za-z0-9._-]", "_", label.replace("/", "__"))
    cleaned = cleaned.lstrip(".")[:LONGEST_NAME]
    if cleaned and cleaned.replace("__", "/") == label:
        return cleaned
    return f"{cleaned or 'scan'}-{stable_id(label)[:8]}"


def claim_key(name: str) -> str:
    """Key of the object that says which source group a name belongs to."""
    return f"scans/{name}/group"


def holder_of(sink: Store, name: str) -> str:
    """Id of the source group that a name belongs to; empty where it is nobody's."""
    try:
        return sink.get(claim_key(name), first_bytes=CLAIM_BYTES).decode("ascii", "replace")
    except ObjectNotFoundError:
        return ""


def other_names(name: str, group_id: str) -> tuple[str, ...]:
    """What a scan is called where another source group has its name."""
    return (f"{name}-{group_id[:8]}", f"{name}-{group_id}")


def wish_key(name: str, group_id: str) -> str:
    """Key of the empty object by which a group says that it would have this name."""
    return f"{SHARED_NAMES}/{name}/{group_id}"


def claim_name(sink: Store, name: str, group_id: str) -> str:
    """
    Take a name in the sink for a source group, until `shared_names` has the last word.

    Two groups may hold the same series, a copy for instance. The first to create the claim has
    the name for now; the other one says that it wished for it, and its scan carries eight digits
    of its id.

    Parameters
    ----------
    sink : Store
        Where the name is to be used.
    name : str
        The name wished for.
    group_id : str
        Id of the source group.

    Returns
    -------
    str
        The name that is now the group's.

    Raises
    ------
    StoreError
        If the sink cannot be written, or neither name can be had.
    """
    for candidate in (name, *other_names(name, group_id)):
        key = claim_key(candidate)
        if sink.create(key, group_id.encode()) or holder_of(sink, candidate) == group_id:
            return candidate
        if candidate == name:
            sink.put(wish_key(name, group_id), [b""])
    raise StoreError(f"scans/{name}: two other source groups have this name; empty the sink")
