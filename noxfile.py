"""
What is checked, and how: ``nox`` runs lint, docs and tests; ``nox -l`` lists the rest.

Every session installs all it needs into an environment of its own.
"""

import nox

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["lint", "docs", "tests"]
nox.options.default_venv_backend = "uv|virtualenv"

PROJECT = nox.project.load_toml("pyproject.toml")


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
    """Everything once as plain Python with coverage, once compiled; arguments go to pytest."""
    session.install(".", *group("test"))
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    plain = {"NUMBA_DISABLE_JIT": "1"}
    session.run("pytest", "--cov", "--cov-report=term:skip-covered", env=plain)
    session.run("pytest", "--durations=10")


@nox.session
def docs(session):
    """The documentation, warnings being errors; open docs/_build/html/index.html."""
    session.install(".", *group("docs"))
    session.run("sphinx-build", "-n", "-W", "-b", "html", "docs", "docs/_build/html")


@nox.session(default=False)
def bench(session):
    """Kernels against what people use today, in one process; arguments go to pytest."""
    session.install(".", *group("bench"))
    session.run("pytest", "bench", "--benchmark-enable", "--benchmark-warmup=on", *session.posargs)


@nox.session(default=False)
def campaign(session):
    """A run killed at fifty moments, each time verified and completed; three minutes."""
    session.install(".", *group("test"))
    session.run("pytest", "tests/test_killed.py", *session.posargs, env={"KILL_MOMENTS": "50"})
