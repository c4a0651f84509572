"""Outcomes as aligned text and sentences."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlung.report import summary
from fastlung.scan import Flag, Grid, Outcome, Verdict
from fastlung.text import byte_size, duration

DONE = Outcome(
    name="patient-02",
    group="a1",
    status="done",
    verdict=Verdict(classes=("duplicate", "gap"), numbers={"gaps": 1.0}),
    acquired=Grid(shape=(60, 160, 160), spacing_mm=(4.0, 2.0, 1.6), origin_mm=(0, 0, 0)),
    grid=Grid(shape=(240, 320, 256), spacing_mm=(1.0, 1.0, 1.0), origin_mm=(0, 0, 0)),
    figures={"litres_right": 1.4987, "litres_left": 1.25},
    flags=(Flag(name="leak", value=0.2, text="The left lung leaks; look at it."),),
    seconds={"read": 0.25, "resample": 0.5},
)
FAILED = Outcome(
    name="patient-01",
    group="b2",
    status="failed",
    error="TruncatedError",
    message='expected 512 bytes, found "12", in slice 3',
)


def test_the_table_for_readers_shows_what_happened():
    header, _, first, second = summary.outcome_table([DONE, FAILED]).split("\n")
    assert first.split() == ["patient-01", "failed", "TruncatedError"]
    assert "4 2 1.6 -> 1 1 1" in second
    assert "1.50 + 1.25" in second
    assert second.index("4 2 1.6") == header.index("spacing")


def test_the_table_says_why_a_folder_was_skipped():
    skipped = Outcome(name="docs", group="c3", status="skipped", message="no CT series here")
    assert summary.outcome_table([skipped]).endswith("no CT series here")


@given(st.lists(st.tuples(*[st.text("abc1", max_size=9)] * 3), max_size=6))
def test_columns_of_text_stay_aligned(rows):
    lines = summary.text_table(("one", "two", "three"), rows).split("\n")
    assert len(lines) == len(rows) + 2
    start = lines[0].index("two")
    for line, (first, second, _) in zip(lines[2:], rows, strict=True):
        assert line[:start].strip() == first
        assert line[start:].startswith(second)


def test_long_names_keep_their_ends():
    uid = "1.3.6.1.4.1.14519.5.2.1.6279.6001.100225287222365663678666836860"
    short = summary.shorten(uid)
    assert len(short) == summary.NAME_WIDTH
    assert short.startswith("1.3.6.1.4.")
    assert short.endswith("78666836860")
    assert summary.shorten("patient-01") == "patient-01"


def test_a_run_is_counted_and_timed():
    sentences = summary.run_sentences(
        [DONE, FAILED], [DONE], seconds=4.0, limited_by="Limited by CPUs.", sink="out"
    )
    assert sentences == [
        "1 scan done, 1 failed, 0 skipped, 1 already there.",
        "It took 4.0 s, 4.00 s a scan.",
        "Limited by CPUs.",
    ]


def test_nothing_to_do_is_said_with_what_failed_before():
    sentences = summary.run_sentences(
        [], [DONE, FAILED], seconds=0.1, limited_by="", sink="volumes"
    )
    assert sentences[0] == "Nothing to do: all 2 scans are already in volumes."
    assert "--retry-failed" in sentences[1]


def test_failures_say_who_why_and_what_to_do():
    lines = summary.failure_lines([DONE, FAILED])
    assert lines[0] == "1 scan failed:"
    assert lines[1] == f"  patient-01: TruncatedError: {FAILED.message}"
    assert "--retry-failed" in lines[-1]
    assert summary.failure_lines([DONE]) == []


def test_passing_failures_ask_for_another_run():
    passing = Outcome(
        name="a", group="g", status="failed", error="StoreError", message="x", transient=True
    )
    lines = summary.failure_lines([passing])
    assert "same command again" in lines[-1]
    assert not any("--retry-failed" in line for line in lines)


def test_long_lists_are_cut_and_say_so():
    many = [Outcome(name=f"s{n:03}", group="g", status="failed") for n in range(50)]
    lines = summary.failure_lines(many)
    assert "  and 30 more; every scan is in the records of the sink." in lines
    assert sum(line.startswith("  s") for line in lines) == summary.LISTED


def test_flags_are_said_in_their_own_words():
    assert summary.flag_lines([DONE, FAILED]) == [
        "1 scan to look at twice:",
        "  patient-02: The left lung leaks; look at it.",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.4, "59.4 s"), (59.6, "1 min 00 s"), (192, "3 min 12 s"),
     (7500, "2 h 05 min"), (3599.7, "1 h 00 min")],
)  # fmt: skip
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (999, "999 B"), (66_300_000, "66.3 MB"), (1.2e9, "1.2 GB"), (5e15, "5000.0 TB")],
)
def test_sizes(number, text):
    assert byte_size(number) == text
