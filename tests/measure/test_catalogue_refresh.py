"""Fetching the catalogue from AWS: stubbed answers, missing credentials, refusals."""

import json
import os

import boto3
import pytest
from botocore.stub import ANY, Stubber

from fastlung.cli import main
from fastlung.errors import AccessError, StoreError
from fastlung.measure.refresh import fetch_catalogue
from fastlung.plan.catalogue import cached_catalogue, load_catalogue, read_catalogue


@pytest.fixture(autouse=True)
def nobody(tmp_path, monkeypatch):
    """No cache, no credentials and no AWS configuration of this machine."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def instance_type(name, *, vcpu=2, mib=4096, arm=False, cards=True):
    answer = {
        "InstanceType": name,
        "ProcessorInfo": {"SupportedArchitectures": ["arm64" if arm else "x86_64"]},
        "VCpuInfo": {"DefaultVCpus": vcpu, "DefaultCores": vcpu // 2},
        "MemoryInfo": {"SizeInMiB": mib},
        "NetworkInfo": {"NetworkPerformance": "Up to 12.5 Gigabit"},
    }
    if cards:
        answer["NetworkInfo"]["NetworkCards"] = [
            {"BaselineBandwidthInGbps": 0.781, "PeakBandwidthInGbps": 12.5}
        ]
    return answer


def product(name, usd):
    return json.dumps(
        {
            "product": {"attributes": {"instanceType": name}},
            "terms": {
                "OnDemand": {"a": {"priceDimensions": {"b": {"pricePerUnit": {"USD": usd}}}}}
            },
        }
    )


@pytest.fixture
def aws():
    """Clients that answer what they are told to."""
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    ec2 = boto3.client("ec2", region_name="eu-west-1", **keys)
    pricing = boto3.client("pricing", region_name="us-east-1", **keys)
    with Stubber(ec2) as types, Stubber(pricing) as prices:
        yield ec2, pricing, types, prices


def test_what_aws_answers_becomes_a_catalogue(aws):
    ec2, pricing, types, prices = aws
    pages = ([instance_type("c7i.large")], [instance_type("c7i.xlarge", vcpu=4, mib=8192),
             instance_type("c7g.large", arm=True, cards=False),
             instance_type("c7i.metal-48xl", vcpu=192)])  # fmt: skip
    types.add_response(
        "describe_instance_types",
        {"InstanceTypes": pages[0], "NextToken": "more"},
        {"Filters": ANY},
    )
    types.add_response(
        "describe_instance_types",
        {"InstanceTypes": pages[1]},
        {"Filters": ANY, "NextToken": "more"},
    )
    listed = [product("c7i.large", "0.1"), product("c7i.large", "0.0"), product("t3.nano", "0.01")]
    prices.add_response(
        "get_products", {"PriceList": listed}, {"ServiceCode": "AmazonEC2", "Filters": ANY}
    )
    text = fetch_catalogue(ec2, pricing, "eu-west-1")
    path = cached_catalogue()
    path.parent.mkdir(parents=True)
    path.write_text(text)

    found = read_catalogue()
    assert (found.origin, found.region) == ("fetched from AWS", "eu-west-1")
    assert sorted(found.instances) == ["c7g.large", "c7i.large", "c7i.xlarge"]
    large = found.instances["c7i.large"]
    assert (large.vcpu, large.cores, large.memory_bytes) == (2, 1, 4 * 2**30)
    assert large.price_usd_per_hour == 0.1
    assert large.network_baseline_bytes_per_second == pytest.approx(0.781e9 / 8)
    assert large.network_burst_bytes_per_second == pytest.approx(12.5e9 / 8)
    assert large.sources["vcpu"].says == "DescribeInstanceTypes"
    assert large.sources["price_usd_per_hour"].address.startswith("https://api.pricing.")
    arm = found.instances["c7g.large"]
    assert (arm.architecture, arm.price_usd_per_hour) == ("arm64", None)
    assert arm.network_baseline_bytes_per_second is None


def test_a_refusal_names_what_is_needed(aws):
    ec2, pricing, types, _ = aws
    types.add_client_error("describe_instance_types", "UnauthorizedOperation", "secret words")
    with pytest.raises(AccessError) as refused:
        fetch_catalogue(ec2, pricing, "eu-west-1")
    assert "UnauthorizedOperation" in str(refused.value)
    assert "ec2:DescribeInstanceTypes and pricing:GetProducts" in str(refused.value)
    assert "secret words" not in str(refused.value)


def test_a_region_without_any_is_a_sentence(aws):
    ec2, pricing, types, prices = aws
    types.add_response("describe_instance_types", {"InstanceTypes": []})
    prices.add_response("get_products", {"PriceList": []})
    with pytest.raises(StoreError, match="names no such instances in eu-west-1"):
        fetch_catalogue(ec2, pricing, "eu-west-1")


def test_without_credentials_the_shipped_catalogue_stays(tmp_path, capsys):
    table = tmp_path / "series.csv"
    table.write_text("objects,bytes\n100,50000000\n")
    argv = ["plan", str(table), "--compare-instances"]
    assert main([*argv, "--refresh"]) == 4
    said = capsys.readouterr().err
    assert "no AWS credentials found" in said
    assert "the shipped catalogue stays in force" in said
    assert said.count("\n") == 1
    assert not cached_catalogue().exists()
    # The same question without --refresh is answered.
    assert main(argv) == 0
    assert "catalogue shipped with fastlung" in capsys.readouterr().out
    assert "c7i.large" in load_catalogue()


def test_an_unknown_profile_is_a_sentence(tmp_path, capsys):
    table = tmp_path / "series.csv"
    table.write_text("objects,bytes\n100,50000000\n")
    argv = ["plan", str(table), "--compare-instances", "--refresh", "--profile", "nobody"]
    assert main(argv) == 2
    assert "--profile nobody: not in the AWS configuration" in capsys.readouterr().err
