"""
What a sink holds, what is printed and what is offered, as JSON without what varies by nature.

Taken through the public surface only: `fastlung`, the command line, and the files of a sink. So the
same code says whether a rewrite of the inside has changed anything outside.

    PYTHONPATH=tests python -m frozen.facts             what differs, additions as well
    PYTHONPATH=tests python -m frozen.facts --write     freeze what is now, with a reason declared
    ... --whole                                         at the spacing of each preset as well
"""

import csv
import hashlib
import io
import json
import re
import subprocess
import sys
import tempfile
import zlib
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Any

from frozen.api import public_api
from frozen.runs import CONFIGURATIONS, RUNS, WHOLE_RUNS, Run, process

import fastlung
from fastlung.cli import main

HERE = Path(__file__).parent
CHEST = HERE.parents[2] / "shared" / "data" / "chest"
#: They compress payloads; with another one the same voxels may take other bytes.
COMPRESSORS = ("imagecodecs", "isal")
#: What differs between two runs of one program.
VARYING = {
    "cpu_seconds", "elapsed_seconds", "fastlung", "machine", "memory_budget_bytes",
    "objects_digest", "outputs", "peak_rss_bytes", "plan", "reasons", "seconds", "sink_id",
    "versions", "worker_bytes", "writer", "written_at",
}  # fmt: skip
SIGNIFICANT_DIGITS = 9


def demo_cohort(folder: Path) -> Path:
    """The synthetic series that ``fastlung demo`` writes."""
    with redirect_stdout(io.StringIO()):
        assert main(["demo", str(folder)]) == 0
    return folder / "dicom"


