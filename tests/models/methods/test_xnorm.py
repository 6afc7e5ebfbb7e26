"""NormExchange: numbers worked out by hand, and the precision that its statistics are computed in."""

import torch

from models.methods.xnorm import norm_exchange


def parameters(shift, scale):
    return torch.tensor([shift, scale], dtype=torch.float32).view(1, 2, 1, 1, 1)


def test_numbers_worked_out_by_hand():
    x = torch.tensor([1.0, 2, 3]).view(1, 1, 3, 1, 1)  # mean 2, unbiased standard deviation 1
    result = norm_exchange(x, parameters(shift=10, scale=2))
    assert result.flatten().tolist() == [9.0, 12.0, 15.0]  # x + (x - 2) / 1 * 2 + 10


def test_zero_parameters_change_nothing():
    x = torch.rand(2, 4, 2, 3, 3)
    assert torch.equal(norm_exchange(x, torch.zeros(2, 8, 2, 3, 3)), x)


def test_a_vector_of_parameters_equals_its_repeated_map():
    x, vector = torch.rand(2, 4, 2, 3, 3), torch.randn(2, 8, 1, 1, 1)
    assert torch.equal(norm_exchange(x, vector), norm_exchange(x, vector.expand(2, 8, 2, 3, 3)))


def test_each_clip_has_its_own_statistics():
    x, shared = torch.rand(2, 4, 2, 3, 3), torch.randn(1, 8, 1, 1, 1)
    both = norm_exchange(x * torch.tensor([1.0, 50]).view(2, 1, 1, 1, 1), shared.expand(2, -1, -1, -1, -1))
    torch.testing.assert_close(both[:1], norm_exchange(x[:1], shared))


def test_constant_features_have_finite_values_and_gradients():
    x = torch.full((1, 2, 2, 2, 2), 3.0, requires_grad=True)
    result = norm_exchange(x, torch.ones(1, 4, 1, 1, 1))
    result.sum().backward()
    assert result.isfinite().all()
    assert x.grad.isfinite().all()


def test_statistics_are_computed_in_fp32_under_autocast():
    x = (1000 + torch.rand(1, 8, 4, 8, 8)).half()  # the sum of these is past fp16's range
    vector = torch.randn(1, 16, 1, 1, 1).half()
    with torch.autocast("cpu", torch.bfloat16):
        result = norm_exchange(x, vector)
    assert result.dtype == torch.half
    torch.testing.assert_close(result, norm_exchange(x.float(), vector.float()).half())
