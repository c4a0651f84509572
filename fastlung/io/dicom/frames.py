"""One multi-frame file to the frames in it, each as if it were a file of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fastlung.errors import FormatError, MetadataError, TruncatedError
from fastlung.io.dicom.coding import check_excess
from fastlung.limits import beyond, limits_in_force

if TYPE_CHECKING:
    from fastlung.io.dicom.elements import Elements, PixelElement

__all__ = ["split_frames"]


def split_frames(elements: Elements, pixels: PixelElement) -> list[Elements]:
    """
    Give the elements of each frame: its own before those of all frames before those of the file.

    Parameters
    ----------
    elements : Elements
        Values of an enhanced or legacy converted CT file.
    pixels : PixelElement
        Where the pixels of all its frames lie.

    Raises
    ------
    LimitError
        For too many frames, known before anything is made for any of them.
    ScanError
        Where the number of frames, their functional groups and the pixels do not agree.
    """
    numbers = elements.numbers("NumberOfFrames", 1)
    if numbers is None or numbers[0] != int(numbers[0]) or numbers[0] < 1:
        raise MetadataError("NumberOfFrames is absent or no count; a multi-frame file needs it")
    count = int(numbers[0])
    if count > limits_in_force().frames:
        raise beyond("frames", f"NumberOfFrames is {count:,}")
    if len(elements.frames) != count:
        raise FormatError(
            f"NumberOfFrames is {count:,}, and functional groups describe {len(elements.frames):,}"
        )
    common = {name: value for name, value in elements.values.items() if name != "NumberOfFrames"}
    split = []
    for own, part in zip(elements.frames, _pixels_of(elements, pixels, count), strict=True):
        values = {**common, **elements.shared, **own}
        if "FrameType" in values:
            values["ImageType"] = values["FrameType"]
        split.append(replace(elements, values=values, pixels=part, shared={}, frames=()))
    return split


def _pixels_of(elements: Elements, pixels: PixelElement, count: int) -> list[PixelElement]:
    if pixels.length is None:
        return [replace(pixels, frame=number, frames=count) for number in range(count)]
    rows, columns = elements.unsigned("Rows"), elements.unsigned("Columns")
    size = rows * columns * elements.unsigned("BitsAllocated") // 8
    total = size * count
    if min(pixels.length, pixels.available) < total:
        raise TruncatedError(
            f"{count:,} frames take {total:,} bytes; Pixel Data claims {pixels.length:,} and the "
            f"file holds {pixels.available:,}"
        )
    check_excess(pixels, total, size)
    return [
        replace(pixels, offset=pixels.offset + number * size, length=size, available=size)
        for number in range(count)
    ]
