"""Whatever is typed as SOURCE, each scan in it is one group, found once."""

import pytest
from folders import make
from tiny_series import write_group

from fastlung.config import StoreOptions
from fastlung.errors import ConfigError, NothingFoundError, ObjectNotFoundError
from fastlung.source.groups import discover
from fastlung.source.open import open_source, store_of
from fastlung.source.read import join_series
from fastlung.storage import LocalStore

OPTIONS = StoreOptions()


def found(url, **options):
    source = open_source(str(url), options.pop("storage", OPTIONS))
    source.check()
    return {group.label: group for group in source.groups(**options)}


def contents(groups):
    return {label: [info.key for info in group.objects] for label, group in groups.items()}


def test_archives_and_volumes_in_a_folder_stand_for_themselves(tmp_path):
    make(tmp_path, "a/1", "a/2.zip", "a/v.mhd", "a/v.raw", "a/w.MHD", "a/w.zraw", "a/x.nii.gz",
         "a/lone.raw", "b.tar.gz", "B.tar.gz", "a/y.mha")  # fmt: skip
    groups = {group.label: group for group in discover(LocalStore(tmp_path))}
    assert contents(groups) == {
        "b.tar.gz": ["b.tar.gz"],
        "B.tar.gz": ["B.tar.gz"],
        "a": ["a/1", "a/lone.raw"],
        "a/2.zip": ["a/2.zip"],
        "a/v.mhd": ["a/v.mhd", "a/v.raw"],
        "a/w.MHD": ["a/w.MHD", "a/w.zraw"],
        "a/x.nii.gz": ["a/x.nii.gz"],
        "a/y.mha": ["a/y.mha"],
    }
    kinds = {group.kind for label, group in groups.items() if label not in ("a", "a/2.zip")}
    assert kinds == {"volume", "archive"}
    assert groups["a"].kind == "files"


@pytest.mark.parametrize("name", ["s.zip", "s.tgz", "v.nii.gz"])
def test_a_source_may_be_one_file(tmp_path, monkeypatch, name):
    make(tmp_path, name, "other.zip", "other/1")
    assert contents(found(tmp_path / name)) == {name: [name]}
    assert contents(found(f"file://{tmp_path}/{name}")) == {name: [name]}
    monkeypatch.chdir(tmp_path)
    assert contents(found(name)) == {name: [name]}
    (tmp_path / "folder.zip").mkdir()
    make(tmp_path, "folder.zip/1")
    assert contents(found(tmp_path / "folder.zip")) == {".": ["1"]}


def test_a_header_as_source_brings_its_data(tmp_path):
    make(tmp_path, "v.mhd", "v.zraw", "u.raw")
    assert contents(found(tmp_path / "v.mhd")) == {"v.mhd": ["v.mhd", "v.zraw"]}


