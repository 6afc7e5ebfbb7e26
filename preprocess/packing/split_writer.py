"""Split index: the parts of its finished shards become frames.npz, then index.json."""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crc32c import crc32c

from common.errors import UserError
from common.files import atomic_write, remove_scratch
from configs.schema import DataSection
from pipeline.format.index import (
    INDEX_NAME,
    TABLE_NAME,
    VERSION,
    Geometry,
    Index,
    Inputs,
    LeftOut,
    PackOptions,
    ShardEntry,
    TableEntry,
    Target,
)
from pipeline.format.streams import Stream
from pipeline.format.table import FrameTable, read_arrays
from preprocess.packing.codec import Codec
from preprocess.packing.shard_writer import ShardTask, part_path, shard_path

Part = tuple[FrameTable, dict[str, Any]]  # a shard's rows and its summary

LABEL = (Target(name="label"),)  # the targets of annotations that say no more
SOURCE_NAME = "extract.json"  # in the root of frames that were extracted: how
LAYOUT = ("frames_per_clip", "preset", "shard_mib", "codec", "raw_short_side")  # options that decide a split's bytes


@dataclass(frozen=True)
class Wanted:
    """What a split's index says of how it was packed, known before a byte is read."""

    split: str
    options: PackOptions
    annotations: str  # a digest
    source: dict[str, Any] | None
    streams: tuple[Stream, ...]
    targets: tuple[Target, ...]

    @property
    def fingerprint(self) -> str:
        """One number for all of it."""
        layout = {key: getattr(self.options, key) for key in (*LAYOUT, "recoder")}
        entries = [entry.model_dump(mode="json", exclude={"clips"}) for entry in (*self.streams, *self.targets)]
        named = json.dumps([VERSION, self.split, layout, self.annotations, entries, self.source], sort_keys=True)
        return hashlib.sha256(named.encode()).hexdigest()

    def differences(self, index: Index, frames_are_there: bool) -> list[str]:
        """What a complete split was packed from or with other than it would be now, in words."""
        then, now = index.options, self.options
        differing = [
            f"data.{key} was {getattr(then, key)}, is {getattr(now, key)}"
            for key in LAYOUT
            if getattr(then, key) != getattr(now, key)
        ]
        if index.split != self.split:
            differing.append(f"it is the split {index.split!r}, copied from another folder")
        if index.inputs.annotations != self.annotations:
            differing.append("its clips were others (data.annotations)")
        if index.version == 1:  # which says no more
            return differing
        if [(t.name, t.classes) for t in index.targets] != [(t.name, t.classes) for t in self.targets]:
            differing.append("its classes had other names (data.annotations)")
        if not set(self.streams) <= set(index.streams):
            streams = (" and ".join(stream.name for stream in found) for found in (index.streams, self.streams))
            differing.append(f"it holds {', not '.join(streams)} (data.streams)")
        return differing + (source_differences(index.source, self.source) if frames_are_there else [])


def options_of(data: DataSection) -> PackOptions:
    """The options of packing that a config has."""
    given = {key: getattr(data, key) for key in PackOptions.model_fields if hasattr(data, key)}
    return PackOptions(**given, recoder=Codec.of(data).recoder)


def read_source(frames: Path) -> dict[str, Any] | None:
    """How the frames below a root were made, where that is on record.

    Raises:
        UserError: the record is damaged.
    """
    path = frames / SOURCE_NAME
    try:
        source = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: is damaged ({error}); remove {frames} and extract its videos again") from None
    return source if isinstance(source, dict) else {"content": source}


def source_differences(was: dict[str, Any] | None, now: dict[str, Any] | None) -> list[str]:
    """How the making of frames differs; versions of programs do not count."""
    then, today = ({**(source or {}), **(source or {}).get("options", {})} for source in (was, now))
    keys = sorted((then.keys() | today.keys()) - {"options", "packages"})
    return [
        f"its frames were made with {key} {then.get(key)}, are with {today.get(key)} ({SOURCE_NAME})"
        for key in keys
        if then.get(key) != today.get(key)
    ]


def read_part(task: ShardTask) -> Part | None:
    """A finished shard's part, or None when the shard has to be written (again)."""
    shard = shard_path(task.folder, task.number)
    try:
        data = part_path(shard).read_bytes()
        summary = json.loads(read_arrays(data, ["meta"])["meta"].tobytes())
        whole = shard.stat().st_size == summary["bytes"] and shard.with_suffix(".idx").is_file()
        table = FrameTable.read(data, task.streams, len(task.targets))
        return (table, summary) if whole and summary["digest"] == task.digest else None
    except Exception:  # whatever is wrong with it, the remedy is the same
        return None


def finish(folder: Path, parts: Sequence[Part], wanted: Wanted, inputs: Inputs, left_out: list[LeftOut]) -> Index:
    """Write frames.npz and then index.json, and remove the parts; return the index."""
    filled = [(table, summary) for table, summary in parts if summary["clips"]]
    table = FrameTable.merge([table for table, _ in filled])
    memory = io.BytesIO()
    table.write(memory)
    data = memory.getvalue()
    with atomic_write(folder / TABLE_NAME) as file:
        file.write(data)
    index = Index(
        split=wanted.split,
        fingerprint=wanted.fingerprint,
        inputs=inputs,
        options=wanted.options,
        source=wanted.source,
        left_out=left_out,
        not_recoded=sum(summary["unchanged"] for _, summary in filled) if wanted.options.recoder else 0,
        num_clips=len(table),
        num_frames=len(table.frame_index),
        geometry=count_sizes(table),
        streams=table.streams,
        targets=count_classes(table, wanted.targets),
        shards=[ShardEntry(**{key: s[key] for key in ("name", "bytes", "crc32c", "clips")}) for _, s in filled],
        frames=TableEntry(bytes=len(data), crc32c=crc32c(data)),
    )
    with atomic_write(folder / INDEX_NAME, "w") as file:
        file.write(index.to_json())
    remove_scratch(folder)
    for path in leftovers(folder, index):
        path.unlink(missing_ok=True)
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


def leftovers(folder: Path, index: Index) -> list[Path]:
    """What a finished split does not need: parts, and shards of another cut."""
    names = {shard.name for shard in index.shards}
    shards = (*folder.glob("[0-9]*.tfrecord"), *folder.glob("[0-9]*.idx"))
    others = [path for path in shards if path.with_suffix(".tfrecord").name not in names]
    return [*folder.glob("[0-9]*.part.npz"), *others]
