"""The bytes of a shard set, declared once for writer and reader: records, frame table, index (docs/format.md)."""

from __future__ import annotations

import io
import json
import math
import re
import struct
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from configs.errors import UserError

FORMAT = "clip-shards"
VERSION = 1
CODECS = (
    "jpeg",
    "raw",
)  # what is stored of a frame: its JPEG file, or its pixels; sets of before there were two are jpeg
STREAMS = ("rgb", "flow_u", "flow_v")
CHANNELS = (3, 1, 1)  # of a frame of each of STREAMS
INDEX_NAME = "index.json"
TABLE_NAME = "frames.npz"
SHARD_NAME = re.compile(r"[0-9]{5,}\.tfrecord")

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


@dataclass(frozen=True)
class FrameTable:
    """Where everything lies: N clips, F stored frames, 3 files a frame in the order of STREAMS.

    A file is what the split's codec stores of a picture: a JPEG, or height x width x channels bytes of pixels.
    """

    clip_id: NDArray[np.bytes_]  # [N] utf-8
    video_id: NDArray[np.bytes_]  # [N] utf-8
    participant_id: NDArray[np.bytes_]  # [N] utf-8
    label: NDArray[np.int64]  # [N]
    start_frame: NDArray[np.int64]  # [N] the segment in the video, 1-based, both ends inclusive
    stop_frame: NDArray[np.int64]  # [N]
    height: NDArray[np.int32]  # [N] pixels
    width: NDArray[np.int32]  # [N]
    record_shard: NDArray[np.int32]  # [N] position in index.json's list of shards
    record_offset: NDArray[np.int64]  # [N] bytes from the start of the shard
    record_size: NDArray[np.int64]  # [N] bytes, framing included
    first_frame: NDArray[np.int64]  # [N + 1] clip i has the rows first_frame[i]:first_frame[i + 1] of the arrays below
    rgb_index: NDArray[np.int32]  # [F] number of the RGB file, 1-based
    flow_index: NDArray[np.int32]  # [F] number of the u and v files, 1-based
    offset: NDArray[np.int64]  # [F, 3] of the file, bytes from the start of the shard
    size: NDArray[np.int32]  # [F, 3] bytes
    crc: NDArray[np.uint32]  # [F, 3] CRC-32C of the file's bytes, not masked

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.clip_id)

    def frames(self, clip: int) -> slice:
        """Rows of one clip in the arrays that have a row a stored frame."""
        return slice(int(self.first_frame[clip]), int(self.first_frame[clip + 1]))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name, in the order in which they are stored."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def write(self, file: BinaryIO | io.BytesIO) -> None:
        """Write as an uncompressed .npz; equal tables give equal bytes (NumPy dates every member 1980-01-01)."""
        np.savez(file, **self.arrays())  # type: ignore[arg-type]

    @classmethod
    def read(cls, data: bytes) -> FrameTable:
        """Parse the bytes of an .npz that `write` made; ValueError on anything else."""
        arrays = read_arrays(data, [field.name for field in fields(cls)])
        for name, (dtype, shape) in _table_layout(arrays).items():
            found = arrays[name]
            if found.shape != shape or (found.dtype.kind != "S" if dtype is None else found.dtype != dtype):
                raise ValueError(f"{name} is {found.dtype} {list(found.shape)}, expected {dtype or 'S'} {list(shape)}")
        return cls(**arrays)

    def check(self, shard_bytes: Sequence[int]) -> None:
        """ValueError unless every row points inside its shard, and every file inside its clip's record."""
        if len(self) == 0:
            raise ValueError("no clips")
        counts = np.diff(self.first_frame)
        if self.first_frame[0] != 0 or self.first_frame[-1] != len(self.rgb_index) or (counts < 1).any():
            raise ValueError("first_frame does not cut the frames into clips of at least one")
        if (self.record_shard < 0).any() or (self.record_shard >= len(shard_bytes)).any():
            raise ValueError("record_shard names a shard that the index does not have")
        ends = np.asarray(shard_bytes, np.int64)[self.record_shard]
        if (self.record_offset < 0).any() or (self.record_size < RECORD_FRAMING).any():
            raise ValueError("a record begins before its shard or is shorter than its framing")
        if (self.record_size > ends).any() or (self.record_offset > ends - self.record_size).any():
            raise ValueError("a record ends behind its shard")
        low = np.repeat(self.record_offset + RECORD_HEADER.size, counts)[:, None]
        high = np.repeat(self.record_offset + self.record_size - RECORD_FOOTER.size, counts)[:, None]
        if (self.size < 1).any() or (self.offset < low).any() or (self.offset > high - self.size).any():
            raise ValueError("a file lies outside its record")
        pixels = self.height.astype(np.int64) * self.width
        if min(self.height.min(), self.width.min()) < 1 or pixels.max() > MAX_PIXELS or (self.label < 0).any():
            raise ValueError("a height, width or label is out of range")

    def check_pixels(self) -> None:
        """ValueError unless every file is as long as the pixels of its frame."""
        pixels = np.repeat(self.height.astype(np.int64) * self.width, np.diff(self.first_frame))
        if (self.size != pixels[:, None] * CHANNELS).any():
            raise ValueError("a file is not as long as the pixels of its frame")


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


