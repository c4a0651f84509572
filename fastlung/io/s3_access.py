"""
Getting into a bucket: session, credentials, region, retries, and what a refusal means.

boto3 owns sessions and credentials and lists; obstore moves bytes with an eighth of boto3's CPU
time. Neither retries here: obstore's retries hide an overload, boto3's do not cover the body, so
one loop of ours goes round request and whole body. Which objects there are is `store_s3`'s.
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import boto3
from botocore import UNSIGNED
from botocore.config import Config as BotoConfig
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
)
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.exceptions import BaseError
from obstore.store import S3Store as ByteMover

from fastlung.errors import AccessError, ConfigError, ObjectNotFoundError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastlung.config import StoreOptions

__all__ = ["Bucket", "Refusal", "TornError", "connect", "explain", "refusal_of", "retried"]

Result = TypeVar("Result")
Environment = tuple[tuple[str, str], ...]

TRIES = 6
#: Full jitter: a random part of this, doubled after each try, up to the longest; in seconds.
FIRST_WAIT_SECONDS = 0.2
LONGEST_WAIT_SECONDS = 10.0
CONNECT_SECONDS = 5
READ_SECONDS = 20
#: Statuses of answers that may be different next time, whatever their code.
PASSING_STATUSES = {408, 409, 429, 500, 502, 503, 504}
PASSING_CODES = {"RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable"}
REDIRECTS = {"PermanentRedirect", "IllegalLocationConstraintException",
             "AuthorizationHeaderMalformed", "301"}  # fmt: skip
#: Credentials that are there and that S3 does not know, or knows no more.
REFUSED_CREDENTIALS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken",
                       "InvalidToken", "TokenRefreshRequired"}  # fmt: skip
NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, SSOError)

_connecting = threading.Lock()


class TornError(Exception):
    """An answer that does not hold together: fewer bytes than promised, or a lost race."""


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bucket:
    """
    One bucket, ready to be asked.

    Attributes
    ----------
    client : botocore S3 client
        Lists, and reads keys that `mover` cannot name. Safe to use from several threads.
    mover : obstore S3Store
        Reads and writes objects.
    """

    client: Any
    mover: ByteMover


def connect(bucket: str, options: StoreOptions) -> Bucket:
    """
    Open a bucket in its own region; once per process, as sessions are slow and not thread-safe.

    Parameters
    ----------
    bucket : str
        Name of the bucket.
    options : StoreOptions
        Endpoint, credentials and region.

    Raises
    ------
    ConfigError
        For a profile that does not exist.
    AccessError
        If there are no credentials.
    StoreError
        If it cannot be reached, or lies in another region than the one asked for.
    """
    # Part of what is remembered: a notebook may choose other credentials before its next run.
    environment = tuple(item for item in os.environ.items() if item[0].startswith("AWS_"))
    with _connecting:
        return _connect(bucket, options, environment)


@lru_cache(maxsize=64)
def _connect(bucket: str, options: StoreOptions, environment: Environment) -> Bucket:
    session = _session(options.profile, options.region, environment)
    try:
        credentials = None if options.no_sign_request else session.get_credentials()
    except NO_CREDENTIALS as error:
        raise explain(error, f"s3://{bucket}", options) from error
    if credentials is None and not options.no_sign_request:
        raise explain(NoCredentialsError(), f"s3://{bucket}", options)
    region = session.region_name or "us-east-1"
    client = _client(session, region, options)
    found = retried(lambda: _region_of(client, bucket), f"s3://{bucket}", options)
    if found not in ("", region):
        if options.region:
            raise StoreError(
                f"s3://{bucket}: wrong region: the bucket is in {found}, and --region says "
                f"{options.region}; leave --region out, or give --region {found}"
            )
        region, client = found, _client(session, found, options)
    endpoint = client.meta.endpoint_url
    mover = ByteMover(
        bucket,
        endpoint=endpoint,
        region=region,
        skip_signature=options.no_sign_request,
        request_payer=options.request_payer is not None,
        credential_provider=None if credentials is None else _provider(session),
        retry_config={"max_retries": 0},
        client_options={
            "allow_http": endpoint.startswith("http://"),
            "connect_timeout": f"{CONNECT_SECONDS}s",
            "read_timeout": f"{READ_SECONDS}s",
            "timeout": "600s",
        },
    )
    return Bucket(client=client, mover=mover)


@lru_cache(maxsize=8)
def _session(
    profile: str | None,
    region: str | None,
    _environment: Environment,
) -> Any:
    """Session of one profile; making one reads megabytes of JSON and takes 0.2 s."""
    try:
        return boto3.session.Session(profile_name=profile, region_name=region)
    except ProfileNotFound:
        raise ConfigError(
            f"--profile {profile}: not in the AWS configuration; 'aws configure list-profiles' "
            "shows those that are"
        ) from None


def _provider(session: Any) -> Boto3CredentialProvider:
    # boto3 renews what has less than ten minutes left, so what it gives is good for as long.
    return Boto3CredentialProvider(session, ttl=timedelta(minutes=10))


def _client(session: Any, region: str, options: StoreOptions) -> Any:
    config = BotoConfig(
        signature_version=UNSIGNED if options.no_sign_request else "s3v4",
        retries={"total_max_attempts": 1},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        max_pool_connections=32,
    )
    return session.client(
        "s3", region_name=region, endpoint_url=options.endpoint_url, config=config
    )


def _region_of(client: Any, bucket: str) -> str:
    """Region that a bucket says it is in, allowed or not; empty where it says none."""
    try:
        answer = client.head_bucket(Bucket=bucket)
    except ClientError as error:
        if refusal_of(error).status in PASSING_STATUSES:
            raise
        # A refusal names the region too; what else it means, listing will say in words.
        answer = error.response
    region: str = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", "")
    return region


def retried(request: Callable[[], Result], where: str, options: StoreOptions) -> Result:
    """
    Do a request, its whole body included, until it succeeds or will not succeed.

    Parameters
    ----------
    request : callable
        Does all of it, from the start.
    where : str
        What it is about, for messages.
    options : StoreOptions
        For messages.

    Raises
    ------
    StoreError
        What `explain` makes of the last failure.
    """
    number = 0
    while True:
        try:
            return request()
        except FOREIGN as error:
            number += 1
            if number == TRIES or not _may_pass(error):
                raise explain(error, where, options, tries=number) from error
        longest = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (number - 1))
        time.sleep(random.uniform(0, longest))  # noqa: S311 - waiting, not hiding


def refusal_of(error: Exception) -> Refusal:
    """Take status and code out of an error, and nothing else: its text may quote a key."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return Refusal(status, str(error.response.get("Error", {}).get("Code", "")))
    text = str(error) if isinstance(error, (BaseError, FileNotFoundError)) else ""
    found = re.search(r"status code: (\d{3})", text)
    code = re.search(r"<Code>(\w{1,64})</Code>", text)
    return Refusal(int(found[1]) if found else 0, code[1] if code else "")


