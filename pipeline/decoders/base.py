"""The interface of decoders: batches of one stream sent in, and received in the same order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from pipeline.format.streams import STREAMS
from pipeline.options import LoaderOptions
from pipeline.reader import EncodedFrame
from pipeline.views import View


@dataclass(frozen=True, kw_only=True)
class StreamSpec:
    """The work of one stream's decoder.

    Attributes:
        channels: of a frame: 3 (RGB), or 1 (grey).
        num_planes: frames of one time: 1, or 2 for the u and v of flow.
        max_frames: the largest number of frames in a batch.
        frame_bytes: bytes of the largest decoded frame, height x width x channels.
        crop_size: height and width of what comes out, pixels.
        resize: whether windows may differ from crop_size.
        color: whether brightness, contrast and saturation are changed, by factors per clip.
        gain: whether values are scaled about zero motion, by a factor per clip.
        raw: frames come as pixels, not as JPEGs.
        restarts: the JPEGs have restart markers, by which a window can be cut out before it is decoded.
    """

    channels: int
    num_planes: int
    max_frames: int
    frame_bytes: int
    crop_size: int
    resize: bool = False
    color: bool = False
    gain: bool = False
    raw: bool = False
    restarts: bool = False

    @classmethod
    def of(
        cls, stream: str, options: LoaderOptions, height: int, width: int, *, resize: bool, codec: str
    ) -> StreamSpec:
        """The work of `stream` in a loader with these options; frames are of height x width pixels at most."""
        channels, planes = STREAMS[stream].channels, len(STREAMS[stream].planes)
        return cls(
            channels=channels,
            num_planes=planes,
            max_frames=options.batch_size * options.num_frames * planes,
            frame_bytes=height * width * channels,
            crop_size=options.crop_size,
            resize=resize,
            color=stream == "rgb" and options.color > 0,
            gain=stream == "flow" and resize and options.rescale_flow,
            raw=codec == "raw",
            restarts=codec == "jpeg-restarts",
        )

    @property
    def changes_pixels(self) -> bool:
        """Whether anything is done beyond cropping."""
        return self.resize or self.color or self.gain


class FrameError(ValueError):
    """A frame that does not decode, or is not the one that was packed.

    Attributes:
        index: its position in what was sent; None where the decoder does not say.
    """

    def __init__(self, reason: object, index: int | None = None) -> None:
        super().__init__(str(reason))
        self.index = index


class Decoder(Protocol):
    """A queue of batches: encoded frames are sent in, tensors received in the same order."""

    def send(self, encoded: Sequence[EncodedFrame], views: Sequence[View]) -> None:
        """Start on the views' windows: T frames of each view in turn, all u's before all v's."""

    def receive(self) -> Tensor:
        """The stream of the batch that was sent first: uint8 rgb [B, 3, T, H, W] or flow [B, 2, T, H, W].

        Raises:
            FrameError: a frame cannot be used; the batch is gone, those sent after it are not.
        """

    def discard(self) -> None:
        """Let go of the batch that was sent first."""

    def close(self) -> None:
        """Free threads and memory."""
