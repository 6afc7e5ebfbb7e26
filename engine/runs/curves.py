"""curves.png: a run's metrics.jsonl as one image, for those who do not run TensorBoard."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.files import atomic_write

Points = list[tuple[int, float]]  # step, value
COLUMNS = 4
COLUMN_WIDTH, ROW_HEIGHT = 3.5, 2.7  # inches
MIB_PER_GIB = 1024


@dataclass(frozen=True)
class Curve:
    """One line of a panel; `scale` is what the logged values are multiplied by."""

    kind: str
    key: str
    label: str
    style: str = "-"
    color: str = "C0"
    scale: float = 1.0


@dataclass(frozen=True)
class Panel:
    """Curves that belong together, and what their axis is called."""

    title: str
    curves: Sequence[Curve]
    from_zero: bool = True
    is_log: bool = False


def draw_history(metrics: Path, path: Path) -> None:
    """Write `path`, a PNG of the curves in `metrics`, a run's metrics.jsonl.

    Raises:
        UserError: it cannot be written.
    """
    from matplotlib.figure import Figure  # here: slow to import; Figure alone needs no display

    records = [json.loads(line) for line in metrics.read_text("utf-8").splitlines()]
    points = gather(records)
    drawn = [(panel, [curve for curve in panel.curves if points[curve.kind, curve.key]]) for panel in panels(points)]
    drawn = [(panel, curves) for panel, curves in drawn if curves]
    num_rows = max(1, -(-len(drawn) // COLUMNS))
    height = ROW_HEIGHT * num_rows
    figure = Figure(figsize=(COLUMN_WIDTH * COLUMNS, height))
    # Fixed, as to find room for every label takes as long as to draw all.
    figure.subplots_adjust(0.04, 0.55 / height, 0.99, 1 - 0.65 / height, wspace=0.18, hspace=0.3)
    axes = list(figure.subplots(num_rows, COLUMNS, squeeze=False, sharex=True).flat)
    for axis, (panel, curves) in zip(axes, drawn, strict=False):
        _draw_panel(axis, panel, curves, points)
    for axis in axes[len(drawn) :]:
        axis.remove()
    figure.suptitle(path.parent.name)
    figure.supxlabel("step", fontsize="medium")
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=100)


def gather(records: Iterable[dict[str, Any]]) -> dict[tuple[str, str], Points]:
    """The curves in a log: from kind and key to (step, value), where there is a value."""
    points: dict[tuple[str, str], Points] = defaultdict(list)
    for record in records:
        for key, value in record.items():
            if isinstance(value, int | float) and key != "step":
                points[record["kind"], key].append((record["step"], value))
    return points


def panels(points: dict[tuple[str, str], Points]) -> list[Panel]:
    """What is drawn: what all runs have, and loss terms and heads' weights where a method has several."""
    terms = sorted(key for kind, key in points if kind == "epoch" and key.startswith("loss/"))
    weights = sorted(key for kind, key in points if kind == "prepare" and key.endswith("_w"))
    found = [
        Panel("loss", _streams("loss", "loss"), from_zero=False),
        Panel(
            "accuracy",
            [*_streams("accuracy", "top1"), Curve("val", "mean_class", "validation, by class", "--", "C1")],
        ),
        Panel("learning rate", [Curve("train", "lr", ""), Curve("epoch", "lr", "", ".")], is_log=True),
        Panel("gradient norm", _logged("grad_norm")),
        Panel("clips/s", [*_logged("clips_per_s"), Curve("val", "clips_per_s", "validation", ".-", "C1")]),
        Panel("data wait, %", _logged("data_wait", 100)),
        Panel("peak memory, GiB", _logged("peak_memory_mib", 1 / MIB_PER_GIB)),
    ]
    if len(terms) > 1:
        curves = [Curve("epoch", key, key.removeprefix("loss/"), ".-", f"C{n}") for n, key in enumerate(terms)]
        found.insert(2, Panel("terms of the training loss", curves, from_zero=False))
    if weights:
        curves = [Curve("prepare", key, key.removesuffix("_w"), "o-", f"C{n}") for n, key in enumerate(weights)]
        found.append(Panel("weights of the heads", curves))
    return found


def _streams(train: str, val: str) -> list[Curve]:
    """A measure of training and scoring: each log, each epoch, validation, test."""
    return [
        Curve("train", train, "training, each log", "-", "0.8"),
        Curve("epoch", train, "training, each epoch", ".-", "C0"),
        Curve("val", val, "validation", ".-", "C1"),
        Curve("test", val, "test of the best", "o", "C3"),
    ]


def _logged(key: str, scale: float = 1.0) -> list[Curve]:
    return [
        Curve("train", key, "each log", "-", "0.8", scale),
        Curve("epoch", key, "each epoch", ".-", "C0", scale),
    ]


def _draw_panel(axis: Any, panel: Panel, curves: Sequence[Curve], points: dict[tuple[str, str], Points]) -> None:
    highest = 0.0
    for curve in curves:
        steps, values = zip(*points[curve.kind, curve.key], strict=True)
        scaled = [value * curve.scale for value in values]
        highest = max(highest, max(scaled))
        axis.plot(steps, scaled, curve.style, color=curve.color, label=curve.label)
    axis.set_title(panel.title, fontsize="medium")
    axis.grid(alpha=0.25)
    axis.tick_params(labelbottom=True)
    if panel.is_log:
        axis.set_yscale("log")
    elif panel.from_zero:
        axis.set_ylim(0, 1.1 * max(highest, 1e-9))
    if any(curve.label for curve in curves):
        axis.legend(fontsize="x-small")
