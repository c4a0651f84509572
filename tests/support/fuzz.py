"""
Hostile input into child processes: ``python tests/support/fuzz.py --cases 20000 --seed 1``.

A case is allowed to end as a result or as an error of ours. Anything else counts: another
exception, a word on standard error, a child that died or was killed for its time or memory. Such a
case is named by its number, and ``--seed S --case N`` runs it again alone.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: What one case may take: seconds of CPU, and MiB of address space on top of the idle process.
CPU_SECONDS = 5
MIB = 512
#: A child that is silent for so long hangs: it is not even burning CPU.
SILENCE_SECONDS = 120
#: So many wrong cases tell enough.
MOST_WRONG = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """
    How a case ended.

    Attributes
    ----------
    case : str
        What it was.
    ended : tuple of str
        What became of each series and file.
    said : str
        What the child printed, which should be nothing.
    cpu_seconds, mib : float
        What it took.
    """

    case: str
    ended: tuple[str, ...]
    said: str = ""
    cpu_seconds: float = 0.0
    mib: float = 0.0

    @property
    def wrong(self) -> str:
        """What is wrong with it; empty where nothing is."""
        escaped = [text for text in self.ended if text.startswith(("escaped", "died"))]
        said = [f"printed {self.said[-500:]!r}"] if self.said else []
        return "; ".join(escaped + said)


class Child:
    """One process that takes case after case, and is started anew when one has killed it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._said = tempfile.TemporaryFile("w+b")  # noqa: SIM115 -- closed with the child

    def take(self, case: dict[str, Any]) -> Ended:
        """Run one case."""
        name = json.dumps(case)
        process = self._running()
        said_before = self._said.seek(0, 2)
        line = json.dumps({"limits": {"cpu_seconds": CPU_SECONDS, "mib": MIB}, **case})
        answer = ""
        with suppress(BrokenPipeError):
            process.stdin.write(f"{line}\n")
            process.stdin.flush()
            if select.select([process.stdout], [], [], SILENCE_SECONDS)[0]:
                answer = process.stdout.readline()
            else:
                process.kill()
        if not answer:
            code = process.wait()
            self._forget()
            word = f"died: {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"
            return Ended(case=name, ended=(word,), said=self._new(said_before))
        told = json.loads(answer)
        return Ended(
            case=name,
            ended=tuple(told["ended"]),
            said=self._new(said_before),
            cpu_seconds=told["cpu_seconds"],
            mib=told["mib"],
        )

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.wait()
            self._forget()
        self._said.close()

    def _forget(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                stream.close()
        self._process = None

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._process = subprocess.Popen(  # noqa: S603 -- our own interpreter and script
                [sys.executable, "-W", "always", str(Path(__file__).with_name("fuzz_child.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                text=True,
            )
            if self._process.stdout.readline() != "ready\n":
                raise RuntimeError(f"a child does not even start: {self._new(0)[-2000:]}")
        return self._process

    def _new(self, since: int) -> str:
        self._said.seek(since)
        return self._said.read().decode(errors="replace")


def endings(cases: Iterable[dict[str, Any]], children: int) -> Iterator[Ended]:
    """Run cases in so many children; the answers come in the order of the cases."""
    pool = [Child() for _ in range(children)]
    free = list(pool)

    def take(case: dict[str, Any]) -> Ended:
        child = free.pop()
        try:
            return child.take(case)
        finally:
            free.append(child)

    try:
        with ThreadPoolExecutor(children) as threads:
            yield from threads.map(take, cases)
    finally:
        for child in pool:
            child.close()


def damaged_cases(seed: int, numbers: Iterable[int]) -> list[dict[str, Any]]:
    """Cases of `fuzz_cases.damaged`."""
    return [{"damaged": [seed, number]} for number in numbers]


def main() -> int:
    """Run the cases asked for; the exit code says whether all of them ended well."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--case", type=int, help="only this one")
    parser.add_argument("--children", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)
    numbers = range(args.cases) if args.case is None else [args.case]
    sys.stdout.write(f"seed {args.seed}, {len(numbers)} cases\n")
    counts: Counter[str] = Counter()
    wrong, cpu_seconds, mib = 0, 0.0, 0.0
    for ended in endings(damaged_cases(args.seed, numbers), args.children):
        counts.update(set(ended.ended))
        cpu_seconds, mib = max(cpu_seconds, ended.cpu_seconds), max(mib, ended.mib)
        if ended.wrong:
            wrong += 1
            if wrong == MOST_WRONG:
                break
            sys.stdout.write(f"{ended.case}: {ended.wrong}\n")
    sys.stdout.write(f"{counts.most_common()}\n")
    sys.stdout.write(f"most: {cpu_seconds:.2f} CPU seconds, {mib:.0f} MiB\n{wrong} went wrong\n")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
