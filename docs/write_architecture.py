"""
Draw the packages and their imports: ``python docs/write_architecture.py``.

Every arrow is an import in the code. Arrows that follow from others are left out, and so are those
to the packages at the bottom. A test holds the drawing against the code.
"""

from __future__ import annotations

import ast
import tomllib
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fastlung"
DRAWING = Path(__file__).parent / "_static" / "architecture.svg"
PAGE = Path(__file__).parent / "explanation" / "architecture.md"

#: Imported by nearly all; drawn as a ground without arrows.
GROUND = ("limits", "errors", "text")
#: The way in, which only points at others.
ENTRANCES = ("", "__main__", "__version__")
WIDTH, ROW, BOX_WIDTH, BOX_HEIGHT, GAP = 900, 70, 104, 34, 22
INK, FAINT, PURE, PLAIN = "#1c2833", "#5b6b7b", "#dff0e2", "#eaf1f8"
ROUNDS = 24

TIP = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
    f'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="{FAINT}"/></marker></defs>'
)
LEGEND = (
    "green: no file, clock, environment or log, kept so by import-linter; arrows that follow from "
    "others are left out"
)

#: A package, or a bend of an arrow where it passes a level.
Node = str | tuple[str, str, int]
#: A node and its level, from the upper end of an arrow to the lower.
Chain = list[tuple[Node, int]]
Rows = dict[int, list[Node]]


def imports() -> dict[str, set[str]]:
    """Which packages and top-level modules of fastlung import which, while they run."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if room == "__init__":
            continue
        found[room] |= {name for name in _imported(ast.parse(path.read_text())) if name != room}
    rooms = found.keys() - set(ENTRANCES)
    return {room: found[room] & rooms for room in sorted(rooms)}


def _imported(tree: ast.AST) -> set[str]:
    """Second part of every ``fastlung.`` module that is imported outside ``if TYPE_CHECKING``."""
    names = []
    queue = [tree]
    while queue:
        node = queue.pop()
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            continue
        queue.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("fastlung.")}


def levels(arrows: dict[str, set[str]]) -> dict[str, int]:
    """Height of each package: one more than the highest that it imports; refuses a cycle."""
    known: dict[str, int] = {}

    def level(room: str, above: tuple[str, ...] = ()) -> int:
        if room in above:
            raise ValueError(f"packages import one another: {' -> '.join((*above, room))}")
        if room not in known:
            known[room] = 1 + max(
                (level(each, (*above, room)) for each in arrows[room]), default=-1
            )
        return known[room]

    for room in arrows:
        level(room)
    return known


def reduced(arrows: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Arrows that do not follow from others."""

    def reached(room: str) -> set[str]:
        return arrows[room].union(*(reached(each) for each in arrows[room]))

    return [
        (room, other)
        for room, others in arrows.items()
        for other in sorted(others)
        if not any(other in reached(each) for each in others - {other})
    ]


