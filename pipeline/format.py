"""The bytes of a shard set, declared once for writer and reader: records, frame table, index (docs/format.md)."""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, Literal, get_type_hints

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from configs.errors import UserError

FORMAT: Final = "clip-shards"
VERSION = 2
VERSIONS = (1, VERSION)  # that can be read
# What is stored of a frame: its JPEG file, the same pixels re-coded with restart markers, or its pixels.
CODECS = ("jpeg", "jpeg-restarts", "raw")
INDEX_NAME = "index.json"
TABLE_NAME: Final = "frames.npz"
UNKNOWN = -1  # the class of a clip whose target nobody knows

# TFRecord framing, little-endian: uint64 length, uint32 masked CRC of the length, payload, uint32 masked CRC of it.
RECORD_HEADER = struct.Struct("<QI")
RECORD_FOOTER = struct.Struct("<I")
RECORD_FRAMING = RECORD_HEADER.size + RECORD_FOOTER.size
MAX_PAYLOAD = 2**31 - 1  # protobuf parses no message that is longer
MAX_PIXELS = 2**26  # of a frame, so that a header's word alone cannot ask for gigabytes

# The wire tags of tf.train.Example: field number << 3 | 2 (length-delimited).
_FIELD_1, _FIELD_2, _FIELD_3 = b"\x0a", b"\x12", b"\x1a"


class ShardError(UserError):
    """A shard set that is missing, unfinished or damaged; the message names the file and the way out."""


Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]  # of what becomes a feature of a record
Count = Annotated[int, Field(ge=0, lt=2**63)]


class Entry(BaseModel):
    """What an index says of one thing; nothing is converted to fit."""

    model_config = ConfigDict(strict=True, frozen=True)


class Stream(Entry):
    """One stream of a split: `planes` images per frame, which share the file number `<name>_index`."""

    name: Name
    planes: tuple[Name, ...] = Field(strict=False, min_length=1)
    channels: Literal[1, 3]  # of an image


STREAMS = {
    "rgb": Stream(name="rgb", planes=("rgb",), channels=3),
    "flow": Stream(name="flow", planes=("flow_u", "flow_v"), channels=1),
}
PLANES = tuple(plane for stream in STREAMS.values() for plane in stream.planes)


def planes_of(streams: Iterable[Stream]) -> tuple[str, ...]:
    """Names of all planes, in the order of the frame table's columns."""
    return tuple(plane for stream in streams for plane in stream.planes)


def channels_of(streams: Iterable[Stream]) -> tuple[int, ...]:
    """Channels of each plane."""
    return tuple(stream.channels for stream in streams for _ in stream.planes)


def masked_crc(crc: int) -> int:
    """TFRecord's masking of a CRC-32C: rotated right by 15 bits, plus a constant."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def record_payload(record: bytes | memoryview) -> memoryview:
    """Take the framing off one whole record, both CRCs checked; ValueError says which part is wrong."""
    view = memoryview(record)
    if len(view) < RECORD_FRAMING:
        raise ValueError(f"{len(view)} bytes are shorter than a record's framing")
    length, length_crc = RECORD_HEADER.unpack_from(view)
    if masked_crc(crc32c(view[:8])) != length_crc:
        raise ValueError("the CRC of the record's length does not match")
    if length != len(view) - RECORD_FRAMING:
        raise ValueError(f"the record says {length} bytes, its place holds {len(view) - RECORD_FRAMING}")
    payload = view[RECORD_HEADER.size : -RECORD_FOOTER.size]
    if masked_crc(crc32c(payload)) != stored_crc(view):
        raise ValueError("the CRC of the record's payload does not match")
    return payload


def stored_crc(record: bytes | memoryview) -> int:
    """The masked CRC of its payload that a record, or its last chunk, ends with."""
    return int(RECORD_FOOTER.unpack(record[-RECORD_FOOTER.size :])[0])


@dataclass(frozen=True)
class ClipFields:
    """What a record says of its clip beside its files."""

    clip_id: str
    video_id: str
    participant_id: str
    start_frame: int
    stop_frame: int
    height: int
    width: int
    targets: Mapping[str, int]  # class by target
    frame_index: Mapping[str, Sequence[int]]  # [T] numbers of the files, by stream


# What a record has in any case, which no target may be named after.
ID_FEATURES = ("clip_id", "video_id", "participant_id")
NUMBER_FEATURES = ("start_frame", "stop_frame", "height", "width")


def encode_record(
    clip: ClipFields, files: Sequence[Sequence[bytes]], planes: Sequence[str] = PLANES
) -> tuple[bytes, NDArray[np.int64]]:
    """Frame one clip as a whole TFRecord; also where each file lies in it, [T, P] bytes from the record's start."""
    chunks, offsets = record_chunks(clip, files, planes)
    return b"".join(chunks), offsets


