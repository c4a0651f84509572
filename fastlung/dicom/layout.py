"""
What the headers of a series have in common, learned from its first files.

The slices of a series repeat nearly all of their headers, byte for byte. pydicom takes 0.1 to 0.3
ms to walk one; comparing the stretches between the dozen elements that differ takes 4 us. Nothing
is parsed here but the lengths of those elements: a stretch of whole elements that equals one the
walk has read, and stands after the same elements, reads the same. Whatever else a file holds, it
is not recognised, and walked.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from fastlung.dicom.elements import (
    DEFLATED_LITTLE_ENDIAN,
    MAX_OUTLINE,
    UNDEFINED_LENGTH,
    Elements,
    PixelElement,
)
from fastlung.dicom.headers import HEAD_BYTES, Broken, Lost, Skipped, slices_of, walk
from fastlung.dicom.slice_header import SliceHeader, next_slice
from fastlung.dicom.tags import FRAME_GROUPS, KEYWORDS, SHARED_GROUPS

if TYPE_CHECKING:
    from collections.abc import Callable

    Answer = list[SliceHeader] | Skipped | Broken | Lost

__all__ = ["HeaderReader", "Layout", "Recognised", "has_layout"]


_PREAMBLE_BYTES, _FILE_META = 128, 2

#: Longest value that may differ from slice to slice. Far below 16 kB, where the length of an
#: element in implicit VR could look like a VR.
_MAX_BYTES = 1024

_TRANSFER_SYNTAX = 0x00020010


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one element begins, says its length, has its value, and ends."""

    tag: int
    begin: int
    length_at: int
    value_at: int
    end: int
    defined: bool

    def may_differ(self) -> bool:
        """Whether its value may be another in the next header."""
        return (
            self.defined and self.end - self.value_at <= _MAX_BYTES and self.tag != _TRANSFER_SYNTAX
        )


@dataclass(frozen=True, slots=True, eq=False)
class Recognised:
    """
    What a header says that its layout does not.

    Attributes
    ----------
    values : dict of str to bytes
        Listed tags among those that differ from slice to slice.
    pixels : PixelElement
        Where the pixels of the file lie.
    """

    values: dict[str, bytes]
    pixels: PixelElement


class Layout:
    """
    Stretches that headers share, and the elements between them, whose values differ.

    Parameters
    ----------
    head : bytes
        First part of the first file of a kind, up to its pixels at least.
    elements : Elements
        What the walk has read there; `has_layout` must hold.
    """

    def __init__(self, head: bytes, elements: Elements) -> None:
        self.elements = elements
        self._places = _places(elements)
        self._head = head[: self._places[-1].value_at]
        self._differing: set[int] = set()
        self._cut()

    def learn(self, head: bytes, elements: Elements) -> bool:
        """
        Note what differs in another header, for which `has_layout` must hold.

        Returns
        -------
        bool
            False where the two do not hold the same elements, or differ in more than short values.
        """
        others = _places(elements)
        if len(others) != len(self._places):
            return False
        differing = set()
        for number, (place, other) in enumerate(zip(self._places, others, strict=True)):
            if head[other.begin : other.end] == self._head[place.begin : place.end]:
                continue
            if head[other.begin : other.length_at] != self._head[place.begin : place.length_at]:
                return False
            if number == len(others) - 1:  # where the pixels lie is read anyway
                break
            if not place.may_differ() or not other.may_differ():
                return False
            differing.add(number)
        self._differing |= differing
        self._cut()
        return True

    def _cut(self) -> None:
        """Cut the header at the lengths of the elements that differ, and of the pixels."""
        chosen = [self._places[number] for number in sorted(self._differing)]
        chosen.append(self._places[-1])
        begins = [_PREAMBLE_BYTES, *(place.end for place in chosen)]
        self._pieces = [
            (
                self._head[begin : place.length_at],
                place.value_at - place.length_at,
                KEYWORDS.get(place.tag, ""),
            )
            for begin, place in zip(begins, chosen, strict=False)
        ]

    def recognise(self, head: bytes, size_bytes: int) -> Recognised | None:
        """
        Read a header that is laid out like those before.

        Parameters
        ----------
        head : bytes
            First part of a file.
        size_bytes : int
            Size of the whole file.

        Returns
        -------
        Recognised or None
            None where the header is laid out in another way, or reaches beyond `head`.
        """
        values: dict[str, bytes] = {}
        at = _PREAMBLE_BYTES
        *pieces, (to_pixels, length_bytes, _) = self._pieces
        for stretch, count, keyword in pieces:
            if not head.startswith(stretch, at):
                return None
            at += len(stretch) + count
            length = int.from_bytes(head[at - count : at], "little")
            if length > _MAX_BYTES:
                return None
            if keyword:
                values[keyword] = head[at : at + length]
            at += length
        if not head.startswith(to_pixels, at):
            return None
        at += len(to_pixels) + length_bytes
        known = self.elements.pixels
        if at > len(head) or known is None:
            return None
        length = int.from_bytes(head[at - length_bytes : at], "little")
        pixels = PixelElement(
            offset=at,
            length=None if length == UNDEFINED_LENGTH else length,
            available=size_bytes - at,
            vr=known.vr,
            foreign=known.foreign,
        )
        return Recognised(values, pixels)


