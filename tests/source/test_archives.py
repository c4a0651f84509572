"""Archives give back their files, whatever they are called, and never more than is allowed."""

import gzip
import io
import tarfile
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlung.errors import (
    FastlungError,
    FormatError,
    InsufficientMemoryError,
    LimitError,
    UnsupportedError,
)
from fastlung.source import archives
from fastlung.source.archives import unpack


def zipped(files, method=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(files, mode="w"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


PACKERS = {
    "zip": zipped,
    "stored zip": lambda files: zipped(files, zipfile.ZIP_STORED),
    "tar": tarred,
    "tar.gz": lambda files: tarred(files, "w:gz"),
}


@pytest.fixture(params=PACKERS)
def pack(request):
    return PACKERS[request.param]


def test_files_come_back_whatever_they_are_called(pack, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {
        "../../etc/passwd": b"1",
        "/abs": b"2",
        "a/b.dcm": b"3" * 100_000,
        "a": b"",
        "ü\n": b"5",
    }
    assert sorted(unpack(pack(files)).values()) == sorted(files.values())
    # Numbers, and of the names only what tells a slice from a file of another kind.
    kinds = {key[:6].isdecimal() and key[6:] for key in unpack(pack(files))}
    assert kinds == {".dcm", ".other"}
    assert list(tmp_path.iterdir()) == []


def test_what_file_managers_hide_is_left_out(pack):
    files = {"__MACOSX/._1.dcm": b"x", ".DS_Store": b"x", "a/.b/1": b"x", "a/1.dcm": b"slice"}
    assert list(unpack(pack(files)).values()) == [b"slice"]


def test_an_archive_within_is_a_file_like_any_other(pack):
    inner = pack({"1.dcm": b"slice"})
    assert list(unpack(pack({"inner.zip": inner})).values()) == [inner]


def test_links_devices_and_sparse_members_are_left_out():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            member = tarfile.TarInfo(f"member{kind!r}")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    assert unpack(out.getvalue()) == {}


def test_bytes_are_counted_as_they_inflate(pack):
    bomb = pack({"1.dcm": bytes(5_000_000), "2.dcm": bytes(5_000_000)})
    assert len(unpack(bomb, memory_bytes=11_000_000)) == 2
    with pytest.raises(InsufficientMemoryError, match="inflates beyond 6,000,000 bytes"):
        unpack(bomb, memory_bytes=6_000_000)


def test_there_is_a_limit_whatever_the_memory(pack, monkeypatch):
    monkeypatch.setattr(archives, "MAX_INFLATED_BYTES", 100_000)
    with pytest.raises(LimitError, match="inflates beyond 100,000 bytes"):
        unpack(pack({"1.dcm": bytes(200_000)}), memory_bytes=10**12)


def test_members_are_counted(pack, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 10)
    assert len(unpack(pack({str(n): b"" for n in range(10)}))) == 10
    with pytest.raises(LimitError, match="more than 10 members"):
        unpack(pack({str(n): b"" for n in range(11)}))


def test_a_zip_that_lies_about_its_sizes_is_held_to_what_inflates():
    honest = zipped({"1.dcm": bytes(3_000_000)})
    lying = honest.replace((3_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert lying != honest
    with pytest.raises(FastlungError):
        unpack(lying, memory_bytes=1_000_000)


def test_encrypted_and_unusual_zips_are_refused_by_name():
    plain = zipped({"1.dcm": b"slice"})
    entry = plain.index(b"PK\x01\x02")
    encrypted = plain[: entry + 8] + b"\x01" + plain[entry + 9 :]
    with pytest.raises(UnsupportedError, match="encrypted"):
        unpack(encrypted)
    with pytest.raises(UnsupportedError, match="method 14, expected deflate"):
        unpack(zipped({"1.dcm": b"slice"}, zipfile.ZIP_LZMA))


@pytest.mark.parametrize("junk", [b"", b"junk" * 1000, gzip.compress(b"no tar" * 1000)])
def test_what_is_no_archive_says_so(junk):
    with pytest.raises(FormatError, match=r"expected zip, tar or tar\.gz"):
        unpack(junk)


@given(data=st.data())
def test_damaged_archives_fail_as_ours_or_give_files(data):
    kind = data.draw(st.sampled_from(sorted(PACKERS)))
    whole = PACKERS[kind]({"1.dcm": b"slice" * 50, "2.dcm": bytes(300)})
    cut = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 3))):
        if cut:
            cut[data.draw(st.integers(0, len(cut) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        unpack(bytes(cut), memory_bytes=10_000_000)
    except FastlungError:
        return
