"""Which flow frame stands beside an RGB frame, and what the id of an EPIC-KITCHENS video says of both."""

import re
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Numbers = TypeVar("Numbers", int, NDArray[np.int64])

_ID = re.compile(r"P[0-9]{2}_(1?)[0-9]{2}")


@dataclass(frozen=True)
class EpicVideo:
    """How a video was recorded, and how its published flow was made.

    Attributes:
        fps: RGB frames per second.
        stride: RGB frames per flow frame.
        dilation: RGB frames that the motion of a flow frame goes over.
        bound: that motion, in pixels, at the lowest and the highest level.
    """

    fps: float
    stride: int
    dilation: int
    bound: float


RECORDED_2018 = EpicVideo(59.94, stride=2, dilation=3, bound=25.0)
RECORDED_2020 = EpicVideo(50.0, stride=1, dilation=1, bound=8.0)


def flow_index(rgb: Numbers, stride: int) -> Numbers:
    """The numbers of the flow frames that stand beside RGB frames, both from 1."""
    return (rgb - 1) // stride + 1


def epic_video(video_id: str) -> EpicVideo | None:
    """PXX_YY is of 2018, PXX_1YY of 2020; None for ids of other forms."""
    match = _ID.fullmatch(video_id)
    if match is None:
        return None
    return RECORDED_2020 if match[1] else RECORDED_2018


def stride_of_id(video_id: str) -> int | None:
    """RGB frames a flow frame, by the id; None for ids of other forms."""
    video = epic_video(video_id)
    return video.stride if video else None
