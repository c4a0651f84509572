"""
Hostile files end as a result or as an error of ours, in bounded time and memory, without a word.

Each case runs in a child process that may be killed; what a child may take is in `fuzz`. The full
mutation fuzz is ``nox -s fuzz``.
"""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from dicom_writer import RLE
from fuzz import CPU_SECONDS, MIB, damaged_cases, endings
from fuzz_cases import DAMAGES, damaged, originals

from fastlung import errors
from fastlung.dicom.codecs import CODECS, decode_frame

pytestmark = pytest.mark.compiled

#: What may become of a series or a file.
ALLOWED = {"result", "skipped", "broken"} | {
    name for name, value in vars(errors).items() if isinstance(value, type)
}


def check(ended):
    wrong = [f"{end.case}: {end.wrong}" for end in ended if end.wrong]
    assert not wrong, "\n".join(wrong)
    assert max(end.cpu_seconds for end in ended) < CPU_SECONDS
    assert max(end.mib for end in ended) < MIB
    counts = Counter(word for end in ended for word in set(end.ended))
    assert counts.keys() <= ALLOWED
    return counts


@pytest.mark.data
def test_every_file_of_the_corpus(data_dir: Path):
    # As a series of five, which takes the damage through to the pixels.
    corpus = data_dir / "hostile" / "fuzz" / "fuzz_corpus_v3"
    files = sorted(path for path in corpus.glob("*/*") if path.is_file())
    assert len(files) == 595  # with the valid one
    ended = list(endings([{"file": str(path)} for path in files], children=2))
    counts = check(ended)
    assert counts["result"] > 200  # or hardly any came as far as the pixels


def test_damaged_series():
    counts = check(list(endings(damaged_cases(4, range(200)), children=1)))
    # The damage must neither stop everything at the door nor be harmless.
    assert counts["result"] > 30
    assert counts["broken"] > 30
    assert len(counts) > 6


def test_harm_is_noticed_and_the_next_case_goes_on():
    harm = {
        "os.kill(os.getpid(), 11)": "died: SIGSEGV",
        "next(n for n in iter(int, 1) if n)": "died: SIGXCPU",
        "bytearray(1 << 30)": "MemoryError",
        "os.write(2, b'thread panicked') and []": "printed 'thread panicked'",
        "__import__('warnings').warn('quoted value') or []": "quoted value",
        "print('on the wrong stream', flush=True) or []": "wrong stream",
    }
    limits = {"cpu_seconds": 1, "mib": MIB}
    cases = [{"python": text, "limits": limits} for text in (*harm, "['result']")]
    *bad, good = endings(cases, children=1)
    for end, seen in zip(bad, harm.values(), strict=True):
        assert seen in end.wrong
    assert not good.wrong


@pytest.mark.parametrize("starts", [(64, 64), (64, 9999), (9999, 64), (200, 100)])
def test_an_empty_rle_segment_is_refused_without_a_backtrace(starts, capfd):
    # The decoder panics there; found by case 237 of seed 22.
    frame = np.array([2, *starts, *[0] * 13], "<u4").tobytes() + b"\x80\0" * 20
    with pytest.raises(errors.DecodeError):
        decode_frame(
            CODECS[RLE],
            frame,
            np.empty((4, 4), np.uint16),
            bits_allocated=16,
            bits_stored=16,
            signed=False,
        )
    assert capfd.readouterr().err == ""


def test_a_number_stands_for_one_damaged_series():
    assert damaged(4, 7) == damaged(4, 7)
    assert damaged(4, 7) != damaged(5, 7)
    assert damaged(4, 7) != damaged(4, 8)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_every_kind_of_damage_does_some(damage):
    original = originals()[0]
    (key, data), *_ = original.files.items()
    assert any(
        damage(random.Random(seed), data, original.elements[key]) != data for seed in range(5)
    )
