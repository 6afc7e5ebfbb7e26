"""Video decoding: frames upright, in one size, at one rate, with their times."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from preprocess.videos.containers import missing_bytes
from preprocess.videos.timestamps import Facts, Stamp, TimesError, at_rate, mend_times

Pixels = NDArray[np.uint8]  # [H, W, 3], RGB

MIN_SIDE = 12  # pixels; OpenCV's DIS takes no smaller frames
MICROSECONDS = 1e6  # of a container's times
MAX_SKEW = 0.02  # of a display matrix: what rounding leaves of a quarter turn
TS_DISCONT = 0x200  # FFmpeg's flag of formats whose times may restart
# A file is handed over open and may open no other: a playlist could name one anywhere.
_NO_OTHER_FILES = {"protocol_whitelist": "none"}


class VideoError(Exception):
    """A video that cannot be used, and why."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Frame(NamedTuple):
    """One frame as it is shown."""

    pixels: Pixels
    jpeg: bytes | None = None  # of these very pixels, where there is one


@dataclass
class Movie:
    """The video stream of a file; what the file refers to beside itself is not opened."""

    path: Path
    short_side: int = 0  # pixels to scale to, the longer side in proportion to an even number, as EPIC's; 0: no scaling
    fps: float | None = None  # frames per second to take, each the one that is shown then; None: all
    # When each of the frames taken is shown, since the container's start; known once all have come.
    seconds: list[float] = field(default_factory=list, init=False)
    notes: list[str] = field(default_factory=list, init=False)  # what had to be mended for that
    _repeats: list[int] | None = field(default=None, init=False)  # how often each of the file's frames is taken

    @property
    def num_frames(self) -> int:
        """How many frames are taken, once their times are known."""
        return len(self.seconds)

    def read_times(self) -> None:
        """Find out when the frames are shown, without their pixels; raises what frames() does."""
        for _ in self._decode():
            pass
        if self.fps is not None:
            seconds, shown = at_rate(self.seconds, self.fps)
            self._repeats = np.bincount(shown, minlength=len(self.seconds)).tolist()
            self.seconds = seconds

    def frames(self) -> Iterator[Frame]:
        """Yield the frames, turned and mirrored as the file says.

        Raises:
            VideoError: the file cannot be read, is no video, is tiny, damaged or cut off, changes its size, or has
                times that cannot be mended.
        """
        if self.fps is None:
            yield from (Frame(_upright(frame, size)) for frame, size in self._decode())
            return
        if self._repeats is None:  # when the frames are shown must be known before the first is taken
            self.read_times()
        assert self._repeats is not None
        seconds = self.seconds
        for count, (frame, size) in zip(self._repeats, self._decode(), strict=True):
            if count:
                yield from [Frame(_upright(frame, size))] * count
        self.seconds = seconds

    def estimate_count(self) -> int:
        """Number of frames by the file's header, an estimate; 0 where it does not say."""
        with _opened(self.path) as container:
            stream = container.streams.best("video")
            length = (container.duration or 0) / MICROSECONDS
            rate = self.fps or (float(stream.average_rate or 0) if stream else 0.0)
            return int((stream.frames if stream and self.fps is None else 0) or length * rate)

    def _decode(self) -> Iterator[tuple[Any, tuple[int, int]]]:
        """Yield decoded frames with the (width, height) to keep; after them times are known."""
        import av  # of the extra `extract`

        stamps: list[Stamp] = []
        size = None
        with _opened(self.path) as container:
            stream = container.streams.best("video")  # as ffmpeg chooses: no cover image
            if stream is None:
                raise VideoError("has no video stream")
            try:
                for frame in container.decode(stream):
                    base = float(frame.time_base)
                    stamps.append(Stamp(*(None if time is None else time * base for time in (frame.pts, frame.dts))))
                    if frame.is_corrupt:
                        raise VideoError(f"is damaged at {_seconds(stamps):.2f} s, frame {len(stamps)}")
                    found = (frame.width, frame.height)
                    size = size or (
                        found,
                        scaled_size(*found, stream.sample_aspect_ratio or Fraction(1), self.short_side),
                    )
                    if found != size[0]:
                        raise VideoError(
                            f"changes its size at {_seconds(stamps):.2f} s, frame {len(stamps)}, from {by(size[0])} to "
                            f"{by(found)} pixels; cut it there, or bring it to one size"
                        )
                    yield frame, size[1]
            except av.error.InvalidDataError as error:
                raise VideoError(
                    f"is damaged at {_seconds(stamps):.2f} s, frame {len(stamps) + 1} ({error.strerror})"
                ) from None
            if not stamps:
                raise VideoError("has no frames")
            try:
                self.seconds, self.notes = mend_times(stamps, _facts(container, stream))
            except TimesError as error:
                raise VideoError(str(error)) from None


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file's container, with one message for all that FFmpeg has against it."""
    import av  # of the extra `extract`

    try:
        missing = missing_bytes(path)
        if missing:
            raise VideoError(
                f"is cut off: {missing} bytes of the {path.stat().st_size + missing} that it names are missing"
            )
        # Titles and the like, which are not looked at, come in any encoding.
        opened = {"options": _NO_OTHER_FILES, "metadata_errors": "replace"}
        with open(path, "rb") as file, av.open(file, **opened) as container:
            yield container
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(f"cannot be read as a video ({error.strerror or error})") from None


