"""
Files in a zip or tar archive, read in memory: nothing is ever extracted to a disk.

What an archive declares of itself is not trusted: bytes are counted as they inflate, members are
numbered, and their names are looked at only to leave out what file managers hide. An archive
within an archive is not opened.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
import zlib
from typing import IO, TYPE_CHECKING

from fastlung.errors import (
    FormatError,
    InsufficientMemoryError,
    LimitError,
    ScanError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ARCHIVE_SUFFIXES", "MAX_INFLATED_BYTES", "member_key", "unpack"]

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")

#: Suffixes of files as they lie among slices, which say nothing of anybody.
TOLD_SUFFIXES = frozenset({
    ".dcm", ".dicom", ".ima", ".txt", ".xml", ".json", ".csv", ".html", ".htm", ".pdf", ".jpg",
    ".jpeg", ".png", ".gif", ".bmp", ".exe", ".inf", ".ini", ".db", ".dll", ".md", ".log", ".nii",
    ".raw", ".mhd", ".mha", ".zip", ".gz",
})  # fmt: skip

#: An archive is one source group and must fit into memory as a whole: twice the largest series.
MAX_INFLATED_BYTES = 16 * 2**30
#: Four of the longest series taken, so that an archive of empty members does not last for ever.
MAX_MEMBERS = 20_000
GZIP_MAGIC = b"\x1f\x8b"
ENCRYPTED = 0x1
#: The memory that bz2 and LZMA take stands in the archive; DICOM is not packed with them.
ZIP_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
#: Raised by the readers of the standard library over damaged archives.
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)


def unpack(archive: bytes, *, memory_bytes: int = MAX_INFLATED_BYTES) -> dict[str, bytes]:
    """
    Read the files in an archive.

    Parameters
    ----------
    archive : bytes
        A zip, tar or gzipped tar file; told apart by its content.
    memory_bytes : int
        What its files may take together, in bytes.

    Returns
    -------
    dict of str to bytes
        Key of the member, six digits and what `member_key` keeps of its name, to its bytes.
        Folders, links, devices and hidden files are left out.

    Raises
    ------
    FormatError
        If it is damaged, or no archive.
    UnsupportedError
        If it is encrypted, or packed by another method than deflate.
    LimitError
        If it has more members, or inflates further, than any archive of scans does.
    InsufficientMemoryError
        If it inflates beyond `memory_bytes`.
    """
    budget = _Budget(memory_bytes)
    members = _zip_members if zipfile.is_zipfile(io.BytesIO(archive)) else _tar_members
    try:
        return {
            member_key(f"{number:06d}", name): data
            for number, name, data in members(archive, budget)
        }
    except (ScanError, InsufficientMemoryError):
        raise
    except DAMAGED as error:
        raise FormatError(
            f"the archive is damaged, or none ({type(error).__name__}); expected zip, tar or "
            "tar.gz; fetch it again"
        ) from None


def member_key(stand_in: str, name: str) -> str:
    """
    Key of a file whose name may not be told: what stands for it, and what kind of name it was.

    Parameters
    ----------
    stand_in : str
        A number or a pseudonym.
    name : str
        What the file is called.

    Returns
    -------
    str
        With the suffix where that is a known one; ``.other`` for a name without any number, which
        no slice has. So that a slice that was lost on its way is known by its name all the same.
    """
    plain = name.rpartition("/")[2].lower()
    suffix = plain[plain.rfind(".") :] if "." in plain else ""
    if suffix in TOLD_SUFFIXES:
        return stand_in + suffix
    return stand_in if any(letter.isdigit() for letter in plain) else f"{stand_in}.other"


class _Budget:
    """Bytes that may still be inflated, and members that may still come."""

    def __init__(self, memory_bytes: int) -> None:
        self._short_of_memory = memory_bytes < MAX_INFLATED_BYTES
        self._limit = min(memory_bytes, MAX_INFLATED_BYTES)
        self.left = self._limit
        self._members = 0

    def spend(self, count: int) -> None:
        self.left -= count
        if self.left >= 0:
            return
        if self._short_of_memory:
            raise InsufficientMemoryError(
                f"the archive inflates beyond {self._limit:,} bytes, which is what a worker may "
                "use; raise the memory limit, or unpack it and give the folder"
            )
        raise LimitError(
            f"the archive inflates beyond {self._limit:,} bytes; unpack it and give the folder"
        )

    def count_member(self) -> None:
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise LimitError(
                f"the archive has more than {MAX_MEMBERS:,} members; unpack it and give the folder"
            )


def _zip_members(archive: bytes, budget: _Budget) -> Iterator[tuple[int, str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        for number, member in enumerate(opened.infolist(), start=1):
            budget.count_member()
            if member.is_dir() or _hidden(member.filename):
                continue
            if member.flag_bits & ENCRYPTED:
                raise UnsupportedError("the archive is encrypted; unpack it and give the folder")
            if member.compress_type not in ZIP_METHODS:
                raise UnsupportedError(
                    f"the archive is packed by method {member.compress_type}, expected deflate; "
                    "unpack it and give the folder"
                )
            with opened.open(member) as file:
                yield number, member.filename, _read(file, budget)


def _tar_members(archive: bytes, budget: _Budget) -> Iterator[tuple[int, str, bytes]]:
    plain: io.BytesIO | gzip.GzipFile = io.BytesIO(archive)
    if archive.startswith(GZIP_MAGIC):
        plain = gzip.GzipFile(fileobj=io.BytesIO(archive))
    # As a stream, so that what is passed over is inflated, and counted, only once.
    with tarfile.open(fileobj=_Counted(plain, budget), mode="r|") as opened:  # type: ignore[call-overload]
        for number, member in enumerate(opened, start=1):
            budget.count_member()
            file = opened.extractfile(member) if member.isreg() else None
            if file is None or member.issparse() or _hidden(member.name):
                continue
            yield number, member.name, file.read()


class _Counted:
    """A stream whose bytes are counted as they are read."""

    def __init__(self, stream: io.BytesIO | gzip.GzipFile, budget: _Budget) -> None:
        self._stream = stream
        self._budget = budget

    def read(self, count: int) -> bytes:
        data = self._stream.read(count)
        self._budget.spend(len(data))
        return data


def _read(file: IO[bytes], budget: _Budget) -> bytes:
    # One byte more than may come: what a header declares is not what inflates.
    data = file.read(budget.left + 1)
    budget.spend(len(data))
    return data


def _hidden(name: str) -> bool:
    # `tar c .` calls everything "./name", which hides nothing.
    parts = [part for part in name.split("/") if part not in (".", "..")]
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)
