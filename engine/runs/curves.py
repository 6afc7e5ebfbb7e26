"""curves.png: a run's metrics.jsonl as one image, for those who do not run TensorBoard."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from common.files import atomic_write
from common.palette import FAINT, GRID, INK, SERIES, TEST, TRAINING, VALIDATION
from engine.runs.metrics_log import Record, read_log

Points = list[tuple[float, float]]  # epochs trained, value
Gathered = Mapping[tuple[str | None, str], Points]
COLUMNS = 4
COLUMN_WIDTH, ROW_HEIGHT = 3.5, 2.7  # inches
MIB_PER_GIB = 1024
HEADROOM = 1.1  # of an axis that begins at zero
EACH_LOG, TRAINED, VALIDATED, TESTED = SHARED = (
    "training, each log",
    "training",
    "validation",
    "test, of the best epoch",
)


@dataclass(frozen=True)
class Curve:
    """One line of a panel; `kind` None is all kinds together, `scale` is what the logged values are multiplied by."""

    kind: str | None
    key: str
    label: str
    style: str = "-"
    color: str = TRAINING
    scale: float = 1.0
    is_stepped: bool = False


@dataclass(frozen=True)
class Panel:
    """Curves that belong together.

    Attributes:
        axis: "free", "zero" (it begins there), "percent" (0 to 100), or "log".
        levels: horizontal lines, and what each is called.
    """

    title: str
    curves: Sequence[Curve]
    axis: str = "zero"
    levels: Mapping[str, float] | None = None


def draw_history(metrics: Path, path: Path, chance: float | None = None) -> None:
    """Write `path`, a PNG of the curves in `metrics`, a run's metrics.jsonl.

    `chance` is the accuracy in validation of calling every clip the commonest class.

    Raises:
        UserError: it cannot be written.
    """
    from matplotlib.figure import Figure  # here: slow to import; Figure alone needs no display

    points = gather(read_log(metrics))
    drawn = panels(points, chance)
    num_rows = max(1, -(-len(drawn) // COLUMNS))
    height = ROW_HEIGHT * num_rows
    figure = Figure(figsize=(COLUMN_WIDTH * COLUMNS, height))
    # Fixed, as to find room for every label takes as long as to draw all.
    figure.subplots_adjust(0.04, 0.55 / height, 0.99, 1 - 0.65 / height, wspace=0.18, hspace=0.3)
    axes = list(figure.subplots(num_rows, COLUMNS, squeeze=False, sharex=True).flat)
    for axis, panel in zip(axes, drawn, strict=False):
        draw_panel(axis, panel, points)
        axis.set_title(panel.title, fontsize="medium")
        axis.tick_params(labelbottom=True)
    for axis in axes[len(drawn) :]:
        axis.remove()
    figure.suptitle(path.parent.name, x=0.04, ha="left")
    found = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    shared = {label: found[label] for label in SHARED if label in found}
    figure.legend(shared.values(), shared.keys(), loc="upper right", ncols=len(SHARED), frameon=False)
    figure.supxlabel("epoch", fontsize="medium")
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=100)


def gather(records: Sequence[Record]) -> Gathered:
    """The curves in a log: from kind (None: any) and key to (epochs trained, value), where there is a value.

    The test's numbers stand at the epoch whose weights were tested.
    """
    steps, epochs = _ends_of_epochs(records)
    points: dict[tuple[str | None, str], Points] = defaultdict(list)
    for record in records:
        kind = record["kind"]
        position = float(record["epoch"] if kind == "test" else np.interp(record["step"], steps, epochs))
        for key, value in record.items():
            if isinstance(value, int | float) and key not in ("epoch", "step"):
                points[kind, key].append((position, value))
                points[None, key].append((position, value))
    return points


def _ends_of_epochs(records: Iterable[Record]) -> tuple[list[int], list[float]]:
    """Steps, and the epochs trained by then; one that is under way is taken to be as long as the first."""
    ends = {record["step"]: float(record["epoch"]) for record in records if record["kind"] == "epoch"}
    steps, epochs = [0, *ends], [0.0, *ends.values()]
    last = max((record["step"] for record in records), default=0)
    if last > steps[-1]:
        steps.append(max(last, steps[-1] + steps[1] if ends else 0))
        epochs.append(epochs[-1] + 1)
    return steps, epochs


def panels(points: Gathered, chance: float | None = None) -> list[Panel]:
    """What there is to draw: what all runs have, and loss terms and heads' weights where a method has several."""
    terms = sorted(key for kind, key in points if kind == "epoch" and key.startswith("loss/"))
    weights = sorted(key for kind, key in points if kind == "prepare" and key.endswith("_w"))
    levels = None if chance is None else {"always the commonest class": 100 * chance}
    by_class = Curve("val", "mean_class", "validation, by class", "--", VALIDATION, 100)
    found = [
        Panel("loss", _streams("loss", "loss"), "free"),
        Panel("accuracy, %", [*_streams("accuracy", "top1", 100), by_class], "percent", levels),
        Panel("terms of the training loss", _several("epoch", terms, "loss/", "") if len(terms) > 1 else [], "free"),
        # A line has what held before it: an epoch's is logged before the rate changes.
        Panel("learning rate", [Curve(None, "lr", TRAINED, is_stepped=True)], "log"),
        Panel("gradient norm", _logged("grad_norm")),
        Panel("clips/s", [*_logged("clips_per_s"), Curve("val", "clips_per_s", VALIDATED, ".-", VALIDATION)]),
        Panel("data wait, %", _logged("data_wait", 100)),
        Panel("peak memory, GiB", _logged("peak_memory_mib", 1 / MIB_PER_GIB)),
        Panel("weights of the heads", _several("prepare", weights, "", "_w")),
    ]
    there = [
        replace(panel, curves=[curve for curve in panel.curves if points.get((curve.kind, curve.key))])
        for panel in found
    ]
    return [panel for panel in there if panel.curves]


