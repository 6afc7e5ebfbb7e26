"""The published code's loading, work for work: a file per frame, whole frames, floats."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.format.split import Split

Frames = NDArray[Any]  # float32 [T, H, W, C]


class PublishedClips(Dataset[tuple[Tensor, Tensor, int]]):
    """A split's clips out of the folders of frames that they were packed from.

    Each frame is a file that OpenCV opens and decodes whole; colours are swapped and levels brought to [-1, 1] a frame
    at a time in float64; whole frames are stacked as float32 and only then cropped, and mirrored by a copy; each stream
    draws its own crop and mirror. The frames are those of the shards, so that all ways load the same images.
    """

    def __init__(self, split: Split, root: Path, num_frames: int, crop_size: int) -> None:
        self.table, self.labels, self.root = split.table, split.labels, root
        self.num_frames, self.crop_size = num_frames, crop_size

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, clip: int) -> tuple[Tensor, Tensor, int]:
        """One clip: rgb [3, T, H, W], flow [2, T, H, W], float32 in [-1, 1], and its label."""
        rgb, u, v = self.files(clip)
        return (
            _as_clip(self._seen(read_rgb(rgb))),
            _as_clip(self._seen(read_flow(u, v))),
            int(self.labels[clip]),
        )

    def files(self, clip: int) -> tuple[list[Path], list[Path], list[Path]]:
        """The files of rgb, u and v that a clip is loaded from, each [T]."""
        table = self.table
        video, participant = table.video_id[clip].decode(), table.participant_id[clip].decode()
        rows = table.frames(clip)
        chosen = rows.start + np.linspace(0, rows.stop - rows.start - 1, self.num_frames).astype(np.int64)
        numbers = table.rgb_index[chosen], table.flow_index[chosen], table.flow_index[chosen]
        folders = _folders(self.root, participant, video)
        rgb, u, v = (
            [folder / f"frame_{number:010d}.jpg" for number in frames.tolist()]
            for folder, frames in zip(folders, numbers, strict=True)
        )
        return rgb, u, v

    def _seen(self, frames: Frames) -> Frames:
        _, height, width, _ = frames.shape
        top = random.randint(0, height - self.crop_size)
        left = random.randint(0, width - self.crop_size)
        crop = frames[:, top : top + self.crop_size, left : left + self.crop_size]
        return np.flip(crop, axis=2).copy() if random.random() < 0.5 else crop


def has_folders(split: Split, root: Path) -> bool:
    """Whether `root` holds the split's videos as folders of frames, the one form read here."""
    videos = zip(split.table.participant_id.tolist(), split.table.video_id.tolist(), strict=True)
    return all(
        folder.is_dir()
        for participant, video in {(participant.decode(), video.decode()) for participant, video in videos}
        for folder in _folders(root, participant, video)
    )


def read_rgb(paths: Sequence[Path]) -> Frames:
    """Whole RGB frames, float32 [T, H, W, 3] in [-1, 1]."""
    frames = []
    for path in paths:
        bgr = np.asarray(cv2.imread(str(path)))
        frames.append(bgr[:, :, [2, 1, 0]] / 255.0 * 2 - 1)
    return np.asarray(frames, dtype=np.float32)


def read_flow(u_paths: Sequence[Path], v_paths: Sequence[Path]) -> Frames:
    """Whole flow frames, float32 [T, H, W, 2] in [-1, 1]."""
    frames = []
    for paths in zip(u_paths, v_paths, strict=True):
        planes = [np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)) / 255.0 * 2 - 1 for path in paths]
        frames.append(np.asarray(planes).transpose(1, 2, 0))
    return np.asarray(frames, dtype=np.float32)


def _as_clip(frames: Frames) -> Tensor:
    return torch.from_numpy(frames.transpose(3, 0, 1, 2))


def _folders(root: Path, participant: str, video: str) -> tuple[Path, Path, Path]:
    flow = root / participant / "flow_frames" / video
    return root / participant / "rgb_frames" / video, flow / "u", flow / "v"
