"""A sink that anybody may have made: wrong is damage by name, and nothing runs or leaves it."""

import copy
import csv
import io
import json
import os
import random

import pytest
import tiny_series

import fastlung
from fastlung.cli import main
from fastlung.errors import AccessError, FastlungError, SinkLostError
from fastlung.report.summary import csv_text
from fastlung.sink.identity import check_identity, sink_id_of
from fastlung.sink.manifest import manifest_parquet
from fastlung.sink.records import load_outcome, load_record
from fastlung.storage.local import LocalStore
from fastlung.verification import verify

ROUNDS = int(os.environ.get("ATTACK_ROUNDS", "60"))
FAST = {"workers": 0, "spacing_mm": 6.0, "mask": "none"}
WORDS = ["--workers", "0", "--spacing", "6", "--mask", "none"]
ODD = [
    None, True, -1, 0, 10**400, 1e308, float("nan"), "", "\x1b[2J", "../../etc", "x" * 200_000, [],
    [[]], {}, {"a": {}}, [1, 2, 3], {"x": -1},
]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A source, and what a run made of it."""
    root = tmp_path_factory.mktemp("made")
    source, sink = tiny_series.write_source(root / "source", 2), root / "sink"
    fastlung.process(str(source), str(sink), **FAST)
    return source, sink


def paths_in(value, path=()):
    """Where every value in some JSON stands."""
    yield path
    items = {list: enumerate, dict: dict.items}.get(type(value), lambda _value: ())
    for name, child in items(value):
        yield from paths_in(child, (*path, name))


def spoilt(plain, draw):
    """The same with one value of another kind, gone, or under another name."""
    plain = copy.deepcopy(plain)
    *above, last = draw.choice([path for path in paths_in(plain) if path])
    place = plain
    for step in above:
        place = place[step]
    if isinstance(place, dict) and draw.random() < 0.2:
        place[f"{last} "] = place.pop(last)
    else:
        place[last] = draw.choice(ODD)
    return json.dumps(plain).encode()


@pytest.mark.parametrize(("where", "load"), [
    ("records/*.json", load_record), ("scans/*/outcome.json", load_outcome),
])  # fmt: skip
def test_what_is_not_ours_is_a_value_error_whatever_it_is(made, where, load):
    plain = json.loads(next(made[1].glob(where)).read_text())
    draw = random.Random(where)
    for _ in range(20 * ROUNDS):
        data = spoilt(plain, draw)
        try:
            found = load(data)
        except ValueError:
            continue
        for outcome in getattr(found, "outcomes", (found,)):
            assert all(key.startswith(f"scans/{outcome.name}/") for key in outcome.outputs)
            assert not any(".." in key.split("/") for key in outcome.outputs)


@pytest.mark.parametrize("where", ["records/*.json", "run.json", "scans/*/outcome.json"])
def test_every_command_says_what_is_wrong_and_a_run_mends_it(made, tmp_path, where, capsys):
    source, sink = made
    draw = random.Random(where)
    for number in range(max(3, ROUNDS // 20)):
        copied = tmp_path / str(number)
        fastlung_sink = LocalStore(copied)
        for path in sink.rglob("*"):
            if path.is_file():
                fastlung_sink.put(path.relative_to(sink).as_posix(), [path.read_bytes()])
        place = next(copied.glob(where))
        place.write_bytes(spoilt(json.loads(place.read_text()), draw))
        for words in (["manifest", copied], ["status", copied], ["verify", source, copied],
                      ["process", source, copied, *WORDS, "--overwrite"]):  # fmt: skip
            assert main([str(word) for word in words]) in (0, 1, 2)
        assert "internal error" not in capsys.readouterr().err
        assert main(["verify", str(source), str(copied)]) == 0


def test_a_record_cut_off_or_of_gigabytes_is_damage(made, tmp_path):
    source, _ = made
    sink = tmp_path / "sink"
    fastlung.process(str(source), str(sink), **FAST)
    first, second = sorted(sink.glob("records/*.json"))
    os.truncate(first, 8 * 2**30)  # sparse
    second.write_bytes(second.read_bytes()[:-9])
    found = verify(str(source), str(sink))
    assert [finding.kind for finding in found.findings] == ["damaged", "damaged"]


def test_a_command_in_a_sinks_run_json_is_shown_and_never_run(made, tmp_path, capsys):
    source, sink = made
    plain = json.loads((sink / "run.json").read_text())
    plain["config"] |= {
        "mask": "default",
        "mask_command": f"touch {tmp_path}/ran {{image}} {{mask}}",
    }
    (tmp_path / "run.json").write_text(json.dumps(plain))
    words = [
        "process",
        source,
        tmp_path / "new",
        "--workers",
        "0",
        "--config",
        tmp_path / "run.json",
    ]
    assert main([str(word) for word in words]) == 2
    assert "--allow-commands" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("place", ["records", "scans", "shared-names"])
def test_nothing_is_written_or_removed_through_a_link_out_of_the_sink(tmp_path, place):
    elsewhere, sink = tmp_path / "elsewhere", tmp_path / "sink"
    (elsewhere / "a").mkdir(parents=True)
    (elsewhere / "a" / "x").write_text("theirs")
    sink.mkdir()
    (sink / place).symlink_to(elsewhere)
    store = LocalStore(sink)
    for attempt in (
        lambda: store.put(f"{place}/a/x", [b"ours"]),
        lambda: store.create(f"{place}/a/y", b"ours"),
        lambda: store.delete(f"{place}/a/x"),
    ):
        with pytest.raises(AccessError, match="leads out of it"):
            attempt()
    assert [path.read_text() for path in elsewhere.rglob("*") if path.is_file()] == ["theirs"]


def test_a_sink_that_is_itself_a_link_and_links_within_it_are_fine(tmp_path):
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    (tmp_path / "sink").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "scans").symlink_to("deep")
    LocalStore(tmp_path / "sink").put("scans/x", [b"1"])
    assert (tmp_path / "disk" / "deep" / "x").read_bytes() == b"1"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-cmd", "@x", "\t=1", "'=1", "\uff1d1"])
def test_no_cell_of_a_csv_is_carried_out_and_every_text_comes_back(text):
    (row,) = csv.DictReader(io.StringIO(csv_text(["a", "b"], [{"a": text, "b": -1.5}]), newline=""))
    assert row == {"a": f"'{text}", "b": "-1.5"}


def test_the_parquet_manifest_holds_the_texts_themselves(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    tiny_series.write_group(tmp_path / "source" / "=cmd|' -C calc'!A0", 1)
    fastlung.process(str(tmp_path / "source"), str(tmp_path / "sink"), **FAST)
    table = (tmp_path / "sink" / "manifest.csv").read_bytes()
    assert b"'=cmd" in table
    found = pq.read_table(io.BytesIO(manifest_parquet(table)))
    assert found["source"].to_pylist() == ["=cmd|' -C calc'!A0"]


@pytest.mark.parametrize("how", ["unmounted", "emptied", "another sink"])
def test_a_sink_that_is_swapped_in_mid_run_ends_the_run(tmp_path, how):
    source, sink = tiny_series.write_source(tmp_path / "source", 3), tmp_path / "sink"

    def swap(event):
        if type(event).__name__ == "ScanEnded" and not (tmp_path / "away").exists():
            sink.rename(tmp_path / "away")
            if how != "unmounted":
                sink.mkdir(exist_ok=True)  # a writer may have been faster
            if how == "another sink":
                other = json.loads((tmp_path / "away" / "run.json").read_text())
                (sink / "run.json").write_text(json.dumps(other | {"sink_id": "other"}))

    with pytest.raises(SinkLostError, match="unmounted, moved or emptied"):
        fastlung.process(str(source), str(sink), **FAST, on_event=swap)
    assert not list(sink.glob("manifest*"))


def test_a_sink_keeps_its_id_and_an_early_one_gets_one(made, tmp_path):
    source, _ = made
    sink = tmp_path / "sink"
    fastlung.process(str(source), str(sink), **FAST)
    plain = json.loads((sink / "run.json").read_text())
    first = plain.pop("sink_id")
    fastlung.process(str(source), str(sink), **FAST, overwrite=True)
    assert sink_id_of(LocalStore(sink)) == first
    (sink / "run.json").write_text(json.dumps(plain))
    assert sink_id_of(LocalStore(sink)) == ""
    fastlung.process(str(source), str(sink), **FAST, overwrite=True)
    with pytest.raises(FastlungError):
        check_identity(LocalStore(sink), first)
