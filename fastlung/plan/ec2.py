"""
The metadata service of an EC2 instance, where we run on one.

Version 2, with short timeouts. Nothing here is ever required; elsewhere no request is made.
"""

from __future__ import annotations

import os
import re
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["instance_type", "is_amazon", "metadata"]


#: Seconds until a request counts as unanswered. The service is on the same host: it answers in
#: a few milliseconds or, from a container that it does not let through, never.
TIMEOUT_SECONDS = 0.2

ENDPOINT = "http://169.254.169.254"

#: What AWS SDKs read, too.
ENDPOINT_VARIABLE = "AWS_EC2_METADATA_SERVICE_ENDPOINT"

DISABLED_VARIABLE = "AWS_EC2_METADATA_DISABLED"

#: How long a token is good for: two requests, in seconds.
TOKEN_SECONDS = "60"  # noqa: S105 (a duration)

#: No answer that is wanted here is longer, in bytes.
LONGEST_ANSWER = 1024

TYPE = re.compile(r"[a-z0-9][a-z0-9-]{0,20}\.[a-z0-9-]{1,20}")


def is_amazon(root: Path = Path("/")) -> bool:
    """
    Whether the firmware says that this is a machine of Amazon's.

    Parameters
    ----------
    root : Path
        Where ``sys`` is; another folder in tests.
    """
    said = ""
    for name in ("sys_vendor", "board_vendor", "bios_vendor", "bios_version", "product_version"):
        try:
            said += (root / "sys/class/dmi/id" / name).read_text("ascii", errors="replace")
        except OSError:
            continue  # no such field, or no such firmware
    return "amazon" in said.lower()


def instance_type(
    root: Path = Path("/"), environment: Mapping[str, str] = os.environ
) -> str | None:
    """
    Read which type of instance this is, if it is one.

    Parameters
    ----------
    root : Path
        Where ``sys`` is.
    environment : mapping
        Names the endpoint where it is not the usual one, or forbids to ask.

    Returns
    -------
    str or None
        Such as ``c7i.4xlarge``; None elsewhere, or without an answer.
    """
    if not is_amazon(root):
        return None
    answer = metadata("instance-type", environment) or ""
    return answer if TYPE.fullmatch(answer) else None


def metadata(item: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """
    Read one item of the metadata service.

    Parameters
    ----------
    item : str
        Path below ``latest/meta-data/``.
    environment : mapping
        Names the endpoint where it is not the usual one, or forbids to ask.

    Returns
    -------
    str or None
        The answer; None if there is none, for whatever reason.
    """
    if environment.get(DISABLED_VARIABLE, "").lower() == "true":
        return None
    endpoint = (environment.get(ENDPOINT_VARIABLE) or ENDPOINT).rstrip("/")
    if not endpoint.startswith(("http://", "https://")):
        return None
    try:
        token = _send(
            Request(  # noqa: S310 - the scheme is checked above
                f"{endpoint}/latest/api/token",
                method="PUT",
                headers={"X-aws-ec2-metadata-token-ttl-seconds": TOKEN_SECONDS},
            )
        )
        return _send(
            Request(  # noqa: S310
                f"{endpoint}/latest/meta-data/{item}",
                headers={"X-aws-ec2-metadata-token": token},
            )
        )
    except HTTPError as error:
        error.close()
        return None
    except (OSError, HTTPException, ValueError):
        return None


def _send(request: Request) -> str:
    # Never through a proxy: it would answer for its own host, if at all.
    opener = build_opener(ProxyHandler({}))
    with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
        return str(answer.read(LONGEST_ANSWER).decode("ascii"))
