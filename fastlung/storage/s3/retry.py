"""Retries of S3: what a refusal means, the backoff, and how many requests at a time."""

from __future__ import annotations

import random
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
)
from obstore.exceptions import BaseError

from fastlung.errors import (
    AccessError,
    CredentialsError,
    ObjectNotFoundError,
    StoreError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "AT_START",
    "EXPIRED",
    "FOREIGN",
    "IN_A_RUN",
    "NO_CREDENTIALS",
    "ErrorPageError",
    "Limiter",
    "Refusal",
    "Request",
    "RetryPolicy",
    "TornError",
    "explain",
    "is_overload",
    "may_pass",
    "refusal_of",
    "retried",
    "retry_after_seconds",
]


#: Statuses of answers that may be different next time, whatever their code.
PASSING_STATUSES = {408, 409, 429, 500, 502, 503, 504}

PASSING_CODES = {"RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable"}

#: Answers of a store that throttles.
OVERLOAD_STATUSES = {429, 503}

REDIRECTS = {"PermanentRedirect", "IllegalLocationConstraintException",
             "AuthorizationHeaderMalformed", "301"}  # fmt: skip

#: Credentials that were good, and may be so again once they are fetched anew.
EXPIRED = {"ExpiredToken", "TokenRefreshRequired", "InvalidToken"}

#: Credentials that are there and that S3 does not know, or knows no more.
REFUSED_CREDENTIALS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", *EXPIRED}

NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, SSOError)

#: Request -> what did not happen then, and the permission that it takes.
ACTIONS = {
    "connect": ("cannot be reached", "s3:ListBucket"),
    "list": ("cannot be listed", "s3:ListBucket"),
    "read": ("cannot be read", "s3:GetObject"),
    "write": ("cannot be written", "s3:PutObject"),
    "remove": ("cannot be removed", "s3:DeleteObject"),
}


class TornError(Exception):
    """An answer that does not hold together: fewer bytes than promised, or a lost race."""


class ErrorPageError(TornError):
    """A page of somebody's apologies where an object was asked for, as long as that is."""


#: What a request may raise.
FOREIGN = (BotoCoreError, ClientError, BaseError, OSError, TornError)


class Refusal(NamedTuple):
    """
    What S3 answered.

    Attributes
    ----------
    status : int
        HTTP status; 0 where there was no answer.
    code : str
        S3's word for it, such as ``NoSuchBucket``; empty where there was none.
    """

    status: int
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """
    What is asked of S3, for messages.

    Attributes
    ----------
    action : str
        ``connect``, ``list``, ``read``, ``write`` or ``remove``.
    where : str
        Bucket, and prefix or key.
    endpoint : str
        Whom it is asked of.
    anonymous : bool
        Whether no credentials are sent.
    """

    action: str
    where: str
    endpoint: str
    anonymous: bool = False


