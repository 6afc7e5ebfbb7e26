"""Folder lock: one writer per folder."""

import errno
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from common.errors import UserError
from common.files import as_user_error

WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # what file systems say that have none
PATIENCE_SECONDS = 0.5  # for those who hold it just to take it away


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock; it goes with the process that holds it.

    It works between machines as far as their file system's locks do; where it has none, a warning says so.

    Raises:
        UserError: somebody else holds it, or the folder cannot be written to.
    """
    path = folder / ".lock"
    with as_user_error(folder):
        descriptor = _hold(path)
    try:
        yield
    finally:
        with suppress(OSError):  # a disk that failed meanwhile keeps a file that holds nobody up
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _hold(path: Path) -> int:
    """Open and lock a file, whose descriptor is returned."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Else its last holder took the file with it, between our two calls.
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except OSError as error:
            if error.errno in WITHOUT_LOCKS:
                _warn(path.parent, error)
                return descriptor
            if not isinstance(error, BlockingIOError):
                raise
        os.close(descriptor)
        if time.monotonic() > end:
            raise UserError(f"{path.parent}: another process is writing here; wait for it, or end it first")
        time.sleep(PATIENCE_SECONDS / 10)


def _warn(folder: Path, error: OSError) -> None:
    reason = f"this file system has no locks ({error.strerror})"
    print(f"warning: {folder}: {reason}; see to it that no second process writes here", file=sys.stderr)
