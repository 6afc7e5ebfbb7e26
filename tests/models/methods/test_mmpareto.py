"""MMPareto's weights against a search over all of them, and its gradients against the paper's steps in NumPy."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models import GradientStep, build_model
from models.methods.mmpareto import pareto_weights

SMALL = {"width": 0.05, "hidden_size": 16}


def pair(seed: int, opposed: float) -> tuple[list[Tensor], list[Tensor]]:
    """Two gradients of two parameters, the second of them the more opposed to the first."""
    generator = torch.Generator().manual_seed(seed)
    first = [torch.randn(shape, generator=generator) for shape in ((3, 2), (4,))]
    return first, [torch.randn(one.shape, generator=generator) * (1 + seed) - opposed * one for one in first]


def flat(gradients: list[Tensor]) -> np.ndarray:
    return np.concatenate([gradient.double().numpy().ravel() for gradient in gradients])


@pytest.mark.parametrize("seed", range(4))
def test_of_conflicting_gradients_the_shortest_mixture_is_taken(seed: int) -> None:
    first, second = pair(seed, opposed=3.0)
    one, other = flat(first), flat(second)
    assert one @ other < 0
    shares = np.linspace(0, 1, 100_001)
    lengths = [np.linalg.norm(share * one + (1 - share) * other) for share in shares[::100]]
    best = shares[::100][int(np.argmin(lengths))]
    weights = pareto_weights(first, second)
    assert weights[0].item() == pytest.approx(best, abs=2e-3)
    assert weights.sum().item() == pytest.approx(1)
    mixture = weights[0].item() * one + weights[1].item() * other
    assert min(mixture @ one, mixture @ other) > 0  # neither loss rises along it


def test_gradients_that_agree_weigh_alike() -> None:
    first, second = pair(0, opposed=-3.0)
    assert flat(first) @ flat(second) > 0
    assert pareto_weights(first, second).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("zero", [0, 1])
def test_where_one_is_zero_nothing_is_not_finite(zero: int) -> None:
    both = pair(0, opposed=0.0)
    both[zero][:] = [torch.zeros_like(gradient) for gradient in both[zero]]
    assert pareto_weights(*both)[zero] == 1  # the shortest mixture, as the formula has it
    assert pareto_weights(both[zero], both[zero]).isfinite().all()


def test_the_steps_of_the_paper_in_numpy() -> None:
    model = build_model("mmpareto", gamma=1.5, **SMALL)
    generator = torch.Generator().manual_seed(0)
    terms, opposed = {}, {"rgb_enc": 2.0, "flow_enc": -2.0}  # the one conflicts, the other does not
    for module, names in model.gradients_by_term.items():
        joint = [torch.randn(p.shape, generator=generator) for p in model.trained(module)]
        own = [torch.randn(g.shape, generator=generator) - opposed[module] * g for g in joint]
        terms[module] = dict(zip(names, (joint, own), strict=True))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    with torch.no_grad():
        model.adjust_gradients(GradientStep({}, terms, generator))
    for module, (joint, own) in ((name, each.values()) for name, each in terms.items()):
        m, u = flat(joint), flat(own)
        a = 0.5 if m @ u > 0 else (u @ u - m @ u) / ((m - u) @ (m - u))
        assert (a == 0.5) == (module == "flow_enc")
        for parameter, one, other in zip(model.trained(module), joint, own, strict=True):
            mixed = 2 * a * one.double() + 2 * (1 - a) * other.double()
            enlarged = max(1.0, float((one + other).double().norm() / mixed.norm()))
            torch.testing.assert_close(parameter.grad, (1.5 * enlarged * mixed).float(), rtol=1e-4, atol=1e-5)
    assert all((parameter.grad == 1).all() for name, parameter in model.named_parameters() if "_out." in name)


def test_with_several_targets_each_head_has_a_term_for_each() -> None:
    several = {"targets": ["verb", "noun"], "num_classes": {"verb": 3, "noun": 2}}
    model = build_model("mmpareto", **several, **SMALL)
    output = model(torch.rand(2, 3, 8, 32, 32), torch.rand(2, 2, 8, 32, 32))
    losses = model.losses(output, torch.zeros(2, 2, dtype=torch.int64))
    assert set(losses) == {f"{head}_{target}" for head in ("cls", "rgb", "flow") for target in ("verb", "noun")}
