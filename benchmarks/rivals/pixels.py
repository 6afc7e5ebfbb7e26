"""Pixels of a batch against an independent decode: whole frames by OpenCV, cut and mirrored here."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.rivals.base import Clips, Rival, Task
from pipeline.reader import Bytes


class Difference(NamedTuple):
    """How far pixels are off, in levels."""

    largest: int
    mean: float

    def __str__(self) -> str:
        return "equal" if self.largest == 0 else f"{self.mean:.1f} off, at most {self.largest}"


def difference(batch: Clips, task: Task, rival: Rival) -> Difference:
    """Compare the windows that a batch says it has seen; the clips' frames are the task's."""
    off = []
    for n, (top, left, mirror) in enumerate(batch.windows.tolist()):
        rgb, flow = expected(task, int(batch.clips[n]), top, left, bool(mirror), rival.inverts_u)
        for ours, theirs in ((rgb, batch.rgb[n]), (flow, batch.flow[n])):
            off.append(np.abs(ours.astype(np.int16) - levels(theirs)))
    largest = max(int(each.max()) for each in off)
    return Difference(largest, float(np.mean([each.mean() for each in off])))


def expected(
    task: Task, clip: int, top: int, left: int, mirror: bool, inverts_u: bool = True
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A clip's rgb [3, T, H, W] and flow [2, T, H, W] as that window shows them."""
    size = task.crop_size
    planes = [
        np.stack([_decode(file, grey=plane > 0) for file in files])[:, top : top + size, left : left + size]
        for plane, files in enumerate(task.files(task.view(clip)))
    ]  # each [T, H, W, C]
    rgb, u, v = (plane[:, :, ::-1] if mirror else plane for plane in planes)
    if mirror and inverts_u:
        u = 255 - u
    return rgb.transpose(3, 0, 1, 2), np.concatenate([u, v], axis=3).transpose(3, 0, 1, 2)


def levels(stream: Tensor) -> NDArray[np.int16]:
    """uint8, or floats in [-1, 1], as levels."""
    values = stream.numpy()
    return (np.rint((values + 1) * 127.5) if values.dtype == np.float32 else values).astype(np.int16)


def _decode(file: Bytes, grey: bool) -> Bytes:
    frame = np.asarray(cv2.imdecode(file, cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR))
    return frame[..., None] if grey else frame[..., ::-1]
