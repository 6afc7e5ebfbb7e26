"""Files appear whole or not at all, on a disk that is full, read-only or gone, too."""

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from common.errors import UserError
from common.files import append, atomic_files, atomic_write, make_folder, remove_scratch


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """What a full disk does, without one: the write that would pass the limit fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_group(folder: Path, **texts: str) -> None:
    with atomic_files(folder) as create:
        for name, text in texts.items():
            create(name, "w").write(text)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_file_that_does_not_fit_leaves_the_one_before_and_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("before")
    with files_of_at_most(1000), pytest.raises(UserError, match=r": cannot be written: File too large; what was there"):
        write_group(tmp_path, a="x" * 100_000)
    assert contents(tmp_path) == {"a": "before"}


def test_files_of_a_group_take_their_names_together_or_none_does(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("before")
    with files_of_at_most(1000), pytest.raises(UserError, match=r": cannot be written: File too large"):
        write_group(tmp_path, a="now", b="x" * 2000)  # which is held back until the end
    assert contents(tmp_path) == {"a": "before"}
    with atomic_files(tmp_path) as create:
        create("a", "w").write("now")
        create("b").write(b"too")
        assert (tmp_path / "a").read_text() == "before"
    assert contents(tmp_path) == {"a": "now", "b": "too"}


def test_what_the_body_raises_comes_through_and_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_write(tmp_path / "a") as file:
            file.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert contents(tmp_path) == {}


def test_a_line_that_does_not_fit_is_not_begun(tmp_path: Path) -> None:
    path = tmp_path / "log"
    append(path, b"first\n")
    with files_of_at_most(10), pytest.raises(UserError, match=r"/log: cannot be written: File too large"):
        append(path, b"the second\n")
    assert path.read_bytes() == b"first\n"
    append(path, b"third\n")
    assert path.read_bytes() == b"first\nthird\n"


def test_a_folder_that_vanishes_while_a_file_is_written_is_one_message(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    make_folder(folder)

    def write() -> None:
        with atomic_write(folder / "a", "w") as file:
            file.write("x")
            shutil.rmtree(folder)

    with pytest.raises(UserError, match=r"runs/a: cannot be written: No such file or directory"):
        write()
    assert not folder.exists()
    with pytest.raises(UserError, match=r"runs/a: cannot be written: No such file or directory"):
        append(folder / "a", b"x")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")
def test_a_folder_that_is_read_only_is_one_message(tmp_path: Path) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("this container may not mount a file system")
    try:
        for work in (lambda: append(tmp_path / "a", b"x"), lambda: make_folder(tmp_path / "b")):
            with pytest.raises(UserError, match="cannot be written: Read-only file system"):
                work()
        with pytest.raises(UserError, match="a: cannot be written: Read-only file system"):
            with atomic_write(tmp_path / "a"):
                pass
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_scratch_files_of_dead_processes_are_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".a.123.tmp", "a.tmp", ".hidden"):
        (tmp_path / name).write_text(name)
    remove_scratch(tmp_path)
    remove_scratch(tmp_path / "nowhere")
    assert contents(tmp_path).keys() == {"a.tmp", ".hidden"}


def test_a_group_that_is_stopped_between_two_names_lacks_its_first_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_group(tmp_path, a="before", b="before", c="before")
    real, renamed = os.replace, []

    def replace(source: Path, target: Path) -> None:
        if renamed:
            raise KeyboardInterrupt
        renamed.append(target)
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        write_group(tmp_path, a="now", b="now", c="now")
    assert contents(tmp_path) == {"b": "before", "c": "now"}
