"""
Standard output and error as they may be: closed, full, gone, or of letters that they cannot say.

What a run does to scans does not depend on whether anybody can be told. So output that fails is
given up, once and for all, and the command goes on; at its end one sentence says so.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["Outputs", "say"]


def say(*lines: str) -> None:
    """
    Print lines on standard output.

    Parameters
    ----------
    *lines : str
        Without line feeds.
    """
    sys.stdout.writelines(f"{line}\n" for line in lines)


class Outputs:
    """
    Both streams of this process, kept from raising as long as this is entered.

    Whoever closes a pipe early, as ``| head`` does, has left; that is no trouble of ours to tell.
    """

    def __init__(self) -> None:
        self._out = _Patient(sys.stdout, "standard output")
        self._error = _Patient(sys.stderr, "standard error")
        self._before = sys.stdout, sys.stderr

    @property
    def trouble(self) -> str:
        """Why standard output was given up; empty where it was not."""
        return self._out.trouble

    @property
    def reader_left(self) -> bool:
        """Whether that is because nobody reads it any more."""
        return self._out.reader_left

    def __enter__(self) -> Self:
        sys.stdout, sys.stderr = self._out, self._error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._out.flush()
        self._error.flush()
        sys.stdout, sys.stderr = self._before


class _Patient(io.TextIOBase):
    """
    A text stream that swallows what its target cannot take.

    Parameters
    ----------
    target : text stream or None
        None is what Python has where the stream was closed from the start.
    name : str
        What it is called.
    """

    def __init__(self, target: TextIO | None, name: str) -> None:
        self._target = target
        self._name = name
        self.trouble = f"{name} is closed" if target is None else ""
        self.reader_left = False
        with suppress(AttributeError, OSError, ValueError):  # not of a stream that a test put there
            # A terminal of ASCII gets the escapes of what it cannot show.
            target.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]

    def write(self, text: str) -> int:
        """Write, or forget it."""
        if not self.trouble and self._target is not None:
            try:
                self._target.write(text)
            except (OSError, ValueError) as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Pass on what is buffered, or forget it."""
        if not self.trouble and self._target is not None:
            try:
                self._target.flush()
            except (OSError, ValueError) as error:
                self._give_up(error)

    def isatty(self) -> bool:
        """Whether it is a terminal that still takes something."""
        return self._target is not None and not self.trouble and self._target.isatty()

    def fileno(self) -> int:
        """Number of the file behind it."""
        if self._target is None:
            raise io.UnsupportedOperation("closed")
        return self._target.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """How letters become bytes."""
        return getattr(self._target, "encoding", None) or "utf-8"

    @property
    def buffer(self) -> object:
        """The stream of bytes below it."""
        return getattr(self._target, "buffer", None)

    def writable(self) -> bool:
        """Yes: nothing that is written raises."""
        return True

    def _give_up(self, error: Exception) -> None:
        cause = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "closed"
        self.trouble = f"{self._name} cannot be written ({cause})"
        self.reader_left = isinstance(error, BrokenPipeError)
        # What is still buffered must not be tried again when Python ends.
        with suppress(AttributeError, OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
