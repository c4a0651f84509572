"""
Hostile input by number: a seed and a number always give the same damaged series.

Whole tiny series, one for each way a CT slice is stored, are damaged in one to three places: bits
flipped, lengths and tags and values edited, files cut, spliced, left out, mixed. Half of the time
all files of a series suffer alike, so that the damage is not refused for standing alone.
"""

from __future__ import annotations

import functools
import io
import random
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pydicom
from dicom_writer import BIG_ENDIAN, DEFLATED, LOSSLESS, NATIVE, RLE, ct_series, random_words
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

if TYPE_CHECKING:
    from collections.abc import Callable

SLICES = 5
SHAPE = (SLICES, 12, 10)
HEADER_SHARE = 0.8
LENGTHS = (0, 1, 3, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
TEXTS = (
    b"1e400", b"nan", b"-inf", b"0", b"-0", b"1e-300", b"99999999", b"-1", b"1\\2\\3\\4\\5\\6\\7",
    b"\\\\\\\\", b"1.5e", b"../../x", b"1.2\n3", b"\x1b[2J", b"\xff\xfe\x00", b"", b"1_0", b"0x10",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Element:
    """Where one element of a file stands: its tag, its length, its value."""

    tag_at: int
    length_at: int
    value_at: int
    length: int


@dataclass(frozen=True, slots=True)
class Original:
    """A valid series, and where the elements of its files stand."""

    files: dict[str, bytes]
    elements: dict[str, tuple[Element, ...]]


@functools.cache
def originals() -> tuple[Original, ...]:
    """Every native and lossless syntax; signed, 8-bit, padded, nested and fragmented ones."""
    words = random_words(SHAPE)
    built = [ct_series(words, transfer_syntax=syntax) for syntax in (*NATIVE, *LOSSLESS)]
    built += [
        ct_series(words.astype("u1")),
        ct_series(words.astype("u1"), transfer_syntax=RLE),
        ct_series(words, signed=True, bits_stored=12, padding=-2000, padding_limit=-1900),
        ct_series(words, transfer_syntax=RLE, fragments=3),
        ct_series(words, transfer_syntax=BIG_ENDIAN, bits_stored=12),
        *(
            ct_series(words, transfer_syntax=syntax, edits=dict.fromkeys(range(SLICES), _nest))
            for syntax in NATIVE
        ),
    ]
    return tuple(Original(files, {k: _elements(d) for k, d in files.items()}) for files in built)


def _nest(ds: Dataset) -> None:
    """Sequences three deep, of undefined length as scanners write them."""
    innermost = Dataset()
    innermost.CodeValue = "113100"
    for keyword in (
        "PurposeOfReferenceCodeSequence",
        "ReferencedImageSequence",
        "SourceImageSequence",
    ):
        outer = Dataset()
        setattr(outer, keyword, Items([innermost, innermost]))
        outer[keyword].is_undefined_length = True
        for item in outer[keyword].value:
            item.is_undefined_length_sequence_item = True
        innermost = outer
    ds.update(innermost)


def _elements(data: bytes) -> tuple[Element, ...]:
    """Elements of the file meta and, unless it is deflated, of the data set."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(io.BytesIO(data))
    if ds.file_meta.TransferSyntaxUID == DEFLATED:
        return ()
    found = []
    for tag in ds.keys():  # noqa: SIM118 -- iterating converts the elements
        raw = ds.get_item(tag)
        value_at = raw.value_tell if isinstance(raw, RawDataElement) else raw.file_tell
        short = raw.VR is not None and not ds.original_encoding[0] and raw.VR not in _LONG_VRS
        width = 2 if short else 4
        start = value_at - (8 if short or ds.original_encoding[0] else 12)
        found.append(Element(start, value_at - width, value_at, _length(raw.value)))
    return tuple(found)


def _length(value: object) -> int:
    """Bytes of a value; 0 for a sequence, whose items stand for themselves."""
    return len(value) if isinstance(value, bytes) else 0


_LONG_VRS = ("OB", "OW", "OF", "SQ", "UN", "UT", "UC", "UR", "OD", "OL", "OV", "SV", "UV")


def damaged(seed: int, number: int) -> dict[str, bytes]:
    """Files of one case: its number decides everything, under a seed."""
    rng = random.Random(f"{seed}:{number}")
    original = rng.choice(originals())
    files = dict(original.files)
    for _ in range(rng.randint(1, 3)):
        if rng.random() < 0.1:
            _damage_series(rng, files)
            continue
        damage = rng.choice(DAMAGES)
        together = rng.random() < 0.5
        chosen = list(files) if together else [rng.choice(list(files))]
        again = rng.random()
        for key in chosen:
            own = random.Random(again)
            files[key] = damage(own, files[key], original.elements.get(key, ()))
    return files


def _damage_series(rng: random.Random, files: dict[str, bytes]) -> None:
    other = rng.choice(originals())
    stranger = rng.choice(list(other.files.values()))
    key = rng.choice(list(files))
    what = rng.randrange(5)
    if what == 0 and len(files) > 1:
        del files[key]
    elif what == 1:
        files[f"copy-of-{key}"] = files[key]
    elif what == 2:
        files[key] = stranger
    elif what == 3:
        files["stranger"] = stranger
    else:
        files[key] = b""


def _somewhere(rng: random.Random, data: bytes, elements: tuple[Element, ...]) -> int:
    """Any byte, more often one of the header than of the pixels."""
    end = len(data)
    if elements and rng.random() < HEADER_SHARE:
        end = min(end, max(element.value_at for element in elements))
    return rng.randrange(max(end, 1))


def flip_bits(rng: random.Random, data: bytes, elements: tuple[Element, ...]) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        if out:
            out[_somewhere(rng, data, elements) % len(out)] ^= 1 << rng.randrange(8)
    return bytes(out)


def edit_length(rng: random.Random, data: bytes, elements: tuple[Element, ...]) -> bytes:
    if not elements:
        return flip_bits(rng, data, elements)
    element = rng.choice(elements)
    width = element.value_at - element.length_at
    length = rng.choice((*LENGTHS, element.length + 1, element.length - 1, 2 * element.length))
    order = rng.choice(("little", "little", "big"))
    return _put(data, element.length_at, (length % (1 << 8 * width)).to_bytes(width, order))


def swap_tag(rng: random.Random, data: bytes, elements: tuple[Element, ...]) -> bytes:
    if not elements:
        return flip_bits(rng, data, elements)
    first, other = rng.choice(elements), rng.choice(elements)
    tag = data[other.tag_at : other.tag_at + 4]
    if rng.random() < 0.2:
        tag = rng.choice(
            (b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0", b"\xe0\x7f\x10\x00", b"\0\0\0\0")
        )
    return _put(data, first.tag_at, tag)


def edit_value(rng: random.Random, data: bytes, elements: tuple[Element, ...]) -> bytes:
    if not elements:
        return flip_bits(rng, data, elements)
    element = rng.choice([e for e in elements if e.length] or list(elements))
    text = rng.choice((*TEXTS, rng.randbytes(4), b"\xff\xff", b"\0\0", b"\xff\x7f"))
    # The old length, so that what follows is still found.
    return _put(data, element.value_at, text.ljust(element.length, b" ")[: element.length])


def cut(rng: random.Random, data: bytes, elements: tuple[Element, ...]) -> bytes:
    return data[: _somewhere(rng, data, elements)]


def splice(rng: random.Random, data: bytes, elements: tuple[Element, ...]) -> bytes:
    other = rng.choice(list(rng.choice(originals()).files.values()))
    start, begin = _somewhere(rng, data, elements), rng.randrange(len(other))
    length = rng.choice((2, 8, 64, 512))
    skipped = rng.choice((0, length, 2 * length))
    return data[:start] + other[begin : begin + length] + data[start + skipped :]


def repeat(rng: random.Random, data: bytes, elements: tuple[Element, ...]) -> bytes:
    """One piece many times over: nesting, floods of elements, runs that decode too far."""
    start = _somewhere(rng, data, elements)
    piece = data[start : start + rng.choice((1, 8, 16, 100))]
    return data[:start] + piece * rng.choice((2, 50, 1000)) + data[start:]


def _put(data: bytes, at: int, piece: bytes) -> bytes:
    return data[:at] + piece + data[at + len(piece) :]


DAMAGES: tuple[Callable[[random.Random, bytes, tuple[Element, ...]], bytes], ...] = (
    flip_bits,
    edit_length,
    swap_tag,
    edit_value,
    edit_value,
    cut,
    splice,
    repeat,
)
