"""A packed split, opened and checked: its index, frame table and shards (docs/format.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from pipeline.format.index import TABLE_NAME, Index, ShardError, read_index, remedy
from pipeline.format.streams import Stream, planes_of
from pipeline.format.table import FrameTable


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
        _check_size(path, shard.bytes)
    return Split(folder, index, table, shard_paths)


def _check_size(path: Path, num_bytes: int) -> None:
    found = path.stat().st_size if path.is_file() else None
    if found != num_bytes:
        state = "is missing" if found is None else f"has {found} bytes, the index says {num_bytes}"
        raise ShardError(f"{path}: {state}; {remedy(path.parent)}")


def _read_table(folder: Path, index: Index) -> FrameTable:
    path = folder / TABLE_NAME
    _check_size(path, index.frames.bytes)
    data = path.read_bytes()
    if crc32c(data) != index.frames.crc32c:
        raise ShardError(f"{path}: damaged, its CRC does not match the index; {remedy(folder)}")
    try:
        table = FrameTable.read(data, index.streams, len(index.targets), index.version)
        table.check([shard.bytes for shard in index.shards])
        table.check_targets(index.targets)
        if index.options.codec == "raw":
            table.check_pixels()
        if (len(table), len(table.frame_index)) != (index.num_clips, index.num_frames):
            raise ValueError("the index counts other clips or frames")
    except ValueError as error:
        raise ShardError(f"{path}: {error}; {remedy(folder)}") from None
    return table