def _table_layout(arrays: dict[str, NDArray[Any]]) -> dict[str, tuple[type[np.generic] | None, tuple[int, ...]]]:
    """Dtype (None: bytes of any width) and shape of every array, with N and F taken from two of them."""
    clips, frames = (arrays["clip_id"].size,), arrays["rgb_index"].size
    layout: dict[str, tuple[type[np.generic] | None, tuple[int, ...]]] = dict.fromkeys(
        ("clip_id", "video_id", "participant_id"), (None, clips)
    )
    for name in ("label", "start_frame", "stop_frame", "record_offset", "record_size"):
        layout[name] = (np.int64, clips)
    for name in ("height", "width", "record_shard"):
        layout[name] = (np.int32, clips)
    layout["first_frame"] = (np.int64, (clips[0] + 1,))
    layout |= {"rgb_index": (np.int32, (frames,)), "flow_index": (np.int32, (frames,))}
    per_jpeg = (frames, len(STREAMS))
    return layout | {"offset": (np.int64, per_jpeg), "size": (np.int32, per_jpeg), "crc": (np.uint32, per_jpeg)}


@dataclass(frozen=True)
class Split:
    """One split, opened and checked: <shards>/<split>."""

    dir: Path
    index: dict[str, Any]
    table: FrameTable
    shard_paths: list[Path]

    @property
    def codec(self) -> str:
        """One of CODECS."""
        return codec_of(self.index)


def open_split(split_dir: str | Path) -> Split:
    """Open a split: its index, frame table, and the presence and size of its shards; ShardError if anything is off."""
    folder = Path(split_dir)
    index = read_index(folder)
    table = _read_table(folder, index)
    shard_paths = [folder / shard["name"] for shard in index["shards"]]
    for path, shard in zip(shard_paths, index["shards"], strict=True):
        found = path.stat().st_size if path.is_file() else None
        if found != shard["bytes"]:
            state = "is missing" if found is None else f"has {found} bytes, the index says {shard['bytes']}"
            raise ShardError(f"{path}: {state}; copy it again, or remove {folder} and pack it anew")
    return Split(folder, index, table, shard_paths)


def read_index(folder: Path) -> dict[str, Any]:
    """Read and check index.json: checksum, format, version, and the shape of what the reader relies on.

    Raises:
        ShardError: it is missing, damaged, or of another version.
    """
    path = folder / INDEX_NAME
    check_packed(folder)
    try:
        index = json.loads(path.read_bytes())
    except OSError as error:
        raise ShardError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise ShardError(f"{path}: damaged, not JSON ({error}); {_remedy(folder)}") from None
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise ShardError(f"{path}: not the index of a split (no format {FORMAT!r}); {_remedy(folder)}")
    if index.get("version") != VERSION:
        raise ShardError(f"{path}: version {index.get('version')!r}, this code reads {VERSION}; {_remedy(folder)}")
    if index.get("checksum") != index_checksum(index):
        raise ShardError(f"{path}: damaged, its checksum does not match its content; {_remedy(folder)}")
    if not _index_is_sound(index):
        raise ShardError(f"{path}: does not have the entries of docs/format.md; {_remedy(folder)}")
    if codec_of(index) not in CODECS:
        raise ShardError(f"{path}: codec {codec_of(index)!r}, this code reads {', '.join(CODECS)}; {_remedy(folder)}")
    return index


def codec_of(index: dict[str, Any]) -> str:
    """The codec that an index names, which those of before there were two do not."""
    codec: str = index.get("options", {}).get("codec", CODECS[0])
    return codec


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


def _index_is_sound(index: dict[str, Any]) -> bool:
    try:
        shards, frames = index["shards"], index["frames"]
        names = [shard["name"] for shard in shards]
        counts = [index["num_clips"], index["num_frames"], frames["bytes"], frames["crc32c"]]
        counts += [shard[key] for shard in shards for key in ("bytes", "crc32c", "clips")]
        safe = (
            isinstance(index.get("options", {}), dict)
            and all(SHARD_NAME.fullmatch(name) for name in names)
            and frames["name"] == TABLE_NAME
        )
        return safe and len(set(names)) == len(names) and all(type(n) is int and 0 <= n < 2**63 for n in counts)
    except (KeyError, TypeError):
        return False


