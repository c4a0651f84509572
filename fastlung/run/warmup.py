"""Kernels made ready, by one process at a time."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from fastlung.kernels import warm_up
from fastlung.storage.cache import cache_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ready_kernels"]


def ready_kernels() -> None:
    """
    Compile every kernel, or load it from the cache, while no other process of this user does.

    A run and the server that its workers are forked from do it at the same time, and so may two
    runs: several processes compiling into one cache is not safe, and each would take 40 s for it.
    """
    with _lock():
        try:
            warm_up()
        except OSError:
            # The place for compiled kernels is full, or went: what is compiled already stays.
            from fastlung.kernels.jit import keep_in_memory  # noqa: PLC0415

            keep_in_memory()
            warm_up()


@contextmanager
def _lock() -> Iterator[None]:
    """Wait for other processes; go without where the cache folder allows no lock."""
    held = -1
    with suppress(OSError):
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        held = os.open(folder / "kernels.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(held, fcntl.LOCK_EX)  # the system releases it when its holder ends
    try:
        yield
    finally:
        if held >= 0:
            os.close(held)
