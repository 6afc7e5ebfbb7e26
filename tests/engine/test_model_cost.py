"""Operations are counted from what a model runs."""

import warnings
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from configs import load_config
from configs.methods import METHODS
from configs.options import CommonOptions
from configs.schema import ClipSection
from engine import model_cost as memory
from engine.model_cost import GIB, count_flops, count_training_bytes, memory_short_message, warn_if_memory_short
from models import FusionOutput, build_model
from models.fusion import FusionModel
from tests.engine.conftest import TinyModel
from tests.runs import CONFIG

SMALL = {"num_classes": 4, "width": 0.05}


def clip(num_frames: int, crop_size: int):
    return load_config(
        CONFIG, ["data.frames_per_clip=all", f"clip.num_frames={num_frames}", f"clip.crop_size={crop_size}"]
    ).clip


def test_a_linear_map_of_three_numbers_to_six_takes_36():
    assert count_flops(TinyModel(), clip(8, 32)) == 2 * 3 * 6


def test_recurrent_layers_and_attention_are_counted():
    class Recurrent(TinyModel):
        def __init__(self):
            super().__init__()
            self.recurrent = torch.nn.LSTM(3, 4, bidirectional=True)
            self.attention = torch.nn.MultiheadAttention(8, 2)

        def predict(self, rgb: torch.Tensor) -> FusionOutput:
            states, _ = self.recurrent(rgb.mean(dim=(3, 4)).permute(2, 0, 1))  # a token a frame
            attended, _ = self.attention(states, states, states, need_weights=False)
            return FusionOutput(attended[0])

    # a token and direction: four gates of 4, each from 3 inputs and 4 states; then q, k, v and out, 8 x 8, and both
    # products of 8 tokens with 8
    expected = 2 * (8 * 2 * 16 * (3 + 4) + 8 * 4 * 8 * 8 + 2 * 8 * 8 * 8)
    model = Recurrent().train()
    assert count_flops(model, clip(8, 32)) == expected
    assert model.training
    assert model.recurrent.weight_ih_l0.device.type == "cpu"


def test_i3d_takes_about_what_the_literature_says():
    with torch.device("meta"):
        model = build_model("rgb")
    # 107.9 G multiply-adds for 64 frames of 224 x 224 (Xie et al., "Rethinking Spatiotemporal Feature Learning", 2018).
    assert count_flops(model, clip(64, 224)) / 2 == pytest.approx(107.9e9, rel=0.05)


@pytest.mark.parametrize("fusion", METHODS)
def test_every_method_can_be_counted_and_a_longer_clip_takes_more(fusion: str):
    model = build_model(fusion, **SMALL)
    short, long = (count_flops(model, clip(num_frames, 32)) for num_frames in (8, 16))
    assert 0 < short < long


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
    recomputed = build_model(fusion, num_classes=6, checkpoint_stages="all", **options)
    assert count_training_bytes(recomputed, CLIP, 2)[1] < 0.6 * two


def test_the_warning_names_the_batch_size_that_fits() -> None:
    text = memory_short_message(weights=GIB, activations=32 * GIB, available=9 * GIB, batch_size=32)
    assert text == (
        "training takes at least 33.0 GiB a process (1.0 for gradients and optimizer, 32.0 for activations of 32 "
        "clips), 9.0 GiB are available; if it is killed, raise train.accumulate, or lower "
        "loader.batch_size or clip.num_frames: 8 at once would fit"
    )
    assert memory_short_message(2 * GIB, GIB, GIB, 1).endswith(": not even one clip would fit")


def test_it_is_warned_of_when_there_is_less_than_that_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = sum(count_training_bytes(Squares(), CLIP, 4))
    monkeypatch.setattr(memory, "available_bytes", lambda: needed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_memory_short(Squares(), CLIP, 4)
    with pytest.warns(UserWarning, match=r"training takes at least .* a process .* are available"):
        warn_if_memory_short(Squares(), CLIP, 4, num_processes=2)


def test_nothing_is_counted_where_there_is_plainly_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**60)
    monkeypatch.setattr(memory, "count_training_bytes", None)
    warn_if_memory_short(Squares(), CLIP, 4)
    assert torch.is_grad_enabled()
