"""Crops of raw frames: checked, copied out of the mapped shards, mirrored and laid out in one pass, by threads."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, wait

import torch
from torch import Tensor

from pipeline.batch import as_stream, copy_pictures, inverts
from pipeline.buffers import BufferPool
from pipeline.decoders.base import FrameError
from pipeline.reader import Bytes, Stored, raw_window
from pipeline.sampler import View


class CropCopier:
    """Makes one stream of batches out of raw frames whose windows are not resized; see pipeline.decoders.base.Decoder.

    Frame by frame: what has just been read to be checked is still in the core's cache when its window is copied.
    """

    def __init__(self, num_planes: int, channels: int, device: torch.device, threads: Executor) -> None:
        self._num_planes, self._channels = num_planes, channels
        self._device = device
        self._threads = threads
        self._buffers = BufferPool()
        self._sent: deque[tuple[Tensor, list[Future[None]]]] = deque()

    def send(self, stored: Sequence[Stored], views: Sequence[View]) -> None:
        """Begin to copy the views' windows: T raw frames of every view in turn, for flow all u's and then all v's."""
        num_frames, side = len(views[0].frames), views[0].side
        out = self._empty((len(views), self._num_planes, num_frames, side, side, self._channels))
        copies = []
        for number in range(self._num_planes * len(views)):
            plane, clip = divmod(number, len(views))
            windows = self._windows(stored, range(number * num_frames, (number + 1) * num_frames), views[clip])
            copies.append(self._threads.submit(self._copy, windows, views[clip], plane, out[clip, plane]))
        self._sent.append((out, copies))

    def receive(self) -> Tensor:
        """The stream of the batch that was sent first; FrameError if one of its frames is not as packed."""
        out, copies = self._sent.popleft()
        for copy in copies:
            copy.result()
        return as_stream(out.to(self._device, non_blocking=True))

    def discard(self) -> None:
        """Let go of the batch that was sent first."""
        _, copies = self._sent.popleft()
        for copy in copies:
            copy.cancel()
        wait(copies)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)

    def _windows(self, stored: Sequence[Stored], indices: range, view: View) -> Iterator[Bytes]:
        for index in indices:
            try:
                yield raw_window(stored[index], view)
            except ValueError as error:
                raise FrameError(error, index) from None

    def _copy(self, windows: Iterator[Bytes], view: View, plane: int, out: Tensor) -> None:
        invert = view.mirror and inverts(plane, self._num_planes)
        copy_pictures(windows, out.numpy(), mirror=view.mirror, invert=invert)

    def _empty(self, shape: tuple[int, ...]) -> Tensor:
        if self._device.type == "cpu":
            return self._buffers.take(shape)
        return torch.empty(shape, dtype=torch.uint8, pin_memory=True)
