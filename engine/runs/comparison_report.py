"""Writes a comparison of runs down: a table for the terminal and for Markdown, all digits as CSV, a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import IO

from rich.table import Table

from common.files import atomic_files, make_folder
from engine.runs.comparison import Comparison, Row, mean_and_std
from engine.scoring.reports import write_csv

CAPTION = (
    "accuracy: top-1, mean ± sample standard deviation over seeds; GFLOPs: a multiply-add counts as two; "
    "clips/s and data wait: in training; peak memory: of the GPU, on a CPU of the first process"
)
CSV_HEADER = (
    *("run", "method", "split", "seeds", "accuracy_mean", "accuracy_std", "mean_class_mean", "mean_class_std"),
    *("parameters", "trainable_parameters", "gflops_per_clip", "clips_per_s", "data_wait", "peak_memory_bytes"),
    "setting",
)


def comparison_table(comparison: Comparison) -> Table:
    """Return the rows for a terminal."""
    header, *rows = _cells(comparison)
    table = Table(caption="\n".join((CAPTION, *comparison.notes)), caption_justify="left")
    for number, column in enumerate(header):
        table.add_column(column, justify="left" if number < 2 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write comparison.md, comparison.csv and comparison.png into `folder`.

    Raises:
        UserError: the folder cannot be written to.
    """
    make_folder(folder)
    with atomic_files(folder) as create:
        create("comparison.md", "w").write(_markdown(comparison))
        write_csv(create("comparison.csv", "w"), CSV_HEADER, [_values(row) for row in comparison.rows])
        _draw(comparison, create("comparison.png"))


def _cells(comparison: Comparison) -> list[list[str]]:
    """Return the header and the rows as text; the setting's column is there when there are several."""
    header = [
        *("run", "method", "split", "seeds", "accuracy", "mean-class", "params", "trainable"),
        *("GFLOPs/clip", "clips/s", "data wait", "peak memory", "setting"),
    ]
    table = [header, *(_texts(row) for row in comparison.rows)]
    several = len({row.setting for row in comparison.rows}) > 1
    return table if several else [row[:-1] for row in table]


def _texts(row: Row) -> list[str]:
    return [
        row.name,
        row.fusion,
        row.split,
        " ".join(map(str, row.seeds)),
        _percent(row.accuracies("top1")),
        _percent(row.accuracies("mean_class")),
        f"{row.parameters.total / 1e6:.2f} M",
        f"{row.parameters.trainable / 1e6:.2f} M",
        f"{row.mean('gflops_per_clip'):.2f}",
        f"{row.mean('clips_per_s'):.1f}",
        f"{row.mean('data_wait'):.1%}",
        f"{row.peak_memory / 2**30:.2f} GiB",
        row.setting,
    ]


def _percent(values: Sequence[float]) -> str:
    mean, std = mean_and_std(values)
    return f"{mean:.1%}" if std is None else f"{100 * mean:.1f} ± {100 * std:.1f}%"


def _values(row: Row) -> list[object]:
    """Return a row of the CSV; a standard deviation that is not there is empty."""
    return [
        row.name,
        row.fusion,
        row.split,
        " ".join(map(str, row.seeds)),
        *mean_and_std(row.accuracies("top1")),
        *mean_and_std(row.accuracies("mean_class")),
        row.parameters.total,
        row.parameters.trainable,
        row.mean("gflops_per_clip"),
        row.mean("clips_per_s"),
        row.mean("data_wait"),
        row.peak_memory,
        row.setting,
    ]


def _markdown(comparison: Comparison) -> str:
    header, *rows = _cells(comparison)
    rules = ["---" if number < 2 else "---:" for number in range(len(header))]
    lines = ["| " + " | ".join(row) + " |" for row in (header, rules, *rows)]
    return "\n".join([*lines, "", CAPTION, *(f"\n**{note}**" for note in comparison.notes), ""])


def _draw(comparison: Comparison, file: IO[bytes]) -> None:
    """Draw a bar a row, with its standard deviation and each seed as a dot."""
    from matplotlib.figure import Figure  # here: slow to import; Figure alone needs no display

    rows = comparison.rows[::-1]  # the first one on top
    figure = Figure(figsize=(7, 1.2 + 0.4 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for position, row in enumerate(rows):
        accuracies = row.accuracies("top1")
        mean, std = mean_and_std(accuracies)
        axes.barh(position, mean, xerr=std, color="tab:blue", alpha=0.6, capsize=3)
        axes.plot(accuracies, [position] * len(accuracies), "k.", markersize=4)
    several = len({row.setting for row in rows}) > 1
    labels = [f"{row.name} ({row.setting})" if several else row.name for row in rows]
    axes.set(xlim=(0, 1), xlabel=f"accuracy on {', '.join(sorted({row.split for row in rows}))}")
    axes.set_yticks(range(len(rows)), labels)
    figure.savefig(file, format="png", dpi=120)
