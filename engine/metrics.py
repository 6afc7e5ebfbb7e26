"""What the benchmark asks of predictions: top-1, top-5, per-class and mean-class accuracy, the confusion matrix."""

from dataclasses import dataclass

import torch
from torch import Tensor

TOP_K = 5


@dataclass(frozen=True)
class Metrics:
    """Accuracies as fractions; `confusion` [C, C] counts clips by label (row) and prediction (column)."""

    top1: float
    top5: float | None  # None where there are no more than five classes: it would always be 1
    mean_class: float  # over the classes that have clips
    per_class: list[float | None]  # None for a class without clips
    confusion: Tensor


def compute_metrics(logits: Tensor, labels: Tensor) -> Metrics:
    """Measure logits [N, C] against labels [N]."""
    # Here, because it takes seconds to import and --help and a wrong config should not wait for it.
    from torchmetrics.functional.classification import multiclass_accuracy, multiclass_confusion_matrix

    num_classes = logits.shape[1]
    predictions = logits.argmax(dim=1)
    confusion = multiclass_confusion_matrix(predictions, labels, num_classes)
    num_clips, num_correct = confusion.sum(dim=1), confusion.diagonal()
    present = num_clips > 0
    recall = (num_correct.double() / num_clips.clamp(min=1)).tolist()
    top5 = None
    if num_classes > TOP_K:
        top5 = float(multiclass_accuracy(logits, labels, num_classes, average="micro", top_k=TOP_K))
    return Metrics(
        top1=int(num_correct.sum()) / len(labels),
        top5=top5,
        mean_class=float(torch.tensor(recall, dtype=torch.float64)[present].mean()),
        per_class=[value if here else None for value, here in zip(recall, present.tolist(), strict=True)],
        confusion=confusion,
    )