def record_chunks(
    clip: ClipFields, files: Sequence[Sequence[bytes]], planes: Sequence[str]
) -> tuple[list[bytes], NDArray[np.int64]]:
    """What `encode_record` gives in chunks, so that the files need not be copied."""
    chunks, offsets = encode_example(clip, files, planes)
    return _framed(chunks), offsets + RECORD_HEADER.size


def _framed(chunks: Sequence[bytes]) -> list[bytes]:
    crc = 0
    for chunk in chunks:
        crc = crc32c(chunk, crc)
    length = struct.pack("<Q", sum(map(len, chunks)))
    header = length + RECORD_FOOTER.pack(masked_crc(crc32c(length)))
    return [header, *chunks, RECORD_FOOTER.pack(masked_crc(crc))]


def encode_example(
    clip: ClipFields, files: Sequence[Sequence[bytes]], planes: Sequence[str]
) -> tuple[list[bytes], NDArray[np.int64]]:
    """Encode one clip as tf.train.Example; files is [T][P] in the order of `planes`.

    Returns the message in chunks, to be joined once, and where each file lies in it [T, P]. Features stand in the
    order of their names, so that equal clips give equal bytes.

    Raises:
        UserError: the clip is larger than a record can be.
    """
    features: dict[str, tuple[bytes, bytes]] = {}  # name -> (what stands before the value, the value)
    for name in ID_FEATURES:
        features[name] = _bytes_feature(name, getattr(clip, name).encode())
    numbers = {name: [getattr(clip, name)] for name in NUMBER_FEATURES}
    numbers |= {name: [label] for name, label in clip.targets.items()}
    numbers |= {f"{stream}_index": list(index) for stream, index in clip.frame_index.items()}
    for name, values in numbers.items():
        features[name] = _int64_feature(name, values)
    places = {}
    for row, column, name in _file_names(len(files), planes):
        features[name] = _bytes_feature(name, files[row][column])
        places[name] = (row, column)

    length = sum(len(prefix) + len(value) for prefix, value in features.values())
    chunks = [_FIELD_1 + _varint(length)]
    position = len(chunks[0])
    offsets = np.zeros((len(files), len(planes)), np.int64)
    for name in sorted(features):
        prefix, value = features[name]
        if name in places:
            offsets[places[name]] = position + len(prefix)
        chunks += prefix, value
        position += len(prefix) + len(value)
    if position > MAX_PAYLOAD:
        raise UserError(
            f"clip {clip.clip_id}: {position} bytes are more than a record can hold ({MAX_PAYLOAD}); "
            "lower data.frames_per_clip or cut the segment"
        )
    return chunks, offsets


