"""
Hold recipes to their authors' own code on the real chests, and say how much longer that takes.

``python bench/recipe_equality.py DATA``: compares, then times both in turn in this process on one
thread, and writes ``tests/recipes/references.json`` (what the tests of every day hold recipes to)
and the table in ``docs/reference/presets.md``.
"""

import hashlib
import json
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from model_authors import AUTHORS, VERSIONS_OF

import fastlung

ROOT = Path(__file__).parents[1]
REFERENCES = ROOT / "tests" / "recipes" / "references.json"
PAGE = ROOT / "docs" / "reference" / "presets.md"
BEGIN, END = "<!-- begin: bench/recipe_equality.py -->", "<!-- end -->"
#: Values of the authors' array that are kept for each recipe and chest.
KEPT = 400
ROUNDS = 3
#: Largest difference allowed, as a part of the range of the values.
TOLERANCE = 1e-3


def compared(chest, model, nifti):
    """How two arrays differ, their times in turn, and what the tests are to find again."""
    authors, length = AUTHORS[model]
    theirs, ours = authors(nifti), fastlung.load_for(chest, model)
    if theirs.shape != ours.shape:
        raise SystemExit(
            f"{model}, {chest.name}: {ours.shape}, and the authors have {theirs.shape}"
        )
    difference = float(np.abs(theirs - ours).max()) / length
    if difference > TOLERANCE:
        raise SystemExit(f"{model}, {chest.name}: {difference:.1e} of the range apart")
    seconds = {"authors": [], "fastlung": []}
    for _ in range(ROUNDS):
        for name, run, source in (
            ("authors", authors, nifti),
            ("fastlung", lambda path, model=model: fastlung.load_for(path, model), chest),
        ):
            start = time.process_time()
            run(source)
            seconds[name].append(time.process_time() - start)
    places = np.random.default_rng(17).choice(theirs.size, KEPT, replace=False)
    return {
        "shape": list(theirs.shape),
        "difference": difference,
        "seconds": {name: statistics.median(taken) for name, taken in seconds.items()},
        "sha256": hashlib.sha256(ours.tobytes()).hexdigest()[:16],
        "places": places.tolist(),
        "values": [round(float(v), 6) for v in theirs.reshape(-1)[places]],
    }


def as_nifti(chest, folder):
    """The chest as Hounsfield units in an uncompressed file, axes as SimpleITK writes them."""
    hu, grid = fastlung.to_hu(fastlung.read_series(chest), replace_padding=False)
    path = Path(folder) / f"{chest.name}.nii"
    nib.save(nib.Nifti1Image(np.ascontiguousarray(hu.T), grid.affine_ras), path)
    return str(path)


def table(found):
    """A row for each recipe."""
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    lines = [
        (
            f"Written by `nox -s recipes` on {found['date']}, one thread, CPU seconds of a whole "
            f"scan from files to array, median of {ROUNDS} in turn; authors from uncompressed NIfTI, "
            f"fastlung from DICOM. {versions}."
        ),
        "",
        "| recipe | largest difference, of the range | authors s | fastlung s | times |",
        "|---|---|---|---|---|",
    ]
    for model, chests in found["recipes"].items():
        worst = max(chest["difference"] for chest in chests.values())
        taken = {
            who: [chest["seconds"][who] for chest in chests.values()]
            for who in ("authors", "fastlung")
        }
        times = [a / b for a, b in zip(taken["authors"], taken["fastlung"], strict=True)]
        said = {who: ", ".join(f"{s:.2f}" for s in seconds) for who, seconds in taken.items()}
        lines.append(
            f"| `{model}` | {worst:.1e} | {said['authors']} | {said['fastlung']} | "
            f"{', '.join(f'{t:.0f}' for t in times)} |"
        )
    chests = ", ".join(next(iter(found["recipes"].values())))
    return "\n".join([*lines, "", f"Chests: {chests}."])


def main(data):
    """Compare everything, and write what was found."""
    torch.set_num_threads(1)
    found = {
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {name: version(name) for name in VERSIONS_OF},
        "recipes": {model: {} for model in AUTHORS},
    }
    with tempfile.TemporaryDirectory() as folder:
        for chest in sorted(path for path in Path(data).iterdir() if path.is_dir()):
            nifti = as_nifti(chest, folder)
            for model, chests in found["recipes"].items():
                chests[chest.name] = compared(chest, model, nifti)
                sys.stderr.write(f"{model} {chest.name} {chests[chest.name]['difference']:.1e}\n")
    REFERENCES.write_text(json.dumps(found) + "\n")
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{table(found)}\n{END}{after}")


if __name__ == "__main__":
    main(sys.argv[1])
