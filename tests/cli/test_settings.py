"""Options add up from file, environment and command line, and can be given back."""

import json
import re
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlung.cli import main
from fastlung.cli.parser import parse
from fastlung.cli.settings import as_toml, resolve
from fastlung.config import Config, RunOptions, build_config
from fastlung.errors import ConfigError
from fastlung.presets import steps_as_toml
from fastlung.recipe.order import checked_steps


def settings(*words, environment=None):
    return resolve(parse(["config", *map(str, words)]), environment or {})


@pytest.fixture
def file(tmp_path):
    return tmp_path / "fastlung.toml"


def test_nothing_given_is_the_defaults():
    found = settings()
    assert (found.config, found.options, found.origins) == (Config(), RunOptions(), {})


def test_command_line_beats_environment_beats_file_beats_preset(file):
    file.write_text('preset = "tutorial"\nspacing_mm = 3\norder = 0\nworkers = 2\nformat = "nifti"')
    environment = {"FASTLUNG_SPACING_MM": "2.5,2,2", "FASTLUNG_ORDER": "1", "HOME": "/"}
    found = settings("--config", file, "--order", "3", environment=environment)
    assert (found.config.mask, found.config.format) == ("tutorial", "nifti")
    assert (found.config.spacing_mm, found.config.order) == ((2.5, 2.0, 2.0), 3)
    assert found.options.workers == 2
    assert found.origins == {
        "preset": str(file), "spacing_mm": "FASTLUNG_SPACING_MM", "order": "--order",
        "format": str(file), "workers": str(file),
    }  # fmt: skip


def test_a_stronger_auto_or_none_empties_a_weaker_value(file):
    file.write_text("workers = 2\nchunk_size = 3\nwindow_hu = [-1000, 400]\nzero_centre = 0.0")
    assert settings("--config", file, "--workers", "auto").options.workers is None
    assert settings("--config", file, "--auto-tune").options.chunk_size is None
    found = settings("--config", file, environment={"FASTLUNG_WINDOW_HU": "none"})
    assert found.config.window_hu is None
    plain = settings("--preset", "tutorial", environment={"FASTLUNG_WINDOW_HU": "none"})
    assert (plain.config.window_hu, plain.config.zero_centre) == (None, 0.0)


def test_the_environment_speaks_like_the_command_line():
    environment = {
        "FASTLUNG_MEMORY_LIMIT_BYTES": "8GiB", "FASTLUNG_NAMES": "folder", "FASTLUNG_ORDER": "0",
        "FASTLUNG_WORKERS": "auto", "FASTLUNG_OVERWRITE": "true", "FASTLUNG_ZERO_CENTRE": "0",
        "FASTLUNG_NAMES_KEY": "is none of the configuration's business",
    }  # fmt: skip
    found = settings(environment=environment)
    assert (found.config.names, found.config.order) == ("folder", 0)
    assert found.options == RunOptions(memory_limit_bytes=8 * 2**30, overwrite=True)


def test_the_file_may_be_named_by_the_environment(file):
    file.write_text("order = 0")
    assert settings(environment={"FASTLUNG_CONFIG": str(file)}).config.order == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("spacing = 2", "unknown option 'spacing'; did you mean 'spacing_mm'"),
        ("[run]\nworkers = 2", "unknown option 'run'"),
        ("spacing_mm = 0", "spacing_mm: .*fastlung.toml"),
        ("format = nifti", "expected TOML .* texts need quotes"),
        ('preset = "tutoral"', "did you mean 'tutorial'"),
        ('overwrite = "perhaps"', "overwrite: .*fastlung.toml"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_name(file, text, expected):
    file.write_text(text)
    with pytest.raises(ConfigError, match=expected):
        settings("--config", file)


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("FASTLUNG_SPACING", "unknown environment variable .* did you mean 'FASTLUNG_SPACING_MM'"),
        ("FASTLUNG_ORDER", "order: .* from FASTLUNG_ORDER"),
    ],
)
def test_what_is_wrong_in_the_environment_is_said_with_its_name(variable, expected):
    with pytest.raises(ConfigError, match=expected):
        settings(environment={variable: "17"})