def _file_names(num_frames: int, planes: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """(frame, column, feature name); numbers as wide as the last one needs, at least 3, so that names sort by time."""
    width = max(3, len(str(num_frames - 1)))
    for frame in range(num_frames):
        for column, plane in enumerate(planes):
            yield frame, column, f"{plane}/{frame:0{width}d}"


def _bytes_feature(name: str, value: bytes) -> tuple[bytes, bytes]:
    """Map entry {1: name, 2: Feature {1: BytesList {1: value}}}, cut in front of the value, which comes last."""
    item = _FIELD_1 + _varint(len(value))
    items = _FIELD_1 + _varint(len(item) + len(value)) + item
    return _entry(name, items, len(value)), value


def _int64_feature(name: str, values: Sequence[int]) -> tuple[bytes, bytes]:
    """Map entry {1: name, 2: Feature {3: Int64List {1: values, packed}}}."""
    packed = b"".join(map(_varint, values))
    item = _FIELD_1 + _varint(len(packed))
    items = _FIELD_3 + _varint(len(item) + len(packed)) + item
    return _entry(name, items, len(packed)), packed


def _entry(name: str, items: bytes, value_size: int) -> bytes:
    key = name.encode()
    start = _FIELD_1 + _varint(len(key)) + key + _FIELD_2 + _varint(len(items) + value_size) + items
    return _FIELD_1 + _varint(len(start) + value_size) + start


@lru_cache(2**16)  # each file's size is written three times, and most differ little
def _varint(value: int) -> bytes:
    """Base-128 digits, the lowest first; a negative number as 64-bit two's complement."""
    value = int(value) & 0xFFFFFFFFFFFFFFFF
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


@dataclass(frozen=True)
class FrameTable:
    """Where everything lies: N clips of K targets, F stored frames of S streams, that is P planes a frame.

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


class Target(Entry):
    """One thing that is to be told of a clip: a feature of its record, and a column of the table's targets."""

    name: Name
    classes: tuple[str, ...] | None = Field(default=None, strict=False)  # their names, where there are any
    clips: dict[str, Count] = Field(default_factory=dict)  # how many of each class, by its number

    @field_validator("name")
    @classmethod
    def _is_free(cls, name: str) -> str:
        if name in (*ID_FEATURES, *NUMBER_FEATURES) or name.endswith("_index"):
            raise ValueError(f"found {name!r}, which every record has already; allowed: another name")
        return name


class ShardEntry(Entry):
    """One shard."""

    name: Annotated[str, Field(pattern=r"^[0-9]{5,}\.tfrecord$")]
    bytes: Count
    crc32c: Count
    clips: Count


class TableEntry(Entry):
    """The frame table."""

    name: Literal["frames.npz"] = TABLE_NAME
    bytes: Count
    crc32c: Count


class Geometry(Entry):
    """How many clips have frames of a size."""

    height: Count
    width: Count
    clips: Count


class LeftOut(Entry):
    """A file for which a clip was left out."""

    clip_id: str
    file: str
    why: str


class Inputs(Entry):
    """What a split was packed from: digests of its clips and of what was chosen of the frames, and how much that is."""

    annotations: str | None = None
    frames: str | None = None
    num_files: Count | None = None
    num_bytes: Count | None = None


class PackOptions(Entry):
    """The options of packing, as in the config's data section; None where an index does not say."""

    frames_per_clip: int | str | None = None
    preset: str | None = None
    shard_mib: int | None = None
    codec: str = CODECS[0]
    raw_short_side: int | None = None
    recoder: int | None = None  # jpeg-restarts: the version of what wrote them
    check: str | None = None
    on_bad_clip: str | None = None


class Index(Entry):
    """The content of index.json, of any version that is read."""

    format: Literal["clip-shards"] = FORMAT
    version: int = VERSION
    split: str
    fingerprint: str | None = None
    inputs: Inputs = Inputs()
    options: PackOptions = PackOptions()
    source: dict[str, Any] | None = None  # how frames and flow were made: the extract.json beside them, if any
    left_out: list[LeftOut] = Field(default_factory=list)
    not_recoded: Count = 0  # jpeg-restarts: files that could not be, and are stored as they were
    num_clips: Count
    num_frames: Count
    geometry: list[Geometry] = Field(default_factory=list)
    streams: tuple[Stream, ...] = Field(strict=False, min_length=1)
    targets: tuple[Target, ...] = Field(strict=False, min_length=1)
    shards: list[ShardEntry]
    frames: TableEntry
    checksum: Count = 0

    @field_validator("streams", "targets", "shards")
    @classmethod
    def _differ(cls, entries: Sequence[Any]) -> Sequence[Any]:
        names = [name for entry in entries for name in getattr(entry, "planes", [entry.name])]
        if len(set(names)) < len(names):
            raise ValueError("a name occurs twice")
        return entries

    def to_json(self) -> str:
        """As it is stored, checksum included."""
        content = self.model_dump(mode="json")
        return json.dumps(content | {"checksum": index_checksum(content)}, indent=1) + "\n"


@dataclass(frozen=True)
class Split:
    """One split, opened and checked: <shards>/<split>."""

    dir: Path
    index: Index
    table: FrameTable
    shard_paths: list[Path]

    @property
    def codec(self) -> str:
        """One of CODECS."""
        return self.index.options.codec

    @property
    def streams(self) -> dict[str, Stream]:
        """The streams that are stored, by name."""
        return {stream.name: stream for stream in self.index.streams}

    @property
    def columns(self) -> dict[str, tuple[int, ...]]:
        """Columns of the frame table's [F, P] arrays, by stream."""
        planes = planes_of(self.index.streams)
        return {stream.name: tuple(map(planes.index, stream.planes)) for stream in self.index.streams}

    @property
    def targets(self) -> dict[str, NDArray[np.int64]]:
        """Classes of all clips, int64 [N], by target; UNKNOWN (-1) where nobody knows."""
        return {target.name: self.table.targets[:, k].copy() for k, target in enumerate(self.index.targets)}

    @property
    def labels(self) -> NDArray[np.int64]:
        """Classes of the first target, int64 [N]."""
        return self.targets[self.index.targets[0].name]

    @property
    def classes(self) -> dict[str, tuple[str, ...] | None]:
        """Names of the classes, by target; None where the annotations had none."""
        return {target.name: target.classes for target in self.index.targets}

    @property
    def source(self) -> dict[str, Any] | None:
        """How frames and flow were made: the content of the extract.json that lay beside them, None without one."""
        return self.index.source


def open_split(split_dir: str | Path, name: str | None = None) -> Split:
    """Open a split: its index, frame table, and the presence and size of its shards.

    Args:
        split_dir: its folder.
        name: the split that is wanted, for those who know; None: any.

    Raises:
        ShardError: anything is off, or it is another split.
    """
    folder = Path(split_dir)
    index = read_index(folder)
    if name is not None and index.split != name:
        raise ShardError(
            f"{folder}: holds the split {index.split!r}, not {name!r}: its files were copied here from another "
            f"folder; remove {folder} and pack {name} there"
        )
    table = _read_table(folder, index)
    shard_paths = [folder / shard.name for shard in index.shards]
    for path, shard in zip(shard_paths, index.shards, strict=True):
        found = path.stat().st_size if path.is_file() else None
        if found != shard.bytes:
            state = "is missing" if found is None else f"has {found} bytes, the index says {shard.bytes}"
            raise ShardError(f"{path}: {state}; copy it again, or remove {folder} and pack it anew")
    return Split(folder, index, table, shard_paths)


def read_index(folder: Path) -> Index:
    """Read and check index.json: checksum, format, version, and every entry.

    Raises:
        ShardError: it is missing, damaged, or of another version.
    """
    path = folder / INDEX_NAME
    check_packed(folder)
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ShardError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise ShardError(f"{path}: damaged, not JSON ({error}); {_remedy(folder)}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ShardError(f"{path}: not the index of a split (no format {FORMAT!r}); {_remedy(folder)}")
    if content.get("version") not in VERSIONS:
        known = " and ".join(map(str, VERSIONS))
        raise ShardError(f"{path}: version {content.get('version')!r}, this code reads {known}; {_remedy(folder)}")
    if content.get("checksum") != index_checksum(content):
        raise ShardError(f"{path}: damaged, its checksum does not match its content; {_remedy(folder)}")
    try:
        index = Index.model_validate(_from_version_1(content) if content["version"] == 1 else content)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise ShardError(f"{path}: does not have the entries of docs/format.md ({where}); {_remedy(folder)}") from None
    if index.options.codec not in CODECS:
        codecs = ", ".join(CODECS)
        raise ShardError(f"{path}: codec {index.options.codec!r}, this code reads {codecs}; {_remedy(folder)}")
    return index


def _from_version_1(content: dict[str, Any]) -> dict[str, Any]:
    """The index of version 1 as one of today's: both streams, and one target, `label`."""
    streams = [stream.model_dump() for stream in STREAMS.values()]
    target = {"name": "label", "clips": content.get("classes", {})}
    return {"split": "", **content, "streams": streams, "targets": [target]}


def check_packed(folder: Path, command: str = "python preprocess/pack.py -c CONFIG") -> None:
    """Refuse a folder without an index; `command` is what packs it.

    Raises:
        ShardError: there is none; the message has the command.
    """
    if not (folder / INDEX_NAME).exists():
        raise ShardError(
            f"{folder}: no {INDEX_NAME} here, so this is not a packed split, or not a finished one; "
            f"run `{command}` (again), or set data.shards to where it is"
        )


def index_checksum(index: dict[str, Any]) -> int:
    """CRC-32C of the index without its checksum, as JSON with sorted keys and no white space."""
    rest = {key: value for key, value in index.items() if key != "checksum"}
    return crc32c(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode())


def _read_table(folder: Path, index: Index) -> FrameTable:
    path = folder / TABLE_NAME
    found = path.stat().st_size if path.is_file() else None
    if found != index.frames.bytes:
        state = "is missing" if found is None else f"has {found} bytes, the index says {index.frames.bytes}"
        raise ShardError(f"{path}: {state}; {_remedy(folder)}")
    data = path.read_bytes()
    if crc32c(data) != index.frames.crc32c:
        raise ShardError(f"{path}: damaged, its CRC does not match the index; {_remedy(folder)}")
    try:
        table = FrameTable.read(data, index.streams, len(index.targets), index.version)
        table.check([shard.bytes for shard in index.shards])
        table.check_targets(index.targets)
        if index.options.codec == "raw":
            table.check_pixels()
        if (len(table), len(table.frame_index)) != (index.num_clips, index.num_frames):
            raise ValueError("the index counts other clips or frames")
    except ValueError as error:
        raise ShardError(f"{path}: {error}; {_remedy(folder)}") from None
    return table


def _remedy(folder: Path) -> str:
    return f"copy it again, or remove {folder} and pack it anew"
