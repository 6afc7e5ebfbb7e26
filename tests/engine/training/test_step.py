"""A step of any method on any device asks for nothing back, and what it learns follows from its number."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from configs import load_config
from engine.runtime.device import Placement
from engine.runtime.world import World
from engine.training.optimisation import make_optimizer
from engine.training.step import TrainStep
from models import FUSIONS, build_model
from pipeline.batch import Batch
from tests.engine.training.waits import CountCalls, CountOperations
from tests.runs import CONFIG

SMALL = {"width": 0.05, "num_classes": 6}


def stepper_of(
    fusion: str, precision: str = "fp32", broken: tuple[int, ...] = (), accumulate: int = 1, **options: Any
) -> TrainStep:
    """A stepper; the forward passes whose numbers are in `broken` have no finite gradient."""
    torch.manual_seed(0)
    placement = Placement(torch.device("cpu"), precision)
    model = placement.move(build_model(fusion, **SMALL, **options))
    calls = iter(range(100))

    def losses(*arguments: Any) -> dict[str, Tensor]:
        factor = float("inf") if next(calls) in broken else 1.0
        return {name: loss * factor for name, loss in model.losses(*arguments).items()}

    settings = load_config(CONFIG, [f"train.accumulate={accumulate}"]).train
    stepper = TrainStep(model, losses, settings, 0, placement, World())
    if precision == "fp16":  # else the first steps would be spent on finding a scale that these few values bear
        stepper.scaler.load_state_dict(stepper.scaler.state_dict() | {"scale": 8.0})
    stepper.train_mode()
    return stepper


def batch(size: int = 2) -> Batch:
    rgb, flow = (torch.randint(0, 256, (size, channels, 16, 32, 32), dtype=torch.uint8) for channels in (3, 2))
    clips = torch.arange(size)
    return Batch(rgb, flow, clips + 1, clips, torch.zeros_like(clips), ())


@pytest.mark.parametrize("fusion", FUSIONS)
def test_no_method_waits_for_the_device_in_a_step(fusion: str):
    stepper, clips = stepper_of(fusion), batch()
    stepper.step(clips, 0)  # the first makes the optimizer's state
    with CountCalls() as calls, CountOperations() as operations:
        stepper.step(clips, 1)
    assert calls.found == []
    assert operations.found == []


def test_waits_are_found_where_they_are():
    x = torch.arange(4.0, requires_grad=True)
    with CountCalls() as calls, CountOperations() as operations:
        x[x > 1].sum().backward()
        x.sum().item()
        if x.max() > 2:
            x.detach().cpu()
    assert calls.found == ["item", "__bool__", "cpu"]
    assert operations.found == ["index", "index_put", "_local_scalar_dense", "_local_scalar_dense"]


def test_what_a_step_learns_follows_from_its_number():
    """Dropout is drawn for each step anew, so that a resumed run needs no generator's state."""
    clips, norms = batch(), []
    for number in (3, 3, 4):
        stepper = stepper_of("xnorm")
        norms.append(stepper.step(clips, number).grad_norm)
    assert torch.equal(norms[0], norms[1])
    assert not torch.equal(norms[0], norms[2])


def state_of(stepper: TrainStep) -> dict[str, Tensor]:
    """Weights, statistics and the optimizer's moments and counts, under names of their own."""
    optimizer = stepper.optimizer.state_dict()["state"]
    moments = {f"{n}.{name}": value for n, state in optimizer.items() for name, value in state.items()}
    return copy.deepcopy(dict(stepper.module.state_dict()) | moments)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_step_without_a_finite_gradient_leaves_all_as_it_was_and_the_next_one_learns(precision: str):
    clips = batch()
    stepper, other = stepper_of("rgb", precision, broken=(1,)), stepper_of("rgb", precision)
    for each in (stepper, other):
        assert each.step(clips, 0).grad_norm.isfinite()
    before = state_of(stepper)
    assert any("running_var" in name for name in before)
    assert any("exp_avg_sq" in name for name in before)
    with CountCalls() as calls, CountOperations() as operations:
        norm = stepper.step(clips, 1).grad_norm
    assert (calls.found, operations.found) == ([], [])
    assert not norm.isfinite()
    torch.testing.assert_close(state_of(stepper), before, rtol=0, atol=0)
    for each in (stepper, other):
        each.step(clips, 2)
    after, expected = state_of(stepper), state_of(other)
    assert not torch.equal(after["0.exp_avg"], before["0.exp_avg"])
    if precision == "fp32":  # in fp16 the scale was halved, and so other values are rounded
        torch.testing.assert_close(after, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    "fusion", ["gblend", *(pytest.param(name, marks=pytest.mark.slow) for name in ("xnorm", "mult"))]
)
def test_accumulated_parts_learn_what_the_whole_batch_does(fusion: str):
    """With frozen BatchNorm, whose statistics are of a part, and in fp64, so that rounding is no excuse."""
    drops = {"embed_dropout": 0.0} if fusion == "mult" else {}
    found = []
    for accumulate in (1, 2, 4):
        stepper = stepper_of(fusion, accumulate=accumulate, freeze_bn=True, dropout=0.0, **drops)
        stepper.module.double()
        torch.manual_seed(1)
        rgb, flow = (2 * torch.rand(4, channels, 8, 32, 32, dtype=torch.float64) - 1 for channels in (3, 2))
        clips = replace(batch(4), rgb=rgb, flow=flow)
        steps = [stepper.step(clips, number) for number in range(3)]
        curve = [[*step.losses.values(), step.grad_norm, step.correct.double()] for step in steps]
        found.append(({"curve": torch.stack([torch.stack(row) for row in curve])}, stepper.module.state_dict()))
    for parts in found[1:]:
        torch.testing.assert_close(parts, found[0], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("precision", "broken"), [("fp32", 2), ("fp16", 3)])  # a half of the second step
def test_a_part_without_a_finite_gradient_costs_its_whole_step_and_no_more(precision: str, broken: int):
    clips = batch(4)
    stepper = stepper_of("rgb", precision, broken=(broken,), accumulate=2)
    assert stepper.step(clips, 0).grad_norm.isfinite()
    before = state_of(stepper)
    with CountCalls() as calls, CountOperations() as operations:
        norm = stepper.step(clips, 1).grad_norm
    assert not norm.isfinite()
    assert (calls.found, operations.found) == ([], [])
    torch.testing.assert_close(state_of(stepper), before, rtol=0, atol=0)
    assert stepper.step(clips, 2).grad_norm.isfinite()
    assert not torch.equal(state_of(stepper)["0.exp_avg"], before["0.exp_avg"])


def test_a_first_step_without_a_finite_gradient_leaves_sgd_ready_for_the_next():
    model = torch.nn.Linear(3, 2)
    sgd = make_optimizer(model, load_config(CONFIG, ["train.optimizer=sgd", "train.lr=0.1"]).train)
    before = copy.deepcopy(model.state_dict())
    for found_inf in (1.0, 0.0):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, torch.nan if found_inf else 1.0)
        sgd.found_inf = torch.tensor(found_inf)
        sgd.step()
        if found_inf:
            torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    decayed = 1 + 1e-4 * before["bias"]
    torch.testing.assert_close(model.bias.detach(), before["bias"] - 0.1 * 1.9 * decayed)
