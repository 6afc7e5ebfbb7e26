"""The lock of a folder: its holder goes, its file goes with it, and a file system may have none."""

import errno
import fcntl
from pathlib import Path

import pytest

from common.errors import UserError
from common.lock import locked


def test_a_lock_that_its_holder_takes_along_is_taken_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = fcntl.flock, []

    def flock(descriptor: int, kind: int) -> None:
        calls.append(kind)
        if len(calls) == 1:  # the holder ends between opening and locking
            (tmp_path / ".lock").unlink()
        real(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path):
        assert len(calls) == 2
        with pytest.raises(UserError, match="another process is writing here"), locked(tmp_path):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flock(descriptor: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path):
        pass
    assert "this file system has no locks (No locks available); see to it that no second" in capsys.readouterr().err
