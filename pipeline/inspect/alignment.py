"""Temporal alignment of a clip's RGB and flow frames."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.epic import epic_video, flow_index
from pipeline.format.table import FrameTable

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class FrameAlignment:
    """The frames of both streams that stand side by side, T of each.

    Attributes:
        rgb, flow: int64 [T], numbers of the files, from 1.
        stride: RGB frames per flow frame.
        stride_is_of: what says so.
        fps: RGB frames per second; None where the video's id does not tell.
        last_flow: the highest flow number that the split has of the video, which frames after it use.
    """

    rgb: Numbers
    flow: Numbers
    stride: int
    stride_is_of: str
    fps: float | None
    last_flow: int

    @classmethod
    def of(cls, table: FrameTable, clip: int, frames: Numbers) -> "FrameAlignment":
        """The alignment of `frames`, positions among the stored frames of `clip`."""
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


def _numbers_of_video(table: FrameTable, clip: int) -> tuple[Numbers, Numbers]:
    """The numbers of all stored frames of a clip's video."""
    counts = np.diff(table.first_frame)
    rows = np.repeat(table.video_id == table.video_id[clip], counts)
    return table.rgb_index[rows].astype(np.int64), table.flow_index[rows].astype(np.int64)
