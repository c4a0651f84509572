"""Profiles beside each other: order, prices, noise."""

import json
import xml.etree.ElementTree as ET

import pytest
from profiles import made_up, profile

from fastlung.cli import main
from fastlung.errors import ConfigError
from fastlung.measure.compare import compare, compare_svg, compare_text, within_noise
from fastlung.plan.catalogue import load_catalogue

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def instances(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return load_catalogue()


def test_without_prices_the_best_rate_of_a_cpu_comes_first(instances):
    found = compare(
        {
            "slow": profile((1.0, 1.01, 0.99)),
            "fast": profile((2.0, 2.02, 1.98)),
            "wide": profile((3.0, 3.02, 2.98), cpus=4, vcpu=4),
        },
        instances,
    )
    assert [machine.name for machine in found] == ["fast", "wide", "slow"]
    assert [machine.noise for machine in found] == [False, False, False]
    assert found[0].scans_per_second_per_vcpu == pytest.approx(1.0)
    assert {machine.usd_per_1000_scans for machine in found} == {None}


def test_with_prices_the_cheapest_scans_come_first(instances):
    found = compare(
        {
            "intel": profile((2.0, 2.0, 2.0), ec2_type="c7i.large"),
            "arm": profile((1.9, 1.9, 1.9), ec2_type="c7g.large"),
        },
        instances,
    )
    assert [machine.name for machine in found] == ["arm", "intel"]
    # $0.0725 an hour, 1.9 scans a second.
    assert found[0].usd_per_1000_scans == pytest.approx(0.0725 / 3600 / 1.9 * 1000)
    assert found[1].usd_per_1000_scans == pytest.approx(0.08925 / 3600 / 2.0 * 1000)


def test_only_a_whole_instance_has_a_price(instances):
    half = profile((2.0, 2.0, 2.0), cpus=2, vcpu=4, ec2_type="c7i.xlarge")
    (found,) = compare({"half": half}, instances)
    assert found.usd_per_hour is None


@pytest.mark.parametrize(
    ("first", "other", "noise"),
    [
        ((1.0, 1.1), (1.05, 1.2), True),
        ((1.0, 1.1), (1.12, 1.2), True),  # apart by less than the margin
        ((1.0, 1.1), (1.2, 1.3), False),
        ((1.2, 1.3), (1.0, 1.1), False),
        ((1.0, 1.0), (1.0, 1.0), True),
    ],
)
def test_ranges_that_overlap_are_noise(first, other, noise):
    assert within_noise(first, other) is noise
    assert within_noise(other, first) is noise


def test_differences_within_noise_are_marked(instances):
    found = compare(
        {
            "wobbly": profile((1.7, 2.05, 1.95)),
            "steady": profile((2.0, 2.02, 1.98)),
            "slow": profile((1.0, 1.0, 1.0)),
        },
        instances,
    )
    assert [(machine.name, machine.noise) for machine in found] == [
        ("steady", False),
        ("wobbly", True),
        ("slow", False),
    ]
    text = compare_text(found)
    assert text.splitlines()[3].startswith("wobbly")
    assert text.splitlines()[3].endswith("~")
    assert "within noise of the best" in text


def test_one_round_alone_is_less_sure(instances):
    rounds = ((2.0,), (1.95,))
    alone = compare(dict(zip("ab", map(profile, rounds), strict=True)), instances)
    assert alone[1].noise
    many = ((2.0, 2.001, 1.999), (1.9, 1.901, 1.899))
    sure = compare(dict(zip("ab", map(profile, many), strict=True)), instances)
    assert not sure[1].noise


def test_what_measured_something_else_is_refused(instances):
    other = profile(config={"mask": "tutorial"})
    with pytest.raises(
        ConfigError, match=r"one and two measured different things .mask is default and tutorial"
    ):
        compare({"one": profile(), "two": other}, instances)
    sample = made_up()["sample"] | {"acquired_voxels": 80e6}
    with pytest.raises(ConfigError, match="scans of different sizes"):
        compare({"one": profile(), "two": profile(sample=sample)}, instances)


def test_the_picture_has_a_bar_for_each_machine_and_price(instances):
    found = compare(
        {
            "intel": profile((2.0, 2.1, 1.9), ec2_type="c7i.large"),
            "arm": profile((1.9, 1.9, 1.9), ec2_type="c7g.large"),
        },
        instances,
    )
    root = ET.fromstring(compare_svg(found))  # noqa: S314 - our own
    titles = [title.text for title in root.iter(f"{SVG}title")]
    assert titles.count("scans/s: 2") == 1
    assert sum(title.startswith("$: ") for title in titles) == 2
    words = " ".join(text.text for text in root.iter(f"{SVG}text"))
    assert "arm (c7g.large)" in words


def test_compare_on_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, rates in (("a", (1.0, 1.0)), ("b", (2.0, 2.0))):
        (tmp_path / f"{name}.json").write_text(json.dumps(made_up(rates)))
    picture = tmp_path / "both.svg"
    files = [str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    assert main(["profile", "compare", *files, "--svg", str(picture)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["b", "a"]
    assert picture.read_text().startswith("<svg ")
