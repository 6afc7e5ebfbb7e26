"""A batch of clip pairs, and the one pass that lays decoded frames out as such."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipeline.sampler import View


@dataclass(frozen=True)
class Batch:
    """B clips, both streams seen through the same window at the same moments.

    Attributes:
        rgb: uint8 [B, 3, T, H, W], NDHWC in memory (channels_last_3d); None where RGB is not decoded.
        flow: uint8 [B, 2, T, H, W], a plane of u and a plane of v; None where flow is not decoded.
        labels: int64 [B].
        clips: int64 [B], positions in the loader's clip_ids.
        looks: int64 [B], which of the loader's looks at its clip each is; 0 in training.
        views: how each clip is seen.
    """

    rgb: Tensor | None
    flow: Tensor | None
    labels: Tensor
    clips: Tensor
    looks: Tensor
    views: tuple[View, ...]

    def __len__(self) -> int:
        return len(self.views)

    def to(self, device: torch.device) -> "Batch":
        """The same batch on `device`; what is there already is not copied."""
        return replace(
            self,
            rgb=self.rgb if self.rgb is None else self.rgb.to(device, non_blocking=True),
            flow=self.flow if self.flow is None else self.flow.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
            clips=self.clips.to(device, non_blocking=True),
            looks=self.looks.to(device, non_blocking=True),
        )


def assemble_rgb(frames: Tensor, views: Sequence[View]) -> Tensor:
    """Copy frames [B * T, H, W, 3] out of the decoder's buffer, mirrored where the view says so: [B, 3, T, H, W]."""
    clips = frames.view(len(views), -1, *frames.shape[1:])  # [B, T, H, W, 3]
    out = torch.empty_like(clips)
    for clip, view, source in zip(out.movedim(-1, 2), views, clips.movedim(-1, 2), strict=True):
        # As [T, 3, H, W] in channels_last, torch mirrors whole pixels at once: twice as fast as along an inner axis.
        clip.copy_(source.flip(3) if view.mirror else source)
    return out.permute(0, 4, 1, 2, 3)


def assemble_flow(frames: Tensor, views: Sequence[View]) -> Tensor:
    """Copy frames [2 * B * T, H, W, 1], all u before all v, into [B, 2, T, H, W]; a mirror turns u into 255 - u."""
    _, height, width, _ = frames.shape
    planes = frames.view(2, len(views), -1, height, width)  # [2, B, T, H, W]
    out = planes.new_empty((len(views), 2, *planes.shape[2:]))
    for index, view in enumerate(views):
        for plane in range(2):
            source = planes[plane, index]  # [T, H, W]
            out[index, plane].copy_(source.flip(2) if view.mirror else source)
        if view.mirror:
            out[index, 0].bitwise_not_()  # 255 - u
    return out
