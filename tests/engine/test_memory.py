"""Training that cannot fit is warned of before it starts, from what it is counted to keep."""

import warnings
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from configs.methods import CommonOptions
from configs.schema import ClipSection
from engine import memory
from engine.memory import GIB, count_training_bytes, describe_shortage, warn_of_shortage
from models import build_model
from models.fusion import FusionModel, FusionOutput

CLIP = cast(ClipSection, SimpleNamespace(num_frames=8, crop_size=32))


class Squares(FusionModel):
    """Two linear layers on the mean colour, with a square between them."""

    streams = ("rgb",)

    def __init__(self) -> None:
        super().__init__(CommonOptions(fusion="squares", num_classes=2))
        self.first, self.second = nn.Linear(3, 5, bias=False), nn.Linear(5, 2, bias=False)

    def predict(self, rgb: Tensor) -> FusionOutput:
        return FusionOutput(self.second(self.first(rgb.mean(dim=(2, 3, 4))) ** 2))


def test_the_count_is_that_of_the_tensors_which_backward_needs() -> None:
    """Of B clips: the mean colour [B, 3], what is squared [B, 5] and the square [B, 5], in four bytes each."""
    weights, activations = count_training_bytes(Squares(), CLIP, batch_size=7)
    assert weights == 3 * 4 * (3 * 5 + 5 * 2)  # gradient and two moments
    assert activations == 4 * 7 * (3 + 5 + 5)


@pytest.mark.parametrize("fusion", ["misa", "xnorm"])
def test_activations_grow_with_the_batch_and_frozen_trunks_need_few(fusion: str) -> None:
    options = {"width": 0.05, "hidden_size": 8}
    model = build_model(fusion, num_classes=6, **options)
    weights, two = count_training_bytes(model, CLIP, 2)
    assert 1.9 < count_training_bytes(model, CLIP, 4)[1] / two < 2.1
    frozen = build_model(fusion, num_classes=6, freeze_trunk=True, **options)
    fewer, less = count_training_bytes(frozen, CLIP, 2)
    assert fewer < weights
    assert less < two


def test_the_warning_names_the_batch_size_that_fits() -> None:
    text = describe_shortage(weights=GIB, activations=32 * GIB, available=9 * GIB, batch_size=32)
    assert text == (
        "training takes at least 33.0 GiB a process (1.0 for gradients and optimizer, 32.0 for activations of 32 "
        "clips), 9.0 GiB are available; if it is killed, lower loader.batch_size or clip.num_frames: "
        "loader.batch_size=8 would fit"
    )
    assert describe_shortage(2 * GIB, GIB, GIB, 1).endswith(": not even one clip would fit")


def test_it_is_warned_of_when_there_is_less_than_that_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = sum(count_training_bytes(Squares(), CLIP, 4))
    monkeypatch.setattr(memory, "available_bytes", lambda: needed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_shortage(Squares(), CLIP, 4)
    with pytest.warns(UserWarning, match=r"training takes at least .* a process .* are available"):
        warn_of_shortage(Squares(), CLIP, 4, num_processes=2)


def test_nothing_is_counted_where_there_is_plainly_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**60)
    monkeypatch.setattr(memory, "count_training_bytes", None)
    warn_of_shortage(Squares(), CLIP, 4)
    assert torch.is_grad_enabled()
