"""
Hold recipes to their authors' own code on the real chests, and say how much longer that takes.

``python bench/recipe_equality.py DATA``: runs both in turn in this process on one thread, compares
and times them. Writes ``tests/recipes/references.json``, what the tests of every day hold recipes
to, and the table in ``docs/reference/presets.md``.
"""

import argparse
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
#: Largest difference allowed, as a part of the range of the values.
TOLERANCE = 1e-3


def compared(chest, model, nifti, rounds):
    """How two arrays differ, their times in turn, and what the tests are to find again."""
    authors, length = AUTHORS[model]
    seconds = {"authors": [], "fastlung": []}
    for _ in range(rounds):
        start = time.process_time()
        theirs = authors(nifti)
        middle = time.process_time()
        ours = fastlung.load_for(chest, model)
        seconds["fastlung"].append(time.process_time() - middle)
        seconds["authors"].append(middle - start)
    if theirs.shape != ours.shape:
        raise SystemExit(f"{model}, {chest.name}: {ours.shape}, and the authors' {theirs.shape}")
    difference = float(np.abs(theirs - ours).max()) / length
    if difference > TOLERANCE:
        raise SystemExit(f"{model}, {chest.name}: {difference:.1e} of the range apart")
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
            f"scan from files to array, in turn; authors from uncompressed NIfTI, "
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
            f"{', '.join(f'{t:.1f}' for t in times)} |"
        )
    chests = ", ".join(next(iter(found["recipes"].values())))
    return "\n".join([*lines, "", f"Chests: {chests}."])


def main(data, named, rounds):
    """Compare what is named, or everything, and write down what was found."""
    torch.set_num_threads(1)
    fastlung.load_for(min(Path(data).iterdir()), "merlin")  # kernels are compiled by now
    found = json.loads(REFERENCES.read_text()) if named else {"recipes": {}}
    found["date"] = datetime.now(UTC).date().isoformat()
    found["versions"] = {name: version(name) for name in VERSIONS_OF}
    with tempfile.TemporaryDirectory() as folder:
        for chest in sorted(path for path in Path(data).iterdir() if path.is_dir()):
            nifti = as_nifti(chest, folder)
            for model in AUTHORS:
                if named and not {chest.name, model} <= named:
                    continue
                again = compared(chest, model, nifti, rounds)
                found["recipes"].setdefault(model, {})[chest.name] = again
                sys.stderr.write(f"{model} {chest.name} {again['difference']:.1e}\n")
    REFERENCES.write_text(json.dumps(found) + "\n")
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table(found)}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="folder with a folder for each chest")
    parser.add_argument("named", nargs="*", help="a recipe and chests to compare anew, and no more")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    main(given.data, set(given.named), given.rounds)
