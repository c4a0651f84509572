"""The catalogue of instances: whole, cited, refused where it cannot be."""

import json
from importlib import resources

import pytest

from fastlung.errors import ConfigError
from fastlung.plan.catalogue import cached_catalogue, find_instance, load_catalogue, read_catalogue

GIB = 2**30
FIGURES = (
    "architecture",
    "cpu_model",
    "vcpu",
    "cores",
    "memory_bytes",
    "network_baseline_bytes_per_second",
    "network_burst_bytes_per_second",
    "price_usd_per_hour",
)


@pytest.fixture(autouse=True)
def no_cache_of_mine(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def shipped():
    return json.loads(resources.files("fastlung.instances").joinpath("catalogue.json").read_text())


def write(folder, document):
    path = folder / "mine.json"
    path.write_text(json.dumps(document))
    return path


def test_every_known_figure_has_an_address_and_a_date():
    for instance in load_catalogue().values():
        known = {name for name in FIGURES if getattr(instance, name) is not None}
        assert set(instance.sources) == known, instance.name
        for source in instance.sources.values():
            assert source.address.startswith("https://")
            assert "2019" < source.date < "2027"


def test_the_families_people_use_are_there():
    families = {instance.family for instance in load_catalogue().values()}
    for letter in "cmr":
        for kind in ("6i", "6a", "6g", "7i", "7a", "7g", "8i", "8g"):
            assert letter + kind in families
    assert {"c4", "c5", "m5", "r5"} <= families


def test_a_few_figures_against_the_pages_they_were_read_from():
    known = load_catalogue()
    c7i = known["c7i.2xlarge"]
    assert (c7i.vcpu, c7i.cores, c7i.memory_bytes) == (8, 4, 16 * GIB)
    assert c7i.network_baseline_bytes_per_second == 3.125e9 / 8
    assert c7i.price_usd_per_hour == 0.357
    c4 = known["c4.xlarge"]
    assert (c4.vcpu, c4.memory_bytes, c4.price_usd_per_hour) == (4, 7.5 * GIB, 0.199)
    assert c4.network_baseline_bytes_per_second is None  # AWS says "high", which is no number
    graviton = known["m8g.48xlarge"]
    assert (graviton.vcpu, graviton.cores, graviton.architecture) == (192, 192, "arm64")
    assert known["r6i.large"].network_burst_bytes_per_second == 12.5e9 / 8


def test_prices_follow_the_size_within_a_family():
    # A slip of the hand in one row would stand out. The largest C4 has an odd number of cores.
    by_family = {}
    for instance in load_catalogue().values():
        if instance.family != "c4":
            by_family.setdefault(instance.family, set()).add(
                round(instance.price_usd_per_hour / instance.vcpu, 5)
            )
    assert {family for family, prices in by_family.items() if len(prices) != 1} == set()


def test_memory_and_network_grow_with_the_size():
    by_family = {}
    for instance in load_catalogue().values():
        by_family.setdefault(instance.family, []).append(instance)
    for family, sizes in by_family.items():
        memory = [size.memory_bytes / size.vcpu for size in sizes]
        assert family == "c4" or len(set(memory)) == 1
        network = [size.network_baseline_bytes_per_second or 0 for size in sizes]
        assert network == sorted(network)
        assert [size.vcpu for size in sizes] == sorted(size.vcpu for size in sizes)


def test_a_file_of_mine_counts_instead(tmp_path):
    document = shipped()
    document["families"] = {"c7i": document["families"]["c7i"]}
    document["families"]["c7i"]["sizes"]["large"]["usd_per_hour"] = 0.01
    mine = load_catalogue(write(tmp_path, document))
    assert {instance.family for instance in mine.values()} == {"c7i"}
    assert mine["c7i.large"].price_usd_per_hour == 0.01


def test_a_fetched_catalogue_counts_while_it_is_younger():
    path = cached_catalogue()
    path.parent.mkdir(parents=True)
    document = shipped() | {"date": "2030-01-01", "region": "eu-west-1"}
    path.write_text(json.dumps(document))
    found = read_catalogue()
    assert (found.origin, found.region) == ("fetched from AWS", "eu-west-1")
    path.write_text(json.dumps(document | {"date": "2020-01-01"}))
    assert read_catalogue().region == "us-east-1"
    path.write_text("{}")  # of another version of fastlung, or torn
    assert read_catalogue().region == "us-east-1"


def drop_source(document):
    document["families"]["c5"]["sources"]["usd_per_hour"] = None


def unknown_source(document):
    document["families"]["c5"]["sources"]["vcpu"] = "hearsay"


def absurd_memory(document):
    document["families"]["c5"]["sizes"]["large"]["memory_gib"] = -4


def no_vcpu(document):
    document["families"]["c5"]["sizes"]["large"]["vcpu"] = 0


def extra_key(document):
    document["families"]["c5"]["sizes"]["large"]["colour"] = "blue"


def bad_tiers(document):
    document["storage"]["usd_per_gb_month"][-1]["up_to_gb"] = 7


def other_version(document):
    document["version"] = 9


def other_format(document):
    document["format"] = "something"


def no_date(document):
    document["sources"]["prices"]["date"] = "some time ago"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (drop_source, "usd_per_hour has figures and no source"),
        (unknown_source, "unknown source 'hearsay'"),
        (absurd_memory, "families.c5.sizes.large.memory_gib: expected greater than 0"),
        (no_vcpu, "vcpu: expected greater than or equal to 1"),
        (extra_key, "colour: Extra inputs are not permitted"),
        (bad_tiers, "only the last has no end"),
        (other_version, "version 9 of format 'fastlung-instances'"),
        (other_format, "expected a document of format 'fastlung-instances', found 'something'"),
        (no_date, "sources.prices.date"),
    ],
)
def test_an_absurd_catalogue_is_refused_with_a_sentence(tmp_path, spoil, words):
    document = shipped()
    spoil(document)
    with pytest.raises(ConfigError) as refused:
        load_catalogue(write(tmp_path, document))
    assert words in str(refused.value)
    assert "mine.json" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "[1, 2", "null", "[]", "NaN", '"x"', "[" * 100_000])
def test_what_is_no_catalogue_is_refused_with_a_sentence(tmp_path, text):
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"mine\.json: expected"):
        load_catalogue(path)


def test_a_missing_file_is_a_sentence(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read \\(No such file or directory\\)"):
        load_catalogue(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    ("name", "words"),
    [("c7i.3xlarge", "sizes in the catalogue: c7i.large"), ("p99.huge", "families in the catal")],
)
def test_an_unknown_type_names_its_relatives(name, words):
    with pytest.raises(ConfigError, match=words):
        find_instance(load_catalogue(), name)
