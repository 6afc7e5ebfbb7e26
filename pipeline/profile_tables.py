"""Shows a profile: tables of the loader's stages, of the sweep and of training, and what they amount to."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from configs.display import Display


def show_loader(report: dict[str, Any], display: Display) -> None:
    """Show what the loader and its stages cost, beside the floor and the other ways."""
    table = Table(title=f"{report['machine']['cpu']}, DALI {report['machine']['dali']}, medians of the rounds (range)")
    for column in ("", "CPU ms a clip", "clips/s", "wait ms p50 / p95 / p99", "CPU over floor"):
        table.add_column(column, justify="left" if not column else "right")
    floor = report["subjects"]["floor"]["cpu_ms_per_clip"]
    for name, figure in report["subjects"].items():
        table.add_row(
            name,
            _spread(figure, "cpu_ms_per_clip", ".2f"),
            _spread(figure, "clips_per_s", ".0f"),
            " / ".join(f"{figure[f'wait_ms_p{p}']:.1f}" for p in (50, 95, 99)),
            f"{figure['cpu_ms_per_clip'] / floor:.2f} x",
        )
    display.table(table)
    stages = report["stages_cpu_ms_per_clip"]
    whole = sum(stages.values())
    display.line("stages: " + ", ".join(f"{name} {ms:.2f} ms ({ms / whole:.0%})" for name, ms in stages.items()))
    display.line(
        f"loader: {report['clips_per_s']:.0f} clips/s, {report['frames_per_s']:.0f} frames/s, "
        f"{report['mb_per_s']:.0f} MB/s of shards; {report['loader_over_floor']:.0%} of the floor's CPU time"
    )


def _spread(figure: dict[str, float], key: str, form: str) -> str:
    return f"{figure[key]:{form}} ({figure[f'{key}_min']:{form}} to {figure[f'{key}_max']:{form}})"


def show_sweep(rows: Sequence[dict[str, Any]], display: Display) -> None:
    """Show the settings, the fastest first, and recommend the cheapest of those as fast as that."""
    table = Table(title="sweep, fastest first")
    for column in ("num_threads", "batch_size", "prefetch", "clips/s", "CPU ms a clip"):
        table.add_column(column, justify="right")
    for row in rows:
        sizes = [str(row[key]) for key in ("num_threads", "batch_size", "prefetch")]
        table.add_row(*sizes, _spread(row, "clips_per_s", ".0f"), _spread(row, "cpu_ms_per_clip", ".2f"))
    display.table(table)
    # A setting is only worth its threads and memory when it is faster by more than the rounds differ.
    enough = min((row for row in rows if row["clips_per_s_max"] >= rows[0]["clips_per_s"]), key=_cost)
    names = ("num_threads", "batch_size", "prefetch")
    display.line("recommended: " + " ".join(f"loader.{name}={enough[name]}" for name in names))


def _cost(row: dict[str, Any]) -> tuple[int, int]:
    return row["num_threads"], row["batch_size"] * row["prefetch"]


def show_training(report: dict[str, Any], display: Display) -> None:
    """Show the speed of the model, of the loader and of both, who waits for whom, and the costliest operations."""
    table = Table(title=f"training on {report['device']}, {report['precision']}, medians of the rounds (range)")
    for column in ("", "clips/s", "CPU ms a clip"):
        table.add_column(column, justify="left" if not column else "right")
    for name, figure in report["subjects"].items():
        table.add_row(name, _spread(figure, "clips_per_s", ".1f"), _spread(figure, "cpu_ms_per_clip", ".1f"))
    display.table(table)
    speeds = {name: figure["clips_per_s"] for name, figure in report["subjects"].items()}
    limit = {"compute": "the model", "loader": "the loader"}[report["limit"]]
    display.line(
        f"compute {speeds['compute']:.1f} clips/s, loader {speeds['loader']:.1f} clips/s, end to end "
        f"{speeds['end to end']:.1f} clips/s: the model waits for clips {report['data_wait']:.1%} of the time; "
        f"{limit} is the limit"
    )
    table = Table(title="the costliest operations of a step, by their own time")
    for column in ("operation", "calls", "ms", "share"):
        table.add_column(column, justify="left" if column == "operation" else "right")
    for row in report["operations"]:
        table.add_row(row["name"], f"{row['calls_per_step']:.0f}", f"{row['ms_per_step']:.1f}", f"{row['share']:.1%}")
    display.table(table)
