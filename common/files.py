"""Files that appear whole or not at all, and one message where the system does not let them."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from common.errors import UserError

BUFFER = 2**18  # bytes: a shard is written in many small pieces
Create = Callable[..., IO[Any]]  # (name, mode="wb")


@contextmanager
def atomic_files(folder: Path) -> Iterator[Create]:
    """Lend a function that opens new files; they take their names in `folder` together, once all are on the disk.

    When the body raises, or the disk is full, nothing of them is left, and what stood under their names stays. The
    first one is removed before the others take their names, and comes last: where it is, all are of one writing, even
    if the process was killed between two of them.

    Raises:
        UserError: the system refuses to write there.
    """
    with as_user_error(folder), _commit_all(Path(folder)) as create:
        yield create


@contextmanager
def atomic_write(path: Path, mode: str = "wb", previous: Path | None = None) -> Iterator[IO[Any]]:
    """Open a new file that takes its name once it is on the disk; see atomic_files().

    What stood there until then takes the name `previous`, if that is given.

    Raises:
        UserError: the system refuses to write there.
    """
    path = Path(path)
    with as_user_error(path), _commit_all(path.parent, previous) as create:
        yield create(path.name, mode)


@contextmanager
def _commit_all(folder: Path, previous: Path | None = None) -> Iterator[Create]:
    opened: list[tuple[Path, Path, IO[Any]]] = []  # scratch file, the name it is to take, the file

    def create(name: str, mode: str = "wb") -> IO[Any]:
        scratch = folder / f".{name}.{os.getpid()}-{secrets.token_hex(4)}.tmp"  # ids occur on other machines, too
        file = scratch.open(mode, BUFFER, encoding=None if "b" in mode else "utf-8")
        opened.append((scratch, folder / name, file))
        return file

    try:
        yield create
        for _, _, file in opened:
            file.flush()
            os.fsync(file.fileno())
            file.close()
        if len(opened) > 1:
            opened[0][1].unlink(missing_ok=True)
        for scratch, path, _ in reversed(opened):
            if previous is not None and path.exists():
                os.replace(path, previous)
            os.replace(scratch, path)
    except BaseException:
        for scratch, _, file in opened:
            with suppress(OSError):  # what it still holds does not fit on the disk either
                file.close()
            with suppress(OSError):
                scratch.unlink()
        raise
    sync_folder(folder)


@contextmanager
def as_user_error(where: Path) -> Iterator[None]:
    """Turn the system's refusal into a UserError that says of which file or folder."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{where}: cannot be written: {reason}; what was there before is still there") from None


def append(path: Path, data: bytes | memoryview) -> None:
    """Add `data` to the end of a file, all of it or nothing.

    Raises:
        UserError: the system refuses to write there.
    """
    with as_user_error(path), open(path, "ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            while data:  # on a disk that gets full the first call writes a part, the second raises
                data = data[file.write(data) :]
        except BaseException:
            file.truncate(size)
            raise


def make_folder(folder: Path) -> None:
    """Make `folder` and those above it, unless they are there.

    Raises:
        UserError: the system refuses.
    """
    with as_user_error(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)


def remove_scratch(folder: Path) -> None:
    """Remove what killed processes left of files that they were writing; nobody else may be writing there.

    Raises:
        UserError: the system refuses.
    """
    with as_user_error(folder):
        for path in Path(folder).glob(".*.tmp"):
            path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable: a rename is only safe once its folder is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
