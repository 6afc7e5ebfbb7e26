"""The interface of a synthetic task: its classes, the sizes of its trees, and how its videos are drawn."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ZERO_MOTION = 127.5

Frame: TypeAlias = NDArray[np.uint8]
Files: TypeAlias = dict[str, bytes]  # name within a video -> a JPEG file


@dataclass(frozen=True)
class Scene:
    """What clips that differ by their class alone share: all that is drawn at random.

    Attributes:
        seed, video: of the tree, and which of its videos.
        group: which scene of the video.
    """

    seed: int
    video: int
    group: int

    def rng(self, *purpose: int) -> np.random.Generator:
        """The random numbers of one purpose, such as one stream's in one frame."""
        return np.random.default_rng((self.seed, self.video, self.group, *purpose))


LabelledScene: TypeAlias = tuple[Scene, int]


class Draw(Protocol):
    """Draws the clips of a video one after the other; see `draw_video` in discs.py and objects.py."""

    def __call__(self, clips: Sequence[LabelledScene], length: int, stride: int) -> tuple[Files, Files]:
        """RGB's files, frame_*.jpg, and flow's, u/frame_*.jpg and v/frame_*.jpg; `length` RGB frames per clip."""


class Deal(Protocol):
    """Chooses the scenes and labels of a video's clips, in their order."""

    def __call__(self, seed: int, video: int, num_clips: int) -> list[LabelledScene]:
        """`num_clips` clips, a multiple of the task's classes, each class equally often."""


@dataclass(frozen=True)
class Task:
    """One synthetic task.

    Attributes:
        class_names: by label.
        videos, clips, frames: what a tree has unless asked otherwise: videos in train, val and test, clips per video,
            RGB frames per clip.
        strides: RGB frames per flow frame, of most videos, and of the last one of train and of test.
        one_stream: the best accuracy that is possible for whoever sees RGB alone or flow alone.
    """

    class_names: tuple[str, ...]
    videos: tuple[int, int, int]
    clips: int
    frames: int
    strides: tuple[int, int]
    one_stream: float
    deal: Deal
    draw: Draw


def encode(frame: Frame, quality: int) -> bytes:
    """The JPEG file of a frame [H, W, 3] or [H, W]."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=quality)
    return file.getvalue()


def file_name(index: int) -> str:
    """The name of a video's frame number `index`, from 0; EPIC counts from 1."""
    return f"frame_{index + 1:010d}.jpg"
