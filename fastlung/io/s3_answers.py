"""What S3's refusals mean, and whether to ask again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

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

__all__ = [
    "EXPIRED",
    "FOREIGN",
    "NO_CREDENTIALS",
    "ErrorPageError",
    "Refusal",
    "Request",
    "TornError",
    "explain",
    "is_overload",
    "may_pass",
    "refusal_of",
    "retry_after_seconds",
]

#: Statuses of answers that may be different next time, whatever their code.
PASSING_STATUSES = {408, 409, 429, 500, 502, 503, 504}
PASSING_CODES = {"RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable"}
#: Answers of a store that wants to be asked less often.
OVERLOAD_STATUSES = {429, 503}
REDIRECTS = {"PermanentRedirect", "IllegalLocationConstraintException",
             "AuthorizationHeaderMalformed", "301"}  # fmt: skip
#: Credentials that were good, and may be so again once they are fetched anew.
EXPIRED = {"ExpiredToken", "TokenRefreshRequired", "InvalidToken"}
#: Credentials that are there and that S3 does not know, or knows no more.
REFUSED_CREDENTIALS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", *EXPIRED}
NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, SSOError)
#: What is asked for -> what did not happen then, and the permission that it takes.
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
    """Whether the store wants to be asked less often."""
    status, code = refusal_of(error)
    return status in OVERLOAD_STATUSES or code == "SlowDown"


def retry_after_seconds(error: Exception) -> float:
    """How long a refusal asks to be left alone, in seconds; 0 where it does not say."""
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
