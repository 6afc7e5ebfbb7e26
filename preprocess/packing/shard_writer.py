"""Shard writing: read, check and encode its clips' JPEGs; write records, offsets and table."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.files import atomic_write
from pipeline.format.crc import join_crcs
from pipeline.format.streams import Stream, channels_of, planes_of
from pipeline.format.table import FrameTable
from pipeline.format.tfrecord import ClipFields, make_record, stored_crc
from preprocess.packing.codec import Codec
from preprocess.packing.jpeg import CHANNEL_NAMES, JpegHeader, check_jpeg
from preprocess.packing.plan import PlannedClip, Problem, relative
from preprocess.sources.listing import JpegFiles


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
    streams: tuple[Stream, ...]
    targets: tuple[str, ...]  # names, in the order of Clip.targets


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
    """Write shard, offsets and part in this order, each whole or not at all."""
    path = shard_path(task.folder, task.number)
    rows = Rows(task.streams, task.targets)
    problems: list[Problem] = []
    try:
        with atomic_write(path) as file, JpegFiles() as files:
            for planned in task.clips:
                clip = read_clip(planned, task, files)
                problems += clip.problems
                if not problems or (task.skip and not clip.problems):  # a shard that is given up needs no more bytes
                    file.writelines(rows.add(planned, clip))
            if problems and not task.skip:
                raise BadClipsError
    except BadClipsError:
        return ShardResult(None, tuple(problems))
    with atomic_write(path.with_suffix(".idx"), "w") as file:
        file.writelines(f"{offset} {size}\n" for offset, size in rows.records())
    summary = {
        "digest": task.digest,
        "name": path.name,
        "bytes": rows.num_bytes,
        "crc32c": rows.crc,
        "clips": len(rows),
        "unchanged": rows.num_unchanged,
        "left_out": [problem._asdict() for problem in problems],
    }
    write_part(part_path(path), rows.table(), summary)
    return ShardResult(summary, tuple(problems))


@dataclass(frozen=True)
class StoredClip:
    """A clip as stored: files [T][P], their height and width; or what is wrong with it."""

    files: list[list[bytes]]
    header: JpegHeader
    problems: list[Problem]
    num_unchanged: int  # files that are stored as they were


def read_clip(planned: PlannedClip, task: ShardTask, files: JpegFiles) -> StoredClip:
    """Read, check and encode the files of one clip."""
    stored: list[list[bytes]] = []
    wrong: dict[str, str] = {}  # a frame that a short clip repeats is reported once
    first: JpegHeader | None = None
    num_unchanged = 0
    planes = list(zip(planned.sources, planes_of(task.streams), channels_of(task.streams), strict=True))
    for row, numbers in enumerate(planned.numbers.tolist()):
        stored.append([])
        for column, ((source, plane, channels), number) in enumerate(zip(planes, numbers, strict=True)):
            try:
                data = files.read(source, number, int(planned.offsets[row, column]), int(planned.sizes[row, column]))
                header = check_jpeg(data, task.decode and not task.codec.decodes)
                first = first or header
                _check_fits(header, first, plane, channels)
                stored[-1].append(task.codec.encode(data, header, compare=row == 0))
                num_unchanged += stored[-1][-1] is data
            except ValueError as error:
                wrong[source.name(number)] = str(error)
    problems = [Problem(planned.clip.clip_id, relative(file, task.root), why) for file, why in wrong.items()]
    return StoredClip(stored, task.codec.stored_size(first or JpegHeader(0, 0, 0)), problems, num_unchanged)


def _check_fits(header: JpegHeader, first: JpegHeader, plane: str, channels: int) -> None:
    if header.channels != channels:
        found, allowed = CHANNEL_NAMES[header.channels], CHANNEL_NAMES[channels]
        raise ValueError(f"has channels: {found}; allowed for {plane}: {allowed}")
    if header[:2] != first[:2]:
        size, expected = f"{header.width}x{header.height}", f"{first.width}x{first.height}"
        raise ValueError(f"is {size}, the clip's first frame is {expected}; all frames of a clip have one size")


class Rows:
    """Collects the rows of a shard's table as its records are written."""

    def __init__(self, streams: Sequence[Stream], targets: Sequence[str]) -> None:
        self.num_bytes = 0
        self.num_unchanged = 0  # files that are stored as they were
        self.crc = 0
        self._streams, self._targets = streams, targets
        self._clips: list[dict[str, Any]] = []  # a row each, by column
        self._frames: list[dict[str, NDArray[Any]]] = []  # the rows of a clip's frames each, by column

    def __len__(self) -> int:
        """Number of clips."""
        return len(self._clips)

    def records(self) -> list[tuple[int, int]]:
        """Offset and size of each record."""
        return [(row["record_offset"], row["record_size"]) for row in self._clips]

    def add(self, planned: PlannedClip, stored: StoredClip) -> list[bytes]:
        """Encode one clip, remember where everything lies, and return its record in chunks."""
        self.num_unchanged += stored.num_unchanged
        planes = planes_of(self._streams)
        frame_index = planned.numbers[:, [planes.index(stream.planes[0]) for stream in self._streams]]
        row = planned.clip._asdict()
        row = {key: row[key] for key in ("clip_id", "video_id", "participant_id", "start_frame", "stop_frame")}
        row |= {"height": stored.header.height, "width": stored.header.width}
        fields = ClipFields(
            **row,
            targets=dict(zip(self._targets, planned.clip.targets, strict=True)),
            frame_index={s.name: index.tolist() for s, index in zip(self._streams, frame_index.T, strict=True)},
        )
        record = make_record(fields, stored.files, planes)
        sizes = [len(chunk) for chunk in record.chunks]
        where = {"record_shard": 0, "record_offset": self.num_bytes, "record_size": sum(sizes)}
        row |= {**where, "record_crc": stored_crc(record.chunks[-1]), "num_frames": len(frame_index)}
        self._clips.append({**row, "targets": planned.clip.targets})
        self._frames.append(
            {
                "frame_index": frame_index,
                "offset": record.offsets + self.num_bytes,
                "size": np.array([[len(file) for file in frame] for frame in stored.files]),
                "crc": record.file_crcs,
            }
        )
        self.crc = join_crcs([self.crc, *record.crcs.tolist()], [self.num_bytes, *sizes])
        self.num_bytes += where["record_size"]
        return record.chunks

    def table(self) -> FrameTable:
        """The table of this shard alone, as if it were shard 0."""
        columns: dict[str, Any] = {}
        for name in FrameTable.column_names():
            if self._frames and name in self._frames[0]:
                columns[name] = np.concatenate([rows[name] for rows in self._frames])
            else:
                columns[name] = [row[name] for row in self._clips]
        return FrameTable.of(self._streams, len(self._targets), columns)


def write_part(path: Path, table: FrameTable, summary: dict[str, Any]) -> None:
    """Keep what the split's frame table and index need of one shard."""
    meta = np.frombuffer(json.dumps(summary, sort_keys=True).encode(), np.uint8)
    with atomic_write(path) as file:
        np.savez(file, meta=meta, **table.arrays())  # type: ignore[arg-type]
