"""Frame listing of a video's folder or .tar, and the bytes of its JPEGs."""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from preprocess.sources.advice import explain_missing, explain_names, explain_tar
from preprocess.sources.layouts import Layout, Names, choose, numbered
from preprocess.sources.tar import TarError, read_members

Numbers = NDArray[np.int64]
Found = dict[Names, NDArray[np.int64]]  # numbers, offsets and sizes [3, n] of the files that are named alike

MAX_OPEN_TARS = 16
MAX_LISTINGS = 4  # archives whose members are kept in mind, for clips of another split


class SourceError(Exception):
    """Frames that cannot be used: the file or folder, why, and a hint if there is one."""

    def __init__(self, file: str, why: str, hint: str = "") -> None:
        super().__init__(file, why, hint)
        self.file, self.why, self.hint = file, why, hint


class Source(NamedTuple):
    """Where the JPEGs of one plane of a video lie."""

    path: str  # a folder, or a .tar
    is_tar: bool
    names: Names  # of the files in it
    base: int = 1  # the number in the first frame's name, 0 or 1

    def name(self, number: int) -> str:
        """One frame (from 1), for messages and for opening it when it is a file."""
        return f"{self.path}/{self.names.name(number - 1 + self.base)}"


@dataclass(frozen=True)
class Stream:
    """The frames that one plane of a video has."""

    source: Source
    numbers: Numbers  # [n] ascending
    offsets: Numbers  # [n] bytes into the .tar; zeros for a folder
    sizes: Numbers | None  # [n] bytes; None for a folder, whose files are asked one by one
    fault: str = ""  # why an archive has no more than these

    @property
    def last(self) -> int:
        """The last frame's number: how many frames there are, when none is missing between."""
        return int(self.numbers[-1])

    def missing(self, first: int, last: int) -> tuple[int, int]:
        """How many of the frames first..last are not there, and the first of those."""
        begin, end = np.searchsorted(self.numbers, (first, last + 1))
        here = self.numbers[begin:end]
        gaps = np.flatnonzero(here != np.arange(first, first + len(here)))
        return last + 1 - first - len(here), first + int(gaps[0] if len(gaps) else len(here))

    def locate(self, wanted: Numbers) -> tuple[Numbers, Numbers]:
        """Offsets and sizes in bytes, each [T], of frames that are there."""
        rows = np.searchsorted(self.numbers, wanted)
        if self.sizes is not None:
            return self.offsets[rows], self.sizes[rows]
        return np.zeros(len(wanted), np.int64), np.array([_file_size(self.source.name(n)) for n in wanted], np.int64)


def first_there(paths: Sequence[str]) -> str:
    """The first of a video's possible folders, or .tar, that is there; else the first."""
    return next((path for path in paths if os.path.isdir(path) or os.path.isfile(f"{path}.tar")), paths[0])


def list_planes(root: str, path: str, planes: Sequence[str], layout: Layout) -> dict[str, Stream]:
    """The planes of a video's RGB or flow, from its folder, else from the .tar beside it.

    Raises:
        SourceError: there is neither, or no frames of one of the planes are in it.
    """
    fault = ""
    is_tar = not os.path.isdir(path)
    if not is_tar:
        found = _list_folder(path, {pattern.folder for plane in planes for pattern in layout.patterns(plane)})
    elif os.path.isfile(f"{path}.tar"):
        path = f"{path}.tar"
        found, fault = _list_tar(path)
    else:
        raise SourceError(path, "is missing, as a folder and as a .tar", explain_missing(root, path))
    streams = {}
    for plane in planes:
        chosen = choose(list(found), layout.patterns(plane))
        if not chosen and fault:
            raise SourceError(path, f"is no whole, uncompressed .tar ({fault}); download it again", explain_tar(path))
        if not chosen:
            counts = {names: files.shape[1] for names, files in found.items()} if is_tar else None
            raise SourceError(path, f"holds no {layout.patterns(plane)[0]}", explain_names(path, plane, counts))
        streams[plane] = _stream(Source(path, is_tar, chosen[0]), {n: found[n] for n in chosen}, fault, layout)
    return streams


def _stream(source: Source, found: Found, fault: str, layout: Layout) -> Stream:
    """Join files of the fewest digits and those that need more (no zero in front)."""
    fewest = source.names.digits
    whole = [
        files[:, (names.digits == fewest) | (files[0] >= 10 ** (names.digits - 1))] for names, files in found.items()
    ]
    numbers, offsets, sizes = np.concatenate(whole, axis=1)
    numbers, last = np.unique(numbers[::-1], return_index=True)  # of a member that occurs twice tar has the later
    order = len(offsets) - 1 - last
    if numbers[0] < 1 and not layout.from_zero:
        raise SourceError(f"{source.path}/{source.names.name(0)}", "is there, but frames count from 1")
    base = min(1, int(numbers[0]))
    source = source._replace(base=base)
    return Stream(source, numbers + 1 - base, offsets[order], sizes[order] if source.is_tar else None, fault)


def _list_folder(path: str, insides: Iterable[str]) -> Found:
    members: list[tuple[str, int, int]] = []
    for inside in insides:
        folder = f"{path}/{inside}".rstrip("/")
        try:
            names = os.listdir(folder) if os.path.isdir(folder) else []
        except OSError as error:
            raise SourceError(folder, f"cannot be listed ({error.strerror})") from None
        members += [(f"{inside}/{name}" if inside else name, 0, 0) for name in names]
    return _group(members)


def _group(members: Iterable[tuple[str, int, int]]) -> Found:
    """Bring together what is named alike, of name, offset and size each."""
    found: dict[Names, list[tuple[int, int, int]]] = {}
    for name, offset, size in members:
        if (parsed := numbered(name)) is not None:
            found.setdefault(parsed[0], []).append((parsed[1], offset, size))
    return {names: np.array(rows, np.int64).T for names, rows in found.items()}


def _list_tar(path: str) -> tuple[Found, str]:
    """Numbered files of an archive, and why there are no more; each version is read once."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise SourceError(path, f"cannot be read ({error.strerror})") from None
    return _read_tar(path, status.st_size, status.st_mtime_ns)


@lru_cache(MAX_LISTINGS)
def _read_tar(path: str, size: int, changed: int) -> tuple[Found, str]:
    faults: list[str] = []
    return _group(_members(path, faults)), "".join(faults)


def _members(path: str, faults: list[str]) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of each plain file; a fault that ends them goes to `faults`."""
    try:
        for member in read_members(path):
            if member.name.startswith("/") or ".." in member.name.split("/"):
                why = f"has a member outside its folder ({member.name[:200]!r}); such archives are not read"
                raise SourceError(path, why)
            if member.is_file:
                yield member.name, member.offset, member.size
            elif numbered(member.name) is not None:
                raise SourceError(path, f"{member.name} is a link or special file; allowed: plain files")
    except (TarError, OSError) as error:
        faults.append(str(error))


def _file_size(name: str) -> int:
    try:
        status = os.stat(name)
    except OSError as error:
        raise SourceError(name, f"cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(name, "is no plain file")
    return status.st_size


class JpegFiles:
    """Reads JPEGs from folders and .tar files, and keeps a few .tar files open."""

    def __init__(self) -> None:
        self._tars: dict[str, int] = {}

    def __enter__(self) -> "JpegFiles":
        return self

    def __exit__(self, *_: object) -> None:
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
