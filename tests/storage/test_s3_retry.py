"""Requests are made again while that may help, and fewer at once while the store is overloaded."""

import threading

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from fastlung.errors import AccessError, StoreError
from fastlung.storage.s3 import retry
from fastlung.storage.s3.retry import Limiter, Request, RetryPolicy, TornError, retried

REQUEST = Request(action="read", where="object 1.dcm in s3://bucket", endpoint="http://here")


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self):
        self.now = 0.0
        self.slept = []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(retry, "time", clock)
    return clock


def refusal(status, code, **headers):
    answer = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": answer}, "GetObject")


def failing(errors, result="bytes"):
    left = list(errors)

    def ask():
        if left:
            raise left.pop(0)
        return result

    return ask


def test_a_brown_out_of_half_a_minute_is_outlasted(clock):
    def ask():
        if clock.now < 30:
            raise refusal(503, "SlowDown")
        return "bytes"

    passed = 0
    for _ in range(20):
        clock.now = 0.0
        passed += retried(ask, REQUEST, Limiter()) == "bytes"
    assert passed == 20


def test_waits_grow_are_random_and_have_a_longest(clock):
    policy = RetryPolicy(tries=12, deadline_seconds=1000.0)
    with pytest.raises(StoreError, match="12 tries"):
        retried(failing([TornError()] * 12), REQUEST, Limiter(), policy)
    longest = [min(10.0, 0.2 * 2**n) for n in range(11)]
    assert all(0 <= slept <= most for slept, most in zip(clock.slept, longest, strict=True))
    assert len(set(clock.slept)) == 11


def test_a_refusal_may_say_how_long_to_wait(clock):
    slow = refusal(503, "SlowDown", **{"retry-after": "7"})
    assert retried(failing([slow]), REQUEST, Limiter()) == "bytes"
    assert clock.slept == [7.0]


def test_nothing_is_begun_after_the_deadline(clock):
    policy = RetryPolicy(tries=100, deadline_seconds=40.0)
    with pytest.raises(StoreError, match=r"1\.dcm in s3://bucket cannot be read.* broke off"):
        retried(failing([TornError()] * 100), REQUEST, Limiter(), policy)
    assert clock.now <= 40.0


def test_what_cannot_pass_is_asked_once(clock):
    with pytest.raises(AccessError, match=r"access denied.*s3:GetObject"):
        retried(failing([refusal(403, "AccessDenied")] * 2), REQUEST, Limiter())
    with pytest.raises(StoreError, match=r"clock is wrong.*set the clock"):
        retried(failing([refusal(403, "RequestTimeTooSkewed")] * 2), REQUEST, Limiter())
    assert clock.slept == []


def test_an_overload_halves_what_is_under_way_and_counts_once():
    limiter = Limiter(most=64)
    turns = [limiter.begin() for _ in range(16)]
    for turn in turns:
        limiter.end(turn, overload=True)
    assert (limiter.allowed, limiter.throttled) == (8, 16)
    limiter.end(limiter.begin(), overload=True)
    assert limiter.allowed == 1  # only one was under way, and that was too much


def test_it_climbs_back_by_one_for_each_round_that_passes():
    limiter = Limiter(most=6)
    limiter.end(limiter.begin(), overload=True)
    allowed = []
    for _ in range(30):
        limiter.end(limiter.begin(), overload=False)
        allowed.append(limiter.allowed)
    assert allowed == [2] * 2 + [3] * 3 + [4] * 4 + [5] * 5 + [6] * 16


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 8))
def test_whatever_is_answered_some_may_go_on_and_never_more_than_at_most(answers, at_once):
    limiter = Limiter(most=8)
    for overload in answers:
        turns = [limiter.begin() for _ in range(min(at_once, limiter.allowed))]
        for turn in turns:
            limiter.end(turn, overload=overload)
        assert 1 <= limiter.allowed <= 8


def test_requests_beyond_what_is_allowed_wait_for_their_turn():
    limiter = Limiter(most=2)
    turns = [limiter.begin() for _ in range(2)]
    entered = threading.Event()

    def third():
        limiter.begin()
        entered.set()

    thread = threading.Thread(target=third, daemon=True)
    thread.start()
    assert not entered.wait(0.05)
    limiter.end(turns[0], overload=False)
    assert entered.wait(30)
    thread.join()


def test_all_requests_of_a_process_to_a_bucket_share_one_overload(clock):
    limiter = Limiter(most=32)
    turns = [limiter.begin() for _ in range(8)]

    def ask():
        if clock.slept:
            return "bytes"
        for turn in turns:
            limiter.end(turn, overload=True)
        raise refusal(503, "SlowDown")

    assert retried(ask, REQUEST, limiter) == "bytes"
    assert (limiter.allowed, limiter.throttled) == (4, 9)
