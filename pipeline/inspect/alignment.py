"""Temporal alignment of a clip's RGB and flow frames."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.epic import epic_video, flow_index
from pipeline.format.table import FrameTable

Numbers = NDArray[np.int64]
_IS_NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True)
class FrameAlignment:
    """The frames of both streams that stand side by side, T of each.

    Attributes:
        rgb, flow: int64 [T], numbers of the files, from 1.
        stride: RGB frames per flow frame.
        stride_is_of: what says so.
        fps: RGB frames per second; None where the video's id does not tell.
        last_flow: the highest flow number that the split has of the video, which frames after it use.
        times: of all RGB frames of the video, seconds, where its extraction is on record; else `fps` tells them.
    """

    rgb: Numbers
    flow: Numbers
    stride: int
    stride_is_of: str
    fps: float | None
    last_flow: int
    times: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, table: FrameTable, clip: int, frames: Numbers, root: Path | None = None) -> "FrameAlignment":
        """The alignment of `frames`, positions among the stored frames of `clip`.

        `root` is where the frames were packed from: what extract.py wrote there has the times of a video.
        """
        rows = table.first_frame[clip] + frames
        all_rgb, all_flow = _numbers_of_video(table, clip)
        video = epic_video(table.video_id[clip].decode())
        stride = (
            video.stride
            if video
            else max(
                (1, 2),
                key=lambda stride: int((flow_index(all_rgb, stride) == all_flow).sum()),  # that fits more numbers
            )
        )
        return cls(
            rgb=table.rgb_index[rows].astype(np.int64),
            flow=table.flow_index[rows].astype(np.int64),
            stride=stride,
            stride_is_of="the video's id" if video else "its frame numbers",
            fps=video.fps if video else None,
            last_flow=int(all_flow.max()),
            times=None if root is None else _recorded_times(root, table, clip, int(all_rgb.max())),
        )

    @property
    def expected_flow(self) -> Numbers:
        """The flow frames of the RGB frames' times, int64 [T]."""
        return flow_index(self.rgb, self.stride)

    @property
    def clamped(self) -> NDArray[np.bool_]:
        """Whether the RGB frame comes after the last flow frame and uses that, bool [T].

        Packing allows for as many flow frames as a fifth to be missing at a video's end.
        """
        missing = self.expected_flow - self.last_flow
        near = (missing > 0) & (missing <= np.maximum(1, self.expected_flow // 5))
        clamped: NDArray[np.bool_] = (self.flow == self.last_flow) & near
        return clamped

    @property
    def misaligned(self) -> NDArray[np.bool_]:
        """Whether the flow is that of another time than the RGB, bool [T]."""
        misaligned: NDArray[np.bool_] = (self.flow != self.expected_flow) & ~self.clamped
        return misaligned

    @property
    def seconds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Times in the video of RGB's and flow's frames, float64 [T] each; None where unknown."""
        if self.times is not None:
            flow = np.minimum((self.flow - 1) * self.stride, len(self.times) - 1)
            return self.times[self.rgb - 1], self.times[flow]
        if self.fps is None:
            return None
        return (self.rgb - 1) / self.fps, (self.flow - 1) * self.stride / self.fps

    @property
    def summary(self) -> str:
        """Whether the streams belong together, in words."""
        if not self.misaligned.any():
            covered = "each RGB frame" if self.stride == 1 else "two RGB frames"
            return f"both streams show the same times: one flow frame for {covered}, by {self.stride_is_of}"
        away = np.abs(self.flow - self.expected_flow).max() * self.stride
        distance = f"{away / self.fps:.2f} s" if self.fps else f"{away} RGB frames"
        count = f"{int(self.misaligned.sum())} of {len(self.misaligned)}"
        return f"WRONG: {count} flow frames are of another time than their RGB frames, up to {distance} away"


def _recorded_times(root: Path, table: FrameTable, clip: int, num_frames: int) -> NDArray[np.float64] | None:
    """Times of a video's frames, of which there are at least `num_frames`; None where they are not on record."""
    participant, video = (column[clip].decode() for column in (table.participant_id, table.video_id))
    if not (_IS_NAME.fullmatch(participant) and _IS_NAME.fullmatch(video)):  # no path that could leave the root
        return None
    try:
        times = json.loads((root / participant / "extracted" / f"{video}.json").read_text("utf-8"))["times"]
        found = np.array([] if times is None else times, np.float64)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if found.ndim == 1 and len(found) >= num_frames else None


def _numbers_of_video(table: FrameTable, clip: int) -> tuple[Numbers, Numbers]:
    """The numbers of all stored frames of a clip's video."""
    counts = np.diff(table.first_frame)
    rows = np.repeat(table.video_id == table.video_id[clip], counts)
    return table.rgb_index[rows].astype(np.int64), table.flow_index[rows].astype(np.int64)
