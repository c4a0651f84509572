"""Profiles: their schema and arithmetic, and this machine measured for real at a small scale."""

import json
import os
import re
import xml.etree.ElementTree as ET

import pytest
from profiles import STAGES, made_up, profile

from fastlung.cli import main
from fastlung.errors import ConfigError
from fastlung.measure import hardware
from fastlung.measure.measure import ProfileOptions, measure, usual_cpus
from fastlung.measure.profile import read_profile
from fastlung.measure.report import profile_svg, profile_text, stage_bytes
from fastlung.plan.machine import probe

SMALL = (12, 64, 64)


def write(folder, document, name="one.json"):
    path = folder / name
    path.write_text(json.dumps(document))
    return path


def test_a_profile_reads_back_what_was_written(tmp_path):
    found = read_profile(write(tmp_path, made_up()))
    assert found == profile()
    assert found.model_validate_json(found.model_dump_json()) == found


def test_rates_are_medians_and_ranges_of_the_rounds():
    (size,) = profile((2.0, 3.0, 2.2)).sizes
    assert size.scans_per_second == pytest.approx(2.2)
    assert size.rate_range == pytest.approx((2.0, 3.0))
    (alone,) = profile((2.0,)).sizes
    assert alone.rate_range == pytest.approx((1.9, 2.1))


def test_efficiency_is_the_rate_of_a_cpu_beside_that_of_the_smallest_size():
    size = made_up((1.0,), cpus=1)["sizes"][0]
    two = made_up((1.8,), cpus=2)["sizes"][0]
    found = profile(sizes=[size, two])
    assert found.efficiency(found.sizes[0]) is None
    assert found.efficiency(found.sizes[1]) == pytest.approx(0.9)
    assert found.whole is found.sizes[1]


@pytest.mark.parametrize(
    ("changes", "binds"),
    [
        ({}, "cpu"),
        ({"cpu_seconds": 0.5, "plan_limit": "memory"}, "memory"),
        ({"cpu_seconds": 0.5, "wait": "fetch"}, "reading"),
        ({"cpu_seconds": 0.5, "wait": "store"}, "writing"),
        ({"cpu_seconds": 0.5, "workers": 1}, "workers"),
        ({"cpu_seconds": 0.5, "wait": "resample"}, "others"),
    ],
)
def test_what_binds_follows_from_seconds(changes, binds):
    document = made_up(cpu_seconds=changes.pop("cpu_seconds", 0.9))
    (size,) = document["sizes"]
    waiting = changes.pop("wait", None)
    if waiting:
        for round_ in size["rounds"]:
            round_["stages"][waiting]["wall_seconds"] = 0.5
    size |= changes
    (found,) = profile(sizes=[size]).sizes
    assert found.binds == binds


def drop_rounds(document):
    document["sizes"][0]["rounds"] = []


def nan_seconds(document):
    document["sizes"][0]["rounds"][0]["seconds"] = float("nan")


def no_time(document):
    document["sizes"][0]["rounds"][0]["seconds"] = 0


def too_many_cpus(document):
    document["sizes"][0]["cpus"] = 64


def twice(document):
    document["sizes"] *= 2


def unknown_stage(document):
    document["sizes"][0]["rounds"][0]["stages"]["dream"] = {"cpu_seconds": 1, "wall_seconds": 1}


def other_version(document):
    document["version"] = 2


def a_host_name(document):
    document["machine"]["host"] = "ct-scanner-7"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (drop_rounds, "sizes.0.rounds"),
        (nan_seconds, "seconds: expected a finite number"),
        (no_time, "seconds: expected greater than 0"),
        (too_many_cpus, "more cpus than the machine has"),
        (twice, "one of them is there twice"),
        (unknown_stage, "stages.dream"),
        (
            other_version,
            "version 2 of format 'fastlung-profile', and this fastlung reads version 1",
        ),
        (a_host_name, "machine.host: Extra inputs are not permitted"),
    ],
)
def test_an_absurd_profile_is_refused_with_a_sentence(tmp_path, spoil, words):
    document = made_up()
    spoil(document)
    with pytest.raises(ConfigError) as refused:
        read_profile(write(tmp_path, document))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_catalogue_is_no_profile(tmp_path):
    with pytest.raises(ConfigError, match="found 'fastlung-instances'"):
        read_profile(write(tmp_path, {"format": "fastlung-instances", "version": 1}))


