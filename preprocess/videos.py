"""Reads a video's frames upright, in one size and at one rate, with the moment at which each is shown."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # [H, W, 3], RGB

MIN_SIDE = 12  # pixels; OpenCV's DIS takes no smaller frames
MAX_MISSING = 0.02  # of the frames that a file names: encoders leave some at the ends that are never shown
# A file is handed over open and may open no other: a playlist could name one anywhere.
_NO_OTHER_FILES = {"protocol_whitelist": "none"}


class VideoError(Exception):
    """A video that cannot be used, and why."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Frame(NamedTuple):
    """One frame as it is shown."""

    seconds: float  # since the first frame
    pixels: Pixels


def read_frames(path: Path, short_side: int) -> Iterator[Frame]:
    """Yield the frames of a video's first video stream, turned as its metadata says.

    Args:
        path: the file; what it refers to beside itself is not opened.
        short_side: pixels that the shorter side is scaled to, the longer one in proportion to the nearest even number,
            as EPIC's frames are; 0 keeps frames as they are.

    Raises:
        VideoError: the file cannot be read, is no video, is tiny, or is damaged or cut off.
    """
    import av  # of the extra `extract`

    try:
        with open(path, "rb") as file, av.open(file, options=_NO_OTHER_FILES) as container:
            yield from _decode(container, short_side)
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(f"cannot be read as a video ({error.strerror or error})") from None


def _decode(container: Any, short_side: int) -> Iterator[Frame]:
    if not container.streams.video:
        raise VideoError("has no video stream")
    stream = container.streams.video[0]
    rate = stream.average_rate or Fraction(25)  # where frames carry no times
    first, seconds, size, count = 0.0, 0.0, None, 0
    for frame in container.decode(stream):
        shown = frame.time if frame.time is not None else float(count / rate)
        first = first if count else shown
        seconds = max(seconds, shown - first)
        if frame.is_corrupt:
            raise VideoError(f"is damaged at {seconds:.2f} s, frame {count + 1}")
        # The first frame's size is that of all: a stream may change its own on the way.
        size = size or _scaled(frame.width, frame.height, stream.sample_aspect_ratio or Fraction(1), short_side)
        yield Frame(seconds, _upright(frame, size))
        count += 1
    if not count:
        raise VideoError("has no frames")
    if stream.frames - count > max(2, MAX_MISSING * stream.frames):
        raise VideoError(f"is cut off: {count} frames of the {stream.frames} that it names")


def _scaled(width: int, height: int, pixel_aspect: Fraction, short_side: int) -> tuple[int, int]:
    """Width and height, of square pixels, in which a frame is stored."""
    wide = max(1, round(width * pixel_aspect))
    if (short_side or min(wide, height)) < MIN_SIDE:
        raise VideoError(f"is of {width} x {height} pixels; allowed: {MIN_SIDE} and more a side")
    scale = Fraction(short_side or min(wide, height), min(wide, height))
    if scale == 1:
        return wide, height
    even = 2 * round(max(wide, height) * scale / 2)
    return (even, short_side) if wide >= height else (short_side, even)


def _upright(frame: Any, size: tuple[int, int]) -> Pixels:
    """The pixels of a frame in `size` (width, height, before it is turned), as they are to be looked at."""
    turns, rest = divmod(frame.rotation, 90)  # counterclockwise
    if rest:
        raise VideoError(f"is to be shown turned by {frame.rotation} degrees; allowed: quarter turns")
    # Bicubic, as ffmpeg scales unless told otherwise.
    pixels: Pixels = frame.to_ndarray(width=size[0], height=size[1], format="rgb24", interpolation="BICUBIC")
    return np.ascontiguousarray(np.rot90(pixels, turns))


def at_rate(frames: Iterable[Frame], fps: float | None) -> Iterator[Frame]:
    """The frame that is shown at each multiple of 1 / fps seconds, up to the last; None: the frames as they are."""
    if fps is None:
        yield from frames
        return
    previous: Frame | None = None
    count = 0
    for frame in frames:
        while previous is not None and count / fps < frame.seconds - _EPSILON:
            yield Frame(count / fps, previous.pixels)
            count += 1
        previous = frame
    if previous is not None and count / fps <= previous.seconds + _EPSILON:
        yield Frame(count / fps, previous.pixels)


_EPSILON = 1e-6  # seconds; times come from decimals and from fractions
