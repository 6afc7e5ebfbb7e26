"""Report of a profile: tables of stages and sweep, a plot, and tables in Markdown."""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from common.display import Display
from common.files import atomic_write


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
    """Draw CPU milliseconds per clip as horizontal bars and write a PNG."""
    from matplotlib.figure import Figure  # here: it takes its time to load

    cut_off = {"floor", "reading", "decoding", "copy-out", "loader"}
    others = {name: figure for name, figure in report["candidates"].items() if name not in cut_off}
    figure = Figure(figsize=(9, 1.6 + 0.55 * (2 + len(others))), layout="constrained")
    axes = figure.subplots()
    bars = {"floor: decoding alone": report["candidates"]["floor"], "loader": report["candidates"]["loader"]} | others
    for name, subject in bars.items():
        value, low, high = (subject[f"cpu_ms_per_clip{end}"] for end in ("", "_min", "_max"))
        axes.barh(name, value, color="0.8", xerr=[[value - low], [high - value]])
        axes.annotate(f" {value:.1f}", (high, name), va="center")
    left = 0.0
    for stage, ms in report["stages_cpu_ms_per_clip"].items():  # a difference of two runs may be below zero by noise
        axes.barh("loader", max(ms, 0), left=left, height=0.4, label=f"{stage} {ms:.1f} ms")
        left += max(ms, 0)
    floor = bars["floor: decoding alone"]["cpu_ms_per_clip"]
    axes.axvline(floor, color="0.6", linestyle=":")
    axes.margins(x=0.12)
    axes.invert_yaxis()
    axes.set_xlabel("CPU ms per clip")
    axes.set_title(f"{report['machine']['cpu']}, DALI {report['machine']['dali']}", fontsize="medium")
    axes.legend(loc="lower right")
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120)
