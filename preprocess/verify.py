"""Re-reads a packed split, every byte of it, and lists what is wrong."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from crc32c import crc32c

from configs.display import Display
from pipeline.format import (
    STREAMS,
    ClipFields,
    FrameTable,
    ShardError,
    Split,
    encode_record,
    open_split,
    record_payload,
)
from preprocess.jpeg import check_jpeg
from preprocess.parts import counts
from preprocess.workers import Workers
from preprocess.writer import STREAM_CHANNELS

SMALL_JOB_BYTES = 8 * 2**20


@dataclass(frozen=True)
class VerifyTask:
    """One shard and its rows of the frame table."""

    path: Path
    crc: int  # CRC-32C of the whole file, as the index has it
    table: FrameTable
    codec: str


def verify_split(folder: Path, workers: Workers, display: Display) -> tuple[Split | None, list[str]]:
    """The split, when it opens at all, and what is wrong with it."""
    try:
        split = open_split(folder)
    except ShardError as error:
        return None, [str(error)]
    wrong = [f"{folder}: {why}" for why in _check_counts(split)]
    rows = split.table.record_shard
    tasks = []
    for number, path in enumerate(split.shard_paths):
        begin, end = np.searchsorted(rows, (number, number + 1))
        crc = split.index["shards"][number]["crc32c"]
        tasks.append(VerifyTask(path, crc, cut_table(split.table, int(begin), int(end)), split.codec))
    is_small = sum(shard["bytes"] for shard in split.index["shards"]) < SMALL_JOB_BYTES
    display.begin(f"{folder.name}: re-reading", len(tasks), unit="shards")
    found: dict[int, list[str]] = {}
    for done in workers.run(verify_shard, tasks, is_small):
        if done is not None:
            found[done[0]] = done[1]
            display.advance()
        num_wrong = len(wrong) + sum(map(len, found.values()))
        display.update(f"{num_wrong} things wrong" if num_wrong else "nothing wrong so far")
    return split, wrong + [line for number in sorted(found) for line in found[number]]


def cut_table(table: FrameTable, begin: int, end: int) -> FrameTable:
    """The rows of the clips begin..end - 1."""
    frames = slice(int(table.first_frame[begin]), int(table.first_frame[end]))
    arrays = {}
    for name, array in table.arrays().items():
        is_per_frame = name in ("rgb_index", "flow_index", "offset", "size", "crc")
        arrays[name] = array[frames] if is_per_frame else array[begin:end]
    arrays["first_frame"] = table.first_frame[begin : end + 1] - table.first_frame[begin]
    return FrameTable(**arrays)


def _check_counts(split: Split) -> list[str]:
    table, index = split.table, split.index
    wrong = []
    if len(np.unique(table.clip_id)) != len(table):
        wrong.append("clip ids occur twice in the frame table")
    if (np.diff(table.record_shard) < 0).any():
        wrong.append("the frame table is not in the order of the shards")
    if any(index.get(key) != value for key, value in counts(table).items()):
        wrong.append("geometry or classes in the index are not those of the frame table")
    clips = np.bincount(table.record_shard, minlength=len(index["shards"])).tolist()
    if clips != [shard["clips"] for shard in index["shards"]]:
        wrong.append("the shards' numbers of clips in the index are not those of the frame table")
    return wrong


def verify_shard(task: VerifyTask) -> list[str]:
    """Check one shard: its CRC, list of offsets, and each record against table, encoder and codec."""
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
        wrong.append("its records do not lie one behind the other from the first byte to the last")
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
    for frame, row in enumerate(range(*table.frames(clip).indices(len(table.rgb_index)))):
        files.append([])
        for column, stream in enumerate(STREAMS):
            offset, size = int(table.offset[row, column]), int(table.size[row, column])
            files[-1].append(bytes(shard[offset : offset + size]))
            why = _check_picture(task, clip, files[-1][-1], stream, int(table.crc[row, column]))
            wrong += [f"{stream}/{frame:03d} {why}"] if why else []
    if encode_record(_fields(table, clip), files)[0] != record:
        wrong.append("the record is not what the frame table says")
    return wrong


def _check_picture(task: VerifyTask, clip: int, file: bytes, stream: str, crc: int) -> str | None:
    if crc32c(file) != crc:
        return "does not match its CRC"
    if task.codec == "raw":  # any bytes are pixels, and their number was checked as the split was opened
        return None
    try:
        picture = check_jpeg(file, decode=True)
    except ValueError as error:
        return str(error)
    expected = (int(task.table.height[clip]), int(task.table.width[clip]), STREAM_CHANNELS[stream])
    return None if picture == expected else f"is {tuple(picture)}, expected (height, width, channels) {expected}"


def _fields(table: FrameTable, clip: int) -> ClipFields:
    frames = table.frames(clip)
    return ClipFields(
        clip_id=table.clip_id[clip].decode(),
        video_id=table.video_id[clip].decode(),
        participant_id=table.participant_id[clip].decode(),
        label=int(table.label[clip]),
        start_frame=int(table.start_frame[clip]),
        stop_frame=int(table.stop_frame[clip]),
        height=int(table.height[clip]),
        width=int(table.width[clip]),
        rgb_index=table.rgb_index[frames].tolist(),
        flow_index=table.flow_index[frames].tolist(),
    )
