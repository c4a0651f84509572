"""Recipes of models on real chests, against what `nox -s recipes` found with the authors' code."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

import fastlung

FOUND = json.loads(Path(__file__).with_name("references.json").read_text())["recipes"]
CASES = [(model, chest) for model, chests in FOUND.items() for chest in chests]
#: Length of the range of a recipe's values, where it is not 1.
LENGTH = {"colipri": 2.0}

pytestmark = [pytest.mark.compiled, pytest.mark.data]


@pytest.mark.parametrize(("model", "chest"), CASES)
def test_a_verified_recipe_is_what_its_authors_made(data_dir, model, chest):
    found = FOUND[model][chest]

    image = fastlung.load_for(data_dir / "chest" / chest, model)

    assert list(image.shape) == found["shape"]
    theirs = np.array(found["values"])
    apart = np.abs(image.reshape(-1)[found["places"]] - theirs).max()
    assert apart <= 1e-3 * LENGTH.get(model, 1.0)
    assert hashlib.sha256(image.tobytes()).hexdigest()[:16] == found["sha256"]


def test_every_verified_recipe_was_held_to_three_chests():
    verified = [n for n in fastlung.config.PRESETS if "authors" in preset(n).checked]

    assert sorted(verified) == sorted(FOUND)
    assert all(len(chests) == 3 for chests in FOUND.values())


def preset(name):
    return fastlung.presets.preset_recipe(name)
