"""Reads the bytes of single JPEGs out of folders and .tar files."""

import os
from types import TracebackType

from preprocess.frames import Source

MAX_OPEN_TARS = 16


class JpegFiles:
    """Reads JPEGs from folders and .tar files, and keeps a few .tar files open."""

    def __init__(self) -> None:
        self._tars: dict[str, int] = {}

    def __enter__(self) -> "JpegFiles":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def read(self, source: Source, number: int, offset: int, size: int) -> bytes:
        """The bytes of one JPEG; ValueError when they are not there."""
        try:
            if source.is_tar:
                data = _read(self._tar(source.path), offset, size)
            else:
                descriptor = os.open(source.name(number), os.O_RDONLY)
                try:
                    data = _read(descriptor, 0, size)
                finally:
                    os.close(descriptor)
        except OSError as error:
            raise ValueError(f"cannot be read ({error.strerror})") from None
        if len(data) != size:
            raise ValueError(f"has {len(data)} bytes, {size} a moment ago; is it still being copied?")
        return data

    def _tar(self, path: str) -> int:
        if path not in self._tars:
            if len(self._tars) >= MAX_OPEN_TARS:
                self._close()
            self._tars[path] = os.open(path, os.O_RDONLY)
        return self._tars[path]

    def _close(self) -> None:
        for descriptor in self._tars.values():
            os.close(descriptor)
        self._tars.clear()


def _read(descriptor: int, offset: int, size: int) -> bytes:
    """`size` bytes, fewer only where the file ends; one call unless the system gives less."""
    data = os.pread(descriptor, size, offset)
    while 0 < len(data) < size:
        more = os.pread(descriptor, size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data
