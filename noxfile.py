"""
What is checked, and how: ``nox`` runs lint, docs and tests; ``nox -l`` lists the rest.

Every session installs all it needs into an environment of its own.
"""

import nox

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["lint", "docs", "tests"]
nox.options.default_venv_backend = "uv|virtualenv"

PROJECT = nox.project.load_toml("pyproject.toml")
#: Tests that run kernels on small arrays; the others see the same lines compiled.
ABOUT_KERNELS = ("tests/kernels", "tests/volume/test_resampling.py", "tests/test_pipeline.py")


def group(name):
    return nox.project.dependency_groups(PROJECT, name)


@nox.session
def lint(session):
    """Style, types, and the direction of imports."""
    session.install(".", *group("lint"), "nox")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")
    session.run("lint-imports")


@nox.session
def tests(session):
    """Kernels as plain Python, so that coverage sees them, then everything compiled.

    Arguments go to pytest, and then nothing else runs.
    """
    session.install(".", *group("bench"))
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    plain = {"NUMBA_DISABLE_JIT": "1"}
    session.run("pytest", *ABOUT_KERNELS, "--cov", "--cov-report=", "--cov-fail-under=0", env=plain)
    small = {"FASTLUNG_BENCH_SCALE": "4"}
    session.run("pytest", "bench", "-q", env=small)  # once each, untimed, so that none rots
    session.run("pytest", "--cov", "--cov-append", "--cov-report=term:skip-covered")


@nox.session
def docs(session):
    """The documentation, warnings being errors; open docs/_build/html/index.html."""
    session.install(".", *group("docs"))
    session.run("sphinx-build", "-n", "-W", "-b", "html", "docs", "docs/_build/html")


BENCH_PATHS = {"PYTHONPATH": "tests:tests/support:bench", "PYTHONSAFEPATH": "1"}


@nox.session(default=False)
def bench(session):
    """Ratios to yardsticks against this CPU's baseline; --update stores, --table shows rivals."""
    session.install(".", *group("bench"))
    if "--table" in session.posargs:
        session.run("pytest", "bench", "--benchmark-enable", "--benchmark-columns=min,median")
        return
    session.run("python", "bench/regression.py", *session.posargs, env=BENCH_PATHS)
    if {"--update", "--costs"} & {*session.posargs}:
        session.run("python", "bench/tables.py", env=BENCH_PATHS)


@nox.session(default=False, name="bench-torch")
def bench_torch(session):
    """TorchIO and MONAI beside the others, added to this CPU's baseline; installs torch."""
    session.install(".", *group("bench"), *group("bench-torch"))
    session.run("python", "bench/regression.py", "--torch", env=BENCH_PATHS)
    session.run("python", "bench/tables.py", env=BENCH_PATHS)


#: Authors' packages without what they need for their networks; torch first, so that nothing else
#: asks for another build of it.
MODEL_AUTHORS = ("merlin-vlm==0.0.7", "colipri==0.1.3", "spectre-fm==0.2.1", "monai==1.6.1")
FOR_AUTHORS = ("torchio==1.2.1", "hydra-core", "omegaconf", "einops", "tqdm")


@nox.session(default=False)
def recipes(session):
    """Recipes beside their authors' own code on the real chests; writes the table of the docs.

    Arguments: a recipe and chests to compare anew, and no more; --rounds N.
    """
    session.install(".", *group("bench"), "torch==2.13.0")
    session.install(*FOR_AUTHORS)
    session.install("--no-deps", *MODEL_AUTHORS)
    session.run(
        "python", "bench/recipe_equality.py", "../shared/data/chest", *session.posargs,
        env=BENCH_PATHS,
    )  # fmt: skip


@nox.session(name="bench-s3", default=False)
def bench_s3(session):
    """Bucket to bucket against the bound of the processors; ``-- FOLDER --notebook 4`` and more."""
    session.install(".", *group("bench"))
    session.run("python", "bench/s3_to_s3.py", *session.posargs, env=BENCH_PATHS)


@nox.session(name="bench-settings", default=False)
def bench_settings(session):
    """Twelve fixed settings against --auto-tune in three profiles, an hour; ``-- FOLDER``."""
    session.install(".", *group("bench"))
    session.run("python", "bench/fixed_settings.py", *session.posargs, env=BENCH_PATHS)


@nox.session(default=False)
def fuzz(session):
    """20,000 damaged series; arguments go to fuzz.py, as in ``-- --seed 7 --case 123``."""
    session.install(".", *group("test"))
    session.run("python", "tests/support/fuzz.py", *session.posargs)


@nox.session(default=False)
def campaign(session):
    """A run, or a worker, killed at 200 moments, each time verified and completed; half an hour."""
    session.install(".", *group("test"))
    session.run("pytest", "tests/run/test_killed.py", *session.posargs, env={"KILL_MOMENTS": "200"})


@nox.session(default=False)
def simulate(session):
    """The scheduler on 144 machines in virtual time; --table prints more, --validation runs."""
    session.install(".", *group("test"))
    for name in ("table", "validation"):
        if f"--{name}" in session.posargs:
            session.run(
                "python", "-m", f"simulation.{name}", env={"PYTHONPATH": "tests:tests/support"}
            )
            return
    session.run("pytest", "tests/simulation", *session.posargs, env={"FASTLUNG_SIMULATE": "whole"})


@nox.session(default=False)
def nemesis(session):
    """300 scans from a bucket to a bucket while everything goes wrong; NEMESIS_SEED repeats one."""
    session.install(".", *group("test"))
    arguments = session.posargs or ["-k", "nemesis"]
    session.run("pytest", "tests/run/test_faults.py", *arguments, env={"NEMESIS_SCANS": "300"})


@nox.session(default=False)
def attack(session):
    """Stores, sinks, outputs and caches that lie, longer: ATTACK_ROUNDS of them, half an hour."""
    session.install(".", *group("test"))
    attacked = (
        "tests/storage/test_lying_store.py",
        "tests/sink/test_shared_names.py",
        "tests/sink/test_somebody_elses_sink.py",
        "tests/cli/test_output.py",
        "tests/kernels/test_place.py",
        "tests/test_container.py",
    )
    session.run("pytest", *(session.posargs or attacked), env={"ATTACK_ROUNDS": "2000"})


@nox.session(default=False)
def profile(session):
    """This machine measured small, as JSON and picture; arguments go to ``fastlung profile``."""
    session.install(".")
    folder = session.create_tmp()
    found = f"{folder}/profile.json"
    small = ["--scans", "2", "--rounds", "2", "--output", found, "--svg", f"{folder}/profile.svg"]
    session.run("fastlung", "profile", *small, *session.posargs)
    session.run("fastlung", "profile", "compare", found, "--svg", f"{folder}/compared.svg")
    session.log(f"{folder} has the profile and its pictures")