def _facts(container: Any, stream: Any) -> Facts:
    start, length = (
        None if time is None else time / MICROSECONDS for time in (container.start_time, container.duration)
    )
    stream_start = None if stream.start_time is None else float(stream.start_time * stream.time_base)
    if container.format.name == "avi":  # it has no PTS, and those that FFmpeg makes up are late by the codec's delay
        start = stream_start = None
    rate = float(stream.guessed_rate or stream.average_rate or 25)
    return Facts(start, stream_start, length, rate, bool(container.format.flags & TS_DISCONT))


def _seconds(stamps: list[Stamp]) -> float:
    """About where a video is: by its PTS, whatever else is wrong with them."""
    known = [stamp.pts for stamp in stamps if stamp.pts is not None]
    return max(known) - known[0] if known else 0.0


def by(size: tuple[int, int]) -> str:
    """A width and a height in words."""
    return f"{size[0]} x {size[1]}"


def scaled_size(width: int, height: int, pixel_aspect: Fraction, short_side: int) -> tuple[int, int]:
    """Width and height, of square pixels, in which a frame is stored.

    Raises:
        VideoError: it is too small for flow.
    """
    wide = max(1, round(width * pixel_aspect))
    if (short_side or min(wide, height)) < MIN_SIDE:
        raise VideoError(f"is of {width} x {height} pixels; allowed: {MIN_SIDE} and more a side")
    scale = Fraction(short_side or min(wide, height), min(wide, height))
    if scale == 1:
        return wide, height
    even = 2 * round(max(wide, height) * scale / 2)
    return (even, short_side) if wide >= height else (short_side, even)


def _upright(frame: Any, size: tuple[int, int]) -> Pixels:
    """The pixels of a frame in `size` (width, height, before it is turned), as they are shown."""
    # Bicubic, as ffmpeg scales unless told otherwise.
    pixels: Pixels = frame.to_ndarray(width=size[0], height=size[1], format="rgb24", interpolation="BICUBIC")
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return pixels if matrix is None else _displayed(pixels, np.frombuffer(matrix, np.int32).reshape(3, 3))


def _displayed(pixels: Pixels, matrix: NDArray[np.int32]) -> Pixels:
    """Apply a display matrix: (x, y) goes to (a x + c y, b x + d y), and y points down."""
    linear = matrix[:2, :2] / max(1, np.abs(matrix[:2, :2]).max())
    (a, b), (c, d) = np.rint(linear).astype(int).tolist()
    if abs(a * d - b * c) != 1 or np.abs(linear - [[a, b], [c, d]]).max() > MAX_SKEW:
        raise VideoError(
            f"is to be shown turned by the matrix {matrix[:2, :2].tolist()}; allowed: quarter turns, mirrors"
        )
    right, down = (a, d) if a else (c, b)  # which way x' and y' go along the axes that they are made of
    turned = pixels if a else pixels.swapaxes(0, 1)
    return np.ascontiguousarray(turned[::down, ::right])
