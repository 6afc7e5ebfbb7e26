"""The interface of rivals: what each is given, and what its batches hold."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.format.split import Split
from pipeline.format.streams import PLANES, STREAMS
from pipeline.reader import Bytes
from pipeline.views import View, ViewOptions, draw_view

DALI = "nvidia-dali"  # whichever build is installed
EPOCH = 256  # clips at least: a smaller split is gone through several times, as an epoch's beginning is not the subject
Files: TypeAlias = "list[list[Bytes]]"  # the JPEGs of rgb, u and v of a clip, T of each


class UnavailableError(Exception):
    """A rival that cannot load this split, or cannot run here: the message says why."""


class Clips(NamedTuple):
    """A batch of a rival."""

    rgb: Tensor  # [B, 3, T, H, W], uint8 levels, or floats in [-1, 1]
    flow: Tensor  # [B, 2, T, H, W], alike
    clips: Tensor  # int64 [B], positions in the split
    windows: Tensor  # int64 [B, 3]: top and left in the frame's pixels, and 1 where mirrored


@dataclass(frozen=True)
class Task:
    """What all rivals load.

    Attributes:
        split: holds JPEGs.
        frames: the folders that the split was packed from.
        scratch: a folder where a rival may write the clips in its own form.
        num_threads: threads, or worker processes.
        prefetch: batches ahead; of each worker, where there are workers.
        seed: of the windows.
    """

    split: Split
    frames: Path
    scratch: Path
    num_frames: int
    crop_size: int
    batch_size: int
    num_threads: int
    prefetch: int
    seed: int = 0

    def __len__(self) -> int:
        """Clips of an epoch: the split's, as many times as make EPOCH of them."""
        return len(self.split.table) * -(-EPOCH // len(self.split.table))

    def view(self, index: int) -> View:
        """How the clip at `index` of an epoch is seen: its crop and mirror are the same in every epoch."""
        table, clip = self.split.table, index % len(self.split.table)
        return draw_view(
            clip,
            ViewOptions(self.num_frames, self.crop_size),
            num_stored=int(table.first_frame[clip + 1] - table.first_frame[clip]),
            height=int(table.height[clip]),
            width=int(table.width[clip]),
            seed=self.seed,
            epoch=0,
            train=True,
        )

    def files(self, view: View) -> Files:
        """The JPEGs that `view` sees, as views into the mapped shards."""
        table, columns = self.split.table, [column for name in STREAMS for column in self.split.columns[name]]
        shard = mapped(self.split.shard_paths[int(table.record_shard[view.clip])])
        rows = table.first_frame[view.clip] + view.frames
        begins, sizes = (array[rows][:, columns].T.tolist() for array in (table.offset, table.size))  # each [3, T]
        return [
            [shard[begin : begin + size] for begin, size in zip(*plane, strict=True)]
            for plane in zip(begins, sizes, strict=True)
        ]

    def sample(self, index: int) -> dict[str, Any]:
        """The clip at `index` as formats with named fields store it: its position, and its JPEGs' bytes."""
        view = self.view(index)
        planes = zip(PLANES, self.files(view), strict=True)
        fields = {field(plane, t): file.tobytes() for plane, files in planes for t, file in enumerate(files)}
        return {"clip": view.clip, **fields}

    def files_of(self, sample: dict[str, Any]) -> Files:
        """The JPEGs of a `sample`."""
        frames = range(self.num_frames)
        return [[np.frombuffer(sample[field(plane, t)], np.uint8) for t in frames] for plane in PLANES]


@dataclass(frozen=True)
class Rival:
    """A way of loading.

    Attributes:
        packages: distributions whose versions are shown; the first is what it is about.
        open: makes batches for ever.
        from_extra: whether some of them come with the extra `rivals` alone.
        apart: levels that its pixels may differ by on average: 0 but for other decoders and lossy forms.
        inverts_u: whether a mirror turns u into 255 - u.
    """

    name: str
    packages: tuple[str, ...]
    open: Callable[[Task], Iterator[Clips]]
    from_extra: bool = True
    apart: float = 0.0
    inverts_u: bool = True


def field(plane: str, t: int) -> str:
    """The name of a JPEG in a sample."""
    return f"{plane}_{t:03d}"


def window_of(view: View) -> Tensor:
    """A view as Clips.windows has it, int64 [3]."""
    return torch.tensor([view.top, view.left, int(view.mirror)])


@cache
def mapped(path: Path) -> NDArray[np.uint8]:
    """A shard's bytes; a process maps each once."""
    return np.memmap(path, np.uint8, mode="r")
