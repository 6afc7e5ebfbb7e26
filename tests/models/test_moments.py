"""MISA's losses on representations: numbers worked out by hand, and gradients where a formula has none."""

import pytest
import torch

from models.moments import central_moment_discrepancy, difference_loss


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
