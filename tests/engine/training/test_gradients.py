"""The two additions to a step: what they cost those who do not use them, what a method gets, and what it may do."""

import copy
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from configs import load_config
from engine.runtime.world import World
from engine.training.step import TrainStep, derive_seed
from models.fusion import FusionModel, GradientStep
from tests.engine.training.adjusting import ALONE, METHODS, Adjusted, ByTerm, Tiny, batch, collect, stepper_of, train
from tests.runs import CONFIG
from tests.torchrun import forked

PRECISIONS = pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])


@pytest.fixture
def backward_passes(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What `backward` was called on."""
    found: list[Tensor] = []
    real = Tensor.backward

    def backward(self: Tensor, *arguments: object, **options: object) -> None:
        found.append(self)
        real(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Tensor, "backward", backward)
    return found


def made(make: Callable[[], FusionModel]) -> FusionModel:
    torch.manual_seed(0)
    return make()


def plain_steps(model: FusionModel, numbers: range) -> Iterator[Tensor]:
    """A loop as torch's own documents have it."""
    settings = load_config(CONFIG, ["train.lr=0.1"]).train
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=settings.weight_decay, fused=True)
    for number in numbers:
        clips = batch(number)
        torch.manual_seed(derive_seed(0, number, 0))
        optimizer.zero_grad()
        torch.stack(list(model.losses(model(clips.rgb, clips.flow), clips.labels).values())).sum().backward()
        yield nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def test_a_method_without_hooks_takes_one_backward_pass_and_learns_the_same_bits(backward_passes: list[Tensor]) -> None:
    model = made(Tiny)
    expected = copy.deepcopy(model)
    stepper = stepper_of(model)
    norms = [stepper.step(batch(number), number).grad_norm for number in range(3)]
    assert len(backward_passes) == 3
    assert norms == list(plain_steps(expected, range(3)))
    torch.testing.assert_close(model.state_dict(), expected.state_dict(), rtol=0, atol=0)


def test_only_terms_that_are_wanted_apart_take_passes_of_their_own(backward_passes: list[Tensor]) -> None:
    for make, passes in ((Adjusted, 1), (ByTerm, 3)):  # cls, rgb, and the rest
        backward_passes.clear()
        stepper_of(made(make)).step(batch(), 0)
        assert len(backward_passes) == passes


@PRECISIONS
def test_the_hook_has_unscaled_gradients_and_what_was_measured_and_what_it_leaves_is_clipped(precision: str) -> None:
    class Doubling(Adjusted):
        def adjust_gradients(self, step: GradientStep) -> None:
            self.found = [parameter.grad.clone() for parameter in self.parameters()]
            self.sums = step.sums
            for parameter in self.parameters():
                parameter.grad = 2 * parameter.grad

    plain, model, clips = made(Tiny), made(Doubling), batch()
    norm = stepper_of(plain, precision, clip_norm=1e-3).step(clips, 0).grad_norm
    doubled = stepper_of(model, precision, clip_norm=1e-3).step(clips, 0).grad_norm
    torch.testing.assert_close(doubled, 2 * norm)
    torch.testing.assert_close(torch.cat([gradient.flatten() for gradient in model.found]).norm(), norm)
    left = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).norm()
    assert left.item() == pytest.approx(1e-3, rel=1e-3)
    assert model.sums["clips"] == 8


@PRECISIONS
def test_gradients_of_single_terms_are_what_autograd_says_of_each(precision: str) -> None:
    model = made(ByTerm)
    reference, clips = copy.deepcopy(model), batch()
    stepper_of(model, precision, clip_norm=1e9).step(clips, 0)
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision)
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        losses = reference.losses(reference(clips.rgb, clips.flow), clips.labels)
    (step,) = model.steps
    for module, terms in ByTerm.gradients_by_term.items():
        for term in terms:
            wanted = list(reference.get_submodule(module).parameters())
            expected = torch.autograd.grad(losses[term], wanted, retain_graph=True, materialize_grads=True)
            torch.testing.assert_close(step.terms[module][term], list(expected), rtol=2e-2, atol=1e-3)
    whole = torch.autograd.grad(sum(losses.values()), [reference.flow_enc.weight, reference.scale])
    torch.testing.assert_close([model.flow_enc.weight.grad, model.scale.grad], list(whole), rtol=2e-2, atol=1e-3)


