"""Groups are leaves, in one order, and their digest notices every change."""

import errno
import hashlib
import os
from pathlib import Path

import pytest
from folders import make

from fastlung.source.groups import discover
from fastlung.storage import LocalStore
from fastlung.text import printable


def test_groups_are_the_files_directly_in_one_folder(tmp_path):
    store = make(tmp_path, "top.dcm", "a/2", "a/1", "a/deep/er/1", "b/1")
    groups = list(discover(store))
    assert [(g.label, [o.key for o in g.objects]) for g in groups] == [
        (".", ["top.dcm"]),
        ("a", ["a/1", "a/2"]),
        ("a/deep/er", ["a/deep/er/1"]),
        ("b", ["b/1"]),
    ]
    assert groups[1].size_bytes == 6
    assert groups[1].id == hashlib.sha256(b"a").hexdigest()[:16]


def test_a_sink_inside_the_source_is_left_out(tmp_path):
    store = make(tmp_path, "a/1", "out/scans/x/image.npy", "out/run.json", "outer/1")
    assert [group.label for group in discover(store, without="out")] == ["a", "outer"]


def test_the_digest_notices_any_change_and_nothing_else(tmp_path):
    store = make(tmp_path, "a/1", "a/2", "b/1")
    os.utime(tmp_path / "a/1", ns=(1, 1))

    def digests():
        return {group.label: group.digest for group in discover(store)}

    before = digests()
    (tmp_path / "b/1").write_bytes(b"more")
    assert digests()["a"] == before["a"]
    assert digests()["b"] != before["b"]
    os.utime(tmp_path / "a/1", ns=(1, 2))
    touched = digests()["a"]
    assert touched != before["a"]
    (tmp_path / "a/1").rename(tmp_path / "a/3")
    assert digests()["a"] not in (before["a"], touched)


def test_pseudonyms_stand_for_labels_and_ids(tmp_path):
    store = make(tmp_path, "Doe^John/1")
    (group,) = discover(store, pseudonym=lambda path: path[::-1])
    assert group.label == "nhoJ^eoD"
    assert group.id == hashlib.sha256(b"nhoJ^eoD").hexdigest()[:16]
    assert group.objects[0].key == "Doe^John/1"


def test_hostile_folder_names_make_labels_that_can_be_printed(tmp_path):
    name = b"two\nlines\x1b[2J\xff"
    (tmp_path / os.fsdecode(name)).mkdir()
    (tmp_path / os.fsdecode(name) / "1").write_bytes(b"")
    (group,) = discover(LocalStore(tmp_path))
    assert group.label == r"two\nlines\x1b[2J\udcff"
    group.label.encode()  # no undecodable byte is left
    assert group.id == hashlib.sha256(name).hexdigest()[:16]


def test_an_unreadable_folder_is_a_group_without_objects(tmp_path, monkeypatch):
    store = make(tmp_path, "a/1", "b/1")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "a":
            raise PermissionError(errno.EACCES, "no")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    groups = list(discover(store))
    assert [(g.label, g.unreadable, len(g.objects)) for g in groups] == [
        ("b", False, 1),
        ("a", True, 0),
    ]


@pytest.mark.parametrize(("text", "shown"), [("plain ü", "plain ü"), ("a\tb", r"a\tb"), ("", "")])
def test_printable_keeps_what_prints(text, shown):
    assert printable(text) == shown
