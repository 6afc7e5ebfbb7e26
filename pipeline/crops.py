"""Crops of raw frames: checked, copied out of the mapped shards, mirrored and laid out in one pass, by threads."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor, Future, wait

import torch
from torch import Tensor

from pipeline.batch import as_stream, copy_pictures, inverts
from pipeline.buffers import BufferPool
from pipeline.reader import Stored, raw_window
from pipeline.sampler import View


class CropCopier:
    """Makes one stream of batches out of raw frames whose windows are not resized; see pipeline.decoder.Decoder.

    Frame by frame: what has just been read to be checked is still in the core's cache when its window is copied.
    """

    def __init__(self, num_planes: int, device: torch.device, threads: Executor) -> None:
        self._num_planes = num_planes
        self._device = device
        self._threads = threads
        self._buffers = BufferPool()
        self._sent: deque[tuple[Tensor, list[Future[None]]]] = deque()

    def send(self, stored: Sequence[Stored], views: Sequence[View]) -> None:
        """Begin to copy the views' windows: T raw frames of every view in turn, for flow all u's and then all v's."""
        num_frames, side = len(views[0].frames), views[0].side
        channels = 3 if self._num_planes == 1 else 1
        out = self._empty((len(views), self._num_planes, num_frames, side, side, channels))
        copies = []
        for number in range(self._num_planes * len(views)):
            plane, clip = divmod(number, len(views))
            frames = stored[number * num_frames : (number + 1) * num_frames]
            copies.append(self._threads.submit(self._copy, frames, views[clip], plane, out[clip, plane]))
        self._sent.append((out, copies))

    def receive(self, clips: str) -> Tensor:
        """The stream of the batch that was sent first; CorruptClipError if one of its frames is not as packed."""
        out, copies = self._sent.popleft()
        for copy in copies:
            copy.result()
        return as_stream(out.to(self._device, non_blocking=True))

    def discard(self, clips: str) -> None:
        """Let go of the batch that was sent first."""
        _, copies = self._sent.popleft()
        for copy in copies:
            copy.cancel()
        wait(copies)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)

    def _copy(self, frames: Sequence[Stored], view: View, plane: int, out: Tensor) -> None:
        windows = (raw_window(frame, view) for frame in frames)
        invert = view.mirror and inverts(plane, self._num_planes)
        copy_pictures(windows, out.numpy(), mirror=view.mirror, invert=invert)

    def _empty(self, shape: tuple[int, ...]) -> Tensor:
        if self._device.type == "cpu":
            return self._buffers.take(shape)
        return torch.empty(shape, dtype=torch.uint8, pin_memory=True)
