"""Joins the finished shards of a split: their parts of the frame table become frames.npz, then index.json."""

import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crc32c import crc32c

from configs.files import atomic_write, remove_scratch
from pipeline.format import (
    INDEX_NAME,
    TABLE_NAME,
    FrameTable,
    Geometry,
    Index,
    ShardEntry,
    Stream,
    TableEntry,
    Target,
    read_arrays,
)
from preprocess.writer import part_path, shard_path

Part = tuple[FrameTable, dict[str, Any]]  # a shard's rows and its summary


def read_part(folder: Path, number: int, digest: str, streams: Sequence[Stream], num_targets: int) -> Part | None:
    """A finished shard's part, or None when the shard has to be written (again)."""
    shard = shard_path(folder, number)
    try:
        data = part_path(shard).read_bytes()
        summary = json.loads(read_arrays(data, ["meta"])["meta"].tobytes())
        whole = shard.stat().st_size == summary["bytes"] and shard.with_suffix(".idx").is_file()
        return (FrameTable.read(data, streams, num_targets), summary) if whole and summary["digest"] == digest else None
    except Exception:  # whatever is wrong with it, the remedy is the same
        return None


def finish(folder: Path, parts: Sequence[Part], about: dict[str, Any], targets: Sequence[Target]) -> Index:
    """Write frames.npz and then index.json, and remove the parts; return the index.

    `about` holds the entries that are known before packing: split, fingerprint, inputs, options, source, left_out.
    """
    filled = [(table, summary) for table, summary in parts if summary["clips"]]
    table = FrameTable.merge([table for table, _ in filled])
    memory = io.BytesIO()
    table.write(memory)
    data = memory.getvalue()
    with atomic_write(folder / TABLE_NAME) as file:
        file.write(data)
    index = Index(
        **about,
        num_clips=len(table),
        num_frames=len(table.frame_index),
        geometry=count_sizes(table),
        streams=table.streams,
        targets=count_classes(table, targets),
        shards=[ShardEntry(**{key: s[key] for key in ("name", "bytes", "crc32c", "clips")}) for _, s in filled],
        frames=TableEntry(bytes=len(data), crc32c=crc32c(data)),
    )
    with atomic_write(folder / INDEX_NAME, "w") as file:
        file.write(index.to_json())
    remove_leftovers(folder, {shard.name for shard in index.shards})
    return index


def count_sizes(table: FrameTable) -> list[Geometry]:
    """How many clips have frames of each size."""
    sizes = Counter(zip(table.height.tolist(), table.width.tolist(), strict=True))
    return [Geometry(height=h, width=w, clips=number) for (h, w), number in sorted(sizes.items())]


def count_classes(table: FrameTable, targets: Sequence[Target]) -> tuple[Target, ...]:
    """The targets, with the number of clips of each of their classes."""
    counts = [sorted(Counter(labels.tolist()).items()) for labels in table.targets.T]
    return tuple(
        target.model_copy(update={"clips": {str(label): number for label, number in found}})
        for target, found in zip(targets, counts, strict=True)
    )


def remove_leftovers(folder: Path, shard_names: set[str]) -> None:
    """Remove what a finished split does not need: parts, scratch files of dead runs, shards of another cut."""
    remove_scratch(folder)
    for path in folder.glob("[0-9]*.part.npz"):
        path.unlink(missing_ok=True)
    for path in (*folder.glob("[0-9]*.tfrecord"), *folder.glob("[0-9]*.idx")):
        if path.with_suffix(".tfrecord").name not in shard_names:
            path.unlink(missing_ok=True)