def test_a_term_that_is_not_there_is_named() -> None:
    class Wrong(Tiny):
        gradients_by_term: ClassVar = {"rgb_enc": ("flow",)}

    with pytest.raises(ValueError, match=r"gradients_by_term: found flow; the losses are cls, rgb, size"):
        stepper_of(made(Wrong)).step(batch(), 0)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("kind", [Adjusted, ByTerm])
def test_a_hook_cannot_hide_a_gradient_that_is_not_finite(kind: type[Adjusted], precision: str) -> None:
    class Hiding(kind):  # type: ignore[misc, valid-type]
        broken = False

        def losses(self, output, labels):
            factor = torch.inf if self.broken else 1.0
            return {
                name: loss * (factor if name == "rgb" else 1) for name, loss in super().losses(output, labels).items()
            }

        def adjust_gradients(self, step: GradientStep) -> None:
            super().adjust_gradients(step)
            for parameter in self.parameters():
                parameter.grad = torch.nan_to_num(parameter.grad, 0, 0, 0)

    model = made(Hiding)
    stepper = stepper_of(model, precision)
    assert stepper.step(batch(0), 0).grad_norm.isfinite()
    before = copy.deepcopy(model.state_dict())
    model.broken = True
    assert not stepper.step(batch(1), 1).grad_norm.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())  # the hook has had its way
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert model.seen == 8
    model.broken = False
    assert stepper.step(batch(1), 2).grad_norm.isfinite()
    assert not torch.equal(model.rgb_enc.weight, before["rgb_enc.weight"])


def test_random_numbers_follow_from_seed_and_step_whatever_the_rank() -> None:
    def noise(seed: int, number: int, world: World = ALONE) -> Tensor:
        model = made(Adjusted)
        stepper = stepper_of(model, seed=seed)
        stepper._world = world  # which dropout's numbers depend on
        stepper.step(batch(), number)
        return model.noise[0]

    assert torch.equal(noise(0, 3), noise(0, 3, World(rank=1, size=2)))
    assert not torch.equal(noise(0, 3), noise(0, 4))
    assert not torch.equal(noise(0, 3), noise(1, 3))


def test_a_gradient_that_lies_otherwise_than_its_parameter_is_laid_right() -> None:
    """A fused optimizer goes through both in the order of memory."""

    class Transposed(Tiny):
        def adjust_gradients(self, step: GradientStep) -> None:
            gradient = self.rgb_enc.weight.grad
            self.rgb_enc.weight.grad = gradient.t().contiguous().t()

    model, plain = made(Transposed), made(Tiny)
    for each in (model, plain):
        stepper_of(each).step(batch(), 0)
    torch.testing.assert_close(model.state_dict(), plain.state_dict(), rtol=0, atol=0)


def test_short_trainings_leave_gradients_as_they_are(backward_passes: list[Tensor]) -> None:
    model, settings = made(ByTerm), load_config(CONFIG).train
    usual = stepper_of(made(Tiny))
    stepper = TrainStep(model, model.losses, settings, 0, usual._placement, World(), all_used=False)
    stepper.step(batch(), 0)
    assert len(backward_passes) == 1
    assert model.steps == []


@pytest.mark.slow
def test_compiled_terms_are_those_of_the_plain_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    found = []
    for compiled in ("false", "true"):
        model, usual = made(ByTerm), stepper_of(made(Tiny))
        settings = load_config(CONFIG, [f"train.compile={compiled}"]).train
        TrainStep(model, model.losses, settings, 0, usual._placement, World()).step(batch(), 0)
        found.append(model.state_dict())
    torch.testing.assert_close(*found)


@pytest.mark.slow
def test_two_ranks_learn_what_one_does_and_the_same_bits_each(tmp_path: Path) -> None:
    _, codes = forked("tests.engine.training.adjusting", str(tmp_path / "found.pt"), ranks=2)
    assert codes == [0, 0]
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    alone = collect(World())
    for name in METHODS:
        for accumulate in (1, 2):
            ranks, expected = found[f"{name} {accumulate}"], alone[f"{name} 1"]
            assert torch.equal(*ranks["state"])
            torch.testing.assert_close(ranks["state"][:1], expected["state"])
            torch.testing.assert_close(ranks["norms"], expected["norms"])
    assert not torch.equal(found["plain 1"]["state"][0, 1:7], found["by term 1"]["state"][0, 1:7])
    model, _ = train(ByTerm)
    assert model.seen == 3 * 8
