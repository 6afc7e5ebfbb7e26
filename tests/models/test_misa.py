"""MISA's named terms: each by its definition, weighted, and in fp32 under autocast."""

import pytest
import torch

from models import build_model
from models.fusion import FusionOutput

STREAMS = ("rgb", "flow")


def output(dtype=torch.float32):
    """Representations of two clips whose losses can be worked out by hand."""
    private, shared = torch.tensor([[0.2], [0.6]]), torch.tensor([[0.5], [0.5]])
    extra = {
        f"{stream}_{name}": value for stream in STREAMS for name, value in (("private", private), ("shared", shared))
    }
    extra |= {"rgb_vector": torch.tensor([[1.0], [2.0]]), "rgb_reconstruction": torch.tensor([[1.0], [0.0]])}
    extra |= {"flow_vector": torch.tensor([[3.0], [3.0]]), "flow_reconstruction": torch.tensor([[3.0], [3.0]])}
    extra["flow_shared"] = torch.tensor([[0.25], [0.25]])
    return FusionOutput(torch.zeros(2, 8), {name: value.to(dtype) for name, value in extra.items()})


@pytest.mark.parametrize("weights", [{}, {"diff_weight": 1.0, "cmd_weight": 0.5, "recon_weight": 0.0}])
def test_terms_worked_out_by_hand(weights):
    model = build_model("misa", width=0.1, hidden_size=16, **weights)
    losses = model.losses(output(), torch.tensor([0, 1]))
    weights = {"diff_weight": 0.3, "cmd_weight": 1.0, "recon_weight": 1.0} | weights
    # the private ones are alike: rows 1 and -1, product 2, squared 4; the shared ones are constant: products 0
    assert losses["diff"].item() == pytest.approx(weights["diff_weight"] * 4, rel=1e-4)
    assert losses["cmd"].item() == pytest.approx(weights["cmd_weight"] * 0.25)  # the means differ, no other moment
    assert losses["recon"].item() == pytest.approx(weights["recon_weight"] * 1)  # half of (0 + 4) / 2 and of 0
    assert losses["cls"].item() == pytest.approx(torch.tensor(8.0).log().item())


def test_terms_are_computed_in_fp32_under_autocast():
    model = build_model("misa", width=0.1, hidden_size=16)
    labels = torch.tensor([0, 1])
    expected = model.losses(output(torch.bfloat16), labels)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.losses(output(torch.bfloat16), labels)
    assert {name: (loss.dtype, loss.item()) for name, loss in losses.items()} == {
        name: (torch.float32, loss.item()) for name, loss in expected.items()
    }


def test_one_repeated_clip_has_finite_gradients():
    torch.manual_seed(0)
    model = build_model("misa", width=0.1, hidden_size=16).train()
    rgb, flow = torch.rand(1, 3, 8, 32, 32).repeat(2, 1, 1, 1, 1), torch.rand(1, 2, 8, 32, 32).repeat(2, 1, 1, 1, 1)
    sum(model.losses(model(rgb, flow), torch.tensor([3, 3])).values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.requires_grad)
