"""Completion scripts know every command and option, and bash takes its own."""

import re
import shutil
import subprocess

import pytest

from fastlung.cli import main
from fastlung.cli.completion import completion_script
from fastlung.cli.parser import COMMANDS


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_and_option_is_there(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for command in COMMANDS:
        main([command, "--help"])
        for option in set(
            re.findall(r"^  (?:-h, )?(--[a-z-]+)", capsys.readouterr().out, re.MULTILINE)
        ):
            name = option.removeprefix("--") if shell == "fish" else option
            assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", script), (command, option)
        assert re.search(rf"\b{command}\b", script)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["pro"], {"process", "profile"}),
        ([""], set(COMMANDS)),
        (["process", "--sp"], {"--spacing"}),
        (["process", "--preset", "l"], {"luna16-monai", "lungmask"}),
        (["completion", "f"], {"fish"}),
        (["inspect", "--c"], {"--csv"}),
        (["process", ""], set()),  # files, which bash finds itself
    ],
)
def test_bash_completes(words, expected):
    line = " ".join(repr(word) for word in ["fastlung", *words])
    code = (
        f"{completion_script('bash')}\nCOMP_WORDS=({line}); COMP_CWORD={len(words)}; _fastlung; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(  # noqa: S603
        ["bash", "--norc", "-u", "-c", code],  # noqa: S607
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == ""
    assert set(done.stdout.split()) == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_parse_their_script_where_installed(shell, tmp_path):
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    script = tmp_path / "script"
    script.write_text(completion_script(shell))
    subprocess.run([path, "-n", str(script)], check=True, timeout=30)  # noqa: S603
