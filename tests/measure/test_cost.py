"""What to rent: arithmetic of hours and dollars, and 200,000 series without a pixel."""

import json
import math
import random
from dataclasses import replace

import pytest
from profiles import made_up, profile

from fastlung.cli import main
from fastlung.cli.plan import best_of_families
from fastlung.config import Config
from fastlung.errors import ConfigError, NothingFoundError
from fastlung.measure.cost import GB, calibration_of, offers, representative, s3_cost
from fastlung.measure.forecast import read_series_table
from fastlung.plan.catalogue import read_catalogue
from fastlung.plan.costs import Routes, scan_cost
from fastlung.plan.sizes import ScanSize

CONFIG = Config()
NETWORK = Routes(source="network", sink="network")
DISK = Routes(source="disk", sink="disk")


@pytest.fixture(autouse=True)
def no_cache_of_mine(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def chest(slices=150, **changes):
    size = ScanSize(
        label=f"chest of {slices}",
        group_bytes=slices * 526_000,
        acquired_voxels=slices * 512 * 512,
        output_voxels=slices * 2 * 358 * 358,
        objects=slices,
    )
    return replace(size, **changes)


def nlst_like(count, seed=1):
    draw = random.Random(seed)
    return [chest(draw.choice((105, 120, 133, 150, 180, 210))) for _ in range(count)]


def test_a_profile_of_what_is_assumed_changes_nothing():
    found = profile()
    sample = found.sample
    assumed = scan_cost(
        ScanSize(
            label="",
            group_bytes=round(sample.fetch_bytes),
            acquired_voxels=round(sample.acquired_voxels),
            output_voxels=round(sample.output_voxels),
            objects=150,
        ),
        CONFIG,
        DISK,
    )
    twice = profile(cpu_seconds=2 * assumed.cpu_seconds)
    assert calibration_of(twice, twice.whole, CONFIG).cpu == pytest.approx(2.0)


def test_strata_keep_bytes_and_voxels():
    sizes = nlst_like(5000)
    strata = representative(sizes, 40)
    assert len(strata) == 40
    for name in ("group_bytes", "acquired_voxels", "output_voxels", "objects"):
        mean = sum(getattr(size, name) for size in sizes) / len(sizes)
        other = sum(getattr(size, name) for size in strata) / len(strata)
        assert other == pytest.approx(mean, rel=0.005)
    assert len(representative(sizes[:3], 40)) == 3


def test_hours_and_dollars_follow_from_the_rate():
    catalogue = read_catalogue()
    sizes = [chest()] * 1000
    found = offers(sizes, CONFIG, NETWORK, catalogue, [profile()], deadline_seconds=600)
    for offer in found.offers:
        price = offer.instance.price_usd_per_hour
        hours = 1000 / offer.scans_per_second / 3600
        assert offer.alone.hours == pytest.approx(hours)
        assert offer.alone.usd == pytest.approx(hours * price)
        fleet = offer.in_time
        assert fleet.hours * 3600 <= 600 * (1 + 1e-6)
        if fleet.count > 1:  # one fewer would be late
            assert hours / (fleet.count - 1) * 3600 > 600
        assert fleet.usd == pytest.approx(fleet.count * fleet.hours * price)


def test_the_cheapest_comes_first_and_unknown_networks_last():
    found = offers([chest()] * 1000, CONFIG, NETWORK, read_catalogue(), [profile()])
    known = [offer for offer in found.offers if not offer.network_unknown]
    unknown = found.offers[len(known) :]
    assert {offer.instance.family for offer in unknown} == {"c4"}
    assert [offer.usd for offer in known] == sorted(offer.usd for offer in known)
    # Over a disk no network binds, so none is missing.
    local = offers([chest()] * 1000, CONFIG, DISK, read_catalogue(), [profile()])
    assert not any(offer.network_unknown for offer in local.offers)


def test_more_processors_do_not_help_once_the_network_binds():
    catalogue = read_catalogue()
    found = {
        offer.instance.name: offer
        for offer in offers([chest()] * 1000, CONFIG, NETWORK, catalogue, [profile()]).offers
    }
    small, large = found["c8g.4xlarge"], found["c8g.48xlarge"]
    assert small.binds in ("cpus", "network")
    assert large.binds == "network"
    network = large.instance.network_baseline_bytes_per_second
    out = scan_cost(chest(), CONFIG, NETWORK).store_bytes
    stored = calibration_of(profile(), profile().whole, CONFIG).stored
    most = max(chest().group_bytes, out * stored)
    assert large.scans_per_second == pytest.approx(network / most, rel=0.02)


def test_slow_scans_bind_at_the_processors():
    slow = profile(cpu_seconds=30.0)
    found = {
        offer.instance.name: offer
        for offer in offers([chest()] * 1000, CONFIG, NETWORK, read_catalogue(), [slow]).offers
    }
    four, eight = found["c7g.xlarge"], found["c7g.2xlarge"]
    assert (four.binds, eight.binds) == ("cpus", "cpus")
    assert eight.scans_per_second == pytest.approx(2 * four.scans_per_second, rel=0.01)
    # A core of c7i has two threads; the profile had a core for each.
    assert found["c7i.2xlarge"].scans_per_second == pytest.approx(four.scans_per_second, rel=0.01)
    both = profile(cpu_seconds=30.0, cpus=4, vcpu=4, cores=2)
    threads = {
        offer.instance.name: offer
        for offer in offers([chest()] * 1000, CONFIG, NETWORK, read_catalogue(), [both]).offers
    }
    assert threads["c7i.2xlarge"].scans_per_second == pytest.approx(
        2 * found["c7i.2xlarge"].scans_per_second, rel=0.01
    )


def test_the_closest_profile_counts():
    fast = profile(cpu_seconds=10.0, ec2_type="c7g.large")
    slow = profile(cpu_seconds=40.0)
    found = {
        offer.instance.name: offer
        for offer in offers([chest()] * 9, CONFIG, NETWORK, read_catalogue(), [slow, fast]).offers
    }
    assert found["c7g.large"].basis == "this type"
    assert found["c7g.xlarge"].basis == "this family"
    assert found["c8i.xlarge"].basis == "other CPU"
    assert found["m8g.xlarge"].basis == "other architecture"
    each = found["c7g.xlarge"].scans_per_second / found["m8g.xlarge"].scans_per_second
    assert each == pytest.approx(4.0, rel=0.1)
    nothing = offers([chest()] * 9, CONFIG, NETWORK, read_catalogue())
    assert {offer.basis for offer in nothing.offers} == {"assumed"}


def test_what_does_not_fit_is_not_offered():
    huge = chest(1700)
    found = offers([chest()] * 9 + [huge], CONFIG, NETWORK, read_catalogue(), [profile()])
    offered = {offer.instance.name for offer in found.offers}
    assert "c7i.large" in found.too_small
    assert "c7i.large" not in offered
    assert "r7i.4xlarge" in offered


def test_s3_is_priced_by_tiers():
    prices = read_catalogue().storage
    cost = s3_cost([chest(150)] * 10, 60_000 * GB, 4, prices)
    assert (cost.gets, cost.puts) == (1500, 10 * 4 + 2)
    assert cost.requests_usd == pytest.approx(1500 * 0.0004 / 1000 + 42 * 0.005 / 1000)
    month = 51_200 * 0.023 + (60_000 - 51_200) * 0.022
    assert cost.storage_usd_per_month == pytest.approx(month)
    small = s3_cost([chest()], 100 * GB, 4, prices)
    assert small.storage_usd_per_month == pytest.approx(2.3)


@pytest.mark.parametrize("deadline", [0, -5, math.nan, math.inf, 1e12])
def test_a_deadline_that_cannot_be_is_refused(deadline):
    with pytest.raises(ConfigError, match="--deadline"):
        offers([chest()], CONFIG, NETWORK, read_catalogue(), [], deadline)


def test_nothing_to_do_is_a_sentence():
    with pytest.raises(ConfigError, match="nothing to do"):
        offers([], CONFIG, NETWORK, read_catalogue())


def test_a_profile_of_another_configuration_is_refused():
    with pytest.raises(
        ConfigError,
        match=r"measured something else .spacing_mm is 1\.0 1\.0 1\.0 and 2\.0 2\.0 2\.0",
    ):
        offers([chest()], Config(spacing_mm=(2, 2, 2)), NETWORK, read_catalogue(), [profile()])
    # What results are called costs nothing.
    offers([chest()], Config(names="folder"), NETWORK, read_catalogue(), [profile()])


def test_the_best_of_each_family_is_its_cheapest_and_then_fastest():
    found = offers([chest()] * 1000, CONFIG, NETWORK, read_catalogue(), [profile()])
    best = best_of_families(found.offers)
    assert len(best) == len({offer.instance.family for offer in best})
    for offer in best:
        kin = [other for other in found.offers if other.instance.family == offer.instance.family]
        same = [other for other in kin if other.network_unknown == offer.network_unknown]
        assert offer.usd <= min(other.usd for other in same) * 1.011


@pytest.fixture(scope="module")
def nlst(tmp_path_factory):
    draw = random.Random(1)
    path = tmp_path_factory.mktemp("listing") / "nlst.csv"
    with path.open("w") as file:
        file.write("SeriesInstanceUID,instanceCount,series_size_MB\n")
        for number in range(200_000):
            slices = draw.choice((105, 120, 133, 150, 180, 210))
            file.write(f"1.2.{number},{slices},{slices * 0.526:.2f}\n")
    return path


def test_two_hundred_thousand_series_are_priced_without_a_pixel(nlst, tmp_path, capsys):
    measured = tmp_path / "profile.json"
    measured.write_text(json.dumps(made_up()))
    argv = ["plan", str(nlst), "--compare-instances", "--deadline", "6h"]
    assert main([*argv, "--measured", str(measured)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("200,000 scans, 15.7 TB; no pixel was read.")
    header = lines[2].split()
    assert header[-6:] == ["in", "time", "hours", "$", "CPU", "speed"]
    rows = lines[4 : lines.index("", 4)]
    assert len(rows) == len({row.split(".")[0] for row in rows}) == 32
    assert all(" network " in row or " cpus " in row or " memory " in row for row in rows)
    text = "\n".join(lines)
    assert "us-east-1" in text
    assert "S3 beside that: 29,9" in text

    assert main([*argv, "--measured", str(measured), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["scans"] == 200_000
    first = found["instances"][0]
    assert first["in_time"]["hours"] <= 6
    assert first["one"]["usd"] > 0
    assert first["binds"]


def test_a_folder_is_priced_too(tmp_path, capsys):
    from fastlung.demo.cohort import COHORT, write_cohort  # noqa: PLC0415

    write_cohort(
        tmp_path / "scans", shape=(8, 32, 32), spacing_mm=(30.0, 10.0, 10.0), scans=COHORT[:2]
    )
    argv = ["plan", str(tmp_path / "scans"), "--compare-instances", "--all"]
    assert main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2 scans")
    assert sum(" assumed" in line and "." in line.split()[0] for line in lines if line) > 200


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "is said with --compare-instances"),
        (["--deadline", "6h"], "--deadline: goes with --compare-instances"),
        (["--compare-instances", "--cpus", "4"], "--cpus: left out with --compare-instances"),
        (["--compare-instances", "--deadline", "soon"], "such as 6h, 90min or 2d"),
        (["--compare-instances", "--catalogue", "nowhere.json"], "nowhere.json: cannot be read"),
        (["--compare-instances", "--measured", "nowhere.json"], "nowhere.json: cannot be read"),
    ],
)
def test_wrong_usage_is_a_sentence(argv, words, nlst, capsys):
    assert main(["plan", str(nlst), *argv]) == 2
    assert words in capsys.readouterr().err


def table(folder, text):
    path = folder / "series.csv"
    path.write_text(text)
    return path


def test_a_table_of_series_may_say_more(tmp_path):
    path = table(
        tmp_path,
        "objects,bytes,rows,columns,pixel_spacing_mm,slice_spacing_mm\n"
        "100,50000000,512,512,0.5,2.5\n"
        "100,50000000,,,,\n",
    )
    exact, usual = read_series_table(path, CONFIG)
    assert exact.acquired_voxels == 100 * 512 * 512
    assert exact.output_voxels == 250 * 256 * 256
    assert usual.output_voxels == 320 * 358 * 358
    assert (usual.objects, usual.group_bytes) == (100, 50_000_000)


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("", ConfigError, "no header"),
        ("objects,size\n1,2\n", ConfigError, "expected the columns objects"),
        ("objects,bytes\n", NothingFoundError, "without rows"),
        ("objects,bytes\n-3,5\n", ConfigError, "line 2: objects: expected a number, at least 1"),
        ("objects,bytes\n3,many\n", ConfigError, "line 2: bytes: expected a number"),
        ("objects,bytes\n3,1e99\n", ConfigError, "found '1e99'"),
        ("objects,bytes\n3,nan\n", ConfigError, "found 'nan'"),
        ("objects,bytes\n3\n", ConfigError, "found None"),
    ],
)
def test_a_table_that_cannot_be_is_refused_with_a_sentence(tmp_path, text, kind, words):
    with pytest.raises(kind) as refused:
        read_series_table(table(tmp_path, text), CONFIG)
    assert words in str(refused.value)
