"""A comparison as tables for the terminal and Markdown, as a CSV, and as a picture."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from rich.table import Table

from common.display import Display
from common.files import atomic_files, make_folder
from common.palette import INK, SKY
from engine.report.charts import themed, to_svg
from engine.report.html import render
from engine.runs.comparison.rows import REFERENCES, Comparison, Row
from engine.scoring.reports import write_csv

CAPTION = (
    "accuracy: top-1, mean ± sample standard deviation over seeds; 95 %: the interval of that mean for other clips and "
    "seeds; trials: configurations of the method in that folder; GFLOPs: a multiply-add counts as two; clips/s and "
    "data wait: in training; peak memory: of the GPU, or of the first process; STREAM:KIND: accuracy under a fault"
)
HELD_TO = "points of accuracy more than"
NOT_TOLD_APART = "not told apart"


class Column(NamedTuple):
    """A column for people; the CSV has the values that its text is made of under `keys`."""

    title: str
    keys: tuple[str, ...]
    values: Callable[[Row], Sequence[object]]
    text: Callable[..., str] = "{}".format


def show_comparison(comparison: Comparison, folder: Path, display: Display, with_tables: bool = True) -> None:
    """Write comparison.md, .csv, .png and .html into `folder`, and print the tables if they are wanted.

    Raises:
        UserError: the folder cannot be written to.
    """
    shown = list(_terminal_tables(comparison))
    make_folder(folder)
    with atomic_files(folder) as create:
        create("comparison.md", "w").write(markdown(comparison))
        columns = list({column.keys: column for table in _columns(comparison) for column in table}.values())
        header = [key for column in columns for key in column.keys]
        rows = ([value for column in columns for value in column.values(row)] for row in comparison.rows)
        write_csv(create("comparison.csv", "w"), header, rows)
        draw_comparison(comparison, create("comparison.png"))
        create("comparison.html", "w").write(_page(comparison))
    for one in shown if with_tables else []:
        display.table(one)
    display.print(f"written to {folder}/comparison.md, .csv, .png, .html")


def markdown(comparison: Comparison) -> str:
    """The tables in Markdown, with what has to be known to read them."""
    return "\n".join([markdown_tables(comparison), CAPTION, *(f"\n**{note}**" for note in comparison.notes), ""])


def markdown_tables(comparison: Comparison) -> str:
    """The tables alone."""
    lines = []
    for header, *rows in _tables(comparison):
        rules = ["---" if number < len(NAMES) else "---:" for number in range(len(header))]
        lines += ["| " + " | ".join(row) + " |" for row in (header, rules, *rows)] + [""]
    return "\n".join(lines)


def _columns(comparison: Comparison) -> list[tuple[Column, ...]]:
    """The columns of each table."""
    faults = dict.fromkeys(name for row in comparison.rows for name in row.faults)
    return [*TABLES, (*NAMES, *(_fault(name) for name in faults), SETTING)]


def _tables(comparison: Comparison) -> Iterator[list[list[str]]]:
    """Header and rows of each table as text; columns without an entry are left out, and settings where there is one."""
    several = len(comparison.settings) > 1
    for columns in _columns(comparison):
        texts = {column.title: [column.text(*column.values(row)) for row in comparison.rows] for column in columns}
        chosen = {title: cells for title, cells in texts.items() if any(cells) and (several or title != SETTING.title)}
        if len(chosen) > len(NAMES) + several:
            yield [list(chosen), *map(list, zip(*chosen.values(), strict=True))]


def _terminal_tables(comparison: Comparison) -> Iterator[Table]:
    tables = list(_tables(comparison))
    for header, *rows in tables:
        is_last = header == tables[-1][0]
        table = Table(caption="\n".join((CAPTION, *comparison.notes)) if is_last else None, caption_justify="left")
        for number, column in enumerate(header):
            table.add_column(column, justify="left" if number < len(NAMES) else "right", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        yield table


def _percent(mean: float, std: float | None) -> str:
    return f"{mean:.1%}" if std is None else f"{100 * mean:.1f} ± {100 * std:.1f}%"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}"


def difference_text(mean: float | None, low: float | None, high: float | None) -> str:
    """The difference of two accuracies with its interval, in points; nothing where it is not known."""
    if mean is None or low is None or high is None:
        return ""
    text = f"{100 * mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
    return f"{text} {NOT_TOLD_APART}" if low <= 0 <= high else text


def _accuracy(title: str, key: str, kind: str) -> Column:
    return Column(title, (f"{key}_mean", f"{key}_std"), lambda row: row.mean_and_std(kind), _percent)


def _held_to(kind: str) -> Column:
    def values(row: Row) -> Sequence[object]:
        found = row.differences.get(kind)
        return [None] * 3 if found is None else [found.mean, *found.interval]

    key = f"to_{kind.replace(' ', '_')}"
    return Column(f"{HELD_TO} {kind}", (key, f"{key}_low", f"{key}_high"), values, difference_text)


def _fault(name: str) -> Column:
    text = lambda accuracy: "" if accuracy is None else f"{accuracy:.1%}"  # noqa: E731
    return Column(name, (name,), lambda row: [row.faults.get(name)], text)


def _parameters(title: str, key: str, kind: str) -> Column:
    values = lambda row: [getattr(row.runs[0].summary.parameters, kind)]  # noqa: E731
    return Column(title, (key,), values, lambda number: f"{number / 1e6:.2f} M")


def _mean(title: str, key: str, text: str) -> Column:
    return Column(title, (key,), lambda row: [row.mean(key)], text.format)


NAMES = (
    Column("run", ("run",), lambda row: [row.name]),
    Column("method", ("method",), lambda row: [row.fusion]),
)
SETTING = Column("setting", ("setting",), lambda row: [row.setting])
TABLES = (
    (
        *NAMES,
        Column("split", ("split",), lambda row: [row.split]),
        Column("clips", ("clips",), lambda row: [row.num_clips], lambda number: "" if number is None else str(number)),
        Column("seeds", ("seeds",), lambda row: [" ".join(map(str, row.seeds))]),
        Column("trials", ("trials",), lambda row: [row.trials]),
        _accuracy("accuracy", "accuracy", "top1"),
        Column("95 %", ("accuracy_low", "accuracy_high"), lambda row: row.interval or (None, None), _interval),
        _accuracy("mean-class", "mean_class", "mean_class"),
        SETTING,
    ),
    (*NAMES, *(_held_to(kind) for kind in REFERENCES), SETTING),
    (
        *NAMES,
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
        SETTING,
    ),
)


def _page(comparison: Comparison) -> str:
    """The tables and the picture for a browser, in one file."""
    with themed():
        picture = to_svg(_figure(comparison), "accuracy of each row, with its 95 % interval")
    tables = [(header, rows) for header, *rows in _tables(comparison)]
    about = {"rows": comparison.rows, "notes": comparison.notes, "caption": CAPTION}
    return render("comparison.html", title="Runs compared", picture=picture, tables=tables, **about)


def draw_comparison(comparison: Comparison, file: IO[bytes]) -> None:
    """Draw one bar per row with its interval and each seed as a dot; each setting has axes of its own."""
    _figure(comparison).savefig(file, format="png", dpi=120)


def _figure(comparison: Comparison) -> Any:
    from matplotlib.figure import Figure  # here: slow to import; Figure alone needs no display

    settings = comparison.settings
    heights = [len(rows) for rows in settings.values()]
    figure = Figure(figsize=(8, 0.4 * sum(heights) + 1.1 * len(heights)), layout="constrained")
    panels = figure.subplots(len(heights), squeeze=False, height_ratios=heights)[:, 0]
    for axes, (letter, rows) in zip(panels, settings.items(), strict=True):
        _draw_setting(axes, rows, f"setting {letter}: " if len(settings) > 1 else "")
    return figure


def _draw_setting(axes: Any, rows: Sequence[Row], title: str) -> None:
    for position, row in enumerate(rows):
        mean, std = row.mean_and_std()
        accuracies = row.accuracies()
        low, high = row.interval or (mean, mean)
        axes.barh(position, mean, color=SKY)
        axes.errorbar(mean, position, xerr=[[max(0.0, mean - low)], [max(0.0, high - mean)]], color=INK, capsize=3)
        axes.plot(accuracies, [position] * len(accuracies), ".", color=INK, markersize=4)
        axes.text(1.02, position, f"{_percent(mean, std)}  n = {row.num_clips or '?'} x {len(accuracies)}", va="center")
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5))  # the first one on top
    axes.set_title(f"{title}accuracy on {', '.join(sorted({row.split for row in rows}))}, with its 95 % interval")
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
