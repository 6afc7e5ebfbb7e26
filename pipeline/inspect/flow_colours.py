"""Flow as colours: direction is hue, speed is saturation, and what full saturation means in pixels per frame."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.epic import epic_video

Frames = NDArray[np.uint8]  # [T, H, W, 3]
LEVELS = 256
ZERO = 127.5  # levels: no motion, stored as 127 or 128
FASTEST = (
    0.99  # share of the moving pixels that are slower than the most saturated colour: noise must not set the scale
)


@dataclass(frozen=True)
class FlowColours:
    """The colours of flow's levels: no motion is white, `fastest` levels from it and beyond have full saturation."""

    fastest: float

    @classmethod
    def of(cls, *flows: NDArray[np.uint8]) -> "FlowColours":
        """One scale for flows uint8 [2, ...]; where nothing moves, full saturation is one level."""
        speed = np.concatenate([_speeds()[flow[0], flow[1]].ravel() for flow in flows])
        moving = speed[speed > 0]
        return cls(max(1.0, float(np.quantile(moving, FASTEST))) if len(moving) else 1.0)

    @cached_property
    def _table(self) -> Frames:
        """The colour of each level of u and of v, [256, 256, 3]."""
        from torchvision.utils import flow_to_image  # here: its import takes longer than torch's own

        vectors = _all_vectors()
        vectors *= self.fastest / torch.hypot(*vectors).clamp(min=self.fastest)
        colours: Frames = flow_to_image(vectors).permute(1, 2, 0).contiguous().numpy()
        return colours

    def paint(self, u: NDArray[np.uint8], v: NDArray[np.uint8]) -> Frames:
        """The colours of u and v of any shape, [..., 3]."""
        return self._table[u, v]

    def scale_text(self, pixels_per_level: float | None) -> str:
        """How fast the most saturated colour is, in the frame's own pixels where the flow's bound is known."""
        if pixels_per_level is None:
            return f"{self.fastest:.0f} of 127 levels"
        return f"{self.fastest * pixels_per_level:.2g} pixels/frame"


def _all_vectors() -> Tensor:
    """The motion of each level of u and of v, float32 [2, 256, 256]."""
    levels = torch.arange(LEVELS, dtype=torch.uint8)
    return to_vectors(torch.stack([levels[:, None].expand(LEVELS, LEVELS), levels.expand(LEVELS, LEVELS)]))


@cache
def _speeds() -> NDArray[np.float32]:
    """How fast that is, in levels, float32 [256, 256]."""
    speeds: NDArray[np.float32] = torch.hypot(*_all_vectors()).numpy()
    return speeds


def to_vectors(flow: Tensor) -> Tensor:
    """Levels uint8 [2, ...] as float32 motion in levels, right and down positive; 127 and 128 are zero."""
    vectors = flow.float() - ZERO
    vectors[vectors.abs() <= 0.5] = 0
    return vectors


def pixels_per_level(source: Mapping[str, Any] | None, video_id: str) -> float | None:
    """Pixels of motion from one RGB frame to the next that are one level; None where nobody knows.

    `source` is an extract.json, which says how the flow was made; without one the ids of EPIC-KITCHENS do.
    """
    options = (source or {}).get("options", {})
    if "bound" in options:
        return float(options["bound"]) / ZERO / int(options.get("dilation", 1))
    video = epic_video(video_id)
    return None if video is None else video.bound / ZERO / video.dilation
