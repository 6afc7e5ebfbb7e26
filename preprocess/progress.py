"""What packing says while it runs: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

LINE_SECONDS = 10.0


def console() -> Console:
    """The terminal, or wherever output goes instead: there, wide enough for tables, without colours."""
    return Console(width=None if sys.stdout.isatty() else 120, highlight=False, soft_wrap=False)


def say(text: str) -> None:
    """One plain line at once, also when output goes to a file."""
    print(text, flush=True)


class Progress:
    """How far the writing of a split is, in bytes, shown with clips/s, MB/s and the time left."""

    def __init__(self, name: str, num_bytes: int, num_clips: int) -> None:
        self.name, self.num_bytes, self.num_clips = name, num_bytes, num_clips
        self._begin = self._last_line = time.monotonic()
        shown = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[rate]}"))
        self._bar = (
            Bar(*shown, TimeRemainingColumn(), console=console(), transient=True) if sys.stdout.isatty() else None
        )

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._task = self._bar.add_task(self.name, total=self.num_bytes, rate="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int) -> None:
        """Show that `done` bytes are written."""
        now = time.monotonic()
        share = min(1.0, done / max(1, self.num_bytes))
        seconds = max(1e-9, now - self._begin)
        rate = f"{share * self.num_clips / seconds:.1f} clips/s, {done / seconds / 1e6:.1f} MB/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=min(done, self.num_bytes), rate=rate)
        elif now - self._last_line >= LINE_SECONDS:
            self._last_line = now
            left = f"{seconds * (1 - share) / share:.0f} s left" if share else "time left unknown"
            say(f"{self.name}: {share:.0%}, {rate}, {left}")