def _may_pass(error: Exception) -> bool:
    if isinstance(error, NO_CREDENTIALS):
        return False
    status, code = refusal_of(error)
    return status == 0 or status in PASSING_STATUSES or code in PASSING_CODES


def explain(error: Exception, where: str, options: StoreOptions, *, tries: int = 1) -> StoreError:
    """
    Say what a failed request means and what to do.

    Parameters
    ----------
    error : Exception
        What boto3 or obstore raised.
    where : str
        What the request was about.
    options : StoreOptions
        How it was made.
    tries : int
        How often.

    Returns
    -------
    StoreError
        To be raised; holds nothing of the error's own text but S3's code.
    """
    status, code = refusal_of(error)
    kind: type[StoreError] = AccessError
    if isinstance(error, NO_CREDENTIALS):
        text = (
            "no credentials found; run 'aws configure', set AWS_PROFILE or give --profile, or for "
            "a public bucket give --no-sign-request"
        )
    elif code in REFUSED_CREDENTIALS:
        text = (
            f"the credentials are refused ({code}); renew them ('aws sso login' or "
            "'aws configure'), or give another --profile"
        )
    elif code == "RequestTimeTooSkewed":
        text = "this machine's clock is wrong; set it, S3 forgives 15 minutes"
    elif status in (401, 403):
        who = "without credentials" if options.no_sign_request else "with these credentials"
        text = (
            f"access denied {who} ({code or status}); ask the bucket's owner for s3:ListBucket "
            "and s3:GetObject, and s3:PutObject and s3:DeleteObject for a sink"
        )
    elif code == "NoSuchBucket":
        kind, text = ObjectNotFoundError, "no such bucket; check its name and the endpoint"
    elif status == 404:  # noqa: PLR2004 - HTTP
        kind, text = ObjectNotFoundError, "no such object; was it removed meanwhile?"
    elif code in REDIRECTS or status in (301, 307):
        kind, text = StoreError, "wrong region; leave --region out, or give the bucket's own"
    else:
        cause = f"S3 answers {code or 'with status'} {status}" if status else _unanswered(error)
        kind, text = StoreError, f"{cause} ({tries} tries); check the network, then run again"
    return kind(f"{where}: {text}")


def _unanswered(error: Exception) -> str:
    if isinstance(error, TornError):
        return "the answer broke off"
    return f"no answer ({type(error).__name__})"
