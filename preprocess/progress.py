"""How far the writing of a split is, in words: the rate so far, and the time that the rest will take."""

import time
from datetime import timedelta

from configs.display import Display

MB = 1e6


class WritingProgress:
    """Shows how many of a split's bytes are written."""

    def __init__(self, display: Display, split: str, num_bytes: int, num_clips: int) -> None:
        self._display, self._num_bytes, self._num_clips = display, num_bytes, num_clips
        self._begun = time.monotonic()
        display.begin(split, total=num_bytes / MB, unit="MB")

    def update(self, done: int) -> None:
        """Show that `done` bytes are written."""
        seconds = time.monotonic() - self._begun
        self._display.update(pace(done, self._num_bytes, self._num_clips, seconds), min(done, self._num_bytes) / MB)


def pace(done: int, num_bytes: int, num_clips: int, seconds: float) -> str:
    """Put into words how fast `done` of `num_bytes` were written, and how long the others will take."""
    share, seconds = min(1.0, done / max(1, num_bytes)), max(1e-9, seconds)
    rate = f"{share * num_clips / seconds:.1f} clips/s  {done / seconds / MB:.1f} MB/s"
    return f"{rate}  {timedelta(seconds=round(seconds * (1 - share) / share))} left" if share else rate