def _streams(train: str, val: str, scale: float = 1.0) -> list[Curve]:
    """A measure of training and scoring: each log, each epoch, validation, test."""
    return [
        *_logged(train, scale),
        Curve("val", val, VALIDATED, ".-", VALIDATION, scale),
        Curve("test", val, TESTED, "D", TEST, scale),
    ]


def _logged(key: str, scale: float = 1.0) -> list[Curve]:
    return [
        Curve("train", key, EACH_LOG, "-", FAINT, scale),
        Curve("epoch", key, TRAINED, ".-", TRAINING, scale),
    ]


def _several(kind: str, keys: Sequence[str], prefix: str, suffix: str) -> list[Curve]:
    """One curve per key, no two of which look alike."""
    looks = [(style, color) for style in (".-", "x--", "s:") for color in SERIES]
    return [
        Curve(kind, key, key.removeprefix(prefix).removesuffix(suffix), *look)
        for key, look in zip(keys, looks, strict=False)
    ]


def draw_panel(axis: Any, panel: Panel, points: Gathered) -> None:
    """Draw the panel's curves over epochs into matplotlib's `axis`; title and the legend of SHARED are the caller's."""
    highest = 0.0
    for curve in panel.curves:
        epochs, values = zip(*points[curve.kind, curve.key], strict=True)
        scaled = [value * curve.scale for value in values]
        highest = max(highest, *scaled)
        if curve.is_stepped:
            epochs, scaled = (0.0, *epochs), [scaled[0], *scaled]
        look = {"drawstyle": "steps-pre"} if curve.is_stepped else {}
        axis.plot(
            epochs, scaled, curve.style, color=curve.color, label=curve.label, linewidth=1.3, markersize=5, **look
        )
    for name, level in (panel.levels or {}).items():
        axis.axhline(level, color=INK, linewidth=1, linestyle=(0, (1, 2)), label=f"{name}, {level:.3g}")
    axis.set_xlim(left=0)
    axis.grid(color=GRID, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.xaxis.get_major_locator().set_params(integer=True)
    if panel.axis == "log":
        axis.set_yscale("log")
    elif panel.axis == "percent":
        axis.set_ylim(0, 103)
    elif panel.axis == "zero":
        axis.set_ylim(0, HEADROOM * max(highest, 1e-9))
    own = {line: line.get_label() for line in axis.lines if line.get_label() not in SHARED}
    if own:
        axis.legend(own.keys(), own.values(), fontsize="x-small", frameon=False)