def refusal_of(error: BaseException | None) -> Refusal:
    """Take status and code out of an error, and nothing else: its text may quote a key."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return Refusal(status, str(error.response.get("Error", {}).get("Code", "")))
    text = str(error) if isinstance(error, (BaseError, FileNotFoundError)) else ""
    found = re.search(r"status code: (\d{3})", text)
    code = re.search(r"<Code>(\w{1,64})</Code>", text)
    return Refusal(int(found[1]) if found else 0, code[1] if code else "")


def may_pass(error: Exception) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, NO_CREDENTIALS):
        return False
    status, code = refusal_of(error)
    return status == 0 or status in PASSING_STATUSES or code in PASSING_CODES


def is_overload(error: Exception) -> bool:
    """Whether the store throttles."""
    status, code = refusal_of(error)
    return status in OVERLOAD_STATUSES or code == "SlowDown"


def retry_after_seconds(error: Exception) -> float:
    """Retry-After of a refusal, in seconds; 0 where it does not say."""
    if not isinstance(error, ClientError):
        return 0.0  # obstore keeps no headers of a refusal
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    asked = str(headers.get("retry-after", ""))
    return float(asked) if asked.isdecimal() else 0.0


def explain(error: Exception, request: Request, *, tries: int = 1) -> StoreError:
    """
    Say what a failed request means and what to do.

    Parameters
    ----------
    error : Exception
        What boto3 or obstore raised.
    request : Request
        What was asked for.
    tries : int
        How often.

    Returns
    -------
    StoreError
        To be raised; holds nothing of the error's own text but S3's code.
    """
    status, code = refusal_of(error)
    not_done, permission = ACTIONS[request.action]
    kind: type[StoreError] = AccessError
    if isinstance(error, NO_CREDENTIALS):
        kind = CredentialsError
        text = (
            "no credentials found; run 'aws configure', set AWS_PROFILE or give --profile, or for "
            "a public bucket give --no-sign-request"
        )
    elif code in REFUSED_CREDENTIALS:
        kind = CredentialsError
        text = (
            f"the credentials are refused ({code}); renew them ('aws sso login' or "
            "'aws configure'), or give another --profile"
        )
    elif code == "RequestTimeTooSkewed":
        kind = CredentialsError
        text = (
            "this machine's clock is wrong, and S3 forgives 15 minutes; set the clock "
            "('timedatectl set-ntp true'), then run again"
        )
    elif status in (401, 403):
        who = "without credentials" if request.anonymous else "with these credentials"
        text = (
            f"access denied {who} ({code or status}); ask the bucket's owner for {permission}, or "
            "give another --profile"
        )
    elif code == "NoSuchBucket":
        kind = ObjectNotFoundError
        text = f"no such bucket at {request.endpoint}; check its name and the endpoint"
    elif status == 404:  # noqa: PLR2004 - HTTP
        kind, text = ObjectNotFoundError, "no such object; was it removed meanwhile?"
    elif code in REDIRECTS or status in (301, 307):
        kind, text = StoreError, "wrong region; leave --region out, or give the bucket's own"
    else:
        kind, text = StoreError, f"{_cause(error, request)} ({tries} tries)"
        text += (
            "; check the network, then run again"
            if status
            else ("; check the endpoint and the network, then run again")
        )
    return kind(f"{request.where} {not_done}: {text}")


def _cause(error: Exception, request: Request) -> str:
    status, code = refusal_of(error)
    if status:
        return f"{request.endpoint} answers {code or 'with status'} {status}"
    if isinstance(error, ErrorPageError):
        return f"{request.endpoint}, or a proxy before it, sends an error page for the object"
    if isinstance(error, TornError):
        return f"the answer of {request.endpoint} broke off"
    return f"no answer from {request.endpoint} ({type(error).__name__})"


Result = TypeVar("Result")

#: Full jitter: a random part of this, doubled after each try, up to the longest; in seconds.
FIRST_WAIT_SECONDS = 0.2

LONGEST_WAIT_SECONDS = 10.0

#: Requests to one bucket that a process may have under way while it is not throttled.
MOST_REQUESTS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """
    When to give a request up.

    Attributes
    ----------
    tries : int
        How often it is made.
    deadline_seconds : float
        No further try begins so long after the first, in seconds.
    """

    tries: int
    deadline_seconds: float


#: Where a typing error in an endpoint should be reported at once.
AT_START = RetryPolicy(tries=4, deadline_seconds=20.0)

#: Twenty tries wait 70 s on average: a store that is away for half a minute costs no scan.
IN_A_RUN = RetryPolicy(tries=20, deadline_seconds=120.0)


class Limiter:
    """
    How many requests a process may have under way, as the store's answers allow.

    Halved when the store says that it is overloaded, and raised by one whenever as many requests
    as are allowed have passed since: the rule by which TCP shares a line. One overload is answered
    by many requests at once, so that those begun before a cut do not cut again.

    Parameters
    ----------
    most : int
        At first, and at most.
    """

    def __init__(self, most: int = MOST_REQUESTS) -> None:
        self._most = self._allowed = most
        self._under_way = self._passed = self._cuts = self._throttled = 0
        self._changed = threading.Condition()

    @property
    def allowed(self) -> int:
        """Requests that may be under way now."""
        return self._allowed

    @property
    def throttled(self) -> int:
        """Requests that were refused because of overload, so far."""
        return self._throttled

    def begin(self) -> int:
        """Wait for a turn; what it gives goes to `end`."""
        with self._changed:
            while self._under_way >= self._allowed:
                self._changed.wait()
            self._under_way += 1
            return self._cuts

    def end(self, turn: int, *, overload: bool) -> None:
        """
        Give a turn back.

        Parameters
        ----------
        turn : int
            From `begin`.
        overload : bool
            Whether the store refused because of overload.
        """
        with self._changed:
            if not overload:
                self._passed += 1
                if self._passed >= self._allowed and self._allowed < self._most:
                    self._allowed, self._passed = self._allowed + 1, 0
            else:
                self._throttled += 1
                if turn == self._cuts:
                    self._allowed = max(1, min(self._allowed, self._under_way) // 2)
                    self._cuts, self._passed = self._cuts + 1, 0
            self._under_way -= 1
            self._changed.notify_all()


def retried(
    ask: Callable[[], Result],
    request: Request,
    limiter: Limiter,
    policy: RetryPolicy = IN_A_RUN,
) -> Result:
    """
    Make a request, its whole body included, until it succeeds or will not succeed.

    Parameters
    ----------
    ask : callable
        Does all of it, from the start.
    request : Request
        What it is about, for messages.
    limiter : Limiter
        Gives each try its turn.
    policy : RetryPolicy
        When to give up.

    Raises
    ------
    StoreError
        What `explain` makes of the last failure.
    """
    number, until = 0, None
    while True:
        turn = limiter.begin()
        overload = False
        if until is None:  # waiting for the first turn is no fault of this request
            until = time.monotonic() + policy.deadline_seconds
        try:
            return ask()
        except FOREIGN as error:
            overload = is_overload(error)
            number += 1
            longest = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (number - 1))
            jitter = random.uniform(0, longest)  # noqa: S311 - waiting, not hiding
            seconds = max(retry_after_seconds(error), jitter)
            too_late = time.monotonic() + seconds > until
            if number == policy.tries or too_late or not may_pass(error):
                raise explain(error, request, tries=number) from error
        finally:
            limiter.end(turn, overload=overload)
        time.sleep(seconds)