def test_text_says_where_time_goes():
    text = profile_text(profile())
    assert "Made Up 1" in text
    for stage in STAGES:
        assert re.search(rf"^{stage} ", text, re.MULTILINE)
    assert "2.00 " in text


def test_throughput_of_a_stage_counts_what_goes_in_and_comes_out():
    found = profile()
    sample = found.sample
    assert stage_bytes(found, "resample") == 2 * (sample.acquired_voxels + sample.output_voxels)
    assert stage_bytes(found, "fetch") == sample.fetch_bytes


def test_the_picture_is_svg_with_a_bar_for_each_stage():
    single, two = made_up((1.0,), cpus=1)["sizes"][0], made_up((1.8,), cpus=2)["sizes"][0]
    root = ET.fromstring(profile_svg(profile(sizes=[single, two])))  # noqa: S314 - our own
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    for stage, seconds in STAGES.items():
        assert titles.count(f"{stage}: {seconds:.4g}") == 2
    assert titles.count("scans/s: 1.8") == 1


@pytest.mark.parametrize(
    ("most", "sizes"),
    [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (96, (1, 2, 4, 8, 16, 32, 64, 96))],
)
def test_usual_sizes_are_powers_of_two_and_all(most, sizes):
    assert usual_cpus(most) == sizes


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cpus": (0,)}, "--cpus 0: this machine has 1 to"),
        ({"cpus": (1, 100_000)}, "--cpus 1,100000"),
        ({"memory_limits_bytes": (10**18,)}, "more bytes than"),
        ({"rounds": 0}, "at least 1"),
    ],
)
def test_sizes_that_this_machine_does_not_have(options, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        measure(ProfileOptions(**options))


def fake_machine(root, *, cpus=4, arm=False):
    """Two cores of two threads, or of one."""
    proc = root / "proc"
    proc.mkdir()
    words = "CPU implementer : 0x41\nCPU part : 0xd4f\nFeatures : fp asimd sve2\n"
    if not arm:
        words = "model name : Fast One\nflags : fpu avx2 avx512f\n"
    (proc / "cpuinfo").write_text(words)
    for cpu in range(cpus):
        folder = root / f"sys/devices/system/cpu/cpu{cpu}"
        cache = folder / "cache/index2"
        cache.mkdir(parents=True)
        (cache / "level").write_text("2\n")
        (cache / "type").write_text("Unified\n")
        (cache / "size").write_text("1024K\n")
        (folder / "topology").mkdir()
        first = cpu % 2
        siblings = str(cpu) if arm else f"{first},{first + 2}"
        (folder / "topology/thread_siblings_list").write_text(siblings + "\n")


def test_threads_of_one_core_stand_next_to_each_other(tmp_path, monkeypatch):
    fake_machine(tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2, 3})
    assert hardware.cpu_order(tmp_path) == (0, 2, 1, 3)
    assert hardware.cores_of((0, 2), tmp_path) == 1
    assert hardware.cores_of((0, 1), tmp_path) == 2


def test_facts_of_a_machine(tmp_path, monkeypatch):
    fake_machine(tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2, 3})
    facts = hardware.probe_hardware(tmp_path, "c7i.xlarge")
    assert (facts.cpu_model, facts.cores, facts.ec2_type) == ("Fast One", 2, "c7i.xlarge")
    assert facts.caches == {"L2": 2**20}
    assert facts.simd == ["avx2", "avx512f"]


def test_facts_of_an_arm_machine(tmp_path, monkeypatch):
    fake_machine(tmp_path, arm=True)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2, 3})
    facts = hardware.probe_hardware(tmp_path)
    assert (facts.cpu_model, facts.cores) == ("implementer 0x41, part 0xd4f", 4)
    assert facts.simd == ["asimd", "sve2"]


def test_facts_of_a_machine_that_says_nothing(tmp_path):
    facts = hardware.probe_hardware(tmp_path)
    assert (facts.cpu_model, facts.caches, facts.simd) == ("unknown", {}, [])
    assert facts.cores >= 1


@pytest.fixture(scope="module")
def measured():
    most = min(2, probe().cpus)
    lines = []
    options = ProfileOptions(cpus=tuple(range(1, most + 1)), scans_per_cpu=2, rounds=2, shape=SMALL)
    return measure(options, lines.append), lines, most


