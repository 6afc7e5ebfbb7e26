"""Decoded clips: whole frames by a decoder, of which windows are copied and mirrored into arrays."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.rivals.base import Clips, Files, Task, window_of
from pipeline.reader import Bytes
from pipeline.views import View

Decode = Callable[[Bytes, int], Bytes]  # a JPEG and its channels, 3 or 1: [H, W, C]
Item: TypeAlias = "tuple[Tensor, Tensor, int, Tensor]"  # rgb [T, H, W, 3], flow [2, T, H, W], clip, window


def decode_simplejpeg(file: Bytes, channels: int) -> Bytes:
    """A whole frame by libjpeg-turbo, [H, W, C]."""
    import simplejpeg

    frame: Bytes = simplejpeg.decode_jpeg(file, "RGB" if channels == 3 else "GRAY")
    return frame


def crop_jpegs(files: Files, view: View, decode: Decode = decode_simplejpeg) -> Item:
    """Decode the JPEGs of a clip and cut out what `view` sees."""
    rgb, u, v = ([decode(file, channels) for file in plane] for plane, channels in zip(files, (3, 1, 1), strict=True))
    return crop_frames(rgb, [u, v], view)


def crop_frames(rgb: Iterable[Bytes], flow: Iterable[Iterable[Bytes]], view: View) -> Item:
    """Cut windows out of whole frames, rgb [H, W, 3] and those of u and v [H, W, 1]; a mirror inverts u."""
    size, num_frames = view.side, len(view.frames)
    clip, planes = np.empty((num_frames, size, size, 3), np.uint8), np.empty((2, num_frames, size, size, 1), np.uint8)
    for targets, frames in zip((clip, *planes), (rgb, *flow), strict=True):
        for target, frame in zip(targets, frames, strict=True):
            copy_window(view.window(frame), target, view.mirror)
    if view.mirror:
        np.invert(planes[0], out=planes[0])
    return torch.from_numpy(clip), torch.from_numpy(planes[..., 0]), view.clip, window_of(view)


def copy_window(window: NDArray[Any], target: NDArray[Any], mirror: bool) -> None:
    """Copy a window [H, W, C], mirrored or not."""
    if mirror:
        cv2.flip(window, 1, dst=target)
    else:
        target[...] = window


class JpegClips(Dataset[Item]):
    """A map-style data set of the shards' clips."""

    def __init__(self, task: Task, decode: Decode) -> None:
        self.task, self.decode = task, decode

    def __len__(self) -> int:
        return len(self.task)

    def __getitem__(self, index: int) -> Item:
        view = self.task.view(index)
        return crop_jpegs(self.task.files(view), view, self.decode)


def loader_options(task: Task) -> dict[str, Any]:
    """Options of a DataLoader whose workers live on from epoch to epoch, each on one thread."""
    return {
        "batch_size": task.batch_size,
        "drop_last": True,
        "num_workers": task.num_threads,
        "prefetch_factor": task.prefetch,
        "persistent_workers": True,
        "multiprocessing_context": "fork",  # what DataLoaders take by themselves, where no package has changed that
        "worker_init_fn": one_thread,
    }


def load(data: Dataset[Item], task: Task) -> Iterator[Clips]:
    """Batches by the worker processes of a DataLoader, for ever."""
    return repeat(DataLoader(data, shuffle=True, **loader_options(task)))


def repeat(loader: Iterable[Any]) -> Iterator[Clips]:
    """Go through batches of items for ever; rgb comes channels last in memory."""
    while True:
        for rgb, flow, clips, windows in loader:
            yield Clips(rgb.permute(0, 4, 1, 2, 3), flow, clips, windows)


def one_thread(_: int) -> None:
    """Keep a worker process to one thread, as there is one for each core."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
