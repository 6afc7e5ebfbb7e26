"""Writes one shard: reads its clips' JPEGs, checks them, and puts records, list of offsets and table on the disk."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from configs.files import atomic_write
from pipeline.format import CHANNELS, STREAMS, ClipFields, FrameTable, record_chunks
from preprocess.codec import Codec
from preprocess.frames import JpegFiles
from preprocess.jpeg import CHANNEL_NAMES, Picture, check_jpeg
from preprocess.plan import PlannedClip, Problem, relative

Write = Callable[[bytes], object]

STREAM_CHANNELS = dict(zip(STREAMS, CHANNELS, strict=True))


@dataclass(frozen=True)
class ShardTask:
    """All that a process needs to write one shard, on any machine that sees the same files."""

    folder: Path  # of the split
    number: int
    clips: tuple[PlannedClip, ...]
    root: str  # of the frames, to be left out of what is reported
    decode: bool  # check JPEGs by decoding them
    codec: Codec
    skip: bool  # leave bad clips out; otherwise a bad clip keeps the shard from being written
    digest: str


@dataclass(frozen=True)
class ShardResult:
    """What became of a shard; `summary` is None when bad clips kept it from being written."""

    summary: dict[str, Any] | None
    problems: tuple[Problem, ...]


class BadClipsError(Exception):
    """A shard with bad clips is given up: its scratch file goes, what was wrong is reported."""


def shard_path(folder: Path, number: int) -> Path:
    """<split>/00000.tfrecord and so on."""
    return folder / f"{number:05d}.tfrecord"


def part_path(shard: Path) -> Path:
    """A finished shard's part of the frame table; it is there until the split is."""
    return shard.with_suffix(".part.npz")


def write_shard(task: ShardTask) -> ShardResult:
    """Write shard, offsets and part, each whole or not at all and in this order: a part says that the rest is there."""
    path = shard_path(task.folder, task.number)
    rows = Rows()
    problems: list[Problem] = []
    try:
        with atomic_write(path) as file, JpegFiles() as files:
            for planned in task.clips:
                read_clip(planned, task, files, rows, problems, file.write)
            if problems and not task.skip:
                raise BadClipsError
    except BadClipsError:
        return ShardResult(None, tuple(problems))
    with atomic_write(path.with_suffix(".idx"), "w") as file:
        file.writelines(f"{offset} {size}\n" for offset, size in rows.records)
    summary = {
        "digest": task.digest,
        "name": path.name,
        "bytes": rows.num_bytes,
        "crc32c": rows.crc,
        "clips": len(rows.records),
        "left_out": [problem._asdict() for problem in problems],
    }
    write_part(part_path(path), rows.table(), summary)
    return ShardResult(summary, tuple(problems))


def read_clip(
    planned: PlannedClip, task: ShardTask, files: JpegFiles, rows: "Rows", problems: list[Problem], write: Write
) -> None:
    """Read, check and write one clip; what is wrong with it goes to `problems` instead."""
    stored, picture, wrong = load_clip(planned, files, task.codec, task.decode)
    if wrong or picture is None:
        problems += [Problem(planned.clip.clip_id, relative(file, task.root), why) for file, why in wrong]
    elif not problems or task.skip:  # a shard that is given up needs no more bytes
        rows.add(planned, task.codec.stored_size(picture), stored, write)


def load_clip(
    planned: PlannedClip, files: JpegFiles, codec: Codec, decode: bool
) -> tuple[list[list[bytes]], Picture | None, list[tuple[str, str]]]:
    """What is stored of a clip [T][3], its JPEGs' height and width, and (file, why) of each that is wrong."""
    stored: list[list[bytes]] = []
    wrong: dict[str, str] = {}  # a frame that a short clip repeats is reported once
    first: Picture | None = None
    for row, rgb in enumerate(planned.rgb_index.tolist()):
        numbers = (rgb, *[int(planned.flow_index[row])] * 2)
        stored.append([])
        for column, (source, number) in enumerate(zip(planned.sources, numbers, strict=True)):
            try:
                data = files.read(source, number, int(planned.offsets[row, column]), int(planned.sizes[row, column]))
                picture = check_jpeg(data, decode and not codec.decodes)
                first = first or picture
                _check_fits(picture, first, STREAMS[column])
                stored[-1].append(codec.encode(data, picture))
            except ValueError as error:
                wrong[source.name(number)] = str(error)
    return stored, first, list(wrong.items())


