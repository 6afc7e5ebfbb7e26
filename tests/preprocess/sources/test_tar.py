"""The reader of .tar headers: it agrees with tarfile, and stops with a word where an archive is not whole."""

import io
import tarfile
import time
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.sources.tar import Member, TarError, read_members

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
KINDS = [tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]


def write(path: Path, members: list[tuple[str, bytes, bytes]], form: int) -> None:
    """Write members of name, kind and content."""
    with tarfile.open(path, "w", format=form) as archive:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "./frame_0000000001.jpg"
            member.size = len(content) if kind in (tarfile.REGTYPE, tarfile.AREGTYPE) else 0
            archive.addfile(member, io.BytesIO(content))


def by_tarfile(path: Path) -> list[tuple[str, int, int]]:
    with tarfile.open(path) as archive:
        return [(m.name, m.offset_data, m.size) for m in archive if m.isreg()]


def plain(members: list[Member]) -> list[tuple[str, int, int]]:
    return [(m.name, m.offset, m.size) for m in members if m.is_file]


NAMES = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=60)
PATHS = st.lists(NAMES, min_size=1, max_size=5).map("/".join).filter(lambda path: path.strip("/."))


@pytest.mark.parametrize("form", FORMATS)
@given(members=st.lists(st.tuples(PATHS, st.sampled_from(KINDS), st.binary(max_size=1500)), max_size=5))
@settings(max_examples=60, deadline=timedelta(seconds=2))
def test_it_finds_what_tarfile_finds(
    tmp_path_factory: pytest.TempPathFactory, form: str, members: list[tuple[str, bytes, bytes]]
) -> None:
    path = tmp_path_factory.getbasetemp() / f"{form}.tar"
    try:
        write(path, members, FORMATS[form])
    except ValueError:  # ustar has no room for some names
        return
    assert plain(list(read_members(str(path)))) == by_tarfile(path)


def test_names_that_need_headers_of_their_own_are_read(tmp_path: Path) -> None:
    names = ["a" * 90, "n" * 150, "d" * 99 + "/" + "n" * 99, "ä" * 120, "last"]
    for form in FORMATS.values():
        path = tmp_path / "long.tar"
        kept = [name for name in names if form != tarfile.USTAR_FORMAT or len(name.encode()) < 101 or "/" in name]
        write(path, [(name, tarfile.REGTYPE, name.encode()) for name in kept], form)
        assert [member.name for member in read_members(str(path))] == kept


def test_sparse_files_are_none(tmp_path: Path) -> None:
    for records in ({"GNU.sparse.major": "1"}, {"GNU.sparse.size": "4"}):
        member = tarfile.TarInfo("frame_0000000001.jpg")
        member.size, member.pax_headers = 3, records
        with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
            archive.addfile(member, io.BytesIO(b"jpg"))
        assert [member.is_file for member in read_members(str(tmp_path / "a.tar"))] == [False]
    header = tarfile.TarInfo("frame_0000000001.jpg")
    header.type = tarfile.GNUTYPE_SPARSE
    (tmp_path / "a.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    assert [member.is_file for member in read_members(str(tmp_path / "a.tar"))] == [False]


def test_sizes_beyond_octal_digits_are_read(tmp_path: Path) -> None:
    member = tarfile.TarInfo("large")
    member.size = 9 * 2**30  # more than eleven octal digits hold
    with open(tmp_path / "a.tar", "wb") as file:
        file.write(member.tobuf(tarfile.GNU_FORMAT))
        file.truncate(512 + member.size + 1024)  # a hole
    assert plain(list(read_members(str(tmp_path / "a.tar")))) == [("large", 512, 9 * 2**30)]


def test_every_cut_leaves_the_members_before_it_and_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    write(path, [(f"./frame_{n:010d}.jpg", tarfile.REGTYPE, b"x" * 700) for n in range(4)], tarfile.PAX_FORMAT)
    whole, members = path.read_bytes(), by_tarfile(path)
    for length in range(1, members[-1][1] + 700, 97):
        path.write_bytes(whole[:length])
        found, why = read_up_to_a_fault(path)
        assert plain(found) == members[: len(found)]
        assert "cut off" in why


def read_up_to_a_fault(path: Path) -> tuple[list[Member], str]:
    found: list[Member] = []
    try:
        for member in read_members(str(path)):
            found.append(member)
    except TarError as error:
        return found, str(error)
    return found, ""


@pytest.mark.parametrize(("start", "kind"), [(b"\x1f\x8b\x08", "gzip"), (b"BZh9", "bzip2"), (b"PK\x03\x04", "zip")])
def test_a_compressed_archive_is_called_that(tmp_path: Path, start: bytes, kind: str) -> None:
    (tmp_path / "a.tar").write_bytes(start + bytes(2000))
    with pytest.raises(TarError, match=f"compressed by {kind}"):
        list(read_members(str(tmp_path / "a.tar")))


def test_it_takes_less_than_half_of_tarfiles_time(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    write(path, [(f"./frame_{n:010d}.jpg", tarfile.REGTYPE, b"x" * 600) for n in range(3000)], tarfile.GNU_FORMAT)
    times: list[list[float]] = [[], []]
    for _ in range(3):
        for position, read in enumerate((lambda: list(read_members(str(path))), lambda: by_tarfile(path))):
            begin = time.process_time()
            assert len(read()) == 3000
            times[position].append(time.process_time() - begin)
    assert min(times[0]) < min(times[1]) / 2
