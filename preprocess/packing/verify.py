"""Verification: re-read every byte of a packed split and list what is wrong."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from crc32c import crc32c

from common.display import PLAIN_OFTEN, Display
from pipeline.format.index import ShardError
from pipeline.format.split import Split, open_split
from pipeline.format.streams import channels_of, planes_of
from pipeline.format.table import FrameTable
from pipeline.format.tfrecord import ID_FEATURES, NUMBER_FEATURES, ClipFields, encode_record, record_payload, stored_crc
from preprocess.packing.jpeg import check_jpeg
from preprocess.packing.split_writer import count_classes, count_sizes
from preprocess.workers import Workers, is_small_job


@dataclass(frozen=True)
class VerifyTask:
    """One shard and its rows of the frame table."""

    path: Path
    crc: int  # CRC-32C of the whole file, as the index has it
    table: FrameTable
    codec: str
    targets: tuple[str, ...]  # names


def verify_split(folder: Path, workers: Workers, display: Display) -> tuple[Split | None, list[str]]:
    """The split, when it opens at all, and what is wrong with it."""
    try:
        split = open_split(folder, folder.name)
    except ShardError as error:
        return None, [str(error)]
    wrong = [f"{folder}: {why}" for why in _check_counts(split)]
    rows = split.table.record_shard
    tasks = []
    for number, path in enumerate(split.shard_paths):
        begin, end = np.searchsorted(rows, (number, number + 1))
        crc, table = split.index.shards[number].crc32c, split.table.cut(int(begin), int(end))
        tasks.append(VerifyTask(path, crc, table, split.codec, tuple(split.classes)))
    is_small = is_small_job(sum(shard.bytes for shard in split.index.shards))
    display.begin(f"{folder.name}: re-reading", len(tasks), unit="shards", every=PLAIN_OFTEN)
    found = workers.map(verify_shard, tasks, is_small, display.tick)
    return split, wrong + [line for lines in found for line in lines]


def _check_counts(split: Split) -> list[str]:
    table, index = split.table, split.index
    wrong = []
    if len(np.unique(table.clip_id)) != len(table):
        wrong.append("clip ids occur twice in the frame table")
    if (np.diff(table.record_shard) < 0).any():
        wrong.append("the frame table is not in the order of the shards")
    if (index.geometry, index.targets) != (count_sizes(table), count_classes(table, index.targets)):
        wrong.append("geometry or classes in the index are not those of the frame table")
    clips = np.bincount(table.record_shard, minlength=len(index.shards)).tolist()
    if clips != [shard.clips for shard in index.shards]:
        wrong.append("the shards' numbers of clips in the index are not those of the frame table")
    return wrong


def verify_shard(task: VerifyTask) -> list[str]:
    """Check one shard: CRC, offsets, and each record against table, encoder and codec."""
    try:
        data = task.path.read_bytes()
        idx = task.path.with_suffix(".idx").read_text("ascii")
    except (OSError, ValueError) as error:
        return [f"{task.path}: cannot be read with its .idx ({error})"]
    wrong = []
    if crc32c(data) != task.crc:
        wrong.append("its CRC does not match the index")
    table = task.table
    records = list(zip(table.record_offset.tolist(), table.record_size.tolist(), strict=True))
    if idx != "".join(f"{offset} {size}\n" for offset, size in records):
        wrong.append("its .idx does not match the frame table")
    ends = np.cumsum([0] + [size for _, size in records]).tolist()
    if [offset for offset, _ in records] + [len(data)] != ends:
        wrong.append("its records do not lie one after the other from the first byte to the last")
    view = memoryview(data)
    for clip, (offset, size) in enumerate(records):
        name = table.clip_id[clip].decode("utf-8", "replace")
        wrong += [f"clip {name}: {why}" for why in _check_clip(task, clip, view[offset : offset + size], view)]
    return [f"{task.path}: {why}" for why in wrong]


def _check_clip(task: VerifyTask, clip: int, record: memoryview, shard: memoryview) -> list[str]:
    try:
        record_payload(record)
    except ValueError as error:
        return [str(error)]
    table = task.table
    wrong: list[str] = []
    files: list[list[bytes]] = []
    planes, channels = planes_of(table.streams), channels_of(table.streams)
    for frame, row in enumerate(range(*table.frames(clip).indices(len(table.frame_index)))):
        files.append([])
        for column, plane in enumerate(planes):
            offset, size = int(table.offset[row, column]), int(table.size[row, column])
            files[-1].append(bytes(shard[offset : offset + size]))
            why = _check_frame(task, clip, files[-1][-1], channels[column], int(table.crc[row, column]))
            wrong += [f"{plane}/{frame:03d} {why}"] if why else []
    if encode_record(_fields(task, clip), files, planes)[0] != record:
        wrong.append("the record is not what the frame table says")
    if table.record_crc is not None and table.record_crc[clip] != stored_crc(record):
        wrong.append("the record's CRC is not that of the frame table")
    return wrong


def _check_frame(task: VerifyTask, clip: int, file: bytes, channels: int, crc: int) -> str | None:
    if crc32c(file) != crc:
        return "does not match its CRC"
    if task.codec == "raw":  # any bytes are pixels, and their number was checked as the split was opened
        return None
    try:
        header = check_jpeg(file, decode=True)
    except ValueError as error:
        return str(error)
    if task.codec == "jpeg-restarts" and _holds_width(file, int(task.table.width[clip])):
        header = header._replace(width=int(task.table.width[clip]))
    expected = (int(task.table.height[clip]), int(task.table.width[clip]), channels)
    return None if header == expected else f"is {tuple(header)}, expected (height, width, channels) {expected}"


def _fields(task: VerifyTask, clip: int) -> ClipFields:
    table, rows = task.table, task.table.frames(clip)
    fields: dict[str, Any] = {name: getattr(table, name)[clip].decode() for name in ID_FEATURES}
    fields |= {name: int(getattr(table, name)[clip]) for name in NUMBER_FEATURES}
    return ClipFields(
        **fields,
        targets=dict(zip(task.targets, table.targets[clip].tolist(), strict=True)),
        frame_index={stream.name: table.index_of(stream.name)[rows].tolist() for stream in table.streams},
    )


def _holds_width(recoded: bytes, width: int) -> bool:
    from preprocess.packing.restarts import holds_width  # here: importing Numba takes its time

    return holds_width(recoded, width)
