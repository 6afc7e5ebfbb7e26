"""Operations are counted from what a model runs."""

import pytest
import torch

from configs import load_config
from configs.methods import METHODS
from engine.flops import count_flops
from models import FusionOutput, build_model
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
