"""The interface of a synthetic task: classes, sizes of its trees, drawing."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Frame: TypeAlias = NDArray[np.uint8]
Files: TypeAlias = dict[str, bytes]  # name within a video -> a JPEG file


@dataclass(frozen=True)
class Scene:
    """What clips that differ by their class alone share: all that is drawn at random."""

    seed: int  # of the tree
    video: int  # its number
    group: int  # number of the scene in the video

    def rng(self, *purpose: int) -> np.random.Generator:
        """The random numbers of one purpose, such as one stream's in one frame."""
        return np.random.default_rng((self.seed, self.video, self.group, *purpose))


LabelledScene: TypeAlias = tuple[Scene, int]
# Draws clips one after the other: (clips, RGB frames per clip, stride) to RGB's files and flow's, in u/ and v/.
Draw: TypeAlias = Callable[[Sequence[LabelledScene], int, int], tuple[Files, Files]]
# The scenes and labels of a video's clips in their order, each class equally often: (seed, video, number of clips).
Deal: TypeAlias = Callable[[int, int, int], list[LabelledScene]]


@dataclass(frozen=True)
class Task:
    """One synthetic task, and what a tree of it has unless asked otherwise."""

    class_names: tuple[str, ...]  # by label
    videos: tuple[int, int, int]  # in train, val and test
    clips: int  # per video
    frames: int  # RGB frames per clip
    strides: tuple[int, int]  # RGB frames per flow frame: of most videos, and of the last one of train and of test
    one_stream: float  # the best accuracy that is possible from RGB alone or flow alone
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
