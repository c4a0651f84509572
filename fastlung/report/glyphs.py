"""
Letters for pictures: the 5 x 7 dots of character displays, doubled and smoothed.

Covers printable ASCII. A font file would need a renderer, and with it a dependency, for a few words
in the corner of a picture.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["ADVANCE", "HEIGHT", "lettering"]

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
