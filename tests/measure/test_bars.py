"""Bars as SVG: sound XML, lengths to scale, nothing of a name taken for markup."""

import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from fastlung.measure.report import Bar, Panel, draw_bars

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*bars):
    text = draw_bars("title", "subtitle", [Panel(title="panel", bars=bars)])
    return ET.fromstring(text)  # noqa: S314 - our own


def rectangles(root):
    """Width of each bar part by the words it shows."""
    return {
        rect.find(f"{SVG}title").text: float(rect.get("width"))
        for rect in root.iter(f"{SVG}rect")
        if rect.find(f"{SVG}title") is not None
    }


def test_lengths_are_to_scale():
    widths = rectangles(drawn(Bar(label="a", parts={"x": 1.0, "y": 3.0})))
    assert abs(widths["y: 3"] - 3 * widths["x: 1"]) < 0.3


def test_a_legend_names_the_parts_where_there_are_several():
    words = [text.text for text in drawn(Bar(label="a", parts={"x": 1, "y": 2})).iter(f"{SVG}text")]
    assert {"x", "y"} <= set(words)
    words = [text.text for text in drawn(Bar(label="a", parts={"x": 1})).iter(f"{SVG}text")]
    assert "x" not in words


def test_names_are_words_never_markup():
    root = drawn(Bar(label='<b>&"', parts={"<script>": 1.0}, note="a < b"))
    assert not list(root.iter("script"))
    assert "<script>: 1" in rectangles(root)


def test_a_hollow_bar_is_an_outline():
    root = drawn(Bar(label="a", parts={"x": 1.0}, hollow=True))
    (bar,) = [rect for rect in root.iter(f"{SVG}rect") if rect.get("stroke-dasharray")]
    assert bar.get("fill") == "white"


@given(
    st.lists(
        st.tuples(st.floats(0, 1e9), st.floats(0, 1e9), st.text(max_size=40)), min_size=1,
        max_size=8,
    )
)  # fmt: skip
def test_whatever_is_drawn_stays_within_the_picture(rows):
    bars = [
        # XML has no control characters; names of ours have none either.
        Bar(label="".join(filter(str.isprintable, label)), parts={"x": a}, low=a / 2, high=a + b)
        for a, b, label in rows
    ]
    root = drawn(*bars)
    width = float(root.get("width"))
    for rect in root.iter(f"{SVG}rect"):
        right = float(rect.get("x", 0)) + float(rect.get("width"))
        assert right <= width + 0.1