def constant(value: Any, key: str = "") -> Any:
    """A parsed document without what varies, floats to the digits that mean something."""
    if key in VARYING:
        return dict.fromkeys(value, "varies") if isinstance(value, dict) else "varies"
    if isinstance(value, dict):
        return {name: constant(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [constant(inner) for inner in value]
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}")
    return value


def _short(digest: "hashlib._Hash") -> str:
    return digest.hexdigest()[:32]


def _pixels(png: bytes) -> bytes:
    """The filtered rows of a PNG, which no other compressor changes."""
    chunks, at = [], 8
    while at < len(png):
        size = int.from_bytes(png[at : at + 4], "big")
        if png[at + 4 : at + 8] == b"IDAT":
            chunks.append(png[at + 8 : at + 8 + size])
        at += size + 12
    return zlib.decompress(b"".join(chunks))


def files_of(sink: Path) -> dict[str, str]:
    """SHA-256 of every payload as it lies there."""
    return {
        path.relative_to(sink).as_posix(): _short(hashlib.sha256(path.read_bytes()))
        for path in sorted((sink / "scans").rglob("*"))
        if path.is_file() and path.name not in ("metadata.json", "outcome.json")
    }


def voxels_of(sink: Path) -> dict[str, Any]:
    """What every scan holds once it is decompressed."""
    found = {}
    for folder in sorted((sink / "scans").iterdir()):
        if not (folder / "metadata.json").exists():
            continue
        scan = fastlung.open_scan(folder)
        arrays = {"image": scan.image, "mask": scan.mask}
        found[folder.name] = {
            name: [str(array.dtype), [*array.shape], _short(hashlib.sha256(array.tobytes()))]
            for name, array in arrays.items()
            if array is not None
        }
        if (folder / "preview.png").exists():
            rows = _pixels((folder / "preview.png").read_bytes())
            found[folder.name]["preview"] = _short(hashlib.sha256(rows))
    return found


def documents_of(sink: Path) -> dict[str, Any]:
    """Every JSON document of a sink, and the header of its manifest."""
    names = ["run.json", "records/*.json", "scans/*/metadata.json", "scans/*/outcome.json"]
    paths = [path for name in names for path in sorted(sink.glob(name))]
    found = {
        path.relative_to(sink).as_posix(): constant(json.loads(path.read_bytes())) for path in paths
    }
    with (sink / "manifest.csv").open(newline="") as lines:
        found["manifest.csv"] = next(csv.reader(lines))
    return found


def run_facts(run: Run, source: Path, sink: Path, workers: int = 0) -> dict[str, Any]:
    """Digests of the payloads of one run, and its documents."""
    process(run, str(source), str(sink), workers)
    return {
        "files": files_of(sink),
        "voxels": voxels_of(sink),
        "documents": documents_of(sink),
    }


def brief(facts: dict[str, Any]) -> dict[str, Any]:
    """The same with verdicts and messages in place of whole documents."""
    said = {}
    for name, document in facts["documents"].items():
        if name.startswith("records/"):
            for outcome in document["outcomes"]:
                parts = {"flags": [flag["name"] for flag in outcome["flags"]]}
                parts |= {key: outcome[key] for key in ("status", "error", "message", "figures")}
                verdict = outcome["verdict"] or {}
                parts |= {key: verdict.get(key) for key in ("classes", "actions")}
                said[outcome["name"]] = parts
    return {"files": facts["files"], "voxels": facts["voxels"], "outcomes": said}


def command(*words: object) -> tuple[int, str]:
    """Exit code of a command in a process of its own, and what it printed."""
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-m", "fastlung", *map(str, words)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    return done.returncode, done.stdout


def inside(*words: object) -> tuple[int, str]:
    """Exit code of a command in this process, and what it printed."""
    with redirect_stdout(io.StringIO()) as printed, redirect_stderr(io.StringIO()):
        code = main([*map(str, words)])
    return code, printed.getvalue()


def _damaged(demo: Path, source: Path) -> None:
    """Three series: one good, one with a slice cut short, one that is none."""
    for name in ("patient-01", "patient-02"):
        (source / name).mkdir(parents=True)
        for path in (demo / name).iterdir():
            (source / name / path.name).write_bytes(path.read_bytes())
    victim = sorted((source / "patient-02").iterdir())[3]
    victim.write_bytes(victim.read_bytes()[:-700])
    (source / "notes").mkdir()
    (source / "notes" / "notes.txt").write_text("no slices here\n")


def events(demo: Path, folder: Path) -> list[Any]:
    """What a run says line by line, and what is said of its sink."""
    source, sink = folder / "source", folder / "sink"
    _damaged(demo, source)
    quick = ["--spacing", "6", "--names", "folder", "--workers", "0"]
    code, printed = command("process", source, sink, *quick)
    said = []
    for line in printed.splitlines():
        event = constant(json.loads(line))
        if event["event"] == "run_ended":
            event["text"] = [
                text.replace(str(sink), "SINK").replace(str(source), "SOURCE")
                for text in event["text"]
                if not text.startswith(("It took ", "Limited by "))
            ]
        if event["event"] != "progress":  # by the clock
            said.append(event)
    asked = {
        "inspect": inside("inspect", source, "--json"),
        "verify": inside("verify", source, sink, "--json"),
        "status": inside("status", sink, "--json"),
    }
    return [
        {"event": "exit", "code": code},
        *said,
        *({"event": name, "code": code, "said": constant(json.loads(text))}
          for name, (code, text) in asked.items()),
    ]  # fmt: skip


def command_line(folder: Path) -> dict[str, Any]:
    """Options of every command, the sentence on exit codes, and codes that cost nothing."""
    overview = inside("--help")[1]
    commands = re.findall(r"^    ([a-z]+)(?: |$)", overview.partition("commands:")[2], re.MULTILINE)
    options = {}
    for name in commands:
        manual = inside(name, "--help")[1].partition("\nexamples:")[0]
        flags = re.findall(r"(?<![\w-])--?[a-z][\w-]*", manual.partition("\n\n")[0])
        places = manual.partition("\npositional arguments:\n")[2].partition("\n\n")[0]
        options[name] = dict.fromkeys(flags, "option")
        options[name] |= dict.fromkeys(re.findall(r"^  ([A-Z]+)", places, re.MULTILINE), "argument")
    (folder / "empty").mkdir()
    return {
        "commands": options,
        "exit codes": " ".join(overview.partition("exit codes: ")[2].split()),
        "codes": {
            "nothing found": inside("process", folder / "empty", folder / "sink")[0],
            "no such folder": inside("process", folder / "none", folder / "sink")[0],
            "unknown option": inside("process", "--no-such-option")[0],
            "impossible option": inside("process", "a", "b", "--order", "1", "--dtype", "uint8")[0],
            "help": inside("--help")[0],
        },
    }


def configurations() -> dict[str, str]:
    """Digest of each configuration."""
    return {
        json.dumps(options, sort_keys=True): fastlung.build_config(**options).digest
        for options in CONFIGURATIONS
    }


def functions(demo: Path) -> dict[str, Any]:
    """What the functions for one scan return, step by step."""
    found = {}
    for name in ("patient-03", "patient-05", "patient-06"):
        raw = fastlung.read_series(demo / name)
        hu, grid = fastlung.to_hu(raw)
        coarse, coarse_grid = fastlung.resample(hu, grid, 3.0, scan=raw)
        lungs = fastlung.lung_mask(coarse, coarse_grid)
        result = fastlung.process_scan(raw, fastlung.build_config(spacing_mm=3.0))
        arrays = {"stored": raw.stored, "hu": hu, "coarse": coarse, "mask": lungs.mask}
        arrays |= {"image of all": result.image, "mask of all": result.mask}
        found[name] = {
            key: _short(hashlib.sha256(array.tobytes())) for key, array in arrays.items()
        }
        found[name]["litres"] = constant([lungs.litres_right, lungs.litres_left])
        found[name]["origin_mm"] = constant([*coarse_grid.origin_mm])
    return found


def differences(frozen: Any, found: Any, *, exact: bool = False, where: str = "") -> list[str]:
    """What is lost or changed, each with its place; additions to an object only if `exact`."""
    if isinstance(frozen, dict) and isinstance(found, dict):
        lost = [f"{where}/{name}: gone" for name in frozen if name not in found]
        added = [f"{where}/{name}: new" for name in found if name not in frozen and exact]
        return [*lost, *added] + [
            line
            for name in frozen
            if name in found
            for line in differences(frozen[name], found[name], exact=exact, where=f"{where}/{name}")
        ]
    if isinstance(frozen, list) and isinstance(found, list) and len(frozen) == len(found):
        return [
            line
            for number, pair in enumerate(zip(frozen, found, strict=True))
            for line in differences(*pair, exact=exact, where=f"{where}[{number}]")
        ]
    return [] if frozen == found else [f"{where}: was {frozen!r}, is {found!r}"]


def stored(name: str) -> Any:
    """Facts of one kind as they were frozen."""
    return json.loads((HERE / f"{name}.json").read_bytes())


def same_arithmetic() -> bool:
    """Whether kernels may contract to fused multiply-adds here, as where voxels were frozen."""
    about = Path("/proc/cpuinfo")
    return about.exists() and " fma " in about.read_text()


def same_compressors() -> bool:
    """Whether payloads are compressed by what compressed the frozen ones."""
    return stored("compressors") == {name: version(name) for name in COMPRESSORS}


def everything(folder: Path, *, whole: bool) -> dict[str, Any]:
    """All facts, by the name of the file that they are frozen in."""
    demo = demo_cohort(folder / "demo")
    sources = {"demo": demo, "chest": CHEST}
    found = {
        name: run_facts(run, sources[run.source], folder / "runs" / name)
        for name, run in RUNS.items()
    }
    facts = {
        "runs": {name: brief(run) for name, run in found.items()},
        "documents": {name: found[name]["documents"] for name in ("demo, hu", "chest, hu")},
        "api": public_api(),
        "configurations": configurations(),
        "functions": functions(demo),
        "events": events(demo, folder / "events"),
        "command_line": command_line(folder),
        "compressors": {name: version(name) for name in COMPRESSORS},
    }
    if whole:
        facts["whole"] = {
            name.removesuffix(", npy"): run_facts(
                run, sources[run.source], folder / "whole" / name
            )["voxels"]
            for name, run in WHOLE_RUNS.items()
            if name.endswith(", npy")
        }
    return facts


def freeze(arguments: list[str]) -> int:
    """Compare with what is frozen, or freeze anew."""
    with tempfile.TemporaryDirectory() as folder:
        facts = everything(Path(folder), whole="--whole" in arguments)
    if "--write" in arguments:
        for name, found in facts.items():
            text = json.dumps(found, indent=0, sort_keys=True, ensure_ascii=False)
            (HERE / f"{name}.json").write_text(text + "\n")
        return 0
    lines = [
        line
        for name, found in facts.items()
        for line in differences(stored(name), json.loads(json.dumps(found)), exact=True, where=name)
    ]
    print("\n".join(lines) or "Nothing differs.")  # noqa: T201
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(freeze(sys.argv[1:]))
