"""Every job of `COMPARISONS` and its rivals under pytest-benchmark: ``nox -s bench -- --table``."""

import pytest
from comparisons import COMPARISONS

WAYS = [
    pytest.param(job, way, id=f"{job.key} | {name}")
    for job in COMPARISONS
    for name, way in {"fastlung": job.ours, **job.rivals}.items()
]


@pytest.mark.parametrize(("job", "way"), WAYS)
def bench_job(benchmark, job, way):
    benchmark.group = job.key
    answer = way()
    if way is not job.ours:
        job.agree(job.ours(), answer)

    benchmark.pedantic(way, rounds=3, warmup_rounds=0)
