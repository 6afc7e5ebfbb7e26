"""Images of a run: a contact sheet of its clips and the confusion matrix (drawing libraries imported lazily)."""

from collections.abc import Sequence
from typing import IO, Any

import torch
from torch import Tensor

from engine.scoring.evaluation import Metrics
from pipeline.batch import Batch
from pipeline.loader import ClipLoader

NUM_CLIPS = 4  # on a contact sheet
MOST_NUMBERED = 24  # classes whose cells have room for numbers
LARGEST = 12.0  # inches
LONGEST_NAME = 24  # letters of a class at an axis


def draw_clips(loader: ClipLoader, batch: Batch, file: IO[bytes]) -> None:
    """Write a PNG of a batch's first clips as the model sees them, a contact sheet."""
    from pipeline.inspect.drawing import draw_sheets
    from pipeline.inspect.sheet import Sheet

    sheets = [Sheet.of(loader, batch, position) for position in range(min(NUM_CLIPS, len(batch)))]
    draw_sheets(sheets).save(file, format="PNG", compress_level=1)  # quickly: training waits


def draw_confusion(metrics: Metrics, file: IO[bytes], names: Sequence[str] | None = None) -> None:
    """Write a PNG of the confusion matrix: rows are labels, and the colours shares of each label's clips.

    With `names` [C], they stand at the axes.
    """
    from matplotlib.figure import Figure  # Figure alone needs no display

    confusion = metrics.confusion
    shares = confusion / confusion.sum(dim=1, keepdim=True).clamp(min=1)  # of the clips of each label
    side = min(2.5 + 0.45 * len(confusion), LARGEST)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="prediction", ylabel="label", title=f"top-1 {metrics.top1:.1%}")
    if len(confusion) <= MOST_NUMBERED:
        _number_cells(axes, confusion, shares)
        if names:
            short = [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name in names]
            axes.set_xticks(range(len(short)), short, rotation=90)
            axes.set_yticks(range(len(short)), short)
    figure.colorbar(image, label="share of the label's clips")
    figure.savefig(file, format="png", dpi=120)


def _number_cells(axes: Any, confusion: Tensor, shares: Tensor) -> None:
    axes.set(xticks=range(len(confusion)), yticks=range(len(confusion)))
    for label, prediction in torch.nonzero(confusion).tolist():
        color = "white" if shares[label, prediction] > 0.5 else "black"
        axes.text(prediction, label, str(int(confusion[label, prediction])), ha="center", va="center", color=color)