def has_layout(elements: Elements) -> bool:
    """Whether a header is of the plain kind that can be recognised again."""
    outline = elements.outline
    if (
        elements.failure is not None
        or len(outline) >= MAX_OUTLINE
        or elements.pixels is None
        or not elements.whole
        or not elements.little_endian
        or elements.transfer_syntax == DEFLATED_LITTLE_ENDIAN
    ):
        return False
    tags = [tag for tag, *_ in outline]
    # A tag that stands twice has the value of the last, an order that would get lost here.
    if any(low >= high for low, high in pairwise(tags)) or {SHARED_GROUPS, FRAME_GROUPS} & {*tags}:
        return False
    # An element in implicit VR among explicit ones, which pydicom forgives.
    switched = [vr is None and tag >> 16 != _FILE_META for tag, vr, *_ in outline]
    return not any(switched) or all(switched[_first_after_meta(tags) :])


def _first_after_meta(tags: list[int]) -> int:
    return next(number for number, tag in enumerate(tags) if tag >> 16 != _FILE_META)


def _places(elements: Elements) -> list[_Place]:
    """Where each element stands; the pixels, which end where they begin, are the last."""
    places: list[_Place] = []
    end = elements.outline[-1][2]
    for tag, vr, value_at, length in reversed(elements.outline):
        long = vr in EXPLICIT_VR_LENGTH_32
        length_at = value_at - (2 if vr and not long else 4)
        begin = value_at - (12 if long else 8)
        places.append(_Place(tag, begin, length_at, value_at, end, length != UNDEFINED_LENGTH))
        end = begin
    return places[::-1]


#: Layouts kept: the series of a folder that are told apart by random names follow in any order.
MAX_LAYOUTS = 8


@dataclass(slots=True, eq=False)
class _Kind:
    """Files of one layout: their series, and the header of one slice of them, if they have any."""

    series_uid: bytes
    layout: Layout
    slice_header: SliceHeader | None


class HeaderReader:
    """
    Reader of headers that remembers what the files before had in common.

    What it remembers holds whole headers, patients' names among them, and ends with it.

    Parameters
    ----------
    force : bool
        As in `read_headers`.
    """

    def __init__(self, *, force: bool = False) -> None:
        self._force = force
        self._kinds: list[_Kind] = []

    def read(self, key: str, size_bytes: int, read: Callable[[int], bytes]) -> Answer:
        """
        Read the headers of the slices in one file.

        Parameters, and what is returned, as `read_headers`; the answer never depends on the files
        before.
        """
        head = read(min(HEAD_BYTES, size_bytes)) if size_bytes else b""
        for number, kind in enumerate(self._kinds):
            found = kind.layout.recognise(head, size_bytes)
            if found is not None:
                if number:  # the next one is tried first
                    self._kinds.insert(0, self._kinds.pop(number))
                return self._recognised(kind, key, size_bytes, found)
        elements = walk(head, size_bytes, read)
        answer = slices_of(key, size_bytes, elements, head, force=self._force)
        if elements is not None and has_layout(elements) and len(head) >= elements.outline[-1][2]:
            self._learn(head, elements, answer)
        return answer

    def _recognised(self, kind: _Kind, key: str, size_bytes: int, found: Recognised) -> Answer:
        known = kind.layout.elements
        # A header with a layout is whole, little-endian and of one frame, as Elements are anyway.
        elements = Elements(
            values={**known.values, **found.values},
            transfer_syntax=known.transfer_syntax,
            pixels=found.pixels,
        )
        if kind.slice_header is not None:
            header = next_slice(kind.slice_header, key, size_bytes, elements, found.values.keys())
            if header is not None:
                return [header]
        return slices_of(key, size_bytes, elements, force=self._force)

    def _learn(self, head: bytes, elements: Elements, answer: Answer) -> None:
        series_uid = elements.values.get("SeriesInstanceUID", b"")
        for kind in self._kinds:
            if kind.series_uid == series_uid and kind.layout.learn(head, elements):
                return
        header = answer[0] if isinstance(answer, list) else None
        self._kinds.insert(0, _Kind(series_uid, Layout(head, elements), header))
        del self._kinds[MAX_LAYOUTS:]