def _check_fits(picture: Picture, first: Picture, stream: str) -> None:
    if picture.channels != STREAM_CHANNELS[stream]:
        allowed = CHANNEL_NAMES[STREAM_CHANNELS[stream]]
        raise ValueError(f"has channels: {CHANNEL_NAMES[picture.channels]}; allowed for {stream}: {allowed}")
    if picture[:2] != first[:2]:
        size, expected = f"{picture.width}x{picture.height}", f"{first.width}x{first.height}"
        raise ValueError(f"is {size}, the clip's first frame is {expected}; all frames of a clip have one size")


class Rows:
    """Collects the rows of a shard's table as its records are written."""

    def __init__(self) -> None:
        self.records: list[tuple[int, int]] = []  # offset and size
        self.num_bytes = 0
        self.crc = 0
        self._clips: list[tuple[PlannedClip, Picture]] = []
        self._frames: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint32]]] = []

    def add(self, planned: PlannedClip, picture: Picture, files: list[list[bytes]], write: Write) -> None:
        """Encode one clip, hand its record to `write`, and remember where everything lies."""
        clip = planned.clip
        indices = planned.rgb_index.tolist(), planned.flow_index.tolist()
        ids = clip.clip_id, clip.video_id, clip.participant_id
        segment = clip.label, clip.start_frame, clip.stop_frame
        chunks, offsets = record_chunks(ClipFields(*ids, *segment, picture.height, picture.width, *indices), files)
        num_bytes = 0
        for chunk in chunks:  # one by one, for joining them would copy the clip
            write(chunk)
            self.crc = crc32c(chunk, self.crc)
            num_bytes += len(chunk)
        sizes = np.array([[len(file) for file in frame] for frame in files], np.int64)
        crcs = np.array([[crc32c(file) for file in frame] for frame in files], np.uint32)
        self._clips.append((planned, picture))
        self._frames.append((offsets + self.num_bytes, sizes, crcs))
        self.records.append((self.num_bytes, num_bytes))
        self.num_bytes += num_bytes

    def table(self) -> FrameTable:
        """The table of this shard alone, as if it were shard 0."""
        clips = [planned.clip for planned, _ in self._clips]
        records = np.array(self.records, np.int64).reshape(-1, 2)
        offsets, sizes, crcs = zip(*self._frames, strict=True) if self._frames else ([], [], [])
        counts = [len(planned.rgb_index) for planned, _ in self._clips]
        return FrameTable(
            clip_id=_ids(clip.clip_id for clip in clips),
            video_id=_ids(clip.video_id for clip in clips),
            participant_id=_ids(clip.participant_id for clip in clips),
            label=np.array([clip.label for clip in clips], np.int64),
            start_frame=np.array([clip.start_frame for clip in clips], np.int64),
            stop_frame=np.array([clip.stop_frame for clip in clips], np.int64),
            height=np.array([picture.height for _, picture in self._clips], np.int32),
            width=np.array([picture.width for _, picture in self._clips], np.int32),
            record_shard=np.zeros(len(clips), np.int32),
            record_offset=records[:, 0].copy(),
            record_size=records[:, 1].copy(),
            first_frame=np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64),
            rgb_index=_joined([planned.rgb_index for planned, _ in self._clips], (0,), np.int32),
            flow_index=_joined([planned.flow_index for planned, _ in self._clips], (0,), np.int32),
            offset=_joined(offsets, (0, len(STREAMS)), np.int64),
            size=_joined(sizes, (0, len(STREAMS)), np.int32),
            crc=_joined(crcs, (0, len(STREAMS)), np.uint32),
        )


def _ids(texts: Iterable[str]) -> NDArray[np.bytes_]:
    return np.array([text.encode() for text in texts], np.bytes_)


def _joined(arrays: Iterable[NDArray[Any]], empty: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    return np.concatenate([np.zeros(empty, dtype), *arrays]).astype(dtype)


def write_part(path: Path, table: FrameTable, summary: dict[str, Any]) -> None:
    """Keep what the split's frame table and index need of one shard."""
    meta = np.frombuffer(json.dumps(summary, sort_keys=True).encode(), np.uint8)
    with atomic_write(path) as file:
        np.savez(file, meta=meta, **table.arrays())  # type: ignore[arg-type]
