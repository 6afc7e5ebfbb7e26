"""Finds the frames of a video, in folders or .tar files, and which of them a clip stores."""

import io
import os
import re
import stat
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from configs.epic import flow_index, stride_of_id

Numbers = NDArray[np.int64]

_FILE = re.compile(r"frame_([0-9]{10})\.jpg")
_MEMBER = re.compile(r"(?:\./)?(?:([uv])/)?frame_([0-9]{10})\.jpg")
MAX_OPEN_TARS = 16
_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)


class SourceError(Exception):
    """Frames that cannot be used: the file or folder, and why."""

    def __init__(self, file: str, why: str) -> None:
        super().__init__(file, why)
        self.file, self.why = file, why


class Source(NamedTuple):
    """Where the JPEGs of one stream of a video lie."""

    path: str  # a folder of frame_%010d.jpg, or a .tar that holds them
    is_tar: bool
    inside: str  # "", "u/" or "v/": where in the .tar

    def name(self, number: int) -> str:
        """One frame, for messages and for opening it when it is a file."""
        return f"{self.path}/{self.inside if self.is_tar else ''}frame_{number:010d}.jpg"


@dataclass(frozen=True)
class Stream:
    """The frames that one stream of a video has."""

    source: Source
    numbers: Numbers  # [n] ascending
    offsets: Numbers  # [n] bytes into the .tar; zeros for a folder
    sizes: Numbers | None  # [n] bytes; None for a folder, whose files are asked one by one

    @property
    def last(self) -> int:
        """The last frame's number: how many frames there are, when none is missing between."""
        return int(self.numbers[-1])

    def num_missing(self, first: int, last: int) -> int:
        """How many of the frames first..last are not there."""
        begin, end = np.searchsorted(self.numbers, (first, last + 1))
        return int(last + 1 - first - (end - begin))

    def first_missing(self, first: int, last: int) -> int:
        """The first frame of first..last that is not there; there must be one."""
        begin, end = np.searchsorted(self.numbers, (first, last + 1))
        here = self.numbers[begin:end]
        gaps = np.flatnonzero(here != np.arange(first, first + len(here)))
        return first + int(gaps[0]) if len(gaps) else first + len(here)

    def locate(self, wanted: Numbers) -> tuple[Numbers, Numbers]:
        """Offsets and sizes in bytes, each [T], of frames that are there."""
        rows = np.searchsorted(self.numbers, wanted)
        if self.sizes is not None:
            return self.offsets[rows], self.sizes[rows]
        return np.zeros(len(wanted), np.int64), np.array([_file_size(self.source.name(n)) for n in wanted], np.int64)


@dataclass(frozen=True)
class Video:
    """The three streams of a video and how its RGB and flow frames belong together."""

    streams: tuple[Stream, Stream, Stream]  # in the order of STREAMS
    stride: int  # RGB frames a flow frame
    stride_from: str  # how it was found

    @property
    def rgb(self) -> Stream:
        """The RGB frames."""
        return self.streams[0]

    @property
    def last_flow(self) -> int:
        """The last flow frame, in u or v: one that only the other has is a gap."""
        return max(self.streams[1].last, self.streams[2].last)

    def flow_of(self, rgb: Numbers) -> Numbers:
        """The flow frames that stand beside RGB frames; behind the last flow frame, the last."""
        return np.minimum(flow_index(rgb, self.stride), self.last_flow)


def open_video(root: str, participant: str, video: str) -> Video:
    """List the frames of a video below `root`; SourceError when they are missing or do not belong together."""
    (rgb,) = _list(f"{root}/{participant}/rgb_frames/{video}", ("",))
    u, v = _list(f"{root}/{participant}/flow_frames/{video}", ("u/", "v/"))
    stride, how = find_stride(video, rgb.last, max(u.last, v.last))
    return Video((rgb, u, v), stride, how)


