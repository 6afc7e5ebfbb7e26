"""Finished runs side by side: python -m engine.runs.comparison RUN...; one row per method, means over its seeds."""

if __name__ == "__main__":
    from common.startup import begin

    begin()

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import IO, Any, NamedTuple

from rich.table import Table

from common.cli import command_parser, path_type
from common.display import Display
from common.errors import UserError, exit_code_of
from common.files import atomic_files, make_folder
from configs.methods import METHODS
from engine.runs.checkpoint import changed_values
from engine.runs.records import NO_SETTING, Run, read_run
from engine.scoring.reports import write_csv

NOTES = """\
Writes comparison.md, .csv and .png. Runs that differ by their seed alone are one row; those of other data, clips,
budget or device are marked as another setting.
"""
EXAMPLES = "python -m engine.runs.comparison runs/*/ -o results"
CAPTION = (
    "accuracy: top-1, mean ± sample standard deviation over seeds; GFLOPs: a multiply-add counts as two; "
    "clips/s and data wait: in training; peak memory: of the GPU, on a CPU of the first process"
)


@dataclass(frozen=True)
class Row:
    """One method with its options and settings, over its seeds."""

    runs: tuple[Run, ...]
    setting: str  # a letter; rows of one letter may be compared

    @property
    def name(self) -> str:
        """The runs' name without their seeds."""
        return ", ".join(dict.fromkeys(run.stem for run in self.runs))

    @property
    def fusion(self) -> str:
        """The method."""
        return str(self.runs[0].config["model"]["fusion"]).rsplit("/", 1)[-1]

    @property
    def seeds(self) -> list[int]:
        """The seed of each run."""
        return [run.config["seed"] for run in self.runs]

    @property
    def split(self) -> str:
        """Which split the accuracies are of: test, where there is one."""
        return "val" if self.runs[0].summary.test is None else "test"

    def accuracies(self, kind: str) -> list[float]:
        """Return `top1` or `mean_class` of each run."""
        return [float(getattr(getattr(run.summary, self.split), kind)) for run in self.runs]

    def mean(self, key: str) -> float:
        """Return the mean over the runs of a number in their summaries."""
        return fmean(getattr(run.summary, key) for run in self.runs)


@dataclass(frozen=True)
class Comparison:
    """The rows, and what has to be known to read them."""

    rows: list[Row]
    notes: list[str]


class Column(NamedTuple):
    """A column for people; the CSV has the values that its text is made of under `keys`."""

    title: str
    keys: tuple[str, ...]
    values: Callable[[Row], Sequence[object]]
    text: Callable[..., str] = "{}".format


def main(argv: Sequence[str] | None = None) -> int:
    """Print finished runs side by side and write the table; return the exit code."""
    parser = command_parser("engine.runs.comparison", "Put finished runs into one table.", EXAMPLES, notes=NOTES)
    parser.add_argument("runs", type=path_type, nargs="+", metavar="RUN", help="folders of runs, e.g. runs/*/")
    parser.add_argument(
        "-o", "--output", type=path_type, metavar="FOLDER", help="where to write (default: the folder of the runs)"
    )
    arguments = parser.parse_args(argv)

    def work() -> int:
        folder, display = arguments.output or arguments.runs[0].parent, Display(arguments.quiet)
        show_comparison(compare(arguments.runs), folder, display)
        return 0

    return exit_code_of(work)


def compare(folders: Iterable[Path]) -> Comparison:
    """Read the runs in `folders` and put those that differ by their seed alone into one row; unfinished ones are noted.

    Raises:
        UserError: no run is finished, one is there twice, or a file of it cannot be read.
    """
    read = [(folder, read_run(folder)) for folder in dict.fromkeys(folders)]
    runs = [run for _, run in read if run is not None]
    unfinished = [str(folder) for folder, run in read if run is None]
    if not runs:
        raise UserError(f"--compare: no finished run (with a summary.json) among {', '.join(unfinished)}")
    settings: list[Run] = []  # one run of each setting
    rows = [Row(tuple(group), _letter(group[0], settings)) for group in _group(runs)]
    order = list(METHODS)
    rows.sort(key=lambda row: (row.setting, order.index(row.fusion) if row.fusion in order else len(order), row.name))
    notes = [f"not finished, left out: {', '.join(unfinished)}"] if unfinished else []
    return Comparison(rows, _describe(settings) + notes)


def _group(runs: Sequence[Run]) -> list[list[Run]]:
    """Put runs that are alike together, in order of their seeds."""
    groups: list[list[Run]] = []
    for run in sorted(runs, key=lambda run: int(run.config["seed"])):
        group = next((group for group in groups if group[0].is_like(run)), None)
        if group is None:
            groups.append([run])
        elif group[-1].config["seed"] == run.config["seed"]:
            raise UserError(
                f"{group[-1].folder} and {run.folder}: both are seed {run.config['seed']} of the same config, "
                "which would count it twice; leave one out"
            )
        else:
            group.append(run)
    return groups


def _letter(run: Run, settings: list[Run]) -> str:
    """Return the letter of a run's setting, which is put on the list when it is new."""
    for number, other in enumerate(settings):
        if not changed_values(other.setting, run.setting, NO_SETTING):
            return _name(number)
    settings.append(run)
    return _name(len(settings) - 1)


