"""One picture of a scan: four views with the mask outlined, lettered, as a PNG of few colours."""

from __future__ import annotations

import math
import struct
import textwrap
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from isal import isal_zlib

from fastlung.kernels.picture import brightest_along_y, grey_levels, plane_areas

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from fastlung.scan import Grid, ScanResult

__all__ = [
    "ADVANCE",
    "HEIGHT",
    "LARGEST_BYTES",
    "LUNG_WINDOW_HU",
    "encode_png",
    "lettering",
    "picture",
]


SIGNATURE = b"\x89PNG\r\n\x1a\n"

#: Deepest of isal's levels: 0.007 s for 0.5 million pixels.
LEVEL = 3


def encode_png(pixels: npt.NDArray[np.uint8], palette: Sequence[tuple[int, int, int]]) -> bytes:
    """
    Encode an image of palette colours.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (rows, columns)
        Number of each pixel's colour.
    palette : sequence of (int, int, int)
        Red, green and blue of each colour, 0 to 255; at most 256.

    Returns
    -------
    bytes
        A PNG file (ISO/IEC 15948), colour type 3, without filters: in pictures of few grey levels
        they cost time and save nothing.
    """
    height, width = pixels.shape
    lines = np.zeros((height, width + 1), np.uint8)  # each begins with its filter: none
    lines[:, 1:] = pixels
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    colours = bytes(value for colour in palette for value in colour)
    return SIGNATURE + b"".join(
        (
            _chunk(b"IHDR", header),
            _chunk(b"PLTE", colours),
            _chunk(b"IDAT", isal_zlib.compress(lines, LEVEL)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = isal_zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


#: Size of one letter's cell in pixels, and how many of the height hang below the line.
ADVANCE, HEIGHT = 12, 16

#: Five columns a letter, each a byte with the top dot lowest; from the blank to the tilde.
_COLUMNS = bytes.fromhex(
    "0000000000 00005f0000 0007000700 147f147f14 242a7f2a12 2313086462 3649562050 0008070300"
    "001c224100 0041221c00 2a1c7f1c2a 08083e0808 0080703000 0808080808 0000606000 2010080402"
    "3e5149453e 00427f4000 7249494946 2141494d33 1814127f10 2745454539 3c4a494931 4121110907"
    "3649494936 464949291e 0036360000 0076360000 0814224100 1414141414 0041221408 0201590906"
    "3e415d594e 7c1211127c 7f49494936 3e41414122 7f4141413e 7f49494941 7f09090901 3e41415173"
    "7f0808087f 00417f4100 2040413f01 7f08142241 7f40404040 7f021c027f 7f0408107f 3e4141413e"
    "7f09090906 3e4151215e 7f09192946 2649494932 03017f0103 3f4040403f 1f2040201f 3f4038403f"
    "6314081463 0304780403 6159494d43 007f414100 0204081020 0041417f00 0402010204 8080808080"
    "0003070800 2054547840 7f28444438 3844444428 384444287f 3854545418 00087e0902 18a4a49c78"
    "7f08040478 00447d4000 2040403d00 7f10284400 00417f4000 7c04780478 7c08040478 3844444438"
    "fc18242418 18242418fc 7c08040408 4854545424 04043f4424 3c4040207c 1c2040201c 3c4030403c"
    "4428102844 4c9090907c 4464544c44 0008364100 0000770000 0041360800 0201020402"
)


def lettering(text: str) -> npt.NDArray[np.bool_]:
    """
    Draw one line of text.

    Parameters
    ----------
    text : str
        Anything outside printable ASCII becomes a question mark.

    Returns
    -------
    ndarray of bool, shape (HEIGHT, ADVANCE * len(text))
        True where there is ink.
    """
    if not text:
        return np.zeros((HEIGHT, 0), np.bool_)
    return np.concatenate([_glyph(letter if " " <= letter <= "~" else "?") for letter in text], 1)


@lru_cache(maxsize=128)
def _glyph(letter: str) -> npt.NDArray[np.bool_]:
    first = 5 * (ord(letter) - ord(" "))
    columns = np.frombuffer(_COLUMNS[first : first + 5], np.uint8)
    dots = np.unpackbits(columns[:, None], axis=1, bitorder="little").T.astype(np.bool_)
    cell = np.zeros((HEIGHT, ADVANCE), np.bool_)
    cell[:, :10] = _doubled(dots)
    return cell


def _doubled(dots: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Each dot as four; a corner takes the colour of the two neighbours it lies between."""
    around = np.pad(dots, 1)
    up, down, left, right = around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]
    out = np.repeat(np.repeat(dots, 2, axis=0), 2, axis=1)
    for y, x, first, second, others in (
        (0, 0, up, left, (right, down)),
        (0, 1, up, right, (left, down)),
        (1, 0, down, left, (right, up)),
        (1, 1, down, right, (left, up)),
    ):
        corner = (first == second) & (first != others[0]) & (second != others[1])
        out[y::2, x::2] = np.where(corner, first, dots)
    return out


#: Radiology's lung window, centre -600, width 1500: what Hounsfield units are shown with.
LUNG_WINDOW_HU = (-1350.0, 150.0)

#: Radiology's bone window, centre 400, width 1800: for the brightest of all there is.
BONE_WINDOW_HU = (-500.0, 1300.0)

#: A picture has at most so many bytes; noise is what costs them, so grey levels give way.
LARGEST_BYTES = 200_000

GREY_LEVELS = (64, 40, 24, 14, 8)

#: Area that the panels together may have, in pixels; a larger patient is drawn smaller.
PANEL_PIXELS = 420_000

#: Finest and coarsest side of a pixel, in millimetres.
FINEST_MM = 0.75

#: Planes are averages over this much, in millimetres: as thick as a radiologist reads them.
SLAB_MM = 3.0

SCALES_CM = (5, 2, 1)

#: Rows and columns that a panel has at least, so that there is room for its words.
LEAST = (6 * HEIGHT, 16 * ADVANCE)

#: Pixels between the panels, and from one line of words to the next.
GAP, LINE = 4, HEIGHT + 4

#: Stands for a blank that must not be broken at.
HOLD = "\x1f"

#: Colours after the greys; those of the lungs differ for the colour-blind too (Okabe and Ito).
RIGHT, LEFT, AIRWAY, INK, WARNING, BEHIND = range(249, 255)

COLOURS = {
    RIGHT: (230, 159, 0),
    LEFT: (86, 180, 233),
    AIRWAY: (240, 228, 66),
    INK: (255, 255, 255),
    WARNING: (255, 128, 96),
    BEHIND: (0, 0, 0),
}


class _View(NamedTuple):
    """
    One view, before it is drawn.

    Attributes
    ----------
    plane : ndarray of float32
        Values of the image.
    rows, columns : ndarray of float64
        Indices in `plane` of the pixels' centres.
    labels : ndarray of uint8, shape (rows.size, columns.size), or None
        The mask at the pixels.
    window : tuple of float
        Values of the image that become black and white.
    title : str
        What it shows.
    sides : str
        Letters of what lies left, right, up, down.
    """

    plane: npt.NDArray[np.float32]
    rows: npt.NDArray[np.float64]
    columns: npt.NDArray[np.float64]
    labels: npt.NDArray[np.uint8] | None
    window: tuple[float, float]
    title: str
    sides: str


def picture(result: ScanResult, slice_number: int | None = None) -> bytes:
    """
    Draw a scan.

    Parameters
    ----------
    result : ScanResult
        In canonical order, as `process_scan` returns it.
    slice_number : int or None
        Axial slice to show; by default the one with most lung, or the middle one.

    Returns
    -------
    bytes
        A PNG of at most `LARGEST_BYTES`, the same for the same result.
    """
    at = _planes(result)
    if slice_number is not None:
        at = (slice_number, *at[1:])
    pixel_mm = _pixel_mm(result.grid)
    views = _views(result, at, pixel_mm)
    for levels in GREY_LEVELS:
        png = encode_png(_canvas(result, views, pixel_mm, levels), _palette(levels))
        if len(png) <= LARGEST_BYTES:
            break
    return png


def _planes(result: ScanResult) -> tuple[int, int, int]:
    """Planes with most lung along (z, y, x); the middle ones where there is none."""
    z, y, x = (np.zeros(n, np.int64) for n in result.grid.shape)
    if result.mask is not None:
        plane_areas(result.mask, 1, 2, z, y, x)
    middle = tuple(n // 2 for n in result.grid.shape)
    if not z.any():
        return middle[0], middle[1], middle[2]
    return int(z.argmax()), int(y.argmax()), int(x.argmax())


def _palette(levels: int) -> list[tuple[int, int, int]]:
    greys = [round(255 * min(level / (levels - 1), 1.0)) for level in range(min(COLOURS))]
    return [(grey, grey, grey) for grey in greys] + [COLOURS[n] for n in sorted(COLOURS)]


def _window(result: ScanResult) -> tuple[float, float]:
    """Values of the image that become black and white."""
    window = result.window_hu
    if window is None:
        return LUNG_WINDOW_HU
    if result.standardise is not None:
        mean, deviation = result.standardise
        return (window[0] - mean) / deviation, (window[1] - mean) / deviation
    top = 255.0 if result.image.dtype == np.uint8 else 1.0
    return -result.zero_centre, top - result.zero_centre


def _pixel_mm(grid: Grid) -> float:
    z, y, x = np.multiply(grid.shape, grid.spacing_mm).tolist()
    area_mm2 = (x + max(x, y)) * (max(y, z) + z)
    return max(FINEST_MM, math.sqrt(area_mm2 / PANEL_PIXELS))


def _views(result: ScanResult, at: tuple[int, int, int], pixel_mm: float) -> list[_View]:
    """Axial, coronal, sagittal, from the front; the head is up, the patient's right is left."""
    image, mask, spacing_mm = result.image, result.mask, result.grid.spacing_mm
    steps = [pixel_mm / spacing for spacing in spacing_mm]
    z, y, x = (
        (np.arange(max(1, math.floor(n / step))) + 0.5) * step - 0.5
        for n, step in zip(image.shape, steps, strict=True)
    )
    window = _window(result)
    views = []
    for axis, (rows, columns) in enumerate(((y, x), (z[::-1], x), (z[::-1], y))):
        half = round((SLAB_MM / spacing_mm[axis] - 1) / 2)
        slab = range(max(0, at[axis] - half), min(at[axis] + half + 1, image.shape[axis]))
        plane = np.take(image, slab, axis).mean(axis=axis, dtype=np.float32)
        labels = None
        if mask is not None:
            whole = np.take(mask, at[axis], axis)
            labels = whole[
                np.ix_(_nearest(rows, plane.shape[0]), _nearest(columns, plane.shape[1]))
            ]
        name, sides = (("axial", "RLAP"), ("coronal", "RLSI"), ("sagittal", "APSI"))[axis]
        views.append(_View(plane, rows, columns, labels, window, f"{name} {at[axis]}", sides))
    return [*views, _projection(result, z[::-1], x)]


def _projection(
    result: ScanResult, rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64]
) -> _View:
    """Brightest voxels from the front: of the lungs, as ribs outshine any vessel; or of all."""
    low, high = _window(result)
    title, counts = "MIP of lungs", result.mask
    if counts is None or not counts.any():  # no lung was found: show what there is
        title, counts = "MIP", np.ones(result.grid.shape, np.uint8)
        if result.window_hu is None:
            low, high = BONE_WINDOW_HU
    plane = np.full((result.grid.shape[0], result.grid.shape[2]), low, result.image.dtype)
    brightest_along_y(result.image, counts, plane)
    return _View(plane.astype(np.float32), rows, columns, None, (low, high), title, "RLSI")


def _canvas(
    result: ScanResult, views: list[_View], pixel_mm: float, levels: int
) -> npt.NDArray[np.uint8]:
    axial, coronal, sagittal, front = ((view.rows.size, view.columns.size) for view in views)
    heights = max(axial[0], front[0], LEAST[0]), max(coronal[0], sagittal[0], LEAST[0])
    widths = max(axial[1], coronal[1], LEAST[1]), max(front[1], sagittal[1], LEAST[1])
    words = _words(result, (sum(widths) + GAP) // ADVANCE)
    below = sum(heights) + 2 * GAP
    canvas = np.full((below + LINE * len(words), sum(widths) + GAP), BEHIND, np.uint8)
    for view, (down, right) in zip(views, ((0, 0), (1, 0), (1, 1), (0, 1)), strict=True):
        top, left = down * (heights[0] + GAP), right * (widths[0] + GAP)
        panel = canvas[top : top + heights[down], left : left + widths[right]]
        _draw(panel, view, levels)
        _measure(panel, pixel_mm)
    for number, (text, colour) in enumerate(words):
        _write(canvas, text, below + number * LINE, 0, colour)
    return canvas


def _nearest(places: npt.NDArray[Any], size: int) -> npt.NDArray[np.intp]:
    nearest: npt.NDArray[np.intp] = np.clip(np.rint(places), 0, size - 1).astype(np.intp)
    return nearest


def _words(result: ScanResult, letters: int) -> list[tuple[str, int]]:
    """Figures, then flags; each line as long as the picture is wide."""
    window_hu = result.window_hu or LUNG_WINDOW_HU
    sides = {"right": "litres_right", "left": "litres_left", "lungs": "litres"}
    litres = {side: result.figures[key] for side, key in sides.items() if key in result.figures}
    figures = [f"{side} {value:.2f} L" for side, value in litres.items()]
    if "mask_confidence" in result.figures:
        figures.append(f"confidence {result.figures['mask_confidence']:.2f}")
    figures += [f"window {window_hu[0]:g} to {window_hu[1]:g} HU"]
    # A figure stays on one line: its blanks are no place to break.
    held = "   ".join(figure.replace(" ", HOLD) for figure in figures)
    lines = [(text.replace(HOLD, " "), INK) for text in textwrap.wrap(held, letters)]
    for flag in result.flags:
        said = f"{flag.name.replace('_', ' ')}: {flag.text}"
        lines += [(text, WARNING) for text in textwrap.wrap(said, letters, subsequent_indent="  ")]
    return lines


def _draw(canvas: npt.NDArray[np.uint8], view: _View, levels: int) -> None:
    """Greys, outlines and letters of a view, in the middle of a part of the canvas."""
    grey = np.empty((view.rows.size, view.columns.size), np.uint8)
    places = view.rows.astype(np.float32), view.columns.astype(np.float32)
    grey_levels(view.plane, *places, *view.window, levels, grey)
    if view.labels is not None:
        _outline(grey, view.labels)
    top, left = (whole - own for whole, own in zip(canvas.shape, grey.shape, strict=True))
    top, left = top // 2, left // 2
    canvas[top : top + grey.shape[0], left : left + grey.shape[1]] = grey
    _write(canvas, view.title, 2, 2, INK)
    middle_y, middle_x = canvas.shape[0] // 2, canvas.shape[1] // 2
    corners = (
        (middle_y, 2),
        (middle_y, canvas.shape[1] - ADVANCE),
        (2 if 2 + len(view.title) * ADVANCE < middle_x - 1 else HEIGHT + 4, middle_x),
        (canvas.shape[0] - HEIGHT, middle_x),
    )
    for letter, (y, x) in zip(view.sides, corners, strict=True):
        _write(canvas, letter, y, x, INK)


def _measure(canvas: npt.NDArray[np.uint8], pixel_mm: float) -> None:
    """A scale in the lower left, of 5 cm, or less where the view is narrow."""
    for centimetres in SCALES_CM:
        length = round(centimetres * 10 / pixel_mm)
        if length + 6 * ADVANCE < canvas.shape[1] // 2:
            break
    y = canvas.shape[0] - 8
    canvas[y - 4 : y + 2, 6 : 8 + length] = BEHIND
    canvas[y - 2 : y, 7 : 7 + length] = INK
    canvas[y - 3 : y + 1, [7, 6 + length]] = INK
    _write(canvas, f"{centimetres} cm", y - 11, 12 + length, INK)


def _outline(canvas: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> None:
    """Colour the pixels of each label that have a neighbour of another one."""
    around = np.pad(labels, 1, mode="edge")
    edge = np.zeros(labels.shape, np.bool_)
    for neighbour in (around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]):
        edge |= labels != neighbour
    for label, colour in enumerate((RIGHT, LEFT, AIRWAY), start=1):
        canvas[edge & (labels == label)] = colour


def _write(canvas: npt.NDArray[np.uint8], text: str, top: int, left: int, colour: int) -> None:
    """Letters with a dark rim, cut at the edge of the canvas."""
    ink = np.pad(lettering(text), 1)
    rim = np.zeros(ink.shape, np.bool_)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            rim |= np.roll(ink, (dy, dx), axis=(0, 1))
    y, x = max(top - 1, 0), max(left - 1, 0)
    part = canvas[y : y + ink.shape[0], x : x + ink.shape[1]]
    inside = (slice(0, part.shape[0]), slice(0, part.shape[1]))
    part[rim[inside]] = BEHIND
    part[ink[inside]] = colour
