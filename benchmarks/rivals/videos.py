"""Clips as H.264: a video of each plane, which holds the frames that are seen and no other."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from benchmarks.rivals.base import Clips, Task, UnavailableError
from benchmarks.rivals.crops import Item, crop_frames, decode_simplejpeg, load
from pipeline.format.streams import PLANES
from pipeline.reader import Bytes

RATE = 30  # frames per second
OPTIONS = {"crf": "18", "preset": "medium"}  # of x264: hardly to be told from the JPEGs
APART = 6.0  # levels on average that a lossy form may be off
DecodeVideo = Callable[[str, int], Bytes]  # a file and its number of frames: [T, H, W, 3]


class VideoClips(Dataset[Item]):
    """A map-style data set of the clips as videos, which are written first."""

    def __init__(self, task: Task, decode: DecodeVideo) -> None:
        self.task, self.decode = task, decode
        self.folder = task.scratch / "videos"
        if not self.folder.exists():
            write_videos(task, self.folder)

    def __len__(self) -> int:
        return len(self.task)

    def __getitem__(self, index: int) -> Item:
        view = self.task.view(index)
        paths = [str(self.folder / f"{view.clip}_{plane}.mp4") for plane in PLANES]
        rgb, u, v = (self.decode(path, self.task.num_frames) for path in paths)
        return crop_frames(rgb, [u[..., :1], v[..., :1]], view)


def write_videos(task: Task, folder: Path) -> None:
    """Encode each clip of the split once; u and v as grey pictures."""
    folder.mkdir()
    for clip in range(len(task.split.table)):
        for plane, files in zip(PLANES, task.files(task.view(clip)), strict=True):
            frames = [decode_simplejpeg(file, 3 if plane == "rgb" else 1) for file in files]
            if any(side % 2 for side in frames[0].shape[:2]):
                raise UnavailableError("frames of an odd height or width do not fit H.264's chroma")
            write_video(folder / f"{clip}_{plane}.mp4", frames)


def write_video(path: Path, frames: list[Bytes]) -> None:
    """Encode frames [H, W, 3] or [H, W, 1]."""
    import av

    height, width, _ = frames[0].shape
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(RATE), options=OPTIONS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            pixels = np.ascontiguousarray(np.broadcast_to(frame, (height, width, 3)))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def video_batches(task: Task, decode: DecodeVideo) -> Iterator[Clips]:
    """Batches by worker processes, each of which decodes on one thread, for ever."""
    return load(VideoClips(task, decode), task)
