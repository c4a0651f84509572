"""A record names the revisions that had a hand in it, and no others."""

import json

import pytest

from fastlung import revisions
from fastlung.config import Config
from fastlung.revisions import differing, revisions_of
from fastlung.scan import Flag, Outcome
from fastlung.sink.records import Record, load_record, to_json

DONE = Outcome(name="1.2", group="g", status="done")
REPLACED = Outcome(
    name="1.2", group="g", status="done", flags=(Flag(name="mask_replaced", value=0.0, text=""),)
)
FAILED = Outcome(name="1.2", group="g", status="failed")
SKIPPED = Outcome(name="1.2", group="g", status="skipped")


@pytest.mark.parametrize(
    ("outcomes", "mask", "mask_on", "parts"),
    [
        ([DONE], "default", "flagged", {"grouping", "pixels", "mask"}),
        ([DONE], "none", "flagged", {"grouping", "pixels"}),
        ([DONE], "tutorial", "flagged", {"grouping", "pixels"}),
        ([DONE], "grt123", "all", {"grouping", "pixels"}),
        # Our flags decided that the segmenter was asked; asked about all, they decide nothing.
        ([REPLACED], "default", "flagged", {"grouping", "pixels", "mask"}),
        ([REPLACED], "default", "all", {"grouping", "pixels"}),
        ([REPLACED, DONE], "default", "all", {"grouping", "pixels", "mask"}),
        ([FAILED], "default", "flagged", {"grouping", "pixels"}),
        ([SKIPPED], "default", "flagged", {"grouping"}),
        ([FAILED, DONE, SKIPPED], "default", "flagged", {"grouping", "pixels", "mask"}),
    ],
)
def test_only_what_had_a_hand_in_it_is_named(outcomes, mask, mask_on, parts):
    assert set(revisions_of(outcomes, mask=mask, mask_on=mask_on)) == parts


def test_a_raised_number_reaches_the_records_it_concerns(monkeypatch):
    monkeypatch.setattr(revisions, "MASK", 3)
    assert revisions_of([DONE], mask="default", mask_on="flagged")["mask"] == 3
    assert "mask" not in revisions_of([DONE], mask="tutorial", mask_on="flagged")


def test_what_a_record_lacks_counts_as_nought():
    assert differing({}, {"grouping": 0, "pixels": 0}) == {}
    assert differing({}, {"grouping": 1, "pixels": 0}) == {"grouping": (0, 1)}
    assert differing({"mask": 2}, {"mask": 1}) == {"mask": (2, 1)}
    assert differing({"grouping": 1, "mask": 0}, {"grouping": 1}) == {}


def test_records_carry_revisions_and_those_of_0_1_0_have_none():
    record = Record(
        group="g", label="a", objects_digest="o", config_digest="c", outcomes=(DONE,),
        revisions={"grouping": 2, "pixels": 0},
    )  # fmt: skip
    assert load_record(to_json(record)) == record
    plain = json.loads(to_json(record))
    del plain["revisions"]
    assert load_record(json.dumps(plain).encode()).revisions == {}


def test_a_field_that_came_later_leaves_digests_as_they_were_until_it_is_used():
    class Later(Config):
        on_something: str = "as ever"

    assert Later().digest == Config().digest
    assert Later(on_something="otherwise").digest != Config().digest
    assert Later(order=1).digest == Config(order=1).digest != Config().digest


@pytest.mark.parametrize("wrong", [None, 3, [1], {"mask": None}, {"mask": "new"}, {"mask": [1]}])
def test_revisions_that_are_no_numbers_make_a_damaged_record(wrong):
    plain = json.loads(
        to_json(Record(group="g", label="", objects_digest="", config_digest="", outcomes=()))
    )
    with pytest.raises(ValueError, match="revisions: "):
        load_record(json.dumps({**plain, "revisions": wrong}).encode())
