"""An outside segmenter is asked where our own mask is flagged, and its answer is checked."""

import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from raw_scans import raw_scan
from tiny_series import CANARY, write_source

import fastlung
from fastlung.cli import main
from fastlung.config import build_config
from fastlung.demo.phantom import phantom
from fastlung.errors import ConfigError
from fastlung.pipeline import process_scan
from fastlung.segmenter import reference_to, segmenter_of

pytestmark = pytest.mark.compiled

#: NIfTI by hand, so that it starts quickly; does what its last word says.
SCRIPT = """
import gzip, os, struct, sys, time
import numpy as np
data = gzip.decompress(open(sys.argv[1], "rb").read())
header = bytearray(data[:352])
shape = struct.unpack_from("<3h", header, 42)
hu = np.frombuffer(data, "<i2", offset=352).reshape(shape, order="F")
labels = np.zeros(shape, np.uint8)
half = shape[0] // 2
labels[:half][hu[:half] < -500] = 1  # x grows to the patient's left
labels[half:][hu[half:] < -500] = 2
print("PATIENT", "CANARY^OF^COALMINE")
code, bits = 2, 8
match sys.argv[3]:
    case "fail": sys.exit(7)
    case "silent": sys.exit(0)
    case "sleep": time.sleep(60)
    case "shape": labels = labels[1:]
    case "labels": labels[0, 0, 0] = 9
    case "moved": struct.pack_into("<f", header, 292, struct.unpack_from("<f", header, 292)[0] + 3)
    case "float": labels, code, bits = labels.astype("<f4"), 16, 32
    case "killed": os.kill(os.getpid(), 9)
struct.pack_into("<3h", header, 42, *labels.shape)
struct.pack_into("<2h", header, 70, code, bits)
answer = gzip.compress(bytes(header) + labels.tobytes(order="F"), 1)
open(sys.argv[2], "wb").write(b"CANARY^OF^COALMINE" if sys.argv[3] == "text" else answer)
"""


@pytest.fixture
def command(tmp_path):
    script = tmp_path / "segment.py"
    script.write_text(SCRIPT)

    def line(how):
        return shlex.join([sys.executable, str(script), "{image}", "{mask}", how])

    return line


@pytest.fixture(scope="module")
def chest():
    return phantom((40, 60, 70), (6.0, 5.0, 5.0))


def by_threshold(hu, grid):
    """What the script does, as a function."""
    labels = np.zeros(hu.shape, np.int64)
    half = hu.shape[2] // 2
    labels[:, :, :half][hu[:, :, :half] < -500] = 1
    labels[:, :, half:][hu[:, :, half:] < -500] = 2
    assert grid.shape == hu.shape
    assert not hu.flags.writeable
    return labels


def read_only(array):
    view = array.view()
    view.flags.writeable = False
    return view


def raises(_hu, _grid):
    raise RuntimeError(CANARY)


def run(chest, **options):
    config = build_config(spacing_mm=5.0, **options)
    return process_scan(raw_scan(chest.hu, chest.grid), config, segment=segmenter_of(config))


@pytest.mark.parametrize("how", ["well", "float"])
def test_a_command_is_given_hu_and_its_labels_are_taken(chest, command, how):
    own = run(chest)

    result = run(chest, mask_command=command(how), mask_on="all")

    expected = by_threshold(read_only(own.image), own.grid)
    np.testing.assert_array_equal(result.mask, expected)
    assert result.mask.dtype == np.uint8
    assert result.figures["litres_left"] == pytest.approx((expected == 2).sum() * 125e-6)
    # Air outside the body, and they say so: a mask from outside is judged as ours is.
    assert result.flags[0].name == "mask_replaced"
    assert "implausible_volume" in [flag.name for flag in result.flags]
    assert result.figures["mask_confidence"] < own.figures["mask_confidence"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("fail", "exit code 7"),
        ("silent", "wrote no {mask}"),
        ("shape", "have shape"),
        ("labels", "labels other than 0 to 3"),
        ("moved", "3.00 mm"),
        ("text", "no NIfTI"),
        ("killed", "SIGKILL"),
        ("sleep", "longer than 2 s"),
    ],
)
def test_what_goes_wrong_is_a_flag_and_the_mask_stays_ours(chest, command, how, said):
    seconds = 2.0 if how == "sleep" else 60.0
    own = run(chest)

    result = run(chest, mask_command=command(how), mask_on="all", mask_timeout_seconds=seconds)

    np.testing.assert_array_equal(result.mask, own.mask)
    assert result.figures == own.figures
    (flag,) = result.flags
    assert flag.name == "mask_command_failed"
    assert said in flag.text
    assert CANARY not in flag.text


