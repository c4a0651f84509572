"""The default mask against masks that people drew, on the slices they drew on."""

from functools import cache

import numpy as np
import pytest
from drawn import covered, dice, hausdorff_95_mm, on_grid, pieces_outside_ml, read_drawn

from fastlung.config import build_config
from fastlung.dicom import read_series
from fastlung.pipeline import process_scan

pytestmark = [pytest.mark.compiled, pytest.mark.data]


@pytest.fixture(scope="module")
def drawn(data_dir):
    """Our lungs and theirs on the acquired grid, and its spacing; each is made once."""
    if not (data_dir / "truth").is_dir():
        pytest.skip("drawn masks are not here: data/truth is missing beside the repository")

    @cache
    def of(name, what):
        folder = data_dir / "truth" / name
        raw = read_series(folder / "ct")
        result = process_scan(raw, build_config())
        ours = np.isin(on_grid(result.mask, result.grid, raw.grid), (1, 2))
        return ours, read_drawn(folder / f"{what}.npz"), raw.grid.spacing_mm

    return of


@pytest.mark.parametrize(("name", "least"), [("lctsc-S1-0", 0.967), ("lctsc-S1-4", 0.966)])
def test_lungs_are_those_that_were_drawn(drawn, name, least):
    ours, theirs, spacing_mm = drawn(name, "lungs")

    assert dice(ours, theirs) >= least
    assert hausdorff_95_mm(ours, theirs, spacing_mm) <= 3.5
    assert pieces_outside_ml(ours, theirs, spacing_mm).max(initial=0.0) <= 5.0


@pytest.mark.parametrize("name", ["qin-lung-01-0007", "qin-lsc-0028"])
def test_tumours_that_were_drawn_are_in(drawn, name):
    ours, tumour, _ = drawn(name, "tumour")

    assert covered(ours, tumour) >= 0.9
