"""Functional groups: what a multi-frame file says of all its frames, and of each."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydicom.filereader import read_sequence

from fastlung.errors import LimitError
from fastlung.io.dicom.tags import FRAME_KEYWORDS, KEYWORDS, MACROS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom.dataset import Dataset

__all__ = ["Groups"]

#: Items that functional groups may hold: 5000 frames with eight groups each. Counted before an
#: object is made for any of them.
MAX_GROUP_ITEMS = 45_000


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
        if value.count(struct.pack(f"{order}HH", 0xFFFE, 0xE000)) > MAX_GROUP_ITEMS:
            raise LimitError(f"functional groups of more than {MAX_GROUP_ITEMS:,} items")
        items: Sequence[Dataset] = read_sequence(
            io.BytesIO(value), self.implicit, self.little_endian, len(value), "iso8859"
        )
        return items
