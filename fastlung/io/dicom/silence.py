"""Keeping pydicom quiet: what it warns of and logs quotes values of elements."""

from __future__ import annotations

import logging
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["pydicom_silenced"]

_changing = threading.Lock()
_inside = 0
_before = warnings.catch_warnings()


@contextmanager
def pydicom_silenced() -> Iterator[None]:
    """
    Keep pydicom's warnings and log records, which quote element values, from getting out.

    Warnings are silenced for the whole process, and headers are read in several threads. So the
    first thread that enters silences and the last one that leaves restores: with
    `warnings.catch_warnings` in each, whoever left first let the warnings of the others out.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _inside, _before  # noqa: PLW0603 - the filters of a process are global, too
    with _changing:
        _inside += 1
        if _inside == 1:
            _before = warnings.catch_warnings()
            _before.__enter__()
            warnings.simplefilter("ignore")
            logging.getLogger("pydicom").addFilter(_drop)


def _leave() -> None:
    global _inside  # noqa: PLW0603
    with _changing:
        _inside -= 1
        if _inside == 0:
            logging.getLogger("pydicom").removeFilter(_drop)
            _before.__exit__(None, None, None)


def _drop(_record: logging.LogRecord) -> bool:
    return False
