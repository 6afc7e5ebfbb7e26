"""What makes crops out of what is stored, one stream each: DALI, or for raw frames that are only cropped, a copy."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pipeline.crops import CropCopier
from pipeline.dali import import_graph
from pipeline.reader import Stored
from pipeline.sampler import View


@dataclass(frozen=True)
class GraphOptions:
    """What the graph of one stream does.

    Attributes:
        gray: one channel, of u and v (flow), instead of three, of one picture a moment (RGB).
        max_frames: the largest number of frames a batch.
        frame_bytes: bytes of the largest decoded frame, height x width x channels.
        crop_size: height and width of what comes out, pixels.
        resize: whether windows may differ from crop_size.
        color: whether brightness, contrast and saturation are changed, by factors a frame.
        gain: whether values are scaled about zero motion, by a factor a frame.
        raw: frames come as pixels, not as JPEGs.
    """

    gray: bool
    max_frames: int
    frame_bytes: int
    crop_size: int
    resize: bool = False
    color: bool = False
    gain: bool = False
    raw: bool = False

    @property
    def num_planes(self) -> int:
        """Pictures a moment: u and v, or one of RGB."""
        return 2 if self.gray else 1

    @property
    def changes_pixels(self) -> bool:
        """Whether anything is done beyond cropping."""
        return self.resize or self.color or self.gain


class Decoder(Protocol):
    """Batches of stored frames are sent in, and received as a stream of the batch in the same order."""

    def send(self, stored: Sequence[Stored], views: Sequence[View]) -> None:
        """Begin to work on the views' windows: T pictures of every view in turn, for flow all u's and then all v's."""

    def receive(self, clips: str) -> Tensor:
        """The stream of the batch that was sent first: uint8 rgb [B, 3, T, H, W] or flow [B, 2, T, H, W].

        Raises:
            CorruptClipError: a raw frame's CRC does not match; the batch is gone, those behind it are not.
            ShardError: DALI cannot decode a picture; `clips` says in the message whose it may be.
        """

    def discard(self, clips: str) -> None:
        """Let go of the batch that was sent first."""

    def close(self) -> None:
        """Free threads and memory."""


def open_decoders(
    options: dict[str, GraphOptions], device: torch.device, num_threads: int, prefetch: int
) -> dict[str, Decoder]:
    """For each stream the decoder that does what its options say with the least work.

    Raises:
        UserError: DALI is needed, and cannot be used on `device`.
    """
    threads = ThreadPoolExecutor(num_threads, thread_name_prefix="crops")  # none of them starts before it is needed
    shares = dict(zip(options, _share(num_threads, len(options)), strict=True))
    return {
        stream: CropCopier(graph.num_planes, device, threads)
        if graph.raw and not graph.changes_pixels
        else import_graph(device).StreamDecoder(graph, device, shares[stream], prefetch)
        for stream, graph in options.items()
    }


def _share(num_threads: int, num_streams: int) -> list[int]:
    """DALI's threads of each stream: RGB, the first, decodes about as long as u and v together."""
    return [max(1, (num_threads + num_streams - 1 - index) // num_streams) for index in range(num_streams)]
