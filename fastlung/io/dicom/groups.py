"""Functional groups: what a multi-frame file says of all its frames, and of each."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydicom.filereader import read_sequence

from fastlung.io.dicom.tags import FRAME_KEYWORDS, KEYWORDS, MACROS
from fastlung.limits import beyond, limits_in_force

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom.dataset import Dataset

__all__ = ["Groups"]

#: Items that functional groups may hold for each frame allowed: itself and a dozen groups. Counted
#: before an object is made for any of them.
ITEMS_A_FRAME = 13


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Reader of functional groups, which are sequences of sequences."""

    implicit: bool
    little_endian: bool

    def read(self, element: Any) -> tuple[dict[str, bytes], ...]:
        """Listed values of each item."""
        return tuple(self._flat(item) for item in self._items(element))

    def _flat(self, item: Dataset) -> dict[str, bytes]:
        values: dict[str, bytes] = {}
        for tag in item.keys():  # noqa: SIM118 -- iterating a Dataset converts its values
            element: Any = item.get_item(tag)
            keyword = KEYWORDS.get(tag, "")
            if tag in MACROS:
                for inner in self._items(element)[:1]:
                    values |= self._flat(inner)
            elif keyword in FRAME_KEYWORDS and isinstance(element.value, bytes):
                values[keyword] = element.value
        return values

    def _items(self, element: Any) -> Sequence[Dataset]:
        value = element.value
        if not isinstance(value, bytes):  # of undefined length: pydicom has read it, or empty
            return value or ()
        order = "<" if self.little_endian else ">"
        count = value.count(struct.pack(f"{order}HH", 0xFFFE, 0xE000))
        if count > ITEMS_A_FRAME * limits_in_force().frames:
            raise beyond("frames", f"functional groups hold {count:,} items")
        items: Sequence[Dataset] = read_sequence(
            io.BytesIO(value), self.implicit, self.little_endian, len(value), "iso8859"
        )
        return items
