"""The benchmark's metrics, worked out by hand."""

import pytest
import torch

from engine.metrics import compute_metrics

# Seven classes; class 0 has three clips, 1 has one, 2 has one, the others none.
LABELS = torch.tensor([0, 0, 0, 1, 2])
LOGITS = torch.tensor(
    [
        [9.0, 1, 2, 3, 4, 5, 6],  # right
        [9.0, 1, 2, 3, 4, 5, 6],  # right
        [4.0, 9, 8, 7, 6, 5, 0],  # 1; the label is sixth
        [5.0, 4, 3, 2, 1, 9, 0],  # 5; the label is third
        [1.0, 2, 9, 3, 4, 5, 6],  # right
    ]
)


def test_metrics_of_five_clips_worked_out_by_hand():
    metrics = compute_metrics(LOGITS, LABELS)
    assert metrics.top1 == pytest.approx(3 / 5)
    assert metrics.top5 == pytest.approx(4 / 5)
    assert metrics.per_class == [pytest.approx(2 / 3), 0, 1, None, None, None, None]
    assert metrics.mean_class == pytest.approx((2 / 3 + 0 + 1) / 3)


def test_confusion_counts_labels_in_rows_and_predictions_in_columns():
    confusion = compute_metrics(LOGITS, LABELS).confusion
    assert confusion.nonzero().tolist() == [[0, 0], [0, 1], [1, 5], [2, 2]]
    assert confusion[0, 0] == 2
    assert confusion.sum() == 5


def test_top5_says_nothing_of_five_classes_or_fewer():
    assert compute_metrics(LOGITS[:, :5], torch.tensor([0, 0, 0, 1, 2])).top5 is None