def find_stride(video: str, num_rgb: int, num_flow: int) -> tuple[int, str]:
    """RGB frames a flow frame, and how that was found: from the frame counts, checked against the video's id.

    The flow may lack some of its last frames, and rates are only ever 1 or 2, so counts within a fifth decide.

    Raises:
        SourceError: the counts fit neither rate, or not that of the id.
    """
    of_id = stride_of_id(video)
    counts = f"{num_rgb} RGB and {num_flow} flow frames"
    fitting = [stride for stride in (1, 2) if _fits(stride, num_rgb, num_flow)]
    if not fitting:
        raise SourceError(
            video, f"{counts}: neither one flow frame for each RGB frame nor one for two; copy them again"
        )
    if of_id is None:
        return min(fitting, key=lambda stride: abs(-(-num_rgb // stride) - num_flow)), "counts"
    if of_id not in fitting:
        kind = {2: "2018's PXX_YY, stride 2", 1: "2020's PXX_1YY, stride 1"}[of_id]
        raise SourceError(video, f"{counts} say stride {fitting[0]}, but the id says {kind}; frames of another video?")
    return of_id, "counts and id"


def _fits(stride: int, num_rgb: int, num_flow: int) -> bool:
    expected = -(-num_rgb // stride)
    return abs(expected - num_flow) <= max(1, expected // 5)


def choose_frames(start: int, stop: int, num_frames: int | None) -> Numbers:
    """Numbers of the stored RGB frames: evenly spaced over start..stop, or (None) all of them."""
    count = stop - start + 1
    if num_frames is None:
        return np.arange(start, stop + 1)
    return start + np.linspace(0, count - 1, num_frames).astype(np.int64)


def _list(path: str, insides: tuple[str, ...]) -> list[Stream]:
    """The streams of a video's RGB or flow: from the folder when there is one, else from the .tar beside it."""
    if os.path.isdir(path):
        streams = [_list_folder(Source(f"{path}/{inside}".rstrip("/"), False, inside)) for inside in insides]
    elif os.path.isfile(f"{path}.tar"):
        streams = _list_tar(f"{path}.tar", insides)
    else:
        raise SourceError(path, "is missing, as a folder and as a .tar")
    for stream in streams:
        where = f"{stream.source.path}/{stream.source.inside if stream.source.is_tar else ''}"
        if not len(stream.numbers):
            hint = f" (the folder counts, not {path}.tar)" if os.path.isfile(f"{path}.tar") else ""
            raise SourceError(where, f"holds no frame_%010d.jpg{hint if not stream.source.is_tar else ''}")
        if stream.numbers[0] < 1:
            raise SourceError(where, "has a frame_0000000000.jpg; frames count from 1")
    return streams


def _list_folder(source: Source) -> Stream:
    try:
        names: Iterable[str] = os.listdir(source.path)
    except OSError as error:
        raise SourceError(source.path, f"cannot be listed ({error.strerror})") from None
    found = (_FILE.fullmatch(name) for name in names)
    numbers = np.array(sorted(int(match[1]) for match in found if match), np.int64)
    return Stream(source, numbers, np.zeros(len(numbers), np.int64), None)


def _list_tar(path: str, insides: tuple[str, ...]) -> list[Stream]:
    """Index the members once; a member that occurs twice counts as tar has it, the later one."""
    found: dict[str, dict[int, tuple[int, int]]] = {inside: {} for inside in insides}
    try:
        with _Bounded(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                match = _MEMBER.fullmatch(member.name)
                _check_member(path, member, match is not None, file.size)
                inside = f"{match[1]}/" if match and match[1] else ""
                if match and inside in found:
                    found[inside][int(match[2])] = (member.offset_data, member.size)
                archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps all; an hour of video has 10^5
    except (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError) as error:
        raise SourceError(path, f"is no whole, uncompressed .tar ({error}); download it again") from None
    return [_tar_stream(Source(path, True, inside), members) for inside, members in found.items()]


class _Bounded(io.BufferedReader):
    """A file that is never asked for more bytes than it has, as a .tar whose header says 2^60 would have it."""

    def __init__(self, path: str) -> None:
        super().__init__(io.FileIO(path))
        self.size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = None, /) -> bytes:
        left = max(0, self.size - self.tell())
        return super().read(left if size is None else max(0, min(size, left)))


def _check_member(path: str, member: tarfile.TarInfo, is_frame: bool, end: int) -> None:
    if member.size < 0:  # or tarfile would go back, and on for ever
        raise SourceError(path, f"{member.name[:200]!r} says that it has {member.size} bytes; download it again")
    if member.name.startswith("/") or ".." in member.name.split("/"):
        raise SourceError(path, f"has a member outside its folder ({member.name[:200]!r}); such archives are not read")
    if is_frame and (member.type not in _PLAIN or member.issparse()):
        raise SourceError(path, f"{member.name} is a link or special file; allowed: plain files")
    if is_frame and member.offset_data + member.size > end:
        raise SourceError(path, f"is cut off inside {member.name}; download it again")


def _tar_stream(source: Source, members: dict[int, tuple[int, int]]) -> Stream:
    numbers = np.array(sorted(members), np.int64)
    places = np.array([members[number] for number in numbers.tolist()], np.int64).reshape(-1, 2)
    return Stream(source, numbers, places[:, 0].copy(), places[:, 1].copy())


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
