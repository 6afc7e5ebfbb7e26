"""Report of a profile: tables of stages and sweep, a plot, and tables in Markdown."""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from common.display import Display
from common.files import atomic_write
from common.palette import FAINT, GRID, INK, SERIES


def show_loader(report: dict[str, Any], display: Display) -> None:
    """Show what the loader and its stages cost, beside the floor and the other ways."""
    table = Table(title=f"{report['machine']['cpu']}, DALI {report['machine']['dali']}, medians of the rounds (range)")
    for column in ("", "CPU ms per clip", "clips/s", "wait ms p50 / p95 / p99", "CPU over floor"):
        table.add_column(column, justify="left" if not column else "right")
    floor = report["candidates"]["floor"]["cpu_ms_per_clip"]
    for name, figure in report["candidates"].items():
        table.add_row(
            name,
            spread_of(figure, "cpu_ms_per_clip", ".2f"),
            spread_of(figure, "clips_per_s", ".0f"),
            " / ".join(f"{figure[f'wait_ms_p{p}']:.1f}" for p in (50, 95, 99)),
            f"{figure['cpu_ms_per_clip'] / floor:.2f} x",
        )
    display.table(table)
    stages = report["stages_cpu_ms_per_clip"]
    whole = sum(stages.values())
    display.print("stages: " + ", ".join(f"{name} {ms:.2f} ms ({ms / whole:.0%})" for name, ms in stages.items()))
    display.print(
        f"loader: {report['clips_per_s']:.0f} clips/s, {report['frames_per_s']:.0f} frames/s, "
        f"{report['mb_per_s']:.0f} MB/s of shards; {report['loader_over_floor']:.0%} of the floor's CPU time"
    )


def spread(values: Sequence[float], form: str) -> str:
    """The median of some rounds, with their range."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def spread_of(figure: dict[str, float], key: str, form: str) -> str:
    """The same of a summary of Timings, which has the three."""
    return spread([figure[f"{key}_min"], figure[key], figure[f"{key}_max"]], form)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as Markdown has it, its first column to the left and the others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def show_sweep(rows: Sequence[dict[str, Any]], display: Display) -> None:
    """Show the settings, the fastest first, and recommend the cheapest of those as fast as that."""
    table = Table(title="sweep, fastest first")
    for column in ("num_threads", "batch_size", "prefetch", "clips/s", "CPU ms per clip"):
        table.add_column(column, justify="right")
    for row in rows:
        sizes = [str(row[key]) for key in ("num_threads", "batch_size", "prefetch")]
        table.add_row(*sizes, spread_of(row, "clips_per_s", ".0f"), spread_of(row, "cpu_ms_per_clip", ".2f"))
    display.table(table)
    # A setting is only worth its threads and memory when it is faster by more than the rounds differ.
    enough = min(
        (row for row in rows if row["clips_per_s_max"] >= rows[0]["clips_per_s"]),
        key=lambda row: (row["num_threads"], row["batch_size"] * row["prefetch"]),
    )
    names = ("num_threads", "batch_size", "prefetch")
    display.print("recommended: " + " ".join(f"loader.{name}={enough[name]}" for name in names))


def plot_profile(report: dict[str, Any], path: Path) -> None:
    """Draw CPU milliseconds per clip as horizontal bars and write a PNG.

    The loader's bar is made of its stages, which add up to it. Each is the difference of two measurements: where noise
    has made one negative, none is drawn.
    """
    from matplotlib.figure import Figure  # here: it takes its time to load

    cut_off = {"floor", "reading", "decoding", "copy-out", "loader"}
    others = {name: figure for name, figure in report["candidates"].items() if name not in cut_off}
    figure = Figure(figsize=(9, 1.9 + 0.5 * (2 + len(others))), layout="constrained")
    axes = figure.subplots()
    bars = {"floor: decoding alone": report["candidates"]["floor"], "loader": report["candidates"]["loader"]} | others
    for name, subject in bars.items():
        value, low, high = (subject[f"cpu_ms_per_clip{end}"] for end in ("", "_min", "_max"))
        axes.barh(name, value, color=GRID, xerr=[[value - low], [high - value]], ecolor=INK, capsize=3)
        axes.annotate(f" {value:.1f}", (high, name), va="center")
    left = 0.0
    for (stage, ms), color in zip(drawn_stages(report).items(), SERIES, strict=False):
        axes.barh("loader", ms, left=left, color=color, height=0.5, label=f"{stage} {ms:.1f} ms")
        left += ms
    floor = bars["floor: decoding alone"]["cpu_ms_per_clip"]
    axes.axvline(floor, color=FAINT, linestyle=":")
    axes.margins(x=0.1)
    axes.invert_yaxis()
    axes.set_xlabel("CPU ms per clip: median of the rounds, and their range")
    axes.set_title(f"{report['machine']['cpu']}, DALI {report['machine']['dali']}", fontsize="medium")
    if left:
        figure.legend(loc="outside lower center", ncols=4, title="stages of the loader", frameon=False)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120)


def drawn_stages(report: dict[str, Any]) -> dict[str, float]:
    """The stages that the loader's bar is made of, CPU ms per clip: all, or none where a difference is negative."""
    stages: dict[str, float] = report["stages_cpu_ms_per_clip"]
    return stages if min(stages.values()) >= 0 else {}
