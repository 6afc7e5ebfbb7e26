"""Batches of clips whose frames are in memory, as evaluation shows those of a packed split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.batch import Batch
from pipeline.decoders.base import Decoder, StreamSpec
from pipeline.decoders.open import open_decoders
from pipeline.format.streams import STREAMS
from pipeline.options import LoaderOptions
from pipeline.reader import EncodedFrame
from pipeline.views import View, ViewOptions, draw_view, uniform_frames


@dataclass(frozen=True)
class MemoryClip:
    """A clip of which those frames are there that evaluation sees.

    Attributes:
        num_stored: how many frames it has.
        frames: by stream, of each of its planes the T frames that seen_frames() names.
    """

    num_stored: int
    frames: Mapping[str, Sequence[Sequence[EncodedFrame]]]


def seen_frames(num_stored: int, options: LoaderOptions) -> NDArray[np.int64]:
    """Positions of the frames that evaluation sees, of a clip with `num_stored`; int64 [T]."""
    return uniform_frames(num_stored, options.num_frames)


class MemoryBatches:
    """Decodes clips of one size on the CPU, in the one view that evaluation has of each.

    Args:
        options: those of a loader; the augmentations of training have no effect.
        height, width: of all frames, pixels.
        raw: frames come as pixels.
    """

    def __init__(self, options: LoaderOptions, height: int, width: int, raw: bool = False) -> None:
        self._options, self._height, self._width = options, height, width
        self._views = ViewOptions(options.num_frames, options.crop_size, scale=options.scale)
        plain = options.model_copy(update={"color": 0.0})
        # A window of another size than crop_size is resized; one of this size stays as it is.
        frame: dict[str, Any] = {"height": height, "width": width, "resize": True, "codec": "raw" if raw else "jpeg"}
        specs = {stream: StreamSpec.of(stream, plain, **frame) for stream in options.streams}
        self._decoders: dict[str, Decoder] = open_decoders(
            specs, torch.device("cpu"), options.num_threads, prefetch=1, name="turbojpeg"
        )

    def __enter__(self) -> "MemoryBatches":
        return self

    def __exit__(self, *_: object) -> None:
        for decoder in self._decoders.values():
            decoder.close()

    def make(self, clips: Sequence[MemoryClip]) -> Batch:
        """The clips as a batch on the CPU, without labels (-1); `batch.clips` counts them from 0.

        Raises:
            FrameError: a frame does not decode.
        """
        views = tuple(self._view(number, clip) for number, clip in enumerate(clips))
        streams = {}
        for stream, decoder in self._decoders.items():
            planes = range(len(STREAMS[stream].planes))
            decoder.send([frame for plane in planes for clip in clips for frame in clip.frames[stream][plane]], views)
            streams[stream] = decoder.receive()
        return Batch(
            rgb=streams.get("rgb"),
            flow=streams.get("flow"),
            labels=torch.full((len(clips),), -1),
            clips=torch.arange(len(clips)),
            view_ids=torch.zeros(len(clips), dtype=torch.int64),
            views=views,
        )

    def _view(self, number: int, clip: MemoryClip) -> View:
        return draw_view(
            number,
            self._views,
            num_stored=clip.num_stored,
            height=self._height,
            width=self._width,
            seed=0,
            epoch=0,
            train=False,
        )
