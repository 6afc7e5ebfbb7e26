"""OGM-GE's coefficients and noise against numbers worked out by hand, and what they touch."""

import math

import pytest
import torch
from torch import Tensor

from models import FusionOutput, GradientStep, build_model
from models.methods.ogm_ge import OgmGe

SMALL = {"width": 0.1, "hidden_size": 16, "num_classes": 3}


def adjusted(rgb: float, flow: float, seed: int = 0, **options: float) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Random gradients by parameter, before and after a step with these scores."""
    torch.manual_seed(0)
    model = build_model("ogm_ge", **SMALL, **options)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    before = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    sums = {"rgb": torch.tensor(rgb).double(), "flow": torch.tensor(flow).double()}
    with torch.no_grad():
        model.adjust_gradients(GradientStep(sums, {}, torch.Generator().manual_seed(seed)))
    return before, {name: parameter.grad for name, parameter in model.named_parameters()}


def is_convolution(name: str, gradient: Tensor) -> bool:
    return "_enc." in name and gradient.ndim == 5


def test_scores_are_the_probabilities_of_the_right_classes_worked_out_by_hand() -> None:
    model = build_model("ogm_ge", **SMALL)
    parts = {
        "rgb": torch.tensor([[0.0, math.log(2), 0.0], [math.log(6), 0.0, 0.0]]),  # right: 1 of 4, 6 of 8
        "flow": torch.tensor([[math.log(2), 0.0, 0.0], [0.0, math.log(8), 0.0]]),  # 2 of 4, 1 of 10
    }
    sums = model.measure(FusionOutput(parts["rgb"] + parts["flow"], parts), torch.tensor([0, 0]))
    assert {stream: value.item() for stream, value in sums.items()} == pytest.approx({"rgb": 1.0, "flow": 0.6})


def test_the_parts_add_up_to_the_logits_of_late_fusion() -> None:
    ogm, late = (build_model(fusion, rgb_weight=0.3, **SMALL).eval() for fusion in ("ogm_ge", "late"))
    late.load_state_dict(ogm.state_dict())
    clips = torch.rand(2, 3, 8, 32, 32), torch.rand(2, 2, 8, 32, 32)
    output = ogm(*clips)
    assert torch.equal(output.logits, late(*clips).logits)
    torch.testing.assert_close(output.extra["rgb"] + output.extra["flow"], output.logits)


@pytest.mark.parametrize(("rgb", "flow", "ahead"), [(3.0, 1.5, "rgb"), (1.5, 3.0, "flow")])
def test_the_stream_ahead_is_slowed_in_its_convolutions_alone(rgb: float, flow: float, ahead: str) -> None:
    factor = 1 - math.tanh(0.5 * 2)  # the ratio is 2, whichever is ahead
    before, after = adjusted(rgb, flow, alpha=0.5, noise=0.0)
    slowed = {name for name, gradient in before.items() if is_convolution(name, gradient) and name.startswith(ahead)}
    assert len(slowed) > 50
    for name, gradient in before.items():
        torch.testing.assert_close(after[name], gradient * (factor if name in slowed else 1))


def test_equal_streams_learn_as_ever() -> None:
    before, after = adjusted(2.0, 2.0, noise=0.0)
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_noise_has_the_deviation_of_the_gradient_and_follows_from_the_generator() -> None:
    factor = 1 - math.tanh(0.3 * 2)
    before, after = adjusted(2.0, 1.0, noise=0.5)
    for stream, scale in (("rgb", factor), ("flow", 1.0)):
        name = f"{stream}_enc.Mixed_5c.b1b.conv3d.weight"
        noise = after[name] - scale * before[name]
        assert noise.numel() > 1e4
        assert noise.std().item() == pytest.approx(0.5 * before[name].std().item(), rel=0.05)
        assert abs(noise.mean()) < 4 * noise.std() / math.sqrt(noise.numel())
    again, other = adjusted(2.0, 1.0, noise=0.5)[1], adjusted(2.0, 1.0, seed=1, noise=0.5)[1]
    assert torch.equal(again[name], after[name])
    assert not torch.equal(other[name], after[name])


def test_with_several_targets_the_probabilities_of_each_add_up() -> None:
    several = {"targets": ["verb", "noun"], "num_classes": {"verb": 2, "noun": 2}}
    model = build_model("ogm_ge", width=0.1, **several)
    assert isinstance(model, OgmGe)
    logits = torch.tensor([[math.log(3), 0.0, 0.0, math.log(4)]])
    assert model.score(logits, torch.tensor([[0, 0]])).item() == pytest.approx(3 / 4 + 1 / 5)