def _read_table(folder: Path, index: dict[str, Any]) -> FrameTable:
    path = folder / TABLE_NAME
    expected = index["frames"]
    found = path.stat().st_size if path.is_file() else None
    if found != expected["bytes"]:
        state = "is missing" if found is None else f"has {found} bytes, the index says {expected['bytes']}"
        raise ShardError(f"{path}: {state}; {_remedy(folder)}")
    data = path.read_bytes()
    if crc32c(data) != expected["crc32c"]:
        raise ShardError(f"{path}: damaged, its CRC does not match the index; {_remedy(folder)}")
    try:
        table = FrameTable.read(data)
        table.check([shard["bytes"] for shard in index["shards"]])
        if codec_of(index) == "raw":
            table.check_pixels()
        if (len(table), len(table.rgb_index)) != (index["num_clips"], index["num_frames"]):
            raise ValueError("the index counts other clips or frames")
    except ValueError as error:
        raise ShardError(f"{path}: {error}; {_remedy(folder)}") from None
    return table


def _remedy(folder: Path) -> str:
    return f"copy it again, or remove {folder} and pack it anew"


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
    if masked_crc(crc32c(payload)) != RECORD_FOOTER.unpack(view[-RECORD_FOOTER.size :])[0]:
        raise ValueError("the CRC of the record's payload does not match")
    return payload


@dataclass(frozen=True)
class ClipFields:
    """What a record says of its clip beside its files."""

    clip_id: str
    video_id: str
    participant_id: str
    label: int
    start_frame: int
    stop_frame: int
    height: int
    width: int
    rgb_index: Sequence[int]  # [T] numbers of the RGB files
    flow_index: Sequence[int]  # [T] numbers of the u and v files


def encode_record(clip: ClipFields, files: Sequence[Sequence[bytes]]) -> tuple[bytes, NDArray[np.int64]]:
    """Frame one clip as a whole TFRecord; also where each file lies in it, [T, 3] bytes from the record's start."""
    chunks, offsets = record_chunks(clip, files)
    return b"".join(chunks), offsets


def record_chunks(clip: ClipFields, files: Sequence[Sequence[bytes]]) -> tuple[list[bytes], NDArray[np.int64]]:
    """What `encode_record` gives in chunks, so that the files need not be copied."""
    chunks, offsets = encode_example(clip, files)
    return _framed(chunks), offsets + RECORD_HEADER.size


def frame_record(chunks: Sequence[bytes]) -> bytes:
    """Frame a payload, given in chunks, as TFRecord does."""
    return b"".join(_framed(chunks))


def _framed(chunks: Sequence[bytes]) -> list[bytes]:
    crc = 0
    for chunk in chunks:
        crc = crc32c(chunk, crc)
    length = struct.pack("<Q", sum(map(len, chunks)))
    header = length + RECORD_FOOTER.pack(masked_crc(crc32c(length)))
    return [header, *chunks, RECORD_FOOTER.pack(masked_crc(crc))]


def encode_example(clip: ClipFields, files: Sequence[Sequence[bytes]]) -> tuple[list[bytes], NDArray[np.int64]]:
    """Encode one clip as tf.train.Example; files is [T][3] in the order of STREAMS.

    Returns the message in chunks, to be joined once, and where each file lies in it [T, 3]. Features stand in the
    order of their names, so that equal clips give equal bytes.

    Raises:
        UserError: the clip is larger than a record can be.
    """
    features: dict[str, tuple[bytes, bytes]] = {}  # name -> (what stands before the value, the value)
    for name in ("clip_id", "video_id", "participant_id"):
        features[name] = _bytes_feature(name, getattr(clip, name).encode())
    for name in ("label", "start_frame", "stop_frame", "height", "width"):
        features[name] = _int64_feature(name, [getattr(clip, name)])
    features["rgb_index"] = _int64_feature("rgb_index", clip.rgb_index)
    features["flow_index"] = _int64_feature("flow_index", clip.flow_index)
    places = {}
    for row, column, name in _file_names(len(files)):
        features[name] = _bytes_feature(name, files[row][column])
        places[name] = (row, column)

    length = sum(len(prefix) + len(value) for prefix, value in features.values())
    chunks = [_FIELD_1 + _varint(length)]
    position = len(chunks[0])
    offsets = np.zeros((len(files), len(STREAMS)), np.int64)
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


def _file_names(num_frames: int) -> Iterator[tuple[int, int, str]]:
    """(frame, column, feature name); numbers as wide as the last one needs, at least 3, so that names sort by time."""
    width = max(3, len(str(num_frames - 1)))
    for frame in range(num_frames):
        for column, stream in enumerate(STREAMS):
            yield frame, column, f"{stream}/{frame:0{width}d}"


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
