"""In-memory clips of a video, as packing would store them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.epic import flow_index
from preprocess.videos.decode import VideoError
from preprocess.videos.encoding import ExtractOptions, Wanted, encode_frames
from preprocess.videos.extract_video import open_source

Numbers = NDArray[np.int64]


class EncodedClip(NamedTuple):
    """The JPEGs of a clip's frames, each list [T]."""

    rgb: list[bytes]
    flow_u: list[bytes]
    flow_v: list[bytes]


class VideoClips:
    """A video, or a folder of frames, whose clips are made as extract.py and pack.py make them.

    Has num_frames (of RGB, after --fps), their seconds (None for a folder of unknown rate), and notes of mended times.
    """

    def __init__(self, source: Path, options: ExtractOptions, num_threads: int = 1) -> None:
        """Read the frames' times; `options` are those of a model's data, as their extract.json has them.

        Raises:
            VideoError: the video cannot be used, or is too short for flow.
        """
        self._source = open_source(source, options)
        self._options, self._num_threads = options, num_threads
        self._source.read_times()
        self.num_frames = self._source.num_frames
        self.seconds, self.notes = self._source.seconds, self._source.notes
        if self.num_frames <= options.dilation:
            raise VideoError(
                f"has {self.num_frames} frames; flow needs {options.dilation + 1}, as it was made for the data"
            )

    def read(self, clips: Sequence[Numbers], with_flow: bool = True) -> Iterator[EncodedClip]:
        """Yield clips, each named by its RGB frames [T] from 1, in order, as soon as the video has come so far.

        Without flow none is computed, and the clips' lists of it are empty.
        """
        if not clips:
            return
        ends = [self._flow_ends(numbers if with_flow else numbers[:0]) for numbers in clips]
        wanted = Wanted(set(np.concatenate(clips).tolist()), set(np.concatenate(ends).tolist()))
        last_use = {
            int(number): clip
            for clip, pair in enumerate(zip(clips, ends, strict=True))
            for number in np.concatenate(pair)
        }
        rgb: dict[int, bytes] = {}
        flow: dict[int, tuple[bytes, bytes]] = {}
        clip = 0
        frames = encode_frames(self._source.frames(), self._options, self._num_threads, wanted)
        for number, encoded in enumerate(frames, 1):
            if number in wanted.rgb:
                rgb[number] = encoded.rgb
            if encoded.flow is not None:
                flow[number] = encoded.flow
            while clip < len(clips) and number >= max([*clips[clip].tolist(), *ends[clip].tolist()]):
                planes = [[flow[end][plane] for end in ends[clip].tolist()] for plane in (0, 1)]
                yield EncodedClip([rgb[n] for n in clips[clip].tolist()], *planes)
                clip += 1
                for done in [n for n in rgb.keys() | flow.keys() if last_use[n] < clip]:
                    rgb.pop(done, None)
                    flow.pop(done, None)
            if clip == len(clips):
                return

    def _flow_ends(self, rgb: Numbers) -> Numbers:
        """RGB frames in which the flow beside these ends, [T]; after the last flow, the last."""
        stride, dilation = self._options.stride, self._options.dilation
        last_flow = flow_index(np.array(self.num_frames - dilation), stride)
        return (np.minimum(flow_index(rgb, stride), last_flow) - 1) * stride + 1 + dilation
