"""What a person sees while a command runs: a live bar in a terminal, plain lines elsewhere, nothing when told so."""

import os
import re
import sys
import time

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

UNBOUND = 10_000  # characters
LEAST_PER_COLUMN = 6  # characters, with what is between columns
HYPHEN = re.compile(r"(?<=[-/])(?=\w{3})")  # where a heading may be broken, beside its spaces
PLAIN_EVERY = 30.0  # seconds between plain lines within a task, so that a log file stays readable
PLAIN_OFTEN = 3.0  # within one that would else be silent


class Display:
    """Shows how far a command is and what it found: on a terminal, in a file, or not at all.

    A bar is drawn in a terminal alone, unless NO_COLOR is set; elsewhere what would stand beside it comes as a plain
    line now and then. `quiet` leaves errors alone.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._console = Console(highlight=False, quiet=quiet, soft_wrap=True)
        self._live = self._console.is_terminal and not quiet and not os.environ.get("NO_COLOR")
        count = TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}")
        columns = (TextColumn("{task.description}"), BarColumn(20), count, TextColumn("{task.fields[text]}"))
        self._progress = Progress(*columns, console=self._console, refresh_per_second=4, transient=True)
        self._task: TaskID | None = None
        self._description, self._unit = "", ""
        self._done = self._total = 0.0
        self._printed, self._every = time.monotonic(), PLAIN_EVERY

    def __enter__(self) -> "Display":
        if self._live:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._progress.stop()

    def begin(
        self, description: str, total: float, done: float = 0, unit: str = "batches", every: float | None = None
    ) -> None:
        """Start a task of `total` units, `done` of which are behind us; it takes the place of the one before."""
        self._every = PLAIN_EVERY if every is None else every
        self._description, self._total, self._done, self._unit = description, total, done, unit
        if self._live:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task(description, total=total, unit=unit, text="")
            self._progress.update(self._task, completed=done)

    def advance(self) -> None:
        """Move on by a unit."""
        self._done += 1
        if self._task is not None:
            self._progress.advance(self._task)

    def update(self, text: str = "", done: float | None = None) -> None:
        """Show how it goes, and that `done` units are behind us: beside the bar, or now and then as a line."""
        self._done = self._done if done is None else done
        if self._task is not None:
            self._progress.update(self._task, completed=self._done, text=text)
        elif time.monotonic() - self._printed > self._every:
            self.print(f"{self._description}  {self._done:.0f}/{self._total:.0f} {self._unit}  {text}".rstrip())

    def tick(self, finished: int | None) -> None:
        """Move on by a unit when one is finished, and show in any case that it goes on."""
        if finished is not None:
            self.advance()
        self.update()

    def table(self, table: Table) -> None:
        """Print a table that fits into the terminal, or into a file's 80 columns; nothing of it is cut.

        Where it is wider, its cells are broken into lines, between words where all words fit; where not even a few
        letters of each column do, it goes beyond the right edge.
        """
        table.box = box.SIMPLE_HEAD
        table.padding = (0, 1, 0, 0)
        unbound = self._console.options.update(max_width=UNBOUND)
        table.width = self._console.measure(table, options=unbound).maximum
        num_columns = len(table.columns)
        if table.width > self._console.width >= LEAST_PER_COLUMN * num_columns:
            _break_cells(table, self._console.width - 2 * num_columns - 1)  # a space and a divider each, and an edge
            table.width = None
        self._console.print(table, crop=False, soft_wrap=False)

    def print(self, text: str) -> None:
        """Print a line that stays."""
        self._printed = time.monotonic()
        self._console.print(text, markup=False)

    def error(self, text: str) -> None:
        """Print to stderr what is wrong; this is said when told to be quiet, too."""
        print(text, file=sys.stderr, flush=True)


def _break_cells(table: Table, width: int) -> None:
    """Break a table's cells into lines that have `width` characters together, inside words only where they must be."""
    for column in table.columns:
        column.no_wrap, column.overflow = False, "fold"
        column.header = HYPHEN.sub("\n", str(column.header))
    cells = [[str(cell) for cell in (column.header, *column.cells)] for column in table.columns]
    widths = [max(len(line) for cell in column for line in cell.split("\n")) for column in cells]
    words = [max((len(word) for cell in column for word in cell.split()), default=0) for column in cells]
    while sum(widths) > width:  # the widest column that has more than a word in a line, else the widest
        narrowed = max(range(len(widths)), key=lambda column: (widths[column] > words[column], widths[column]))
        widths[narrowed] -= 1
    for column, chosen in zip(table.columns, widths, strict=True):
        column.width = chosen
