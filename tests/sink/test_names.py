"""No tag and no folder name chooses a path; no two scans share a name."""

import hashlib
import re
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlung.dicom.pixel_format import safe_uid
from fastlung.errors import ConfigError, StoreError
from fastlung.sink.names import claim_name, load_names_key, pseudonym, recorded_uid, scan_names
from fastlung.source.groups import SourceGroup
from fastlung.storage import LocalStore
from fastlung.text import stable_id

KEY = b"0123456789abcdef"
SAFE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}")


def group(label="a/b"):
    return SourceGroup(id=stable_id(label), label=label, objects=())


@given(
    uids=st.lists(st.text(max_size=70), min_size=1, max_size=6),
    label=st.text(max_size=200),
    names=st.sampled_from(["series", "folder", "hash"]),
)
def test_any_input_gives_distinct_safe_names(uids, label, names):
    found = scan_names(uids, group(label), names, KEY)
    assert len(set(found)) == len(found) == len(uids)
    assert all(SAFE.fullmatch(name) for name in found)
    assert found == scan_names(uids, group(label), names, KEY)


def test_series_names_are_uids_where_these_are_plain():
    uids = ["1.2.840.1", "../../evil", "1.2\n", ".1.2", "...", "", "1" * 65, "1.2.840.1"]
    found = scan_names(uids, group(), "series", KEY)
    assert found[0] == "1.2.840.1"
    assert found[-1] == "1.2.840.1-2"
    assert all(re.fullmatch("(uid-)?[0-9a-f]{16}", name) for name in found[1:-1])


def test_an_odd_uid_has_one_name_wherever_it_is_told_and_the_source_begins():
    guid = "{3F2504E0-4F89-11D3-9A0C-0305E82C3301}"
    names = {scan_names([guid], group(label), "series", b"")[0] for label in (".", "a", "a/b")}
    read = safe_uid(guid)
    names |= {recorded_uid(guid, b""), read, recorded_uid(read, b"")}
    names |= set(scan_names([read], group("c"), "series", b""))
    assert names == {f"uid-{hashlib.sha256(guid.encode()).hexdigest()[:16]}"}


@given(st.lists(st.text("ab/._ü", min_size=1, max_size=8), unique=True, min_size=2, max_size=30))
def test_different_folders_get_different_names(labels):
    names = [scan_names(["1"], group(label), "folder", KEY)[0] for label in labels]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("LIDC-IDRI-0001/01-01-2000", "LIDC-IDRI-0001__01-01-2000"),
        ("patient_1", "patient_1"),
        ("Müller", "M_ller-" + stable_id("Müller")[:8]),
        ("a__b", "a__b-" + stable_id("a__b")[:8]),
        (".", "scan-" + stable_id(".")[:8]),
    ],
)
def test_folder_names_stay_readable(label, name):
    assert scan_names(["1.2", "1.3"], group(label), "folder", KEY) == (name, f"{name}-2")


def test_hashed_names_depend_on_the_key_and_hide_the_uid():
    (mine,) = scan_names(["1.2.3"], group(), "hash", KEY)
    (other,) = scan_names(["1.2.3"], group(), "hash", KEY[::-1])
    assert mine != other
    assert mine == pseudonym(KEY, "1.2.3")
    assert "1.2.3" not in mine


def test_a_name_has_one_owner_and_copies_get_their_own(tmp_path):
    sink = LocalStore(tmp_path)
    groups = [stable_id(str(number)) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda group_id: claim_name(sink, "1.2", group_id), groups))
    assert names.count("1.2") == 1
    assert len(set(names)) == 8
    assert all(name in ("1.2", f"1.2-{gid[:8]}") for name, gid in zip(names, groups, strict=True))
    assert names == [claim_name(sink, "1.2", group_id) for group_id in groups]


def test_no_name_is_taken_from_its_owner(tmp_path):
    sink = LocalStore(tmp_path)
    sink.create("scans/a/group", b"x")
    sink.create("scans/a-01234567/group", b"y")
    sink.create("scans/a-0123456789abcdef/group", b"z")
    with pytest.raises(StoreError, match="two other source groups"):
        claim_name(sink, "a", "0123456789abcdef")


def test_the_key_file_is_made_once_for_its_owner_only(tmp_path, monkeypatch):
    monkeypatch.delenv("FASTLUNG_NAMES_KEY", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with ThreadPoolExecutor(4) as pool:
        keys = list(pool.map(lambda _: load_names_key(), range(8)))
    assert len(set(keys)) == 1
    assert len(keys[0]) == 64
    (path,) = (tmp_path / "fastlung").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_environment_comes_first_and_short_keys_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("FASTLUNG_NAMES_KEY", KEY.decode())
    assert load_names_key() == KEY
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("FASTLUNG_NAMES_KEY", "secret")
    with pytest.raises(ConfigError, match="at least 16 characters") as caught:
        load_names_key()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("what", "mode", "word"),
    [
        ("names.key", 0o666, "may read"),
        ("names.key", 0o640, "may read"),
        (".", 0o777, "may replace"),
    ],
)
def test_a_key_that_others_may_read_or_replace_is_refused(tmp_path, monkeypatch, what, mode, word):
    monkeypatch.delenv("FASTLUNG_NAMES_KEY", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    key = load_names_key()
    (tmp_path / "fastlung" / what).chmod(mode)
    with pytest.raises(ConfigError, match=word) as caught:
        load_names_key()
    assert key.decode() not in str(caught.value)
