"""What the tests of loaders share: the clips of an epoch, the comparison of two loaders, and damaged copies."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import torch

from pipeline.format.split import open_split
from pipeline.loader import ClipLoader


def clips_of(loader: ClipLoader) -> list[int]:
    """The clips of the next epoch, in order."""
    return [clip for batch in loader for clip in batch.clips.tolist()]


def assert_same_batches(one: ClipLoader, two: ClipLoader, epochs: int = 2) -> None:
    for _ in range(epochs):
        for first, second in zip(one, two, strict=True):
            assert first.clips.tolist() == second.clips.tolist()
            for a, b in ((first.rgb, second.rgb), (first.flow, second.flow)):
                assert (a is None) == (b is None)
                assert a is None or (torch.equal(a, b) and a.stride() == b.stride())


def damaged_copy(split: Path, folder: Path, positions: Iterable[tuple[int, int, int, int]]) -> Path:
    """A copy with a bit changed at each (clip, frame, column of the table, byte of the file)."""
    copy = Path(shutil.copytree(split, folder / "train"))
    table = open_split(copy).table
    data = bytearray((copy / "00000.tfrecord").read_bytes())
    for clip, frame, column, byte in positions:
        data[int(table.offset[table.first_frame[clip] + frame, column]) + byte] ^= 1
    (copy / "00000.tfrecord").write_bytes(data)
    return copy
