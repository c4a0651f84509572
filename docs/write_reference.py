"""
Write the pages that are made from the code: ``python docs/write_reference.py``.

A test holds them against it, so that no option is without its line.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fastlung.cli.parser import COMMANDS, build_parser
from fastlung.cli.values import OneOf
from fastlung.sink.manifest import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterator

CLI_PAGE = Path(__file__).parent / "reference" / "cli.md"
#: Its text is written by hand, and ends where the table begins.
MANIFEST_PAGE = Path(__file__).parent / "reference" / "manifest.md"
MANIFEST_TABLE = "| column | kind | unit | meaning |\n|---|---|---|---|\n"

HEAD = """\
# Command line

```sh
fastlung COMMAND ...
fastlung COMMAND --help
```

| command | what it does |
|---|---|
{commands}

Every command takes `--quiet` (only failures and errors are printed, on standard error),
`--debug` (the traceback of an error, and what is logged) and `--help`.

## Exit codes

| code | meaning |
|---|---|
| 0 | all done, nothing wrong |
| 1 | some scans failed, now or earlier; or `inspect`, `verify`, `compare` or `doctor` found some |
| 2 | wrong usage or configuration |
| 3 | the source holds no CT |
| 4 | source or sink cannot be reached, read or written |
| 130 | interrupted; the same command does what is missing |

What each error means and what to do: [](errors.md).
"""


def cli_page() -> str:
    """Make the page of the command line from the parser itself."""
    rows = "\n".join(f"| [`{name}`](#{name}) | {purpose} |" for name, purpose in COMMANDS.items())
    return "\n".join([HEAD.format(commands=rows), *_sections()])


def manifest_page() -> str:
    """Make the page of the manifest, with its table from the columns themselves."""
    text = MANIFEST_PAGE.read_text().partition(MANIFEST_TABLE)[0]
    rows = [f"| `{c.name}` | {c.kind} | {c.unit} | {c.meaning} |\n" for c in COLUMNS]
    return "".join([text, MANIFEST_TABLE, *rows])


def _sections() -> Iterator[str]:
    (commands,) = (
        action
        for action in build_parser()._actions  # noqa: SLF001 - argparse shows them no other way
        if isinstance(action, argparse._SubParsersAction)  # noqa: SLF001
    )
    for name, parser in commands.choices.items():
        actions = [a for a in parser._actions if a.dest != "help"]  # noqa: SLF001
        free = [action for action in actions if not action.option_strings]
        usage = " ".join(f"[{a.metavar}]" if a.nargs == "?" else str(a.metavar) for a in free)
        yield f"## {name}\n\n{parser.description}\n\n```text\nfastlung {name} {usage}".rstrip()
        yield "```\n"
        for group in parser._action_groups:  # noqa: SLF001
            yield from _group_table(group)
        yield f"```text\n{(parser.epilog or '').strip()}\n```\n"


def _group_table(group: argparse._ArgumentGroup) -> Iterator[str]:
    shown = [a for a in group._group_actions if a.dest not in ("help", "quiet", "debug")]  # noqa: SLF001
    if not shown:
        return
    own_title = group.title not in ("positional arguments", "options")
    yield f"| {group.title if own_title else 'argument'} | |\n|---|---|"
    for action in shown:
        option = action.option_strings[-1] if action.option_strings else ""
        value = "" if action.nargs == 0 else _value(action)
        meaning = (action.help or "").replace("|", "\\|")
        yield f"| `{f'{option} {value}'.strip()}` | {meaning} |"
    yield ""


def _value(action: argparse.Action) -> str:
    if isinstance(action.type, OneOf):
        return "{" + ",".join(action.type.known) + "}"
    if action.metavar is not None:
        return str(action.metavar)
    return "{" + ",".join(map(str, action.choices or ())) + "}"


if __name__ == "__main__":
    CLI_PAGE.write_text(cli_page())
    MANIFEST_PAGE.write_text(manifest_page())
