"""Recipes and flat options: which lists go by 0.1.0's names, and how options change the others."""

import json

import pytest

from fastlung.config import Config, build_config
from fastlung.errors import ConfigError

NNUNET = {"window_hu": (-991.0, 362.0), "standardise": (-158.6, 324.7)}
#: Digests that 0.1.0 gave the configurations of its presets.
DIGESTS = {
    "hu": "b668fec66cd3d05a",
    "tutorial": "4499cf5cba94f768",
    "grt123": "7edd4e481c2049cd",
    "luna16-monai": "46910ee5b316c1d4",
    "sybil": "fcca9ef164491f48",
    "lungmask": "45cced8f897332cf",
    "nnunet-ct": "8425c665e2bbea64",
}


@pytest.mark.parametrize("preset", DIGESTS)
def test_presets_keep_the_digests_of_0_1_0(preset):
    config = build_config(preset, **NNUNET if preset == "nnunet-ct" else {})

    assert config.digest == DIGESTS[preset]
    assert config.recipe == ("grt123" if preset == "grt123" else "standard")


def test_a_list_that_flat_options_can_say_is_those_options():
    steps = [
        {"do": "resample", "spacing_mm": [2.0, 2.0, 2.0], "order": 1},
        {"do": "mask"},
        {"do": "window", "low_hu": -1000.0, "high_hu": 400.0},
    ]

    listed = build_config(recipe=steps)

    flat = build_config(spacing_mm=2.0, order=1, window_hu=(-1000.0, 400.0))
    assert listed.digest == flat.digest
    assert listed.steps == flat.steps


@pytest.mark.parametrize("preset", ["merlin", "spectre", "tap-ct", "ct-fm"])
def test_a_configuration_read_back_is_the_same(preset):
    config = build_config(preset)
    fields = json.loads(json.dumps(config.model_dump(mode="json")))

    assert Config.model_validate(fields) == config
    assert build_config(**fields).digest == config.digest


def test_options_change_the_step_they_belong_to():
    config = build_config("merlin", spacing_mm=2.0, order=3, window_hu=(-900.0, 900.0))

    by_name = {step.do: step for step in config.steps}
    assert by_name["resample"].spacing_mm == (2.0, 2.0, 2.0)
    assert by_name["resample"].order == 3
    assert (by_name["window"].low_hu, config.window_hu) == (-900.0, (-900.0, 900.0))
    assert config.digest != build_config("merlin").digest


def test_a_mask_can_be_had_with_any_recipe():
    steps = [step.do for step in build_config("merlin", mask="default").steps]

    assert steps[:4] == ["hu", "orient", "resample", "mask"]
    assert build_config("merlin", mask="none").digest == build_config("merlin").digest


@pytest.mark.parametrize("option", [{"crop": "lungs"}, {"size": (9, 9, 9)}, {"zero_centre": 0.2}])
def test_an_option_without_a_step_is_refused_by_its_name(option):
    with pytest.raises(ConfigError, match=f"merlin has no step that {next(iter(option))} belongs"):
        build_config("merlin", **option)


def test_a_spacing_out_of_range_names_the_step():
    with pytest.raises(ConfigError, match="step 3, resample: spacing_mm: expected at most 20"):
        build_config("merlin", spacing_mm=21.0)
