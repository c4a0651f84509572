"""
How large an input may be: `Limits`, and which are in force.

Everything that a listing or a header claims is held against these by arithmetic, before anything
of that size is allocated, read or decoded. They only ever refuse; no voxel depends on them, so they
are no part of a configuration's digest. A dozen places between a listing and the output grid need
them; like NumPy's `errstate` they therefore hold for a block of code:

>>> from fastlung import limited
>>> with limited(rows_columns=8192):
...     raw = fastlung.read_series("industrial-ct")  # doctest: +SKIP
"""

from __future__ import annotations

import difflib
import math
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING

from fastlung.errors import ConfigError, LimitError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

__all__ = [
    "Limits",
    "beyond",
    "changed",
    "check_listing",
    "limited",
    "limits_in_force",
    "refuse_output",
]

GIB = 2**30
MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    The largest input that is taken.

    Attributes
    ----------
    object_bytes : int
        Bytes of one file or object. The largest slice that `rows_columns` allows has 32 MiB, a
        multi-frame file of 2000 frames 1 GiB.
    group_objects : int
        Files directly in one folder. Their headers take a millisecond and 4 kB each; a whole study
        has a few thousand.
    rows_columns : int
        Rows, and columns, of a slice. CT has 512 or 1024, rarely 2048; 65535 x 65535, which any
        header may claim, would take 8 GiB a slice.
    frames : int
        Frames of one file; as many as a scan has slices.
    slices : int
        Slices of one series: 5000 are 2.5 m at half a millimetre.
    scan_bytes : int
        Bytes of the stored words of one series, 2 a voxel: three times 5000 slices of 512 x 512.
    header_bytes : int
        Bytes of a file before its pixels; a slice has a few kB, 5000 frames 1.6 kB each. A flood
        of 8 MiB of empty elements takes 6 CPU seconds and 215 MiB at worst.
    sequence_depth : int
        Sequences within sequences in a header. Real ones are five deep; Python gives up at 250.
    inflate_ratio, inflate_spare_bytes : int
        A deflated file may grow to this many times its size, plus so many bytes. CT deflates to
        about half; a bomb of 1 MB grows a thousandfold.
    output_voxels : int
        Voxels of the resampled volume. A whole body at half a millimetre has 3e9; more is a wrong
        spacing, or two stacks far apart.

    Raises
    ------
    ConfigError
        For a limit that is not a positive whole number.
    """

    object_bytes: int = GIB
    group_objects: int = 50_000
    rows_columns: int = 4096
    frames: int = 5000
    slices: int = 5000
    scan_bytes: int = 8 * GIB
    header_bytes: int = 8 * MIB
    sequence_depth: int = 32
    inflate_ratio: int = 4
    inflate_spare_bytes: int = 16 * MIB
    output_voxels: int = 4_000_000_000

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not isinstance(value, int) or value < 1:
                raise ConfigError(f"limit {name}: expected a whole number above 0, found {value!r}")


#: Names of all limits.
NAMES = tuple(field.name for field in fields(Limits))

_in_force: ContextVar[Limits] = ContextVar("fastlung_limits", default=Limits())  # noqa: B039 -- frozen


def changed(limits: Limits, changes: Mapping[str, int]) -> Limits:
    """
    Change limits by name.

    Raises
    ------
    ConfigError
        For a limit that there is not, or that is not a positive whole number.
    """
    for name in changes:
        if name not in NAMES:
            close = difflib.get_close_matches(name, NAMES, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(NAMES)}"
            raise ConfigError(f"unknown limit {name!r}; {hint}")
    return replace(limits, **changes)


def limits_in_force() -> Limits:
    """Limits that hold here."""
    return _in_force.get()


@contextmanager
def limited(limits: Limits | None = None, **changes: int) -> Iterator[None]:
    """
    Let other limits hold within a ``with`` block, in this thread.

    Parameters
    ----------
    limits : Limits, optional
        The limits; by default those in force.
    **changes
        Fields of `Limits` that differ from them.

    Raises
    ------
    ConfigError
        For a limit that is not a positive whole number, or that there is not.
    """
    token = _in_force.set(changed(limits or limits_in_force(), changes))
    try:
        yield
    finally:
        _in_force.reset(token)


def beyond(name: str, found: str) -> LimitError:
    """
    Make the error for input beyond a limit.

    Parameters
    ----------
    name : str
        Field of `Limits`.
    found : str
        What was found, in words.
    """
    limit = getattr(limits_in_force(), name)
    return LimitError(f"{found}; the limit {name} is {limit:,}, and --limit {name}=N changes it")


def refuse_output(shape: Sequence[int]) -> None:
    """
    Refuse an output volume by its shape, before it is allocated.

    Raises
    ------
    LimitError
        If it would have more voxels than are allowed.
    """
    if math.prod(shape) > limits_in_force().output_voxels:
        raise beyond(
            "output_voxels",
            f"the output would have {tuple(shape)} voxels: ask for a coarser spacing, or look at "
            "the slice positions",
        )


def check_listing(sizes_bytes: Collection[int]) -> None:
    """
    Refuse a folder by its listing, before anything in it is opened.

    Parameters
    ----------
    sizes_bytes : collection of int
        Sizes of the files directly in it, in bytes.

    Raises
    ------
    LimitError
        For too many files, or one that is too large.
    """
    limits = limits_in_force()
    if len(sizes_bytes) > limits.group_objects:
        raise beyond("group_objects", f"{len(sizes_bytes):,} files in one folder")
    largest = max(sizes_bytes, default=0)
    if largest > limits.object_bytes:
        raise beyond("object_bytes", f"a file of {largest:,} bytes")