def test_a_list_names_folders_files_and_archives(tmp_path, monkeypatch):
    make(tmp_path, "a/1", "a/deep/1", "b/1.dcm", "b/2", "b/3", "c.zip", "v.mhd", "v.raw", "d/1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("# mine\na/\nb/1.dcm\nb/3\nc.zip\nv.mhd\na/deep\na\n")
    groups = found("list.txt")
    assert contents(groups) == {
        "a": ["1"],
        "a/deep": ["deep/1"],
        "b": ["1.dcm", "3"],
        "./c.zip": ["c.zip"],
        "./v.mhd": ["v.mhd", "v.raw"],
    }
    source = open_source("list.txt", OPTIONS)
    for group in groups.values():
        for info in group.objects:
            assert store_of(group, source.store, OPTIONS).get(info.key, etag=info.etag)


def test_what_a_list_names_and_is_not_there_fails_by_itself(tmp_path):
    make(tmp_path, "a/1", "empty/x")
    (tmp_path / "empty/x").unlink()
    lines = [f"{tmp_path}/{name}" for name in ("a", "gone", "empty", "gone.zip", "gone.dcm")]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    groups = found(tmp_path / "list.txt")
    unreadable = {label.rpartition("/")[2] for label, group in groups.items() if group.unreadable}
    assert unreadable == {"gone", "empty", "gone.zip", "gone.dcm"}
    assert len(groups) == 5


def test_the_sink_is_never_a_source(tmp_path):
    store = make(tmp_path / "in", "a/1", "out/scans/x")
    assert contents(found(tmp_path / "in", sink=LocalStore(tmp_path / "in/out"))) == {"a": ["a/1"]}
    with pytest.raises(ConfigError, match="the same folder"):
        found(tmp_path / "in", sink=store)
    (tmp_path / "list.txt").write_text(f"{tmp_path}/in/a\n{tmp_path}/in\n")
    with pytest.raises(ConfigError, match="the same folder"):
        found(tmp_path / "list.txt", sink=store)


@pytest.mark.parametrize(
    ("name", "error"),
    [("gone", ObjectNotFoundError), ("gone.txt", ObjectNotFoundError), ("file", ConfigError),
     ("none.txt", NothingFoundError)],
)  # fmt: skip
def test_a_source_that_cannot_be_one_is_refused(tmp_path, name, error):
    make(tmp_path, "file")
    (tmp_path / "none.txt").write_text("# nothing\n")
    with pytest.raises(error):
        found(tmp_path / name)


def test_a_manifest_is_taken_as_it_is(s3):
    for key in ("uid1/1.dcm", "uid1/2.dcm", "uid2/1.dcm", "uid3/1.dcm", "all.zip"):
        s3.client.put_object(Bucket=s3.bucket, Key=key, Body=b"x")
    manifest = (
        f"# from the data portal\ncp --show-progress s3://{s3.bucket}/uid1/* .\n"
        f"cp s3://{s3.bucket}/uid2/* .\ncp s3://{s3.bucket}/all.zip .\n"
        f"cp s3://{s3.bucket}/gone/* .\ncp s3://{s3.bucket}/gone.zip .\n"
    )
    s3.client.put_object(Bucket=s3.bucket, Key="m/manifest.s5cmd", Body=manifest.encode())
    groups = found(f"s3://{s3.bucket}/m/manifest.s5cmd", storage=s3.options)
    at = f"s3://{s3.bucket}"
    assert contents(groups) == {
        f"{at}/uid1": ["1.dcm", "2.dcm"],
        f"{at}/uid2": ["1.dcm"],
        f"{at}/all.zip": ["all.zip"],
        f"{at}/gone": [],
        f"{at}/gone.zip": [],
    }
    assert groups[f"{at}/uid2"].store_url == f"{at}/uid2"
    assert contents(found(f"{at}/all.zip", storage=s3.options)) == {"all.zip": ["all.zip"]}


def test_a_bucket_that_does_not_exist_costs_its_entry_of_a_manifest(s3, tmp_path):
    (tmp_path / "m.txt").write_text("cp s3://nosuchbucket/x/* .\n")
    (group,) = open_source(str(tmp_path / "m.txt"), s3.options).groups()
    assert group.unreadable
    assert "no such bucket" in group.problem


def spread(root):
    """Two series whose slices lie in turns in three folders, and what is none."""
    for seed in (1, 2):
        write_group(root / "all", seed)
        for number, path in enumerate(sorted((root / "all").iterdir())):
            target = root / f"part{number % 3}" / f"{seed}-{path.name}"
            target.parent.mkdir(exist_ok=True)
            path.rename(target)
    (root / "all").rmdir()
    make(root, "part0/README", "part1/more.zip")
    return root


def test_spread_series_are_put_together(tmp_path):
    store = LocalStore(spread(tmp_path))
    groups = list(join_series(discover(store), lambda _group: store))
    assert [group.label for group in groups] == ["part1/more.zip", "1.2.3.1", "1.2.3.2"]
    for seed, group in enumerate(groups[1:], start=1):
        assert len(group.objects) == 20
        assert {info.key.split("/")[1][0] for info in group.objects} == {str(seed)}
    again = list(join_series(discover(store), lambda _group: store))
    assert [(group.id, group.digest) for group in again] == [(g.id, g.digest) for g in groups]


def test_series_without_a_uid_stay_in_their_folders(tmp_path):
    write_group(tmp_path / "a", 1, slices=3, uid="")
    write_group(tmp_path / "b", 2, slices=3, uid="")
    store = LocalStore(tmp_path)
    groups = list(join_series(discover(store), lambda _group: store))
    assert [(group.label, len(group.objects)) for group in groups] == [("a", 3), ("b", 3)]


def test_spread_series_are_called_by_pseudonyms_where_names_are_hashed(tmp_path):
    store = LocalStore(spread(tmp_path))
    groups = list(join_series(discover(store), lambda _group: store, lambda text: text[::-1]))
    assert [group.label for group in groups[1:]] == ["1.3.2.1", "2.3.2.1"]
