"""
Fetch the catalogue of instances anew from AWS: what there is, and what it costs today.

Covers two requests to AWS, DescribeInstanceTypes and the Price List. Without credentials the
shipped catalogue stays in force, and the message says so.
"""

from __future__ import annotations

import json
import os
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config as ClientConfig
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
)

from fastlung.errors import AccessError, ConfigError, StoreError
from fastlung.plan.catalogue import cached_catalogue, read_catalogue
from fastlung.plan.catalogue_file import FORMAT, VERSION, CatalogueFile, parse_document

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["DEFAULT_REGION", "fetch_catalogue", "refresh"]

DEFAULT_REGION = "us-east-1"
#: The Price List answers in few regions, for all of them.
PRICE_LIST_REGION = "us-east-1"
MIB_PER_GIB = 1024
NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, SSOError)
SHIPPED = "the shipped catalogue stays in force"
SIZE_FIGURES = ("vcpu", "cores", "memory_gib", "baseline_gbps", "burst_gbps")


def refresh(region: str | None = None, profile: str | None = None) -> Path:
    """
    Fetch the catalogue and keep it for this user.

    Parameters
    ----------
    region : str, optional
        Where prices are to hold; by default the region of the AWS configuration, or us-east-1.
    profile : str, optional
        Profile of the AWS configuration.

    Returns
    -------
    Path
        Where it was written.

    Raises
    ------
    AccessError
        Without credentials, or if they do not allow both requests.
    StoreError
        If AWS does not answer.
    ConfigError
        For a profile that does not exist, or a folder that cannot be written.
    """
    try:
        session = boto3.session.Session(profile_name=profile)
    except ProfileNotFound:
        raise ConfigError(f"--profile {profile}: not in the AWS configuration") from None
    where = region or session.region_name or DEFAULT_REGION
    retries = ClientConfig(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 3})
    ec2 = session.client("ec2", region_name=where, config=retries)
    pricing = session.client("pricing", region_name=PRICE_LIST_REGION, config=retries)
    text = fetch_catalogue(ec2, pricing, where)
    path = cached_catalogue()
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, "utf-8")
        beside.replace(path)
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise ConfigError(f"{path}: cannot be written ({why}); set XDG_CACHE_HOME") from None
    finally:
        beside.unlink(missing_ok=True)
    return path


def fetch_catalogue(ec2: Any, pricing: Any, region: str) -> str:
    """
    Ask AWS for every instance type of the families in the catalogue.

    Parameters
    ----------
    ec2, pricing : botocore clients
        Of EC2 in `region`, and of the Price List.
    region : str
        Where prices are to hold.

    Returns
    -------
    str
        A catalogue as JSON, checked.

    Raises
    ------
    AccessError, StoreError
        As `refresh` does.
    """
    families = sorted({instance.family for instance in read_catalogue().instances.values()})
    try:
        types = list(_types(ec2, families))
        prices = dict(_prices(pricing, region, families))
    except NO_CREDENTIALS:
        raise AccessError(
            "--refresh: no AWS credentials found; run 'aws configure', or give --profile; "
            f"{SHIPPED}"
        ) from None
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "refused"))[:64]
        raise AccessError(
            f"--refresh: AWS refuses ({code}); the credentials need ec2:DescribeInstanceTypes and "
            f"pricing:GetProducts; {SHIPPED}"
        ) from None
    except BotoCoreError as error:
        raise StoreError(
            f"--refresh: AWS does not answer ({type(error).__name__}); check the network; {SHIPPED}"
        ) from None
    if not types:
        raise StoreError(f"--refresh: AWS names no such instances in {region}; {SHIPPED}")
    text = json.dumps(_document(types, prices, region), indent=1)
    parse_document(text, "what AWS answered", CatalogueFile, form=FORMAT, version=VERSION)
    return text


def _types(ec2: Any, families: Iterable[str]) -> Iterable[dict[str, Any]]:
    wanted = [{"Name": "instance-type", "Values": [f"{family}.*" for family in families]}]
    for page in ec2.get_paginator("describe_instance_types").paginate(Filters=wanted):
        yield from page["InstanceTypes"]


def _prices(pricing: Any, region: str, families: Iterable[str]) -> Iterable[tuple[str, float]]:
    """On-demand Linux prices of a region, by type."""
    fields = {
        "regionCode": region,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
        "marketoption": "OnDemand",
    }
    filters = [
        {"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in fields.items()
    ]
    wanted = set(families)
    pages = pricing.get_paginator("get_products").paginate(ServiceCode="AmazonEC2", Filters=filters)
    for page in pages:
        for product in map(json.loads, page["PriceList"]):
            name = product["product"]["attributes"].get("instanceType", "")
            if name.partition(".")[0] not in wanted:
                continue
            for term in product["terms"].get("OnDemand", {}).values():
                for dimension in term["priceDimensions"].values():
                    usd = float(dimension["pricePerUnit"].get("USD", 0))
                    if usd > 0:
                        yield name, usd


def _document(
    types: Iterable[Mapping[str, Any]], prices: Mapping[str, float], region: str
) -> dict[str, Any]:
    today = datetime.now(UTC).date().isoformat()
    shipped = read_catalogue()
    storage = shipped.storage
    families: dict[str, dict[str, Any]] = {}
    for described in types:
        family, _, size = described["InstanceType"].partition(".")
        if size.startswith("metal"):
            continue
        architectures = described["ProcessorInfo"]["SupportedArchitectures"]
        entry = families.setdefault(
            family,
            {
                "architecture": "arm64" if "arm64" in architectures else "x86_64",
                "cpu_model": None,
                "sources": dict.fromkeys((*SIZE_FIGURES, "architecture"), "describe"),
                "sizes": {},
            },
        )
        entry["sources"]["usd_per_hour"] = "price-list"
        entry["sizes"][size] = _figures(described, prices.get(described["InstanceType"]))
    return {
        "format": FORMAT,
        "version": VERSION,
        "date": today,
        "region": region,
        "sources": {
            "describe": {
                "address": f"https://ec2.{region}.amazonaws.com",
                "date": today,
                "says": "DescribeInstanceTypes",
            },
            "price-list": {
                "address": f"https://api.pricing.{PRICE_LIST_REGION}.amazonaws.com",
                "date": today,
                "says": "GetProducts, on demand, Linux, shared tenancy",
            },
            "s3-prices": {
                "address": storage.source.address,
                "date": storage.source.date,
                "says": storage.source.says,
            },
        },
        "storage": {
            "source": "s3-prices",
            "usd_per_1000_puts": storage.usd_per_put * 1000,
            "usd_per_1000_gets": storage.usd_per_get * 1000,
            "usd_per_gb_month": [{"up_to_gb": end, "usd": usd} for end, usd in storage.tiers],
        },
        "families": families,
    }


def _figures(described: Mapping[str, Any], usd_per_hour: float | None) -> dict[str, Any]:
    """Figures of one type; older answers leave some out."""
    cards = described.get("NetworkInfo", {}).get("NetworkCards", [])
    baseline = sum(card.get("BaselineBandwidthInGbps", 0.0) for card in cards)
    peak = sum(card.get("PeakBandwidthInGbps", 0.0) for card in cards)
    return {
        "vcpu": described["VCpuInfo"]["DefaultVCpus"],
        "cores": described["VCpuInfo"].get("DefaultCores"),
        "memory_gib": described["MemoryInfo"]["SizeInMiB"] / MIB_PER_GIB,
        "baseline_gbps": baseline or None,
        "burst_gbps": peak if peak > baseline else None,
        "usd_per_hour": usd_per_hour,
    }