def test_files_that_are_none(tmp_path):
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "other.json").write_text('{"spacing_mm": 1}')
    for name in ("binary.toml", "other.json", "missing.toml"):
        with pytest.raises(ConfigError, match=name):
            settings("--config", tmp_path / name)


@given(
    # Others do not go with any option.
    st.sampled_from(("hu", "tutorial", "luna16-monai", "sybil", "lungmask")),
    st.floats(0.1, 20.0),
    st.sampled_from([0, 1, 3]),
    st.sampled_from([None, "none", (-1000.0, 400.0), (-1e-3, 3.3e20)]),
    st.sampled_from(["npy", "nifti"]),
)
def test_what_is_printed_gives_the_same_digest_again(preset, spacing, order, window, form):
    options = {"spacing_mm": spacing, "order": order, "window_hu": window, "format": form}
    config = build_config(preset, **options)
    words = ["--preset", preset, "--spacing", repr(spacing), "--order", order, "--format", form]
    if isinstance(window, tuple):
        words += ["--window", f"{window[0]!r},{window[1]!r}"]
    environment = {"FASTLUNG_WINDOW_HU": "none"} if window == "none" else {}
    found = settings(*words, environment=environment)
    assert found.config == config
    again = tomllib.loads(as_toml(found))
    assert build_config(**again) == config
    assert config.digest in as_toml(found)


def test_config_prints_and_takes_files(tmp_path, file, capsys):
    assert main(["config", "--preset", "tutorial", "--memory-limit", "8GB"]) == 0
    first = capsys.readouterr().out
    assert set(tomllib.loads(first)) == {"preset", "memory_limit_bytes"}
    every = tomllib.loads(re.sub(r"^# (?=\w+ = )", "", first, flags=re.MULTILINE))
    assert set(every) == {*Config.model_fields, *RunOptions.model_fields}
    assert every["window_hu"] == [-1000.0, 400.0]
    file.write_text(first)
    assert main(["config", "--config", str(file)]) == 0
    assert tomllib.loads(capsys.readouterr().out) == tomllib.loads(first)

    config = build_config("tutorial", spacing_mm=2.0)
    run_file = tmp_path / "run.json"
    run_file.write_text(json.dumps({"config": config.model_dump(mode="json")}))
    assert main(["config", "--config", str(run_file)]) == 0
    assert config.digest in capsys.readouterr().out
    assert main(["config", "--config", str(run_file), "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_config_says_where_a_recipe_is_from_and_what_it_does(tmp_path, capsys):
    assert main(["config", "--preset", "merlin"]) == 0
    printed = capsys.readouterr().out
    about = tomllib.loads(re.sub(r"^#   ", "", printed, flags=re.MULTILINE))
    assert about["source"] == "merlin-vlm, merlin/data/monai_transforms.py"
    assert (about["commit"], about["licence"]) == ("merlin-vlm 0.0.7", "MIT")
    assert "equal to its authors' own code" in about["checked"]
    own = tmp_path / "own.toml"
    own.write_text(f"steps = {steps_as_toml(checked_steps(about['steps']))}")

    assert main(["config", "--recipe", str(own)]) == 0

    digest = build_config("merlin").digest
    again = capsys.readouterr().out
    assert digest in again
    assert build_config(**tomllib.loads(again)).digest == digest


def test_config_says_that_a_recipe_was_not_checked(capsys):
    assert main(["config", "--preset", "tap-ct"]) == 0
    assert "not checked: written from the source" in capsys.readouterr().out


def test_what_follows_from_other_options_follows_from_stronger_ones(file):
    file.write_text(as_toml(settings("--format", "nifti")))
    assert settings("--config", file, "--window", "-1000,400").config.dtype == "float32"
    assert settings("--config", file, "--preset", "tutorial").config.mask == "tutorial"


def test_process_takes_file_and_environment(file, tmp_path, capsys, monkeypatch):
    (tmp_path / "source").mkdir()
    (tmp_path / "source/slice").write_bytes(b"none")
    file.write_text("spacing = 2")
    words = ["process", str(tmp_path / "source"), str(tmp_path / "sink"), "--dry-run"]
    assert main([*words, "--config", str(file)]) == 2
    monkeypatch.setenv("FASTLUNG_SPACNG_MM", "2")
    assert main(words) == 2
    assert "did you mean 'FASTLUNG_SPACING_MM'" in capsys.readouterr().err
