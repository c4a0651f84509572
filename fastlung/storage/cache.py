"""Where what belongs to this user is kept, by the XDG specification."""

from __future__ import annotations

import errno
import os
from pathlib import Path

__all__ = ["cache_folder", "data_folder"]


def cache_folder() -> Path:
    """
    Where this user's caches are; it need not exist, nor be of those that can be written.

    Raises
    ------
    OSError
        If this user has no home, as a number without a name in a container.
    """
    return _folder("XDG_CACHE_HOME", ".cache")


def data_folder() -> Path:
    """Where what this user must not lose is; otherwise as `cache_folder`."""
    return _folder("XDG_DATA_HOME", ".local/share")


def _folder(variable: str, below_home: str) -> Path:
    home = os.environ.get(variable, "")
    # The specification says that a relative path is to be ignored.
    if home.startswith("/"):
        return Path(home) / "fastlung"
    # pathlib would raise a RuntimeError where there is no home.
    folder = os.path.expanduser(f"~/{below_home}")  # noqa: PTH111
    if not folder.startswith("/"):
        raise OSError(errno.ENOENT, "this user has no home folder")
    return Path(folder) / "fastlung"
