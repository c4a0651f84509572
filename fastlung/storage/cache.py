"""Where what belongs to this user is kept, by the XDG specification."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """Where this user's caches are; it need not exist."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    # The specification says that a relative path is to be ignored.
    folder = Path(home) if home.startswith("/") else Path("~/.cache").expanduser()
    return folder / "fastlung"
