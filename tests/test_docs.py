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


ARCHITECTURE = DOCS / "explanation" / "architecture.md"


def section(title):
    return ARCHITECTURE.read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_the_drawing_of_packages_is_that_of_their_imports():
    write_architecture = script("write_architecture")
    made = write_architecture.drawing()  # refuses a cycle
    said = "run: python docs/write_architecture.py"
    assert write_architecture.DRAWING.read_text() == made, said


def test_every_room_stands_in_the_table_of_rooms():
    named = set(re.findall(r"`([a-z_]+)`", section("Rooms")))
    paths = (ROOT / "fastlung").iterdir()
    rooms = {path.stem for path in paths if path.suffix == ".py" or path.is_dir()}
    assert {room for room in rooms if not room.startswith("_")} - named == set()


def test_the_path_of_one_scan_is_short_and_its_modules_exist():
    rows = re.findall(r"\| (`[^|]+`) \|$", section("The path of one scan"), re.MULTILINE)
    modules = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert 30 <= len(modules) == len(set(modules)) <= 45
    paths = [ROOT / "fastlung" / name for name in modules]
    missing = [
        p for p in paths if not (p.with_suffix(".py").exists() or (p / "__init__.py").exists())
    ]
    assert missing == []


def test_the_glossary_has_at_most_fifteen_words():
    assert 5 < len(re.findall(r"^\| [a-z ]+ \|", section("Glossary"), re.MULTILINE)) - 1 <= 15
