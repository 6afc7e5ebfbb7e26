"""The published code's loading, work for work: a file per frame, whole frames, floats."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.rivals.base import Clips, Rival, Task, UnavailableError, window_of
from benchmarks.rivals.crops import loader_options
from pipeline.format.split import Split
from pipeline.views import View

Frames = NDArray[Any]  # float32 [T, H, W, C]


class PublishedClips(Dataset[tuple[Tensor, Tensor, int, Tensor]]):
    """A split's clips out of the folders of frames that they were packed from.

    Each frame is a file that OpenCV opens and decodes whole; colours are swapped and levels brought to [-1, 1] a frame
    at a time in float64; whole frames are stacked as float32 and only then cropped, and mirrored by a copy that leaves
    u as it is. There each stream draws its own crop and mirror; here both are given the clip's, as all rivals are.
    """

    def __init__(self, task: Task) -> None:
        self.task = task

    def __len__(self) -> int:
        return len(self.task)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int, Tensor]:
        """One clip: rgb [3, T, H, W] and flow [2, T, H, W], float32 in [-1, 1], its position, its window."""
        view = self.task.view(index)
        rgb, u, v = self.paths(view)
        streams = _as_clip(_seen(read_rgb(rgb), view)), _as_clip(_seen(read_flow(u, v), view))
        return *streams, view.clip, window_of(view)

    def paths(self, view: View) -> tuple[list[Path], list[Path], list[Path]]:
        """The files of rgb, u and v that a clip is loaded from, each [T]."""
        table = self.task.split.table
        video, participant = table.video_id[view.clip].decode(), table.participant_id[view.clip].decode()
        chosen = table.frames(view.clip).start + view.frames
        numbers = table.rgb_index[chosen], table.flow_index[chosen], table.flow_index[chosen]
        rgb, u, v = (
            [folder / f"frame_{number:010d}.jpg" for number in frames.tolist()]
            for folder, frames in zip(_folders(self.task.frames, participant, video), numbers, strict=True)
        )
        return rgb, u, v


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


def batches(task: Task) -> Iterator[Clips]:
    """Batches by worker processes for ever."""
    if not has_folders(task.split, task.frames):
        raise UnavailableError(f"{task.frames} does not hold the frames as folders")
    loader = DataLoader(PublishedClips(task), shuffle=True, **loader_options(task))
    while True:
        yield from (Clips(*batch) for batch in loader)


def _seen(frames: Frames, view: View) -> Frames:
    crop = frames[:, view.top : view.top + view.side, view.left : view.left + view.side]
    return np.flip(crop, axis=2).copy() if view.mirror else crop


def _as_clip(frames: Frames) -> Tensor:
    return torch.from_numpy(frames.transpose(3, 0, 1, 2))


def _folders(root: Path, participant: str, video: str) -> tuple[Path, Path, Path]:
    flow = root / participant / "flow_frames" / video
    return root / participant / "rgb_frames" / video, flow / "u", flow / "v"


RIVAL = Rival(
    "OpenCV + DataLoader, as published", ("opencv-python-headless",), batches, from_extra=False, inverts_u=False
)
