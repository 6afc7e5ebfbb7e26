"""Records: TFRecord framing around a tf.train.Example, one clip each."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from common.errors import UserError
from pipeline.format.crc import Crcs, join_crcs
from pipeline.format.streams import PLANES

# TFRecord framing, little-endian: uint64 length, uint32 masked CRC of the length, payload, uint32 masked CRC of it.
RECORD_HEADER = struct.Struct("<QI")
RECORD_FOOTER = struct.Struct("<I")
RECORD_FRAMING = RECORD_HEADER.size + RECORD_FOOTER.size
MAX_PAYLOAD = 2**31 - 1  # protobuf parses no message that is longer

# The wire tags of tf.train.Example: field number << 3 | 2 (length-delimited).
_FIELD_1, _FIELD_2, _FIELD_3 = b"\x0a", b"\x12", b"\x1a"


def masked_crc(crc: int) -> int:
    """TFRecord's masking of a CRC-32C: rotated right by 15 bits, plus a constant."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def record_payload(record: bytes | memoryview) -> memoryview:
    """Take the framing off a record and check both CRCs; ValueError says which part is wrong."""
    view = memoryview(record)
    if len(view) < RECORD_FRAMING:
        raise ValueError(f"{len(view)} bytes are shorter than a record's framing")
    length, length_crc = RECORD_HEADER.unpack_from(view)
    if masked_crc(crc32c(view[:8])) != length_crc:
        raise ValueError("the CRC of the record's length does not match")
    if length != len(view) - RECORD_FRAMING:
        raise ValueError(f"the record says {length} bytes, there are {len(view) - RECORD_FRAMING}")
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


class Record(NamedTuple):
    """A record in pieces, so that files need not be copied."""

    chunks: list[bytes]
    crcs: Crcs  # of each chunk
    offsets: NDArray[np.int64]  # [T, P] bytes from the record's start to each file
    file_crcs: Crcs  # [T, P]


def encode_record(
    clip: ClipFields, files: Sequence[Sequence[bytes]], planes: Sequence[str] = PLANES
) -> tuple[bytes, NDArray[np.int64]]:
    """One clip as a TFRecord, and where each file lies in it: [T, P] bytes from its start."""
    record = make_record(clip, files, planes)
    return b"".join(record.chunks), record.offsets


def make_record(clip: ClipFields, files: Sequence[Sequence[bytes]], planes: Sequence[str]) -> Record:
    """One clip as a TFRecord in pieces, all CRCs from one pass over its bytes."""
    chunks, offsets = encode_example(clip, files, planes)
    lengths = np.array([len(chunk) for chunk in chunks])
    crcs = np.array([crc32c(chunk) for chunk in chunks], np.uint32)
    places = np.searchsorted(lengths.cumsum() - lengths, offsets)
    length = struct.pack("<Q", lengths.sum())
    header = length + RECORD_FOOTER.pack(masked_crc(crc32c(length)))
    footer = RECORD_FOOTER.pack(masked_crc(join_crcs(crcs, lengths)))
    whole = np.array([crc32c(header), *crcs.tolist(), crc32c(footer)], np.uint32)
    return Record([header, *chunks, footer], whole, offsets + RECORD_HEADER.size, crcs[places])


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
    positions = {}
    for row, column, name in _file_names(len(files), planes):
        features[name] = _bytes_feature(name, files[row][column])
        positions[name] = (row, column)

    length = sum(len(prefix) + len(value) for prefix, value in features.values())
    chunks = [_FIELD_1 + _varint(length)]
    position = len(chunks[0])
    offsets = np.zeros((len(files), len(planes)), np.int64)
    for name in sorted(features):
        prefix, value = features[name]
        if name in positions:
            offsets[positions[name]] = position + len(prefix)
        chunks += prefix, value
        position += len(prefix) + len(value)
    if position > MAX_PAYLOAD:
        raise UserError(
            f"clip {clip.clip_id}: {position} bytes are more than a record can hold ({MAX_PAYLOAD}); "
            "lower data.frames_per_clip or cut the segment"
        )
    return chunks, offsets


def _file_names(num_frames: int, planes: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """(frame, column, feature name), with numbers so wide (at least 3) that names sort by time."""
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
