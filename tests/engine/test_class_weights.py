"""Class weights and label smoothing of a training, against their formulas."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from configs import load_config
from engine.targets import shape_losses
from models import FusionModel, build_model
from models.targets import cross_entropy
from tests.runs import CONFIG

VERBS, NOUNS = np.repeat([0, 1, 2], [12, 3, 1]), np.repeat([0, 4], [10, 6])  # of 16 clips; nouns 1, 2, 3 have none
TWO = {"targets": ["verb", "noun"], "num_classes": {"verb": 3, "noun": 5}, "target_weights": {"noun": 0.5}}
LABELS = torch.tensor([[0, 4], [2, 0], [1, 4]])


def shaped(fusion: str, *overrides: str, **options: object) -> FusionModel:
    model = build_model(fusion, width=0.05, hidden_size=8, **options)
    split = SimpleNamespace(targets={"verb": VERBS, "noun": NOUNS})
    shape_losses(model, split, load_config(CONFIG, [f"train.{each}" for each in overrides]).train)  # type: ignore[arg-type]
    return model


def expected(logits: Tensor, labels: Tensor, counts: list[int], power: float, smoothing: float) -> Tensor:
    """mean_i w(y_i) * -sum_c q_i(c) log p_i(c), with q = (1 - s) onehot + s / C and the mean of w over the split 1."""
    numbers = torch.tensor(counts).double()
    raw = torch.where(numbers > 0, numbers, torch.ones(())) ** -power
    weights = raw * numbers.sum() / (numbers * raw).sum()
    log_p = logits.double().log_softmax(dim=1)
    q = (1 - smoothing) * torch.nn.functional.one_hot(labels, len(counts)) + smoothing / len(counts)
    return (weights[labels] * -(q * log_p).sum(dim=1)).mean()


@pytest.mark.parametrize(("power", "smoothing"), [(0.0, 0.1), (0.5, 0.0), (1.0, 0.2)])
@pytest.mark.parametrize("fusion", ["late", "gblend"])
def test_each_targets_loss_in_training_is_the_formulas_and_plain_in_evaluation(
    fusion: str, power: float, smoothing: float
) -> None:
    model = shaped(fusion, f"class_weights={power}", f"label_smoothing={smoothing}", **TWO)
    clips = torch.rand(3, 3, 8, 32, 32), torch.rand(3, 2, 8, 32, 32)
    for training in (True, False):
        model.train(training)
        output = model(*clips)
        losses = model.losses(output, LABELS)
        how = (power, smoothing) if training else (0.0, 0.0)
        for head, logits in {"cls": output.logits, **output.extra}.items():
            verbs, nouns = logits.split([3, 5], dim=1)
            for name, loss in (
                ("verb", expected(verbs, LABELS[:, 0], [12, 3, 1], *how)),
                ("noun", 0.5 * expected(nouns, LABELS[:, 1], [10, 0, 0, 0, 6], *how)),
            ):
                assert losses[f"{head}_{name}"].item() == pytest.approx(loss.item(), rel=1e-5)


def test_inverse_frequency_gives_each_class_the_same_part_of_the_loss() -> None:
    weights = shaped("rgb", "class_weights=1", num_classes=3).targets.class_weights
    assert weights is not None
    shares = weights[VERBS]
    assert shares.mean().item() == pytest.approx(1)
    sums = [float(shares[torch.from_numpy(label == VERBS)].sum()) for label in range(3)]
    assert sums == pytest.approx([16 / 3] * 3)


def test_a_weighted_batch_is_the_mean_of_its_parts() -> None:
    logits, labels, weights = torch.randn(8, 3), torch.arange(8) % 3, torch.tensor([[0.2, 1.0, 3.0]])
    whole = cross_entropy(logits, labels, weights, 0.1)
    parts = [cross_entropy(logits[half], labels[half], weights, 0.1) for half in (slice(0, 4), slice(4, 8))]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


def test_checkpoints_are_the_same_with_weights_and_without() -> None:
    plain, weighted = shaped("rgb", num_classes=3), shaped("rgb", "class_weights=1", num_classes=3)
    assert plain.state_dict().keys() == weighted.state_dict().keys()
    assert plain.targets.class_weights is None
