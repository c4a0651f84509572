"""What a scan is said to need against what it takes, measured in a process of its own."""

import json
import subprocess
import sys

import pytest

from fastlung.config import build_config
from fastlung.plan.sizes import RESERVED_BYTES, ScanSize, output_bytes, scan_bytes

SHAPE, SPACING_MM = (90, 280, 280), (2.8, 1.2, 1.2)
#: Peak of resident memory while a noisy chest is processed, beyond what was there before its words.
SCRIPT = """
import ctypes, json, re, sys
from pathlib import Path
sys.path[:0] = json.loads(sys.argv[1])
from raw_scans import raw_scan
from fastlung import build_config, process_scan
from fastlung.demo.phantom import phantom
from fastlung.kernels import warm_up

def memory(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

warm_up()
shape, spacing_mm, options = map(json.loads, sys.argv[2:5])
small = phantom((20, 48, 48), (12.0, 6.5, 6.5))
process_scan(raw_scan(small.hu, small.grid), build_config(**options, spacing_mm=9.0))
chest = phantom(shape, spacing_mm, noise_hu=60.0)
raw = raw_scan(chest.hu, chest.grid)
ctypes.CDLL(None).malloc_trim(0)  # what the drawing has left would be used again, and not be seen
before = memory("VmRSS") - raw.stored.nbytes
Path("/proc/self/clear_refs").write_text("5")
result = process_scan(raw, build_config(**options))
print(json.dumps([memory("VmHWM") - before, raw.stored.size, result.image.size]))
"""


@pytest.mark.compiled
@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
@pytest.mark.parametrize("options", [{}, {"crop": "body"}, {"preset": "tutorial"}])
def test_a_scan_takes_no_more_than_it_is_said_to_need_and_not_much_less(options):
    arguments = [json.dumps(part) for part in (sys.path, SHAPE, SPACING_MM, options)]
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", SCRIPT, *arguments],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    peak, acquired, output = json.loads(done.stdout)
    size = ScanSize(label="a", group_bytes=0, acquired_voxels=acquired, output_voxels=output)
    config = build_config(**options)

    # No scan before it is being written here.
    need = scan_bytes(size, config) - output_bytes(size, config)

    assert peak <= need, peak
    assert need - RESERVED_BYTES <= 1.5 * peak
