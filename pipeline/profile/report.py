"""Report of a profile: tables of stages and sweep, a plot, and tables in Markdown."""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from common.display import Display
from common.files import atomic_write
from common.palette import FAINT, GRID, INK, SERIES

NOISY = 0.25  # range of the rounds over their median, beyond which a tenth more or less cannot be told
STAGES = ("floor", "reading", "decoding", "copy-out", "loader")  # candidates that are the loader, cut off or whole


def show_loader(report: dict[str, Any], display: Display) -> None:
    """Show what the loader and its stages cost, beside the floor, and how much of that is noise."""
    table = Table(title=f"{report['machine']['cpu']}, DALI {report['machine']['dali']}, medians of the rounds (range)")
    for column in ("", "CPU ms per clip", "clips/s", "wait ms p50 / p95 / p99", "CPU over floor"):
        table.add_column(column, justify="left" if not column else "right")
    for name in STAGES:
        figure = report["candidates"][name]
        table.add_row(
            name,
            spread_of(figure, "cpu_ms_per_clip", ".2f"),
            spread_of(figure, "clips_per_s", ".0f"),
            " / ".join(f"{figure[f'wait_ms_p{p}']:.1f}" for p in (50, 95, 99)),
            spread_of(figure, "over_floor", ".2f"),
        )
    display.table(table)
    if stages := drawn_stages(report):
        whole = sum(stages.values())
        display.print("stages: " + ", ".join(f"{name} {ms:.2f} ms ({ms / whole:.0%})" for name, ms in stages.items()))
    display.print(
        f"loader: {report['clips_per_s']:.0f} clips/s, {report['frames_per_s']:.0f} frames/s, "
        f"{report['mb_per_s']:.0f} MB/s of shards; {verdict(report)}"
    )


def tells_floor(report: dict[str, Any]) -> bool:
    """Whether the rounds agree well enough to say how far the loader is from its floor."""
    agree: bool = report["noise"] <= NOISY and report["loader_over_floor"] >= 1 - NOISY / 2
    return agree and report["rounds"] > 1


def verdict(report: dict[str, Any]) -> str:
    """How far the loader is from its floor; or that this measurement cannot tell, and why."""
    load = "load average {:.1f} to {:.1f}".format(*sorted(report["load_average"]))
    if report["rounds"] == 1:
        return f"one round does not say how noisy it is ({load}): --rounds 3 and more do"
    if not tells_floor(report):
        return (
            f"too noisy to say how far it is from the floor: rounds of the same work differ by {report['noise']:.0%} "
            f"({load}); measure again on an idle machine, or with more --rounds and --batches"
        )
    return f"{report['loader_over_floor']:.0%} of the floor's CPU time; rounds differ by {report['noise']:.0%}"


def rivals_of(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The loader and all that was measured beside it, the cheapest first."""
    found = {name: figure for name, figure in report["candidates"].items() if name == "loader" or name not in STAGES}
    return dict(sorted(found.items(), key=lambda item: item[1]["cpu_ms_per_clip"]))


def rival_rows(reports: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A row for each of them, of one run or of several: CPU time, over the loader's, clips/s, pixels, versions."""
    rows = []
    for name in rivals_of(reports[0]):
        figures = [report["candidates"][name] for report in reports]
        about = reports[0]["rivals"].get(name, {"pixels": "", "versions": ""})
        measured = [("cpu_ms_per_clip", ".1f"), ("over_loader", ".2f"), ("clips_per_s", ".0f")]
        rows.append([name, *(spread_of_runs(figures, *key) for key in measured), about["pixels"], about["versions"]])
    return rows


RIVAL_COLUMNS = ("", "CPU ms per clip", "over the loader's", "clips/s", "pixels", "versions")


def show_rivals(report: dict[str, Any], display: Display) -> None:
    """Show other ways of loading the same clips beside the loader, and which were left out."""
    if not report["rivals"]:
        return
    table = Table(title="the same clips and crops, medians of the rounds (range)")
    for column in RIVAL_COLUMNS:
        table.add_column(column, justify="left" if column in ("", "pixels", "versions") else "right")
    for row in rival_rows([report]):
        table.add_row(*row)
    display.table(table)


def spread(values: Sequence[float], form: str) -> str:
    """The median of some rounds, with their range."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def spread_of(figure: dict[str, float], key: str, form: str) -> str:
    """The same of a summary of Timings, which has the three."""
    return spread_of_runs([figure], key, form)


def spread_of_runs(figures: Sequence[dict[str, float]], key: str, form: str) -> str:
    """The medians of several runs, with the range of all their rounds."""
    medians = ", ".join(f"{figure[key]:{form}}" for figure in figures)
    low, high = min(figure[f"{key}_min"] for figure in figures), max(figure[f"{key}_max"] for figure in figures)
    return f"{medians} ({low:{form}} to {high:{form}})"


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
    """Draw CPU milliseconds per clip as horizontal bars, the cheapest on top, and write a PNG.

    The floor is drawn where the rounds agree well enough to tell the loader from it; else the title says that not.
    The loader's bar is made of its stages, which add up to it. Each is the difference of two measurements: where noise
    has made one negative, none is drawn.
    """
    from matplotlib.figure import Figure  # here: it takes its time to load

    floor = {"floor: decoding alone": report["candidates"]["floor"]} if tells_floor(report) else {}
    bars = floor | rivals_of(report)
    figure = Figure(figsize=(9, 1.9 + 0.42 * len(bars)), layout="constrained")
    axes = figure.subplots()
    loader = report["candidates"]["loader"]["cpu_ms_per_clip"]
    for name, subject in bars.items():
        value, low, high = (subject[f"cpu_ms_per_clip{end}"] for end in ("", "_min", "_max"))
        color = SERIES[0] if name.startswith("loader") else GRID
        axes.barh(name, value, color=color, xerr=[[value - low], [high - value]], ecolor=INK, capsize=3)
        times = "" if name.startswith(("loader", "floor")) else f", {value / loader:.1f} x"
        axes.annotate(f"  {value:.1f}{times}", (high, name), va="center")
    left = 0.0
    for (stage, ms), color in zip(drawn_stages(report).items(), SERIES, strict=False):
        axes.barh("loader", ms, left=left, color=color, height=0.5, label=f"{stage} {ms:.1f} ms")
        left += ms
    for name in (*floor, "loader"):
        axes.axvline(bars[name]["cpu_ms_per_clip"], color=FAINT, linestyle=":", zorder=0)
    axes.margins(x=0.2)
    axes.invert_yaxis()
    axes.set_xlabel("CPU ms per clip: median of the rounds with their range, and how many times the loader's")
    noise = "" if floor else f"\n{verdict(report).split(';')[0]}"
    axes.set_title(f"{report['machine']['cpu']}, DALI {report['machine']['dali']}{noise}", fontsize="small")
    if left:
        figure.legend(loc="outside lower center", ncols=4, title="stages of the loader", frameon=False)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120)


def drawn_stages(report: dict[str, Any]) -> dict[str, float]:
    """The stages that the loader's bar is made of, CPU ms per clip: all, or none where a difference is negative."""
    stages: dict[str, float] = report["stages_cpu_ms_per_clip"]
    return stages if min(stages.values()) >= 0 else {}
