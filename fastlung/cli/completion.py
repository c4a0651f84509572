"""
Scripts that complete commands and options in a shell, made from the parser itself.

shtab does this too, but is MPL and this is a page; a script that asked fastlung at every key would
wait a third of a second each time.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastlung.cli.parser import COMMANDS, build_parser
from fastlung.cli.values import OneOf

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

__all__ = ["completion_script", "print_completion"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Option:
    """
    One option or positional argument of a command.

    Attributes
    ----------
    name : str
        As typed, ``--spacing``; empty for a positional argument.
    values : tuple of str
        What it takes, where that is a list.
    takes_value : bool
        Whether something follows it.
    meaning : str
        Its help, to the first stop.
    """

    name: str
    values: tuple[str, ...]
    takes_value: bool
    meaning: str


def print_completion(args: Namespace) -> int:
    """Carry out ``fastlung completion``; always 0."""
    if not args.quiet:
        sys.stdout.write(completion_script(args.shell))
    return 0


def completion_script(shell: str) -> str:
    """
    Write the script for a shell.

    Parameters
    ----------
    shell : str
        ``bash``, ``zsh`` or ``fish``.

    Returns
    -------
    str
        To be saved where that shell looks for completions, or sourced.
    """
    described = {command: tuple(_options(command)) for command in COMMANDS}
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](described)


def _options(command: str) -> Iterator[_Option]:
    (commands,) = (
        action
        for action in build_parser()._actions  # noqa: SLF001 - argparse shows them no other way
        if isinstance(action, argparse._SubParsersAction)  # noqa: SLF001
    )
    for action in commands.choices[command]._actions:  # noqa: SLF001
        values = action.type.known if isinstance(action.type, OneOf) else action.choices or ()
        yield _Option(
            name=action.option_strings[-1] if action.option_strings else "",
            values=tuple(map(str, values)),
            takes_value=action.nargs != 0,
            meaning=_plain((action.help or "").split(";")[0].split(" (default")[0]),
        )


def _plain(text: str) -> str:
    """Text without what the shells' quoting and zsh's brackets would trip over."""
    return "".join(letter for letter in text if letter not in "'\"`$\\[]:")


def _bash(described: dict[str, tuple[_Option, ...]]) -> str:
    cases = []
    for command, options in described.items():
        names = " ".join(option.name for option in options if option.name)
        free = " ".join(value for option in options if not option.name for value in option.values)
        cases.append(f'    {command}) options="{names}"; words="{free}" ;;')
    valued: dict[str, str] = {}
    for options in described.values():
        for option in options:
            if option.name and option.values:
                valued[option.name] = " ".join(option.values)
    values = [
        f'    {name}) COMPREPLY=($(compgen -W "{words}" -- "$current")); return ;;'
        for name, words in valued.items()
    ]
    return "\n".join(
        [
            "# bash completion of fastlung",
            "_fastlung() {",
            '  local current="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"',
            '  local options="--help --version" words=""',
            "  COMPREPLY=()",
            "  if [ $COMP_CWORD -eq 1 ]; then",
            f'    words="{" ".join(described)}"',
            "  fi",
            '  case "$before" in',
            *values,
            "  esac",
            '  [ $COMP_CWORD -gt 1 ] && case "${COMP_WORDS[1]}" in',
            *cases,
            "  esac",
            '  if [[ "$current" == -* ]]; then words="$options"; fi',
            '  COMPREPLY=($(compgen -W "$words" -- "$current"))',
            "}",
            "# Where nothing of ours fits, files and folders do.",
            "complete -o default -F _fastlung fastlung",
            "",
        ]
    )


def _zsh(described: dict[str, tuple[_Option, ...]]) -> str:
    commands = [f"    '{command}:{_plain(COMMANDS[command])}'" for command in described]
    cases = []
    for command, options in described.items():
        cases.append(f"    {command}) _arguments \\")
        for option in options:
            action = f"({' '.join(option.values)})" if option.values else "_files"
            if not option.name:
                cases.append(f"      '::{option.meaning}:{action}' \\")
            elif option.takes_value:
                cases.append(f"      '{option.name}[{option.meaning}]:value:{action}' \\")
            else:
                cases.append(f"      '{option.name}[{option.meaning}]' \\")
        cases[-1] = cases[-1].removesuffix(" \\") + " ;;"
    return "\n".join(
        [
            "#compdef fastlung",
            "_fastlung() {",
            "  local -a commands=(",
            *commands,
            "  )",
            "  if (( CURRENT == 2 )); then _describe command commands; return; fi",
            "  local command=$words[2]",
            "  shift words; (( CURRENT-- ))",
            "  case $command in",
            *cases,
            "  esac",
            "}",
            "# Autoloaded, this file is the function; sourced, it must announce it.",
            'if [ "$funcstack[1]" = _fastlung ]; then',
            '  _fastlung "$@"',
            "else",
            "  compdef _fastlung fastlung",
            "fi",
            "",
        ]
    )


def _fish(described: dict[str, tuple[_Option, ...]]) -> str:
    lines = ["# fish completion of fastlung"]
    for command, options in described.items():
        lines.append(
            f"complete -c fastlung -n __fish_use_subcommand -f -a {command} "
            f"-d '{_plain(COMMANDS[command])}'"
        )
        seen = f"complete -c fastlung -n '__fish_seen_subcommand_from {command}'"
        for option in options:
            words = f" -f -a '{' '.join(option.values)}'" if option.values else ""
            if option.name:
                required = " -r" if option.takes_value else ""
                name = option.name.removeprefix("--")
                lines.append(f"{seen} -l {name}{required}{words} -d '{option.meaning}'")
            elif words:
                lines.append(f"{seen}{words}")
    return "\n".join(lines) + "\n"