def test_this_machine_is_measured_through_the_whole_pipeline(measured):
    found, lines, most = measured
    assert [size.cpus for size in found.sizes] == list(range(1, most + 1))
    for size in found.sizes:
        assert size.workers == size.cpus
        assert [round_.scans for round_ in size.rounds] == [2 * size.cpus] * 2
        for round_ in size.rounds:
            stages = round_.stages
            assert {"fetch", "read", "resample", "mask", "encode", "store"} <= set(stages)
            # Everything a worker's processor did is accounted for by some stage.
            total = sum(stage.cpu_seconds for stage in stages.values())
            assert total == pytest.approx(round_.cpu_seconds, rel=0.05)
    sample = found.sample
    assert (sample.fetch_objects, sample.acquired_voxels) == (12, 12 * 64 * 64)
    # Image and mask of the same chest as a large one, whatever the slices.
    assert sample.store_bytes == pytest.approx(3 * sample.output_voxels, rel=0.01)
    # Sizes take turns.
    turns = [line for line in lines if line.startswith("Round")]
    assert [line.split(",")[0] for line in turns] == [
        f"Round {number} of 2" for number in (1, 2) for _ in range(most)
    ]


def leaves(value):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value


def test_a_profile_names_no_host_path_or_scan(measured):
    found, _, _ = measured
    words = [word for word in leaves(found.model_dump(mode="json")) if isinstance(word, str)]
    assert os.uname().nodename not in words
    text = " ".join(words)
    for telling in ("/", "2.25.", "chest", "fastlung-profile-"):
        assert telling not in text


def test_profile_prints_and_writes_what_it_measured(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("fastlung.measure.measure.SYNTHETIC_SHAPE", SMALL)
    monkeypatch.setattr("fastlung.cli.profile.ProfileOptions", small_options)
    output, picture = tmp_path / "one.json", tmp_path / "one.svg"
    words = ["profile", "--cpus", "1", "--scans", "1", "--rounds", "1", "--memory", "3GiB"]
    assert main([*words, "--output", str(output), "--svg", str(picture)]) == 0
    shown = capsys.readouterr().out
    assert "1 CPU, 3 GiB" in shown
    (size,) = read_profile(output).sizes
    assert size.memory_limit_bytes == 3 * 2**30
    assert picture.read_text().startswith("<svg ")


def small_options(**options):
    return ProfileOptions(**options, shape=SMALL)


def test_a_sample_of_a_source_of_mine(tmp_path):
    from fastlung.demo.cohort import COHORT, write_cohort  # noqa: PLC0415

    write_cohort(tmp_path / "scans", shape=SMALL, spacing_mm=(20.0, 5.0, 5.0), scans=COHORT[:2])
    options = ProfileOptions(
        source=str(tmp_path / "scans"), cpus=(1,), scans_per_cpu=5, rounds=1, sink=str(tmp_path)
    )
    found = measure(options)
    assert found.sample.origin == "source"
    assert found.sample.scans == 2
    assert found.sizes[0].rounds[0].scans == 2
    assert [path.name for path in tmp_path.iterdir()] == ["scans"]  # results are removed again


def test_a_sample_that_fails_is_no_measurement(tmp_path):
    from fastlung.demo.cohort import COHORT, write_cohort  # noqa: PLC0415

    folder = tmp_path / "scans"
    write_cohort(folder, shape=SMALL, spacing_mm=(20.0, 5.0, 5.0), scans=COHORT[:1])
    for slice_file in sorted((folder / "patient-01").iterdir())[:11]:
        slice_file.unlink()
    argv = ["profile", str(folder), "--cpus", "1", "--scans", "1", "--rounds", "1", "--quiet"]
    assert main(argv) == 1


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["profile", "a", "b"], "one source at most"),
        (["profile", "compare"], "name the profiles"),
        (["profile", "compare", "nowhere.json"], "nowhere.json: cannot be read"),
        (["profile", "--memory", "4"], "expected a number with its unit"),
        (["profile", "--cpus", "two"], "expected a whole number"),
    ],
)
def test_wrong_usage_is_a_sentence(argv, words, capsys):
    assert main(argv) == 2
    assert words in capsys.readouterr().err
