"""The frame table: where each stored frame of each clip lies."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Annotated, Any, BinaryIO, get_type_hints

import numpy as np
from numpy.typing import NDArray

from pipeline.format.index import VERSION, Target
from pipeline.format.streams import MAX_PIXELS, UNKNOWN, Stream, channels_of, planes_of
from pipeline.format.tfrecord import RECORD_FOOTER, RECORD_FRAMING, RECORD_HEADER


@dataclass(frozen=True)
class FrameTable:
    """Positions of all files: N clips of K targets, F stored frames of S streams, P planes each.

    A file is what the split's codec stores of an image: a JPEG, or height x width x channels bytes of pixels. Annotated
    are the dtype as it is stored ("S": bytes, as wide as the longest) and the shape.
    """

    streams: tuple[Stream, ...]
    clip_id: Annotated[NDArray[np.bytes_], "S", "N"]  # utf-8
    video_id: Annotated[NDArray[np.bytes_], "S", "N"]
    participant_id: Annotated[NDArray[np.bytes_], "S", "N"]
    targets: Annotated[NDArray[np.int64], "i8", "N", "K"]  # the class of each, UNKNOWN (-1) or from 0
    start_frame: Annotated[NDArray[np.int64], "i8", "N"]  # the segment in the video, 1-based, both ends inclusive
    stop_frame: Annotated[NDArray[np.int64], "i8", "N"]
    height: Annotated[NDArray[np.int32], "i4", "N"]  # pixels
    width: Annotated[NDArray[np.int32], "i4", "N"]
    num_frames: Annotated[NDArray[np.int32], "i4", "N"]  # stored, whose rows follow one another in the order of clips
    record_shard: Annotated[NDArray[np.int32], "i4", "N"]  # position in index.json's list of shards
    record_offset: Annotated[NDArray[np.int64], "i8", "N"]  # bytes from the start of the shard
    record_size: Annotated[NDArray[np.int64], "i8", "N"]  # bytes, framing included
    record_crc: Annotated[NDArray[np.uint32] | None, "u4", "N"]  # its last four bytes; None of version 1
    frame_index: Annotated[NDArray[np.int32], "i4", "F", "S"]  # number of the frame's file, 1-based
    offset: Annotated[NDArray[np.int64], "i8", "F", "P"]  # of the file, bytes from the start of the shard
    size: Annotated[NDArray[np.int32], "i4", "F", "P"]  # bytes
    crc: Annotated[NDArray[np.uint32], "u4", "F", "P"]  # CRC-32C of the file's bytes, not masked

    @classmethod
    def of(cls, streams: Sequence[Stream], num_targets: int, values: Mapping[str, Any]) -> FrameTable:
        """A table of whatever makes arrays of the declared types; text is encoded, no clips are no rows."""
        sizes = _sizes(streams, num_targets)
        arrays = {}
        for name, dtype, shape in _columns():
            given = [v.encode() for v in values[name]] if dtype.kind == "S" else values[name]
            arrays[name] = np.asarray(given, dtype, order="C").reshape(-1, *(sizes[letter] for letter in shape[1:]))
        return cls(tuple(streams), **arrays)

    @staticmethod
    def column_names() -> list[str]:
        """Names of the arrays, in the order in which they are stored."""
        return [name for name, *_ in _columns()]

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.clip_id)

    @cached_property
    def first_frame(self) -> NDArray[np.int64]:
        """Clip i has the rows first_frame[i]:first_frame[i + 1] of the arrays that have a row per stored frame."""
        return np.concatenate([[0], np.cumsum(self.num_frames, dtype=np.int64)])

    @property
    def rgb_index(self) -> NDArray[np.int32]:
        """Numbers of the RGB files [F]."""
        return self.index_of("rgb")

    @property
    def flow_index(self) -> NDArray[np.int32]:
        """Numbers of the u and v files [F]."""
        return self.index_of("flow")

    def index_of(self, stream: str) -> NDArray[np.int32]:
        """Numbers of a stream's files [F]."""
        return self.frame_index[:, [found.name for found in self.streams].index(stream)]

    def frames(self, clip: int) -> slice:
        """Rows of one clip in the arrays that have a row per stored frame."""
        return slice(int(self.first_frame[clip]), int(self.first_frame[clip + 1]))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name, in the order in which they are stored."""
        return {name: array for name in self.column_names() if (array := getattr(self, name)) is not None}

    def cut(self, begin: int, end: int) -> FrameTable:
        """The clips begin..end - 1."""
        rows = {"N": slice(begin, end), "F": slice(int(self.first_frame[begin]), int(self.first_frame[end]))}
        axes = {name: shape[0] for name, _, shape in _columns()}
        arrays: dict[str, Any] = {name: array[rows[axes[name]]] for name, array in self.arrays().items()}
        return FrameTable(self.streams, **({"record_crc": None} | arrays))

    @staticmethod
    def merge(tables: Sequence[FrameTable]) -> FrameTable:
        """One table of many, each of one shard, in their order."""
        arrays = {name: np.concatenate([table.arrays()[name] for table in tables]) for name in tables[0].arrays()}
        arrays["record_shard"] = np.repeat(np.arange(len(tables), dtype=np.int32), [len(table) for table in tables])
        return FrameTable(tables[0].streams, **arrays)

    def write(self, file: BinaryIO | io.BytesIO) -> None:
        """Write as an uncompressed .npz; equal tables give equal bytes (NumPy dates every member 1980-01-01)."""
        np.savez(file, **self.arrays())  # type: ignore[arg-type]

    @classmethod
    def read(cls, data: bytes, streams: Sequence[Stream], num_targets: int, version: int = VERSION) -> FrameTable:
        """Parse the bytes of an .npz that `write` made; ValueError on anything else."""
        arrays = _read_version_1(data) if version == 1 else read_arrays(data, cls.column_names())
        sizes = {
            "N": arrays["clip_id"].size,
            "F": (arrays["frame_index"].shape or (0,))[0],
            **_sizes(streams, num_targets),
        }
        for name, dtype, letters in _columns():
            found, shape = arrays[name], tuple(sizes[letter] for letter in letters)
            if found is None:
                continue
            if found.shape != shape or (found.dtype.kind != "S" if dtype.kind == "S" else found.dtype != dtype):
                raise ValueError(f"{name} is {found.dtype} {list(found.shape)}, expected {dtype} {list(shape)}")
        return cls(tuple(streams), **arrays)

    def check(self, shard_bytes: Sequence[int]) -> None:
        """ValueError unless every row points inside its shard, and every file inside its clip's record."""
        if len(self) == 0:
            raise ValueError("no clips")
        counts = self.num_frames
        if (counts < 1).any() or self.first_frame[-1] != len(self.frame_index):
            raise ValueError("num_frames does not cut the frames into clips of at least one")
        if (self.record_shard < 0).any() or (self.record_shard >= len(shard_bytes)).any():
            raise ValueError("record_shard names a shard that the index does not have")
        ends = np.asarray(shard_bytes, np.int64)[self.record_shard]
        if (self.record_offset < 0).any() or (self.record_size < RECORD_FRAMING).any():
            raise ValueError("a record begins before its shard or is shorter than its framing")
        if (self.record_size > ends).any() or (self.record_offset > ends - self.record_size).any():
            raise ValueError("a record ends after its shard")
        low = np.repeat(self.record_offset + RECORD_HEADER.size, counts)[:, None]
        high = np.repeat(self.record_offset + self.record_size - RECORD_FOOTER.size, counts)[:, None]
        if (self.size < 1).any() or (self.offset < low).any() or (self.offset > high - self.size).any():
            raise ValueError("a file lies outside its record")
        pixels = self.height.astype(np.int64) * self.width
        if min(self.height.min(), self.width.min()) < 1 or pixels.max() > MAX_PIXELS:
            raise ValueError("a height or width is out of range")

    def check_targets(self, targets: Sequence[Target]) -> None:
        """ValueError unless every class is UNKNOWN or one of those that its target has names for."""
        for target, labels in zip(targets, self.targets.T, strict=True):
            if labels.min() < UNKNOWN or (target.classes is not None and labels.max() >= len(target.classes)):
                raise ValueError(f"a class of {target.name} is out of range")

    def check_pixels(self) -> None:
        """ValueError unless every file is as long as the pixels of its frame."""
        pixels = np.repeat(self.height.astype(np.int64) * self.width, self.num_frames)
        if (self.size != pixels[:, None] * channels_of(self.streams)).any():
            raise ValueError("a file is not as long as the pixels of its frame")


