"""MISA's named terms: each by its definition, weighted, and in fp32 under autocast."""

import pytest
import torch

from models import build_model
from models.fusion import FusionOutput
from models.methods.misa import central_moment_discrepancy, difference_loss

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


def test_moments_worked_out_by_hand():
    # first: mean (0.5, 0), centred (-0.5, 0) and (0.5, 0); second: mean (0, 0), centred (0, -1) and (0, 1)
    first = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    second = torch.tensor([[0.0, -1.0], [0.0, 1.0]])
    mean = 0.5  # |(0.5, 0) - (0, 0)|
    variance = (0.25**2 + 1) ** 0.5  # |(0.25, 0) - (0, 1)|
    fourth = (0.0625**2 + 1) ** 0.5  # |(0.0625, 0) - (0, 1)|; the odd moments are all 0
    for num_moments, expected in ((1, mean), (3, mean + variance), (5, mean + variance + fourth)):
        assert central_moment_discrepancy(first, second, num_moments).item() == pytest.approx(expected)


def test_odd_moments_count():
    skewed = torch.tensor([[0.0], [0.0], [3.0]])  # mean 1; variance (1 + 1 + 4) / 3, third moment (-1 - 1 + 8) / 3
    assert central_moment_discrepancy(skewed, torch.ones(3, 1), 3).item() == pytest.approx(2 + 2)


@pytest.mark.parametrize("batch", [1, 4])
def test_equal_samples_have_no_discrepancy_and_a_finite_gradient(batch):
    sample = torch.rand(batch, 3, requires_grad=True)
    other = sample.detach().clone().requires_grad_()
    discrepancy = central_moment_discrepancy(sample, other)
    discrepancy.backward()
    assert discrepancy == 0
    assert sample.grad.isfinite().all()
    assert other.grad.isfinite().all()


def test_difference_worked_out_by_hand():
    # centred columns of both: rows become (1), (-1) and (0, 1), (0, -1); products (0, 2); mean square 2
    first = torch.tensor([[3.0], [1.0]])
    second = torch.tensor([[5.0, 2.0], [5.0, -2.0]])
    assert difference_loss(first, second).item() == pytest.approx(2, rel=1e-5)


def test_orthogonal_representations_do_not_differ_further():
    first = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    second = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
    # where the products cancel, fused multiply-adds leave a rounding, squared; parallel ones give 1
    assert difference_loss(first, second).item() == pytest.approx(0, abs=1e-12)


def test_one_clip_has_a_finite_difference_gradient():
    first = torch.rand(1, 3, requires_grad=True)
    difference_loss(first, torch.rand(1, 3)).backward()
    assert first.grad.isfinite().all()
