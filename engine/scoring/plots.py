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
MOST_NAMED = 60  # classes at an axis
MOST_NOTED = 12  # classes that are named among the points of a chart
LONGEST_NAME = 24  # letters of a class at an axis


def draw_clips(loader: ClipLoader, batch: Batch, file: IO[bytes]) -> None:
    """Write a PNG of a batch's first clips as the model sees them, a contact sheet."""
    from pipeline.inspect.drawing import draw_sheets
    from pipeline.inspect.sheet import Sheet

    sheets = [Sheet.of(loader, batch, position) for position in range(min(NUM_CLIPS, len(batch)))]
    draw_sheets(sheets).save(file, format="PNG", compress_level=1)  # quickly: training waits


def draw_confusion(metrics: Metrics, file: IO[bytes], names: Sequence[str] | None = None) -> None:
    """Write a PNG of the confusion matrix: rows are labels, and the colours shares of each label's clips.

    With `names` [C], they stand at the axes. Where there are too many classes for numbers in the cells, those with
    clips are drawn alone, the most frequent first.
    """
    from matplotlib.figure import Figure  # Figure alone needs no display

    confusion = metrics.confusion
    is_large = len(confusion) > MOST_NUMBERED
    if is_large:
        order = by_frequency(confusion)
        confusion = confusion[order][:, order]
    shares = confusion / confusion.sum(dim=1, keepdim=True).clamp(min=1)  # of the clips of each label
    side = min(2.5 + 0.45 * len(confusion), LARGEST)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="prediction", ylabel="label", title=f"top-1 {metrics.top1:.1%}")
    if is_large:
        axes.set(xlabel="prediction, by the frequency of the class", ylabel="label, the most frequent first")
        _mark_classes(axes, [names[label] if names else str(label) for label in order.tolist()])
    else:
        _number_cells(axes, confusion, shares)
        if names:
            short = [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name in names]
            axes.set_xticks(range(len(short)), short, rotation=90)
            axes.set_yticks(range(len(short)), short)
    figure.colorbar(image, label="share of the label's clips")
    figure.savefig(file, format="png", dpi=120)


def by_frequency(confusion: Tensor) -> Tensor:
    """Return the classes that have clips, of confusion [C, C], the most frequent first; of equals the first number."""
    clips = confusion.sum(dim=1)
    order = clips.argsort(descending=True, stable=True)
    return order[: int((clips > 0).sum())]


def _mark_classes(axes: Any, names: Sequence[str]) -> None:
    """Name as many classes at both axes as can be read, evenly."""
    step = -(-len(names) // MOST_NAMED)
    places = range(0, len(names), step)
    short = [names[place][:LONGEST_NAME] for place in places]
    axes.set_xticks(places, short, rotation=90, fontsize=7)
    axes.set_yticks(places, short, fontsize=7)


def draw_frequency(metrics: Metrics, file: IO[bytes], names: Sequence[str] | None = None) -> None:
    """Write a PNG of each class's accuracy against its clips (logarithmic); the most frequent ones are named."""
    from matplotlib.figure import Figure

    order = by_frequency(metrics.confusion)
    clips = metrics.confusion.sum(dim=1)[order].tolist()
    accuracies = [metrics.per_class[label] or 0.0 for label in order.tolist()]
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    axes.scatter(clips, accuracies, s=14, alpha=0.6)
    axes.axhline(metrics.mean_class, linestyle="--", linewidth=1, label=f"mean-class {metrics.mean_class:.1%}")
    axes.margins(x=0.1)  # for the last name
    axes.set(xscale="log", ylim=(-0.03, 1.03), xlabel="clips of the class", ylabel="accuracy of the class")
    for label, count, accuracy in list(zip(order.tolist(), clips, accuracies, strict=True))[:MOST_NOTED]:
        name = names[label] if names else str(label)
        axes.annotate(name[:LONGEST_NAME], (count, accuracy), fontsize=7, xytext=(3, 3), textcoords="offset points")
    axes.legend(frameon=False)
    figure.savefig(file, format="png", dpi=120)


def _number_cells(axes: Any, confusion: Tensor, shares: Tensor) -> None:
    axes.set(xticks=range(len(confusion)), yticks=range(len(confusion)))
    for label, prediction in torch.nonzero(confusion).tolist():
        color = "white" if shares[label, prediction] > 0.5 else "black"
        axes.text(prediction, label, str(int(confusion[label, prediction])), ha="center", va="center", color=color)
