"""Numbers as DICOM writes them, and nothing else that Python would take for one."""

import pytest
from dicom_writer import ct_slice, random_words

from fastlung.dicom.elements import Elements, read_elements
from fastlung.errors import MetadataError


def elements(text):
    return Elements(values={"PixelSpacing": text})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"1.5\\2", (1.5, 2.0)),
        (b" 1.5 \\ +2 ", (1.5, 2.0)),
        (b".5\\5.", (0.5, 5.0)),
        (b"1e-3\\-2.5E+01\0", (0.001, -25.0)),
        (b"", None),
        (b"  ", None),
    ],
)
def test_decimal_strings_are_read(text, expected):
    assert elements(text).numbers("PixelSpacing", 2) == expected


@pytest.mark.parametrize(
    "text",
    [
        b"1_0",
        b"nan",
        b"inf",
        b"1e400",
        b"1,5",
        b"0x1",
        b"\x1d10",
        b"1 0",
        b"--1",
        b"\xb2",
        b"e5",
        b".",
    ],
)
def test_what_is_no_decimal_string_is_refused_unquoted(text):
    with pytest.raises(MetadataError, match="not a finite number") as caught:
        elements(text + b"\\1").numbers("PixelSpacing", 2)
    assert str(caught.value) == "PixelSpacing holds something that is not a finite number"


@pytest.mark.parametrize("text", [b"1", b"1\\2\\3", b"1\\2\\"])
def test_the_count_of_values_is_checked(text):
    with pytest.raises(MetadataError, match="expected 2"):
        elements(text).numbers("PixelSpacing", 2)


def test_pixels_are_located_without_being_read():
    words = random_words((16, 16))
    blob = ct_slice(words)
    found = read_elements(blob, len(blob))
    assert found.pixels.length == 512
    assert blob[found.pixels.offset :][:512] == words.tobytes()
    assert found.pixels.available == 512
    # The first part of a file says as much, as long as it reaches the pixels.
    assert read_elements(blob[: found.pixels.offset + 8], len(blob)).pixels == found.pixels
    assert read_elements(blob[: found.pixels.offset - 20], len(blob)).pixels is None
