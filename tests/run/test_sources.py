"""A scan is the same scan, whatever it is packed in and wherever its files lie."""

import io
import json
import shutil
import tarfile
import zipfile

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its own name
from tiny_series import CANARY, payloads, write_source

import fastlung
from fastlung.cli import main

pytestmark = pytest.mark.compiled
SCANS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("source"), SCANS)


@pytest.fixture(scope="module")
def calm(folder, tmp_path_factory):
    """Payloads of a run over plain folders, without the claims that name the folders."""
    sink = tmp_path_factory.mktemp("calm")
    process(folder, sink)
    return voxels(sink)


def process(source, sink, **options):
    return fastlung.process(str(source), str(sink), **{"workers": 0, "spacing_mm": 2.0, **options})


def voxels(sink):
    return {key: data for key, data in payloads(sink).items() if key.endswith(".npy")}


def pack(folder, target, how):
    target.parent.mkdir(parents=True, exist_ok=True)
    if how == "zip":
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(folder.rglob("*.dcm")):
                archive.write(path, f"study/{path.name}")
            archive.writestr("study/README", "not DICOM")
    else:
        with tarfile.open(target, f"w:{how}") as archive:
            archive.add(folder, ".")


@pytest.mark.parametrize(("how", "suffix"), [("zip", "zip"), ("", "tar"), ("gz", "tar.gz")])
def test_archives_give_the_same_voxels(folder, calm, tmp_path, how, suffix):
    for patient in sorted(folder.iterdir()):
        pack(patient, tmp_path / "in" / f"{patient.name}.{suffix}", how)
    summary = process(tmp_path / "in", tmp_path / "out", workers=0 if how else 1)
    assert summary.exit_code == 0
    assert voxels(tmp_path / "out") == calm
    again = process(tmp_path / "in", tmp_path / "out")
    assert again.groups_already_done == SCANS
    assert len(fastlung.inspect(tmp_path / "in")) == SCANS


def test_one_archive_of_several_series_is_one_group(folder, calm, tmp_path):
    pack(folder, tmp_path / "all.tar.gz", "gz")
    summary = process(tmp_path / "all.tar.gz", tmp_path / "out", names="series")
    assert (summary.groups_total, len(summary.outcomes)) == (1, SCANS)
    assert voxels(tmp_path / "out") == calm


