"""Which parts of a video are predicted: the whole of it, windows one after the other, or the rows of a CSV."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import ConfigError, UserError
from preprocess.videos.clip_reader import VideoClips
from preprocess.videos.segments import OWN_PARTICIPANT, Segment, Table
from preprocess.videos.splits import SegmentError, frame_span

ROUNDING = 1e-6  # seconds: a window may end so much after the video


@dataclass(frozen=True)
class Span:
    """A part of a video.

    Attributes:
        video: its path, or its id in a packed split.
        clip: the number of the part, from 0, or the clip's id in a packed split.
        start, stop: seconds, as they were asked for; None where the frames have no times.
        start_frame, stop_frame: RGB frames, from 1, both in it.
    """

    video: str
    clip: str
    start: float | None
    stop: float | None
    start_frame: int
    stop_frame: int

    @property
    def num_frames(self) -> int:
        """How many frames it has."""
        return self.stop_frame - self.start_frame + 1


@dataclass(frozen=True)
class Cut:
    """How videos are cut into parts; without anything each is one.

    Attributes:
        window: seconds of each part.
        hop: seconds from the start of one to the start of the next; None: half a window.
        segments: the parts, in place of windows.
    """

    window: float | None = None
    hop: float | None = None
    segments: Table | None = None

    def __post_init__(self) -> None:
        """Hold the numbers to what makes sense.

        Raises:
            ConfigError: they do not.
        """
        for name, value in (("window", self.window), ("hop", self.hop)):
            if value is not None and not (0 < value < math.inf):
                raise ConfigError(f"{name}: found {value}; allowed: seconds, above 0")
        if self.hop is not None and self.window is None:
            raise ConfigError("hop: has no effect without a window; say how long that is, too")
        if self.window is not None and self.segments is not None:
            raise ConfigError("window, segments: found both; allowed: one of them")

    def spans(self, path: Path, video: VideoClips) -> list[Span]:
        """The parts of one video.

        Raises:
            UserError: a row does not fit the video, or no row is of it; windows are asked of frames without times.
        """
        if self.segments is not None:
            return list(_segment_spans(path, video, self.segments))
        if self.window is None:
            start, stop = (None, None) if video.seconds is None else (video.seconds[0], _end(video.seconds))
            return [Span(str(path), "0", start, stop, 1, video.num_frames)]
        if video.seconds is None:
            raise UserError(f"{path}: a folder of frames has no seconds to cut windows by; say its --fps")
        starts = window_starts(video.seconds[0], _end(video.seconds), self.window, self.hop or self.window / 2)
        windows = (_window(round(start, 6), round(start + self.window, 6)) for start in starts)
        return [_span(path, number, video, window, "seconds") for number, window in enumerate(windows)]


def window_starts(begin: float, end: float, window: float, hop: float) -> list[float]:
    """Where windows start that lie between two times: every `hop`, and a last one that ends at the end."""
    last = end - window
    if last <= begin:
        return [begin]
    starts = [begin + number * hop for number in range(int((last - begin + ROUNDING) / hop) + 1)]
    return starts if starts[-1] >= last - ROUNDING else [*starts, last]


def _end(seconds: Sequence[float]) -> float:
    """When the last frame is over, which is shown as long as frames are on average."""
    return seconds[-1] + (seconds[-1] - seconds[0]) / max(1, len(seconds) - 1)


def _segment_spans(path: Path, video: VideoClips, table: Table) -> Iterator[Span]:
    rows = [row for row in table.segments if _is_of(row.file, path)]
    if not rows:
        files = ", ".join(sorted({row.file for row in table.segments})[:3])
        raise UserError(f"{table.path}: no row is of {path}; its files are {files} ..., and end a video's path")
    for number, row in enumerate(rows):
        try:
            yield _span(path, number, video, row, table.unit)
        except SegmentError as error:
            raise UserError(f"{table.path}:{row.line}: {row.file}: {error}") from None


def _is_of(file: str, path: Path) -> bool:
    """Whether a row's file is this path, or its end."""
    parts = Path(file).parts
    return path.parts[-len(parts) :] == parts


def _window(start: float, stop: float) -> Segment:
    return Segment(0, "", start, stop, "", "", OWN_PARTICIPANT)


def _span(path: Path, number: int, video: VideoClips, segment: Segment, unit: str) -> Span:
    first, last = frame_span(segment, unit, video.seconds, video.num_frames)
    times = (None, None) if unit == "frames" else (segment.start, segment.stop)
    return Span(str(path), str(number), *times, first, last)