@lru_cache(1)
def _columns() -> list[tuple[str, np.dtype[Any], tuple[str, ...]]]:
    """Name, dtype and shape of every column."""
    hints = get_type_hints(FrameTable, include_extras=True).items()
    layouts = [(name, *hint.__metadata__) for name, hint in hints if hasattr(hint, "__metadata__")]
    return [(name, np.dtype(dtype), tuple(shape)) for name, dtype, *shape in layouts]


def _sizes(streams: Sequence[Stream], num_targets: int) -> dict[str, int]:
    return {"K": num_targets, "S": len(streams), "P": len(planes_of(streams))}


def _read_version_1(data: bytes) -> dict[str, Any]:
    """The columns of a table of version 1: both streams, one target, clips by where their frames begin."""
    new = {"targets", "num_frames", "frame_index", "record_crc"}
    old = ("label", "first_frame", "rgb_index", "flow_index")
    arrays: dict[str, Any] = read_arrays(data, [*(name for name, *_ in _columns() if name not in new), *old])
    label, first_frame, *indices = (arrays.pop(name) for name in old)
    try:
        counts = np.diff(first_frame)
        fits = len(first_frame) == len(label) + 1 and first_frame[0] == 0 and counts.dtype == np.int64
        if not fits or counts.max(initial=0) >= 2**31 or counts.min(initial=1) < 1:
            raise ValueError("first_frame does not cut the frames into clips of at least one")
        arrays |= {"targets": label[:, None], "num_frames": counts.astype(np.int32), "record_crc": None}
        return arrays | {"frame_index": np.stack(indices, axis=1)}
    except (TypeError, IndexError) as error:
        raise ValueError(f"not a frame table: {error!r}") from error


def read_arrays(data: bytes, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Read members of an uncompressed .npz; ValueError on anything else.

    np.load would make room for whatever a header says: gigabytes, for some bytes of a crafted or damaged file.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: _read_array(archive, name) for name in names}
    except Exception as error:  # zipfile, struct, ast and NumPy raise a dozen kinds between them
        raise ValueError(f"not a frame table: {error!r}") from error


def _read_array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """One array; its header is believed where its member has just as many bytes."""
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed")
    content = archive.read(member)  # no more than there is, and its CRC is checked
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError(f"{name} has another header than NumPy writes for it")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    begin = file.tell()
    if is_fortran or dtype.hasobject or min(shape, default=0) < 0:
        raise ValueError(f"{name} is {dtype} {list(shape)} in another order")
    if math.prod(shape) * dtype.itemsize != len(content) - begin:
        raise ValueError(f"{name} says {dtype} {list(shape)}, and has {len(content) - begin} bytes")
    array: NDArray[Any] = np.frombuffer(content, dtype, offset=begin).reshape(shape).copy()
    return array