def _name(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else f"A{number}"


def _describe(settings: Sequence[Run]) -> list[str]:
    """Say how each setting differs from the first one."""
    first = settings[0].setting
    notes = []
    for number, run in enumerate(settings[1:], start=1):
        different = changed_values(first, run.setting, NO_SETTING)
        text = "; ".join(f"{key} is {_short(new)}, in A {_short(old)}" for key, old, new in different)
        notes.append(f"rows of setting {_name(number)} cannot be compared with those of A: {text}")
    return notes


def _short(value: Any) -> str:
    return json.dumps(value) if isinstance(value, Mapping | list) else str(value)


def _mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation, which one value does not have."""
    return fmean(values), stdev(values) if len(values) > 1 else None


def _percent(mean: float, std: float | None) -> str:
    return f"{mean:.1%}" if std is None else f"{100 * mean:.1f} ± {100 * std:.1f}%"


def _accuracy(title: str, key: str, kind: str) -> Column:
    return Column(title, (f"{key}_mean", f"{key}_std"), lambda row: _mean_and_std(row.accuracies(kind)), _percent)


def _parameters(title: str, key: str, kind: str) -> Column:
    values = lambda row: [getattr(row.runs[0].summary.parameters, kind)]  # noqa: E731
    return Column(title, (key,), values, lambda number: f"{number / 1e6:.2f} M")


def _mean(title: str, key: str, text: str) -> Column:
    return Column(title, (key,), lambda row: [row.mean(key)], text.format)


COLUMNS = (
    Column("run", ("run",), lambda row: [row.name]),
    Column("method", ("method",), lambda row: [row.fusion]),
    Column("split", ("split",), lambda row: [row.split]),
    Column("seeds", ("seeds",), lambda row: [" ".join(map(str, row.seeds))]),
    _accuracy("accuracy", "accuracy", "top1"),
    _accuracy("mean-class", "mean_class", "mean_class"),
    _parameters("params", "parameters", "total"),
    _parameters("trainable", "trainable_parameters", "trainable"),
    _mean("GFLOPs/clip", "gflops_per_clip", "{:.2f}"),
    _mean("clips/s", "clips_per_s", "{:.1f}"),
    _mean("data wait", "data_wait", "{:.1%}"),
    Column(
        "peak memory",
        ("peak_memory_bytes",),
        lambda row: [max(run.summary.peak_memory_bytes for run in row.runs)],
        lambda size: f"{size / 2**30:.2f} GiB",
    ),
    Column("setting", ("setting",), lambda row: [row.setting]),
)


def show_comparison(comparison: Comparison, folder: Path, display: Display, table: bool = True) -> None:
    """Write comparison.md, comparison.csv and comparison.png into `folder`, and print the `table` if it is wanted.

    Raises:
        UserError: the folder cannot be written to.
    """
    shown = _terminal_table(comparison)
    make_folder(folder)
    with atomic_files(folder) as create:
        create("comparison.md", "w").write(_markdown(comparison))
        header = [key for column in COLUMNS for key in column.keys]
        rows = ([value for column in COLUMNS for value in column.values(row)] for row in comparison.rows)
        write_csv(create("comparison.csv", "w"), header, rows)
        _draw(comparison, create("comparison.png"))
    if table:
        display.table(shown)
    display.print(f"written to {folder}/comparison.md, .csv, .png")


def _cells(comparison: Comparison) -> list[list[str]]:
    """Return the header and the rows as text; the setting's column is there when there are several."""
    several = len({row.setting for row in comparison.rows}) > 1
    columns = COLUMNS if several else COLUMNS[:-1]
    rows = [[column.text(*column.values(row)) for column in columns] for row in comparison.rows]
    return [[column.title for column in columns], *rows]


def _terminal_table(comparison: Comparison) -> Table:
    header, *rows = _cells(comparison)
    table = Table(caption="\n".join((CAPTION, *comparison.notes)), caption_justify="left")
    for number, column in enumerate(header):
        table.add_column(column, justify="left" if number < 2 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _markdown(comparison: Comparison) -> str:
    header, *rows = _cells(comparison)
    rules = ["---" if number < 2 else "---:" for number in range(len(header))]
    lines = ["| " + " | ".join(row) + " |" for row in (header, rules, *rows)]
    return "\n".join([*lines, "", CAPTION, *(f"\n**{note}**" for note in comparison.notes), ""])


def _draw(comparison: Comparison, file: IO[bytes]) -> None:
    """Draw one bar per row, with its standard deviation and each seed as a dot."""
    from matplotlib.figure import Figure  # here: slow to import; Figure alone needs no display

    rows = comparison.rows[::-1]  # the first one on top
    figure = Figure(figsize=(7, 1.2 + 0.4 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for position, row in enumerate(rows):
        accuracies = row.accuracies("top1")
        mean, std = _mean_and_std(accuracies)
        axes.barh(position, mean, xerr=std, color="tab:blue", alpha=0.6, capsize=3)
        axes.plot(accuracies, [position] * len(accuracies), "k.", markersize=4)
    several = len({row.setting for row in rows}) > 1
    labels = [f"{row.name} ({row.setting})" if several else row.name for row in rows]
    axes.set(xlim=(0, 1), xlabel=f"accuracy on {', '.join(sorted({row.split for row in rows}))}")
    axes.set_yticks(range(len(rows)), labels)
    figure.savefig(file, format="png", dpi=120)


if __name__ == "__main__":
    sys.exit(main())