def test_only_flagged_scans_are_asked_about(chest):
    asked = []

    def segment(hu, grid):
        asked.append(grid)
        return by_threshold(hu, grid)

    raw = raw_scan(chest.hu, chest.grid)
    process_scan(raw, build_config(spacing_mm=5.0), segment=segment)
    assert not asked

    cut = raw_scan(np.ascontiguousarray(chest.hu[14:24]), chest_part(chest, 14, 24))
    result = process_scan(cut, build_config(spacing_mm=5.0), segment=segment)

    assert len(asked) == 1
    assert "ours was flagged" in result.flags[0].text
    assert "touches_fov" in result.flags[0].text


def chest_part(chest, start, stop):
    return fastlung.Grid(
        shape=(stop - start, *chest.grid.shape[1:]),
        spacing_mm=chest.grid.spacing_mm,
        origin_mm=tuple(chest.grid.to_patient((start, 0, 0)).tolist()),
    )


def test_an_exception_of_a_function_is_named_by_its_class_alone(chest):
    result = run(chest, mask_function="test_segmenter:raises", mask_on="all")

    assert "RuntimeError" in result.flags[0].text
    assert CANARY not in result.flags[0].text


def test_functions_are_found_by_name():
    assert reference_to(by_threshold) == f"{__name__}:by_threshold"
    config = build_config(mask_function="test_segmenter:by_threshold")
    assert segmenter_of(config).__name__ == "by_threshold"
    with pytest.raises(ConfigError, match="top of a module"):
        reference_to(lambda hu, _grid: hu)
    with pytest.raises(ConfigError, match=r"no module 'no_such_module' can.*PYTHONPATH"):
        segmenter_of(build_config(mask_function="no_such_module:f"))
    for wrong in ("nothing", "CANARY", "reference_to.nothing"):
        with pytest.raises(ConfigError, match=f"test_segmenter has no function '{wrong}'"):
            segmenter_of(build_config(mask_function=f"test_segmenter:{wrong}"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mask_command": "segment {image}"}, "{mask}"),
        ({"mask_command": "segment '{image} {mask}"}, "quote"),
        ({"mask_command": "a {image} {mask}", "mask_function": "a:b"}, "one of them"),
        ({"mask_command": "a {image} {mask}", "mask": "none"}, "fall back"),
        ({"mask_function": "no colon"}, "mask_function"),
    ],
)
def test_what_cannot_be_asked_is_refused(options, said):
    with pytest.raises(ConfigError, match=said.replace("{", r"\{")):
        build_config(**options)


def test_a_program_that_is_not_there_is_refused_before_any_scan(tmp_path, capsys):
    source = write_source(tmp_path / "scans", 1)
    words = ["--mask-command", "no-such-program {image} {mask}", "--workers", "0"]

    assert main(["process", str(source), str(tmp_path / "sink"), *words]) == 2

    assert "no-such-program" in capsys.readouterr().err
    assert not (tmp_path / "sink" / "records").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_asks_and_its_digest_tells(tmp_path, command, workers):
    """In this process and in a worker, whose own memory limit is not the command's."""
    source = write_source(tmp_path / "scans", 1)
    sink = tmp_path / "sink"

    summary = fastlung.process(
        str(source), str(sink), spacing_mm=5.0, workers=workers,
        mask_command=command("well"), mask_on="all",
    )  # fmt: skip

    assert summary.exit_code == 0
    (scan,) = (sink / "scans").iterdir()
    metadata = json.loads((scan / "metadata.json").read_text())
    assert metadata["flags"][0]["name"] == "mask_replaced"
    assert metadata["labels"]["3"] == "trachea and main bronchi"
    assert set(np.unique(np.load(scan / "mask.npy"))) == {0, 1, 2}
    assert metadata["config_digest"] != build_config(spacing_mm=5.0).digest
    assert not [path for path in Path(sink).rglob("*") if CANARY.encode() in _content(path)]


def _content(path):
    return path.read_bytes() if path.is_file() else b""