def drawing() -> str:
    """Make the SVG."""
    everything = imports()
    arrows = {room: others - {*GROUND} for room, others in everything.items() if room not in GROUND}
    height_of, drawn = levels(arrows), reduced(arrows)
    rows, chains = _rows(height_of, drawn)
    _order(rows, chains)
    at = _positions(rows)
    top = max(height_of.values())
    height = (top + 1) * ROW + 84
    lines = [
        _svg(height),
        "<title>Packages of fastlung; every arrow is an import, and points down</title>",
        TIP,
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    lines += [_arrow([(at[node], _y(level, top)) for node, level in chain]) for chain in chains]
    pure = _pure()
    for room, level in sorted(height_of.items()):
        lines += _box(room, at[room], _y(level, top), PURE if room in pure else PLAIN)
    lines += _ground(height - 70)
    return "\n".join([*lines, "</svg>\n"])


def _pure() -> set[str]:
    """Packages that a contract of import-linter keeps from files, clocks and the environment."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    named = [contract for contract in contracts if contract["type"] == "forbidden"]
    return {module.split(".")[1] for contract in named for module in contract["source_modules"]}


def _rows(height_of: dict[str, int], drawn: list[tuple[str, str]]) -> tuple[Rows, list[Chain]]:
    """Nodes of each level, with a bend wherever an arrow passes a level; and arrows as chains."""
    rows: Rows = defaultdict(list)
    for room, level in sorted(height_of.items()):
        rows[level].append(room)
    chains = []
    for room, other in drawn:
        bends = [
            ((room, other, level), level)
            for level in range(height_of[room] - 1, height_of[other], -1)
        ]
        for bend, level in bends:
            rows[level].append(bend)
        chains.append([(room, height_of[room]), *bends, (other, height_of[other])])
    return rows, chains


def _order(rows: Rows, chains: list[Chain]) -> None:
    """Order each level by the middle of its neighbours, up and down in turn: fewer crossings."""
    neighbours = defaultdict(list)
    for chain in chains:
        for (node, _), (other, _) in pairwise(chain):
            neighbours[node].append(other)
            neighbours[other].append(node)
    for number in range(ROUNDS):
        place = {
            node: (index + 0.5) / len(row)
            for row in rows.values()
            for index, node in enumerate(row)
        }
        for level in sorted(rows, reverse=number % 2 == 0):
            rows[level].sort(
                key=lambda node: (
                    sum(place[other] for other in neighbours[node]) / max(1, len(neighbours[node]))
                )
            )
            place |= {node: (i + 0.5) / len(rows[level]) for i, node in enumerate(rows[level])}


def _positions(rows: Rows) -> dict[Node, float]:
    """Middle of each node: a box takes its width, a bend a gap, and each level is spread evenly."""
    at = {}
    for row in rows.values():
        widths = [BOX_WIDTH if isinstance(node, str) else GAP for node in row]
        space = (WIDTH - sum(widths)) / (len(row) + 1)
        x = space
        for node, width in zip(row, widths, strict=True):
            at[node] = x + width / 2
            x += width + space
    return at


def _y(level: int, top: int) -> int:
    return 14 + (top - level) * ROW


def _arrow(points: list[tuple[float, float]]) -> str:
    (x, y), *rest = points
    path = f"M{x:.0f} {y + BOX_HEIGHT}"
    y += BOX_HEIGHT
    for number, (next_x, next_y) in enumerate(rest):
        last = number == len(rest) - 1
        end = next_y - 1 if last else next_y
        middle = (y + end) / 2
        path += f"C{x:.0f} {middle:.0f} {next_x:.0f} {middle:.0f} {next_x:.0f} {end}"
        if not last:
            path += f"V{next_y + BOX_HEIGHT}"
        x, y = next_x, next_y + BOX_HEIGHT
    return f'<path d="{path}" fill="none" stroke="{FAINT}" marker-end="url(#tip)"/>'


def _svg(height: float) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="13">'
    )


def _rectangle(x: float, y: float, width: float, fill: str) -> str:
    return (
        f'<rect x="{x:.0f}" y="{y}" width="{width:.0f}" height="{BOX_HEIGHT}" rx="6" '
        f'fill="{fill}" stroke="{FAINT}"/>'
    )


def _words(x: float, y: float, words: str) -> str:
    return f'<text x="{x:.0f}" y="{y}" text-anchor="middle" fill="{INK}">{words}</text>'


def _box(name: str, x: float, y: float, fill: str) -> list[str]:
    return [_rectangle(x - BOX_WIDTH / 2, y, BOX_WIDTH, fill), _words(x, y + 22, name)]


def _ground(y: float) -> list[str]:
    return [
        _rectangle(14, y, WIDTH - 28, PLAIN),
        _words(WIDTH / 2, y + 22, f"{' · '.join(GROUND)} (imported by most)"),
        f'<text x="14" y="{y + 54}" fill="#3d7a4a" font-size="12">{LEGEND}</text>',
    ]


if __name__ == "__main__":
    DRAWING.write_text(drawing())
