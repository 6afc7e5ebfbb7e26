"""What a person sees while it runs: a live line in a terminal, plain lines elsewhere, nothing when told to be quiet."""

import os
import time
from collections.abc import Mapping
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

UNBOUND = 10_000  # characters
PLAIN_EVERY = 30.0  # seconds between plain lines within an epoch, so that a log file stays readable


class Display:
    """Shows how far a command is."""

    def __init__(self, quiet: bool = False) -> None:
        self._console = Console(highlight=False, quiet=quiet, soft_wrap=True)
        self._live = self._console.is_terminal and not quiet and "NO_COLOR" not in os.environ
        columns = (
            TextColumn("{task.description}"),
            BarColumn(20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
        )
        self._progress = Progress(*columns, console=self._console, refresh_per_second=4, transient=True)
        self._task: TaskID | None = None
        self._description = ""
        self._printed = time.monotonic()

    def __enter__(self) -> "Display":
        if self._live:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._progress.stop()

    def begin(self, description: str, total: int, done: int = 0) -> None:
        """Start a bar of `total` batches, `done` of which are behind us."""
        self._description = description
        if self._live:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task(description, total=total, completed=done, text="")

    def advance(self) -> None:
        """Move on by a batch."""
        if self._task is not None:
            self._progress.advance(self._task)

    def update(self, text: str) -> None:
        """Show how it goes: beside the bar, or now and then as a line."""
        if self._task is not None:
            self._progress.update(self._task, text=text)
        elif time.monotonic() - self._printed > PLAIN_EVERY:
            self.line(f"{self._description}  {text}")

    def table(self, table: Table) -> None:
        """Print a table in its full width, beyond the right edge rather than cut."""
        unbound = self._console.options.update(max_width=UNBOUND)
        table.width = self._console.measure(table, options=unbound).maximum
        self._console.print(table, crop=False)

    def line(self, text: str) -> None:
        """Print a line that stays."""
        self._printed = time.monotonic()
        self._console.print(text, markup=False)


def describe(record: Mapping[str, float], clips_left: int | None = None) -> str:
    """Put a log record into words: loss, accuracy, clips/s, data wait, and the time that `clips_left` will take."""
    rate = record["clips_per_s"]
    text = f"loss {record['loss']:.4f}  accuracy {record['accuracy']:.3f}  {rate:.1f} clips/s"
    text += f"  data wait {record['data_wait']:.1%}"
    return text if clips_left is None else f"{text}  {timedelta(seconds=round(clips_left / rate))} left"
