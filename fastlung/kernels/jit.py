"""
Numba's `njit`, with compiled kernels kept in the first place that may be written, else in memory.

Numba takes the folder of the package, then the user's cache folder, and gives up where neither can
be written, which is so in a container whose root is read-only. Loading a kernel runs what is in
its file, so that a folder which others may write to is no place for it. `fastlung doctor` asks for
the place without loading Numba.
"""

import os
import stat
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

__all__ = ["Place", "keep_in_memory", "kernel_place", "njit", "temporary_folder"]

#: Names the folder for all of Numba; checked, and passed over where it cannot be written.
VARIABLE = "NUMBA_CACHE_DIR"
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - what we make there has mode 0700


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """
    Where compiled kernels are kept.

    Attributes
    ----------
    folder : str
        The folder; empty where there is none.
    is_numbas : bool
        Whether Numba would choose it by itself.
    note : str
        What it costs, where that is anything; else empty.
    """

    folder: str
    is_numbas: bool
    note: str = ""


@lru_cache(maxsize=1)
def kernel_place() -> Place:
    """Find it, once for a process."""
    given = os.environ.get(VARIABLE, "")
    if given and _is_writable(Path(given)):  # whoever names a folder answers for it
        return Place(folder=given, is_numbas=True)
    beside = Path(__file__).parent / "__pycache__"
    if not given and _may_be_written(beside):
        return Place(folder=str(beside), is_numbas=True)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    # Without a home `expanduser` changes nothing, and Numba would make a folder called "~".
    if not given and home.startswith("/") and _may_be_written(Path(home) / "numba"):
        return Place(folder=f"{home}/numba", is_numbas=True)
    unwritten = f"{VARIABLE} cannot be written" if given else "no cache folder can be written"
    if private := _private_folder():
        note = (
            f"{unwritten}, so that compiled kernels are kept in {private}; when that is gone they "
            "are compiled again, which takes a minute"
        )
        return Place(folder=private, is_numbas=False, note=note)
    note = (
        f"{unwritten}, so that compiled kernels are kept in memory only: each run compiles them "
        f"anew, which takes a minute or two; set {VARIABLE} to a folder that can be written"
    )
    return Place(folder="", is_numbas=False, note=note)


def temporary_folder() -> str:
    """
    Where temporary files go; empty where nowhere.

    A container with a read-only root often has ``/dev/shm`` all the same, of which `tempfile`
    does not think.
    """
    try:
        return tempfile.gettempdir()
    except OSError:
        return SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK | os.X_OK) else ""


def _private_folder() -> str:
    """Folder of this user's alone among the temporary ones; empty where there can be none."""
    temporary = temporary_folder()
    folder = Path(temporary) / f"fastlung-kernels-{os.geteuid()}"
    try:
        if not temporary:
            return ""
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        return ""
    return str(folder) if _is_ours_alone(folder) and _may_be_written(folder) else ""


def _is_ours_alone(folder: Path) -> bool:
    """Whether it is a folder, no link, of this user, that nobody else may enter."""
    status = folder.lstat()
    is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    return is_ours and not status.st_mode & 0o077


def _may_be_written(folder: Path) -> bool:
    """Whether files can be made in it, and strangers cannot make any."""
    if not _is_writable(folder):
        return False
    status = folder.stat()
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & stat.S_IWOTH


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


_kernels: list[Any] = []


def njit(*, cache: bool, **options: Any) -> Any:
    """
    Compile a function at its first call.

    Parameters
    ----------
    cache : bool
        Whether the compiled function is kept for the next process, where there is a place.
    **options
        As Numba has them.
    """
    import numba  # noqa: PLC0415 -- not loaded by who asks for the place only

    place = kernel_place()
    if cache and not place.is_numbas and place.folder:
        numba.config.CACHE_DIR = place.folder

    def compiled(function: Any) -> Any:
        kernel = numba.njit(cache=cache and bool(place.folder), **options)(function)
        _kernels.append(kernel)
        return kernel

    return compiled


def keep_in_memory() -> None:
    """Write no compiled kernel from now on: the place for them is full, or gone."""
    from numba.core.caching import NullCache  # noqa: PLC0415 -- as above

    for kernel in _kernels:
        if hasattr(kernel, "_cache"):  # a plain function has none, under NUMBA_DISABLE_JIT
            kernel._cache = NullCache()  # noqa: SLF001 - Numba has no other way
