"""
Getting into a bucket: session, credentials, region, and credentials that expire meanwhile.

boto3 owns sessions and credentials and lists; obstore moves bytes with an eighth of boto3's CPU
time. Which objects there are is `store_s3`'s.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
from botocore import UNSIGNED
from botocore.config import Config as BotoConfig
from botocore.exceptions import ClientError, NoCredentialsError, ProfileNotFound
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.store import S3Store as ByteMover

from fastlung.errors import AccessError, ConfigError, StoreError
from fastlung.storage.s3.listing import parse_page
from fastlung.storage.s3.retry import (
    AT_START,
    EXPIRED,
    IN_A_RUN,
    NO_CREDENTIALS,
    Limiter,
    Request,
    RetryPolicy,
    explain,
    may_pass,
    refusal_of,
    retried,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastlung.config import StoreOptions

__all__ = ["Bucket", "ask", "connect", "endpoint_of", "limiter_of"]

Result = TypeVar("Result")
Environment = tuple[tuple[str, str], ...]

CONNECT_SECONDS = 5
#: Without one byte for so long a request counts as broken, in seconds.
READ_SECONDS = 20
#: However slowly the bytes come, a request ends after this. Slices have a shorter time, 70 kB/s at
#: least, so that an answer that trickles holds no worker; an archive may take its ten minutes.
SMALL_BYTES, SMALL_SECONDS = 2**22, 60
WHOLE_SECONDS = 600
#: Credentials younger than this are not fetched again because S3 calls them expired, in seconds.
YOUNG_SECONDS = 30.0

_connecting = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bucket:
    """
    One bucket, ready to be asked.

    Attributes
    ----------
    client : botocore S3 client
        Lists, and reads keys that `mover` cannot name. Safe to use from several threads.
    small_mover, large_mover : obstore S3Store
        Read and write objects; the first one gives up sooner.
    since : float
        When its credentials were looked up, on the monotonic clock.
    """

    client: Any
    small_mover: ByteMover
    large_mover: ByteMover
    since: float = field(default_factory=time.monotonic)

    def mover(self, size_bytes: int | None) -> ByteMover:
        """For an object of so many bytes; None where that is not known."""
        is_small = size_bytes is not None and size_bytes <= SMALL_BYTES
        return self.small_mover if is_small else self.large_mover


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
    with _connecting:
        return _connect(bucket, options, _environment())


def ask(
    bucket: str,
    options: StoreOptions,
    do: Callable[[Bucket], Result],
    *,
    action: str,
    where: str = "",
    policy: RetryPolicy = IN_A_RUN,
) -> Result:
    """
    Ask something of a bucket; again where that may help, and once with credentials looked up anew.

    Parameters
    ----------
    bucket : str
        Name of the bucket.
    options : StoreOptions
        How to reach it.
    do : callable
        Makes the request, its whole body included, from the start.
    action, where : str
        What it is about, as in `Request`; by default the bucket.
    policy : RetryPolicy
        When to give up.

    Raises
    ------
    ConfigError, StoreError
        As `connect` does, and what `explain` makes of the last failure.
    """
    request = _request(options, action, where or f"s3://{bucket}")
    at = connect(bucket, options)
    limiter = limiter_of(bucket, request.endpoint)
    try:
        return retried(lambda: do(at), request, limiter, policy)
    except AccessError as error:
        if refusal_of(error.__cause__).code not in EXPIRED or not _forgotten(bucket, options, at):
            raise
    renewed = connect(bucket, options)
    return retried(lambda: do(renewed), request, limiter, policy)


@lru_cache(maxsize=256)
def limiter_of(bucket: str, endpoint: str) -> Limiter:  # noqa: ARG001 - they are the cache's key
    """Limiter of all requests of this process to one bucket, whatever the credentials."""
    return Limiter()


def _forgotten(bucket: str, options: StoreOptions, at: Bucket) -> bool:
    """
    Forget expired credentials, so that `connect` looks for new ones; False if it just did.

    A session keeps what it read from a file or was given by a role, so that it has to go, too.
    """
    with _connecting:
        if _connect(bucket, options, _environment()) is not at:
            return True  # another thread was first
        if time.monotonic() - at.since < YOUNG_SECONDS:
            return False
        _connect.cache_clear()
        _session.cache_clear()
        return True


def _environment() -> Environment:
    return tuple(item for item in os.environ.items() if item[0].startswith("AWS_"))


def endpoint_of(options: StoreOptions) -> str:
    """Whom requests go to, for messages."""
    named = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    found = options.endpoint_url or next(filter(None, map(os.environ.get, named)), "Amazon S3")
    return found.rpartition("@")[2]  # a URL may hold a password


def _request(options: StoreOptions, action: str, where: str) -> Request:
    return Request(
        action=action,
        where=where,
        endpoint=endpoint_of(options),
        anonymous=options.no_sign_request,
    )


@lru_cache(maxsize=64)
def _connect(bucket: str, options: StoreOptions, environment: Environment) -> Bucket:
    request = _request(options, "connect", f"s3://{bucket}")
    session = _session(options.profile, options.region, environment)
    try:
        credentials = None if options.no_sign_request else session.get_credentials()
    except NO_CREDENTIALS as error:
        raise explain(error, request) from error
    if credentials is None and not options.no_sign_request:
        raise explain(NoCredentialsError(), request)
    region = session.region_name or "us-east-1"
    client = _client(session, region, options)
    limiter = limiter_of(bucket, request.endpoint)
    found = retried(lambda: _region_of(client, bucket), request, limiter, AT_START)
    if found not in ("", region):
        if options.region:
            raise StoreError(
                f"s3://{bucket}: wrong region: the bucket is in {found}, and --region says "
                f"{options.region}; leave --region out, or give --region {found}"
            )
        region, client = found, _client(session, found, options)
    provider = None if credentials is None else _provider(session)

    def mover(seconds: int) -> ByteMover:
        endpoint = client.meta.endpoint_url
        return ByteMover(
            bucket,
            endpoint=endpoint,
            region=region,
            skip_signature=options.no_sign_request,
            request_payer=options.request_payer is not None,
            credential_provider=provider,
            retry_config={"max_retries": 0},
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "connect_timeout": f"{CONNECT_SECONDS}s",
                "read_timeout": f"{READ_SECONDS}s",
                "timeout": f"{seconds}s",
            },
        )

    return Bucket(client=client, small_mover=mover(SMALL_SECONDS), large_mover=mover(WHOLE_SECONDS))


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
    try:
        client = session.client(
            "s3", region_name=region, endpoint_url=options.endpoint_url, config=config
        )
    except ValueError as error:  # the option was checked; the environment was not
        raise ConfigError(
            f"AWS_ENDPOINT_URL: {endpoint_of(options)}: no URL; expected http:// or https:// and a "
            "host"
        ) from error
    client.meta.events.register("before-parse.s3.ListObjectsV2", _read_page)
    return client


def _read_page(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object
) -> None:
    parse_page(response_dict, customized_response_dict)


def _region_of(client: Any, bucket: str) -> str:
    """Region that a bucket says it is in, allowed or not; empty where it says none."""
    try:
        answer = client.head_bucket(Bucket=bucket)
    except ClientError as error:
        if may_pass(error):
            raise
        # A refusal names the region too; what else it means, listing will say in words.
        answer = error.response
    region: str = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", "")
    return region
