"""The reference says what the code does: pages made from it are current, classes match."""

import importlib.util
import inspect
import re
from pathlib import Path

import pytest

from fastlung import errors
from fastlung.cli import EXIT_CODES
from fastlung.measure.profile import read_profile

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def script(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_made_from_the_code_are_current():
    write_reference = script("write_reference")
    for page, made in (
        (write_reference.CLI_PAGE, write_reference.cli_page()),
        (write_reference.MANIFEST_PAGE, write_reference.manifest_page()),
    ):
        assert page.read_text() == made, "run: python docs/write_reference.py"


def test_the_page_on_cost_shows_the_stored_profile():
    write_cost = script("write_cost")
    table = write_cost.sizes_table(read_profile(write_cost.PROFILE))
    assert table in write_cost.PAGE.read_text(), "run: python docs/write_cost.py"
    assert "| modelled |" in write_cost.PAGE.read_text()


def test_every_error_is_on_its_page_with_its_exit_code():
    page = (DOCS / "reference" / "errors.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]*\| (\d) \|", page, re.MULTILINE))
    classes = {
        name: kind
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.FastlungError)
    }
    assert rows.keys() == classes.keys()
    for name, kind in classes.items():
        code = next(code for parent, code in EXIT_CODES if issubclass(kind, parent))
        assert int(rows[name]) == code, name


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda path: path.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([\w./-]+\.md)", page.read_text()):
        assert (page.parent / target).exists(), target
