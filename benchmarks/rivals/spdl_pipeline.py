"""SPDL: a pipeline of stages on threads; images by its own FFmpeg decoder and filters, which cut and mirror."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import default_collate

from benchmarks.rivals.base import Clips, Rival, Task, window_of
from benchmarks.rivals.crops import Item, repeat
from pipeline.views import View


def order(task: Task) -> Iterator[int]:
    """Positions in an epoch, shuffled, for ever."""
    for epoch in count():
        yield from np.random.default_rng(epoch).permutation(len(task)).tolist()


def load_clip(task: Task, index: int) -> Item:
    """Decode a clip: rgb [T, H, W, 3] and flow [2, T, H, W]."""
    view = task.view(index)
    rgb, u, v = (
        load_plane([file.tobytes() for file in files], view, pixels)
        for files, pixels in zip(task.files(view), ("rgb24", "gray", "gray"), strict=True)
    )
    if view.mirror:
        np.invert(u, out=u)
    flow = np.stack([u, v]).reshape(2, *rgb.shape[:3])
    return torch.from_numpy(rgb), torch.from_numpy(flow), view.clip, window_of(view)


def load_plane(files: list[bytes], view: View, pixels: str) -> NDArray[np.uint8]:
    """The windows of a plane's T frames."""
    import spdl.io

    # Pixels first: within subsampled chroma a window could begin at even places alone.
    filters = f"format=pix_fmts={pixels},crop={view.side}:{view.side}:{view.left}:{view.top}:exact=1"
    filters += ",hflip" if view.mirror else ""
    buffer: Any = spdl.io.load_image_batch(files, width=None, height=None, pix_fmt=pixels, filter_desc=filters)
    frames: NDArray[np.uint8] = spdl.io.to_numpy(buffer)
    return frames


def batches(task: Task) -> Iterator[Clips]:
    """Batches for ever; a clip is decoded by one thread."""
    import spdl.io  # so that a missing FFmpeg is said here
    from spdl.pipeline import PipelineBuilder

    spdl.io.demux_config()  # its library is loaded at the first use
    pipeline = (
        PipelineBuilder()
        .add_source(order(task))
        .pipe(lambda index: load_clip(task, index), concurrency=task.num_threads)
        .aggregate(task.batch_size)
        .pipe(default_collate)
        .add_sink(task.prefetch)
        .build(num_threads=task.num_threads)
    )
    with pipeline.auto_stop():
        yield from repeat(pipeline)


# FFmpeg's JPEG decoder rounds the cosine transform and interpolates chroma otherwise than libjpeg does.
RIVAL = Rival("SPDL", ("spdl-io", "spdl-core"), batches, apart=1.5)
