"""One picture of a profile: the loader's stages, stacked, beside its floor and the other ways of loading."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from configs.files import atomic_write

matplotlib.use("Agg")


def plot_profile(report: dict[str, Any], path: Path) -> None:
    """Draw CPU milliseconds a clip as horizontal bars and write a PNG."""
    cut_off = {"floor", "reading", "decoding", "hand-over", "loader"}
    others = {name: figure for name, figure in report["subjects"].items() if name not in cut_off}
    figure = Figure(figsize=(9, 1.6 + 0.55 * (2 + len(others))), layout="constrained")
    axes = figure.subplots()
    floor = report["subjects"]["floor"]["cpu_ms_per_clip"]
    axes.barh("floor: decoding alone", floor, color="0.6")
    left = 0.0
    for stage, ms in report["stages_cpu_ms_per_clip"].items():
        axes.barh("loader", max(ms, 0), left=left, label=f"{stage} {ms:.1f} ms")
        left += max(ms, 0)
    for name, subject in others.items():
        value = subject["cpu_ms_per_clip"]
        low, high = value - subject["cpu_ms_per_clip_min"], subject["cpu_ms_per_clip_max"] - value
        axes.barh(name, value, color="0.8", xerr=[[low], [high]])
    for position, value in enumerate([floor, left, *(subject["cpu_ms_per_clip"] for subject in others.values())]):
        axes.annotate(f" {value:.1f}", (value, position), va="center")
    axes.axvline(floor, color="0.6", linestyle=":")
    axes.invert_yaxis()
    axes.set_xlabel("CPU ms a clip")
    axes.set_title(f"{report['machine']['cpu']}, DALI {report['machine']['dali']}", fontsize="medium")
    axes.legend(loc="lower right")
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120)
