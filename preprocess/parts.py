"""Joins the finished shards of a split: their parts of the frame table become frames.npz, then index.json."""

import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from crc32c import crc32c

from configs.files import atomic_write, remove_scratch
from pipeline.format import FORMAT, INDEX_NAME, TABLE_NAME, VERSION, FrameTable, index_checksum, read_arrays
from preprocess.writer import part_path, shard_path

Part = tuple[FrameTable, dict[str, Any]]  # a shard's rows and its summary


def read_part(folder: Path, number: int, digest: str) -> Part | None:
    """A finished shard's part, or None when the shard has to be written (again)."""
    shard = shard_path(folder, number)
    try:
        data = part_path(shard).read_bytes()
        summary = json.loads(read_arrays(data, ["meta"])["meta"].tobytes())
        whole = shard.stat().st_size == summary["bytes"] and shard.with_suffix(".idx").is_file()
        return (FrameTable.read(data), summary) if whole and summary["digest"] == digest else None
    except Exception:  # whatever is wrong with it, the remedy is the same
        return None


def finish(folder: Path, parts: Sequence[Part], about: dict[str, Any]) -> dict[str, Any]:
    """Write frames.npz and then index.json, and remove the parts; return the index.

    `about` holds the entries that are known before packing: split, fingerprint, inputs, options, left_out.
    """
    filled = [(table, summary) for table, summary in parts if summary["clips"]]
    table = merge([table for table, _ in filled])
    memory = io.BytesIO()
    table.write(memory)
    data = memory.getvalue()
    with atomic_write(folder / TABLE_NAME) as file:
        file.write(data)
    index = {
        "format": FORMAT,
        "version": VERSION,
        **about,
        "num_clips": len(table),
        "num_frames": len(table.rgb_index),
        **counts(table),
        "shards": [{key: summary[key] for key in ("name", "bytes", "crc32c", "clips")} for _, summary in filled],
        "frames": {"name": TABLE_NAME, "bytes": len(data), "crc32c": crc32c(data)},
    }
    index["checksum"] = index_checksum(index)
    with atomic_write(folder / INDEX_NAME, "w") as file:
        file.write(json.dumps(index, indent=1) + "\n")
    remove_leftovers(folder, {shard["name"] for shard in index["shards"]})
    return index


def counts(table: FrameTable) -> dict[str, Any]:
    """The entries of the index that sum up the clips: geometry and classes."""
    sizes = Counter(zip(table.height.tolist(), table.width.tolist(), strict=True))
    classes = Counter(table.label.tolist())
    return {
        "geometry": [{"height": h, "width": w, "clips": number} for (h, w), number in sorted(sizes.items())],
        "classes": {str(label): number for label, number in sorted(classes.items())},
    }


def merge(tables: Sequence[FrameTable]) -> FrameTable:
    """One table of many, each of one shard, in their order."""
    arrays = {name: np.concatenate([table.arrays()[name] for table in tables]) for name in tables[0].arrays()}
    arrays["record_shard"] = np.repeat(np.arange(len(tables), dtype=np.int32), [len(table) for table in tables])
    lengths = np.concatenate([np.diff(table.first_frame) for table in tables])
    arrays["first_frame"] = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return FrameTable(**arrays)


def remove_leftovers(folder: Path, shard_names: set[str]) -> None:
    """Remove what a finished split does not need: parts, scratch files of dead runs, shards of another cut."""
    remove_scratch(folder)
    for path in folder.glob("[0-9]*.part.npz"):
        path.unlink(missing_ok=True)
    for path in (*folder.glob("[0-9]*.tfrecord"), *folder.glob("[0-9]*.idx")):
        if path.with_suffix(".tfrecord").name not in shard_names:
            path.unlink(missing_ok=True)
