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
    bars = {"floor: decoding alone": report["subjects"]["floor"], "loader": report["subjects"]["loader"]} | others
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
    axes.set_xlabel("CPU ms a clip")
    axes.set_title(f"{report['machine']['cpu']}, DALI {report['machine']['dali']}", fontsize="medium")
    axes.legend(loc="lower right")
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120)
