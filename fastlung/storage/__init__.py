"""
Bytes by key, in a local folder or a bucket.

Nouns: a *store* is a root behind one protocol (`base`), opened by URL (`open_store`); an *object*
has a key, a size and an ETag; the *fetcher* prefetches objects in threads; the *cache* folder keeps
what one user's runs share.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastlung.config import StoreOptions
from fastlung.errors import ConfigError
from fastlung.storage.base import ObjectInfo, Store
from fastlung.storage.local import LocalStore

if TYPE_CHECKING:
    from fastlung.storage.s3.store import S3Store

__all__ = ["LocalStore", "ObjectInfo", "Store", "open_store"]

DEFAULT_OPTIONS = StoreOptions()


def open_store(url: str, options: StoreOptions = DEFAULT_OPTIONS) -> LocalStore | S3Store:
    """
    Open the store behind a URL or path, without touching it.

    Parameters
    ----------
    url : str
        ``s3://bucket/prefix``, ``file:///folder``, or the path of a local folder.
    options : StoreOptions
        How s3:// is reached.

    Raises
    ------
    ConfigError
        For a kind of URL that this version cannot read.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme == "s3":
        # Imported here: boto3 and obstore cost 0.2 s that local folders need not wait for.
        from fastlung.storage.s3.store import S3Store  # noqa: PLC0415

        return S3Store(rest, options)
    if separator and scheme == "file":
        return LocalStore("/" + rest.lstrip("/"))
    if separator:
        # What stands before may be a password, in a URL that is none.
        kind = f"{scheme}://" if scheme.isalnum() else "such a URL"
        raise ConfigError(
            f"{kind} is not in this version; give s3://bucket/prefix or the path of a local folder"
        )
    if url.lower().startswith("s3:"):
        raise ConfigError("s3: without two slashes; expected s3://bucket/prefix")
    if not url:
        raise ConfigError("an empty path; give s3://bucket/prefix or the path of a local folder")
    try:
        path = Path(url).expanduser()
        if not path.is_absolute():
            Path.cwd()
        return LocalStore(path)
    except FileNotFoundError:
        raise ConfigError(
            f"{url}: the working folder is gone; go to another, or give the path from / on"
        ) from None
    except RuntimeError:
        raise ConfigError(f"{url}: no home folder for that ~; give the path from / on") from None
