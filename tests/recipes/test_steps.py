"""What a recipe may say: every wrong one gets one sentence that names the step."""

import pytest

from fastlung.config import build_config
from fastlung.errors import ConfigError
from fastlung.presets import preset_recipe, recipe_file, steps_as_toml
from fastlung.recipe import PRESETS
from fastlung.recipe.order import checked_steps

RESAMPLE = {"do": "resample", "spacing_mm": [2.0, 2.0, 2.0]}
WINDOW = {"do": "window", "low_hu": -1000, "high_hu": 400}
#: Steps that do not fit, and what is said of them.
WRONG = [
    ([{"do": "resampel"}], r"step 1: unknown step 'resampel'; did you mean 'resample'\?"),
    ([{"spacing_mm": 1.0}], r"step 1 needs its name as do"),
    ([{**RESAMPLE, "oder": 1}], r"step 1, resample: unknown field 'oder'; did you mean 'order'\?"),
    ([{"do": "resample"}], r"step 1, resample: resample needs spacing_mm or shape, one of them"),
    ([{**RESAMPLE, "order": 2}], r"step 1, resample: order: expected 0, 1 or 3 \(given: 2\)"),
    ([{"do": "orient", "axes": "RAT"}], r"step 1, orient: axes needs one letter each of S or I"),
    ([RESAMPLE, {"do": "hu"}], r"step 2, hu: stored words become Hounsfield units first"),
    ([RESAMPLE, RESAMPLE], r"step 2, resample: a recipe has one such step at most"),
    ([WINDOW, {"do": "mask"}], r"step 2, mask: it needs Hounsfield units, and window before it"),
    ([RESAMPLE, {"do": "crop", "to": "lungs"}], r"step 2, crop: a crop to the lungs needs a mask"),
    ([{**WINDOW, "low_hu": 500}], r"step 1, window: window needs its lower bound below its upper"),
    ([{"do": "pad", "size": [8, 8, 0]}], r"step 1, pad: size: expected at least 1 \(given: 0\)"),
    ([{"do": "crop", "to": "centre"}], r"step 1, crop: size or multiple, one of them"),
    ([{"do": "pad", "size": [8, 8, 8], "value": 0.5}], r"step 1, pad: the image is whole Hounsf"),
    ([WINDOW, {"do": "z-score", "mean_hu": 0, "sd_hu": 1}], r"step 2, z-score: it needs Hounsf"),
    ([{"do": "clip", "low_hu": 0}], r"step 1, clip: high_hu is missing"),
    ([{**RESAMPLE, "count": "monai"}], r"step 1, resample: count monai needs align first"),
    ([], r"a recipe needs a list of steps"),
    (["resample"], r"step 1 needs its name as do"),
]


@pytest.mark.parametrize(("steps", "said"), WRONG)
def test_a_wrong_recipe_gets_a_sentence_that_names_the_step(steps, said):
    with pytest.raises(ConfigError, match=said):
        build_config(recipe=steps)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps = [", "expected TOML"),
        ("title = 'mine'", "needs a list of steps"),
        ("setps = []", "unknown field 'setps'; did you mean 'steps'"),
        ("title = 3\nsteps = [{do = 'hu'}]", "title needs a text in quotes, and says 3"),
    ],
)
def test_a_file_that_is_no_recipe_is_named(tmp_path, text, said):
    path = tmp_path / "mine.toml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=f"recipe .*mine.toml: .*{said}"):
        recipe_file(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none.toml cannot be read \(No such file"):
        build_config(recipe=str(tmp_path / "none.toml"))


@pytest.mark.parametrize("name", PRESETS)
def test_steps_printed_are_steps_read(tmp_path, name):
    recipe = preset_recipe(name)
    path = tmp_path / "copy.toml"
    path.write_text(f"steps = {steps_as_toml(recipe.steps)}\n")

    assert recipe_file(path).steps == recipe.steps
    assert recipe.title
    assert recipe.source


def test_a_preset_and_a_recipe_are_one_too_many(tmp_path):
    with pytest.raises(ConfigError, match="give one of them"):
        build_config("merlin", recipe=str(tmp_path / "mine.toml"))


def test_channels_are_for_load_for_only():
    steps = [{"do": "channels", "windows_hu": [[-1000, 400], [-135, 215]]}]

    with pytest.raises(ConfigError, match="load_for gives them"):
        build_config(recipe=steps)


def test_hounsfield_units_come_first_without_being_asked_for():
    assert [step.do for step in checked_steps([RESAMPLE])] == ["hu", "resample"]
