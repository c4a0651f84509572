"""`fastlung preview` and `fastlung.preview`: a picture of a scan wherever it is."""

import io
import zipfile

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from tiny_series import CANARY, write_group, write_source

import fastlung
from fastlung.cli import main
from fastlung.config import build_config
from fastlung.demo.phantom import phantom
from fastlung.errors import (
    ConfigError,
    NothingFoundError,
    ObjectNotFoundError,
    SeveralSeriesError,
    StoreError,
)
from fastlung.report.picture import picture

pytestmark = pytest.mark.compiled


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A source of two series, a sink with both, and a volume."""
    root = tmp_path_factory.mktemp("preview")
    write_source(root / "scans", 2)
    options = {"spacing_mm": 5.0, "workers": 0, "names": "folder"}
    fastlung.process(str(root / "scans"), str(root / "sink"), **options)
    chest = phantom((40, 60, 60), (6.0, 5.0, 5.0))
    nib.save(nib.Nifti1Image(chest.hu.T, chest.grid.affine_ras), root / "ct.nii.gz")
    return root


def size_of(png):
    return Image.open(io.BytesIO(png)).size


def test_a_scan_of_a_sink_is_drawn_as_it_was_written(places):
    (first, *_) = sorted((places / "sink" / "scans").iterdir())

    found = fastlung.preview(first)

    assert found.png == (first / "preview.png").read_bytes()
    assert found._repr_png_() == found.png
    assert "bytes" in repr(found)
    for file in ("preview.png", "image.npy", "metadata.json"):
        assert fastlung.preview(first / file).png == found.png


def test_options_for_a_scan_that_is_drawn_as_it_was_written_are_refused(places):
    (first, *_) = sorted((places / "sink" / "scans").iterdir())
    for options in ({"preset": "tutorial"}, {"spacing_mm": 2.0}):
        with pytest.raises(ConfigError, match="drawn as it was written"):
            fastlung.preview(first, **options)


def test_a_series_is_processed_first(places):
    folder = places / "scans" / "patient-00" / "ct"

    found = fastlung.preview(folder, spacing_mm=5.0)

    (first, *_) = sorted((places / "sink" / "scans").iterdir())
    assert found.png == (first / "preview.png").read_bytes()
    assert CANARY.encode() not in found.png


def test_archives_and_volumes_are_drawn(places, tmp_path):
    with zipfile.ZipFile(tmp_path / "ct.zip", "w") as archive:
        for file in (places / "scans" / "patient-00" / "ct").iterdir():
            archive.write(file, file.name)

    for path in (tmp_path / "ct.zip", places / "ct.nii.gz"):
        assert min(size_of(fastlung.preview(path, spacing_mm=5.0).png)) > 300


def test_slices_are_chosen_by_index_and_by_height(places):
    volume = places / "ct.nii.gz"
    by_index = fastlung.preview(volume, slice_number=10, spacing_mm=6.0)

    # Slice 10 of 40, 6 mm apart around 0.
    assert fastlung.preview(volume, slice_mm=-57.0, spacing_mm=6.0).png == by_index.png
    assert fastlung.preview(volume, slice_mm=-57.0 + 2.9, spacing_mm=6.0).png == by_index.png
    assert fastlung.preview(volume, slice_mm=-50.0, spacing_mm=6.0).png != by_index.png
    for wrong in ({"slice_number": 40}, {"slice_number": -1}, {"slice_mm": 500.0}):
        with pytest.raises(ConfigError, match=r"0 to 39, at -117\.0 to 117\.0 mm"):
            fastlung.preview(volume, spacing_mm=6.0, **wrong)


def test_one_of_several_series_is_chosen_by_number(tmp_path):
    write_group(tmp_path, 1)
    for file in list(tmp_path.iterdir()):
        file.rename(file.with_name(f"a-{file.name}"))
    write_group(tmp_path, 2)

    with pytest.raises(SeveralSeriesError, match="holds 2 CT series"):
        fastlung.preview(tmp_path, spacing_mm=5.0)
    first, second = (fastlung.preview(tmp_path, number=n, spacing_mm=5.0) for n in (1, 2))
    assert first.png != second.png
    with pytest.raises(SeveralSeriesError, match="number 3"):
        fastlung.preview(tmp_path, number=3, spacing_mm=5.0)
    with pytest.raises(SeveralSeriesError, match="counted from 1"):
        fastlung.preview(tmp_path, number=0, spacing_mm=5.0)


def test_what_cannot_be_drawn_is_said_in_a_sentence(places, tmp_path):
    (tmp_path / "notes.txt").write_text("no scan")
    cases = [
        (places / "scans", ConfigError, "several folders"),
        (places / "nothing", ObjectNotFoundError, "no such"),
        (tmp_path, NothingFoundError, "no CT series"),
        (places / "sink", ConfigError, "is a sink; name one of its scans"),
    ]
    for path, kind, said in cases:
        with pytest.raises(kind, match=said):
            fastlung.preview(path)
    with pytest.raises(StoreError, match="cannot be written"):
        fastlung.preview(places / "ct.nii.gz").save(tmp_path / "no" / "such.png")


def test_the_command_writes_a_file_and_says_so(places, tmp_path, capsys):
    out = tmp_path / "one.png"
    (first, *_) = sorted((places / "sink" / "scans").iterdir())

    assert main(["preview", str(first), "--out", str(out)]) == 0

    assert out.read_bytes() == (first / "preview.png").read_bytes()
    assert str(out) in capsys.readouterr().out
    low_mm = fastlung.open_scan(first).grid.origin_mm[2]
    words = ["--out", str(out), "--slice", f"{low_mm + 20}mm", "--quiet"]
    assert main(["preview", str(first), *words]) == 0
    assert capsys.readouterr().out == ""
    for wrong in ("-20", "x", "1.5"):
        assert main(["preview", str(first), "--slice", wrong]) == 2
        assert "an index such as 120, or a height" in capsys.readouterr().err
    assert main(["preview", str(first), "--slice", "4000"]) == 2


def test_a_sink_may_do_without(places, tmp_path):
    words = ["--spacing", "5", "--workers", "0", "--no-preview"]

    assert main(["process", str(places / "scans"), str(tmp_path / "sink"), *words]) == 0

    files = {path.name for path in (tmp_path / "sink" / "scans").glob("*/*")}
    assert files == {"image.npy", "mask.npy", "metadata.json", "outcome.json", "group"}
    assert build_config(preview="none").digest != build_config().digest


def test_the_picture_of_a_real_chest_is_small(data_dir):
    raw = fastlung.read_series(data_dir / "chest" / "lidc-idri-0306")
    result = fastlung.process_scan(raw, build_config())

    png = picture(result)

    assert 100_000 < len(png) <= 200_000
    pixels = np.asarray(Image.open(io.BytesIO(png)))
    assert pixels.shape > (600, 600)
