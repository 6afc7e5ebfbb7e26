"""What a run is shown: videos, whose flow is made in memory as that of the training data was, or a packed split."""

import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import simplejpeg
from crc32c import crc32c
from numpy.typing import NDArray

from common.errors import ConfigError, UserError
from pipeline.batch import Batch
from pipeline.decoders.base import FrameError
from pipeline.format.index import INDEX_NAME
from pipeline.format.streams import STREAMS
from pipeline.in_memory import MemoryBatches, MemoryClip, seen_frames
from pipeline.loader import ClipLoader
from pipeline.options import LoaderOptions
from pipeline.reader import EncodedFrame, RawFrame
from preprocess.packing.codec import Codec
from preprocess.packing.jpeg import JpegHeader
from preprocess.sources.frames import choose_frames
from preprocess.videos.clip_reader import EncodedClip, VideoClips
from preprocess.videos.decode import VideoError
from preprocess.videos.encoding import ExtractOptions
from xnorm.spans import Cut, Span

Item = TypeVar("Item")


@dataclass(frozen=True)
class Storing:
    """What packing stores of a clip, before anything is looked at.

    Attributes:
        frames_per_clip: evenly spaced; None: all.
        codec: how frames are stored, where that changes their pixels; JPEGs as they are else.
    """

    frames_per_clip: int | None
    codec: Codec


class ClipSource(Protocol):
    """Clips to be predicted."""

    spans: list[Span]
    notes: list[str]

    def batches(self) -> Iterator[Batch]:
        """The clips in the order of `spans`."""


class _Size(NamedTuple):
    height: int
    width: int


class VideoSource:
    """Parts of a video, or of a folder of frames.

    Raises:
        ConfigError: PyAV is missing, or OpenCV lacks the flow's method.
        UserError: the video cannot be used, or cut as it is wanted.
    """

    def __init__(self, path: Path, cut: Cut, made: ExtractOptions, options: LoaderOptions, storing: Storing) -> None:
        self.path, self.made = path, made
        self._options, self._storing = options, storing
        if importlib.util.find_spec("av") is None:
            raise ConfigError(f"{path}: reading videos needs PyAV: pip install '.[extract]'")
        if not path.exists():
            raise UserError(f"{path}: no such video, folder of frames or packed split")
        try:
            self.video = VideoClips(path, made, options.num_threads)
        except VideoError as error:
            raise UserError(f"{path}: {error.why}") from None
        self.notes = [f"{path}: {note}" for note in self.video.notes]
        self.spans = cut.spans(path, self.video)

    def batches(self) -> Iterator[Batch]:
        """The parts, as pack.py would store them and evaluation see them.

        Raises:
            UserError: the video is damaged, or a JPEG of a folder does not decode.
        """
        try:
            yield from self._decode()
        except VideoError as error:
            raise UserError(f"{self.path}: {error.why}") from None
        except FrameError as error:
            raise UserError(f"{self.path}: a frame does not decode: {error}") from None

    def _decode(self) -> Iterator[Batch]:
        stored = [
            choose_frames(span.start_frame, span.stop_frame, self._storing.frames_per_clip) for span in self.spans
        ]
        seen = [numbers[seen_frames(len(numbers), self._options)] for numbers in stored]
        clips = zip(self.video.read(seen, "flow" in self._options.streams), map(len, stored), strict=True)
        first = next(clips)
        size, codec = _jpeg_size(first[0].rgb[0]), self._storing.codec
        as_stored = codec.stored_size(JpegHeader(*size, channels=3))
        with MemoryBatches(self._options, as_stored.height, as_stored.width, raw=codec.decodes) as batches:
            for some in _in_batches(chain([first], clips), self._options.batch_size):
                yield batches.make([_memory_clip(encoded, number, codec, size) for encoded, number in some])


class SplitSource:
    """All clips of a packed split.

    Raises:
        UserError: it is damaged, or lacks a stream.
    """

    def __init__(self, path: Path, options: LoaderOptions) -> None:
        self.loader = ClipLoader(path, **options.model_dump())
        self.notes: list[str] = []
        table = self.loader.table
        columns = (table.video_id.tolist(), self.loader.clip_ids, table.start_frame.tolist(), table.stop_frame.tolist())
        self.spans = [
            Span(video.decode(), clip, None, None, start, stop)
            for video, clip, start, stop in zip(*columns, strict=True)
        ]

    def batches(self) -> Iterator[Batch]:
        """The clips in the split's order."""
        with self.loader as loader:
            yield from loader


def is_split(path: Path) -> bool:
    """Whether a path is a packed split, rather than a video or a folder of frames."""
    return (path / INDEX_NAME).is_file()


def _in_batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of `size`, the last one shorter."""
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch


def _jpeg_size(jpeg: bytes) -> _Size:
    height, width, *_ = simplejpeg.decode_jpeg_header(jpeg)
    return _Size(height, width)


def _memory_clip(encoded: EncodedClip, num_stored: int, codec: Codec, size: _Size) -> MemoryClip:
    planes = encoded._asdict()
    frames = {
        stream: [
            [_store(jpeg, codec, JpegHeader(*size, one.channels)) for jpeg in planes[plane]] for plane in one.planes
        ]
        for stream, one in STREAMS.items()
        if planes[one.planes[0]]  # else the stream is not wanted
    }
    return MemoryClip(num_stored, frames)


def _store(jpeg: bytes, codec: Codec, picture: JpegHeader) -> EncodedFrame:
    """A JPEG as packing stores it."""
    data: NDArray[np.uint8] = np.frombuffer(codec.encode(jpeg, picture), np.uint8)
    if not codec.decodes:
        return data
    return RawFrame(data.reshape(codec.stored_size(picture)), crc32c(data.data))