def test_a_damaged_archive_is_one_failed_scan(folder, tmp_path):
    pack(folder / "patient-00", tmp_path / "in" / "good.zip", "zip")
    whole = (tmp_path / "in" / "good.zip").read_bytes()
    (tmp_path / "in" / "bad.zip").write_bytes(whole[: len(whole) // 2])
    summary = process(tmp_path / "in", tmp_path / "out")
    assert {o.name: o.error for o in summary.outcomes} == {"1.2.3.0": "", "bad.zip": "FormatError"}
    assert not any(outcome.transient for outcome in summary.outcomes)


def test_a_list_gives_the_same_voxels(folder, calm, tmp_path):
    lines = [f"{patient}/ct" for patient in sorted(folder.iterdir())]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    for workers in (0, 2):
        process(tmp_path / "list.txt", tmp_path / f"out{workers}", workers=workers)
        assert voxels(tmp_path / f"out{workers}") == calm


def test_a_missing_entry_of_a_list_is_one_failed_scan_that_may_pass(folder, tmp_path):
    (tmp_path / "list.txt").write_text(f"{folder}/patient-00\n{tmp_path}/gone\n")
    summary = process(tmp_path / "list.txt", tmp_path / "out")
    (lost,) = [outcome for outcome in summary.outcomes if outcome.status == "failed"]
    assert "cannot be listed, or holds nothing" in lost.message
    assert lost.transient
    shutil.copytree(folder / "patient-01", tmp_path / "gone")
    again = process(tmp_path / "list.txt", tmp_path / "out")
    assert (again.exit_code, again.groups_already_done) == (0, 1)


def test_a_manifest_of_buckets_gives_the_same_voxels(s3, folder, calm, tmp_path):
    lines = []
    for number, patient in enumerate(sorted(folder.iterdir())):
        for path in patient.rglob("*.dcm"):
            key = f"uid{number}/{path.name}"
            s3.client.put_object(Bucket=s3.bucket, Key=key, Body=path.read_bytes())
        lines.append(f"cp s3://{s3.bucket}/uid{number}/* .")
    (tmp_path / "manifest.s5cmd").write_text("\n".join(["# manifest", *lines]))
    process(tmp_path / "manifest.s5cmd", tmp_path / "out", storage=s3.options)
    assert voxels(tmp_path / "out") == calm


def test_spread_series_become_one_scan_each(folder, calm, tmp_path):
    for path in folder.rglob("*.dcm"):
        target = tmp_path / "in" / f"date-{path.stem[-1]}" / f"{path.parts[-3]}-{path.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    summary = process(tmp_path / "in", tmp_path / "out", group_by="series")
    assert (summary.exit_code, summary.groups_total) == (0, SCANS)
    assert voxels(tmp_path / "out") == calm
    again = process(tmp_path / "in", tmp_path / "out", group_by="series")
    assert again.groups_already_done == SCANS
    assert len(fastlung.inspect(tmp_path / "in", group_by="series")) == SCANS
    with pytest.raises(fastlung.errors.SinkConflictError, match="group_by"):
        process(tmp_path / "in", tmp_path / "out")


@pytest.fixture(scope="module")
def volumes(folder, tmp_path_factory):
    """The same scans as SimpleITK writes them: a LUNA16 pair, .mha and .nii.gz, and a mask."""
    root = tmp_path_factory.mktemp("volumes")
    names = ["1.2.3.0.mhd", "1.2.3.1.mha", "1.2.3.2.nii.gz"]
    for name, patient in zip(names, sorted(folder.iterdir()), strict=True):
        raw = fastlung.read_series(patient / "ct")
        hu, grid = fastlung.to_hu(raw)
        image = sitk.GetImageFromArray(hu)
        image.SetSpacing(grid.spacing_mm[::-1])
        image.SetOrigin(grid.origin_mm)
        image.SetDirection(np.ravel(grid.direction).tolist())
        sitk.WriteImage(image, str(root / name), name.endswith((".mhd", ".gz")))
    sitk.WriteImage(sitk.Cast(image > -500, sitk.sitkUInt8), str(root / "mask.nii.gz"))
    return root


def test_volumes_give_the_same_voxels_as_their_dicom(volumes, calm, tmp_path):
    summary = process(volumes, tmp_path)
    assert sorted(outcome.status for outcome in summary.outcomes) == ["done"] * SCANS + ["skipped"]
    assert voxels(tmp_path).keys() == calm.keys()
    for key, data in voxels(tmp_path).items():
        ours, theirs = (np.load(io.BytesIO(blob)) for blob in (data, calm[key]))
        # SimpleITK stores spacing and origin as decimals, so a rounding may tip by one.
        assert (ours != theirs).mean() < 1e-4
        assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1
    (skipped,) = [outcome for outcome in summary.outcomes if outcome.status == "skipped"]
    assert "a mask or a picture" in skipped.message


def test_volumes_are_inspected_by_their_headers(volumes, capsys):
    assert main(["inspect", str(volumes), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    found = {entry["group"]: entry for entry in listed if entry["number"]}
    assert sorted(found) == ["1.2.3.0.mhd", "1.2.3.1.mha", "1.2.3.2.nii.gz"]
    for entry in found.values():
        assert (entry["slices"], entry["verdict"], entry["problem"]) == (20, ["regular"], "")


def test_hashed_names_tell_nothing_of_archives_lists_or_volumes(
    folder, volumes, tmp_path, monkeypatch
):
    monkeypatch.setenv("FASTLUNG_NAMES_KEY", "0123456789abcdef")
    root = tmp_path / CANARY
    pack(folder / "patient-00", root / f"{CANARY}.zip", "zip")
    for path in volumes.glob("1.2.3.0.*"):
        shutil.copy(path, root / f"{CANARY}{path.suffix}")
    text = (root / f"{CANARY}.mhd").read_text().replace("1.2.3.0", CANARY)
    (root / f"{CANARY}.mhd").write_text(text)
    (tmp_path / "list.txt").write_text(f"{root}\n{root}/gone\n")
    summary = process(tmp_path / "list.txt", tmp_path / "out", names="hash")
    assert sorted(o.status for o in summary.outcomes) == ["done", "done", "failed"]
    for path in (tmp_path / "out").rglob("*"):
        assert CANARY not in str(path.relative_to(tmp_path))
        assert path.is_dir() or CANARY.encode() not in path.read_bytes()
