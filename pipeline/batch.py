"""Batches of clip pairs: their memory, and the one pass that lays frames out in it."""

import math
import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.views import View


class BufferPool:
    """A pool of uint8 CPU buffers: the memory of a tensor that is gone is given to the next.

    A tensor lives for as long as anything refers to it, a view of it included, as any other tensor does. Where there is
    CUDA, memory is pinned and torch's own pool has it, which waits for copies that still read it.

    Args:
        keep: how many blocks of memory wait at most to be used again.
    """

    def __init__(self, keep: int = 2) -> None:
        self._pins = torch.cuda.is_available()
        self._free: deque[NDArray[np.uint8]] = deque(maxlen=keep)

    def take(self, shape: Sequence[int]) -> Tensor:
        """A tensor of this shape; what is in it is undefined."""
        if self._pins:
            return torch.empty(tuple(shape), dtype=torch.uint8, pin_memory=True)
        size = math.prod(shape)
        memory = self._reusable(size)
        lease = memory[:size]  # the tensor refers to this view alone, so that it dies with the tensor
        weakref.finalize(lease, self._free.append, memory).atexit = False
        return torch.from_numpy(lease).view(*shape)

    def _reusable(self, size: int) -> NDArray[np.uint8]:
        """A waiting block that is large enough, or a new one."""
        while True:
            try:
                memory = self._free.popleft()
            except IndexError:
                return np.empty(size, np.uint8)
            if len(memory) >= size:
                return memory


@dataclass(frozen=True)
class Batch:
    """B clips, both streams seen through the same window at the same times.

    Attributes:
        rgb: uint8 [B, 3, T, H, W], NDHWC in memory (channels_last_3d); None where RGB is not decoded.
        flow: uint8 [B, 2, T, H, W], a plane of u and a plane of v; None where flow is not decoded.
        labels: int64 [B], of the first target.
        clips: int64 [B], positions in the loader's clip_ids.
        view_ids: int64 [B], which of the loader's views of its clip each is; in training, of the epoch's.
        views: how each clip is seen.
        targets: by name, int64 [B], -1 where unknown.
    """

    rgb: Tensor | None
    flow: Tensor | None
    labels: Tensor
    clips: Tensor
    view_ids: Tensor
    views: tuple[View, ...]
    targets: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.views)

    def to(self, device: torch.device) -> "Batch":
        """The same batch on `device`; what is there already is not copied, and the device is not waited for."""
        return replace(
            self,
            rgb=self.rgb if self.rgb is None else move(self.rgb, device),
            flow=self.flow if self.flow is None else move(self.flow, device),
            labels=move(self.labels, device),
            clips=move(self.clips, device),
            view_ids=move(self.view_ids, device),
            targets={name: move(classes, device) for name, classes in self.targets.items()},
        )


def move(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on `device`, by way of pinned memory: copies from other memory begin with a wait for the device."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()  # itself, where it is
    return tensor.to(device, non_blocking=True)


def copy_to_batch(frames: Tensor, views: Sequence[View], out: Tensor) -> None:
    """Copy frames [P * B * T, H, W, C] into a batch [B, P, T, H, W, C], mirrored as views say.

    P is 1 (RGB) or 2 (u and v); a mirror turns u into 255 - u.
    """
    num_planes, width, channels = out.shape[1], out.shape[4], out.shape[5]
    rows = frames.view(num_planes, len(views), 1, -1, width, channels)  # all T frames as one
    targets = out.view(len(views), num_planes, 1, -1, width, channels)
    copy = copy_on_gpu if out.is_cuda else copy_frames
    for clip, view in enumerate(views):
        for plane in range(num_planes):
            invert = view.mirror and inverts(plane, num_planes)
            copy(rows[plane, clip], targets[clip, plane], mirror=view.mirror, invert=invert)


def copy_frames(frames: Iterable[Any], targets: Iterable[Any], *, mirror: bool, invert: bool) -> None:
    """Copy frames [H, W, C], arrays or CPU tensors, into `targets`; `invert` makes them 255 - level."""
    for source, target in ((np.asarray(a), np.asarray(b)) for a, b in zip(frames, targets, strict=True)):
        if not mirror:
            target[...] = source
        elif source.shape[2] == 1:  # OpenCV drops the axis of a single channel
            cv2.flip(source[..., 0], 1, dst=target[..., 0])
        else:
            cv2.flip(source, 1, dst=target)
        if invert:
            np.invert(target, out=target)


def copy_on_gpu(frames: Tensor, targets: Tensor, *, mirror: bool, invert: bool) -> None:
    """What copy_frames() does, for tensors [N, H, W, C] of any device."""
    # As [N, C, H, W] in channels_last, torch mirrors whole pixels at once.
    source = frames.movedim(3, 1).flip(3).movedim(1, 3) if mirror else frames
    if invert:
        torch.bitwise_not(source, out=targets)
    else:
        targets.copy_(source)


def inverts(plane: int, num_planes: int) -> bool:
    """Whether a mirror turns the levels of this plane into 255 - level: that of u does."""
    return num_planes == 2 and plane == 0


def to_ncthw(out: Tensor) -> Tensor:
    """[B, P, T, H, W, C] seen as a batch has it: rgb [B, 3, T, H, W], or flow [B, 2, T, H, W]."""
    return out[:, 0].permute(0, 4, 1, 2, 3) if out.shape[1] == 1 else out[..., 0]
