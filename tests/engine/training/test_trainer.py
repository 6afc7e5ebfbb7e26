"""The loop's decisions, on a model and clips so small that a step takes no time."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from configs import UserError
from engine.runs.checkpoint import load_checkpoint
from engine.training.trainer import Trainer
from tests.engine.conftest import FakeLoader, MakeTrainer
from tests.engine.training.waits import CountCalls


def scripted(trainer: Trainer, accuracies: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let validation say these accuracies, one an epoch."""
    remaining = iter(accuracies)
    real = trainer.validate

    def validate() -> Any:
        evaluation = real()
        return replace(evaluation, metrics=replace(evaluation.metrics, top1=next(remaining)))

    monkeypatch.setattr(trainer, "validate", validate)


def lines(trainer: Trainer, kind: str) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in trainer.run.metrics.read_text().splitlines()]
    return [record for record in records if record["kind"] == kind]


def test_training_stops_after_so_many_epochs_without_a_better_one(trainer: MakeTrainer, monkeypatch):
    small = trainer("train.epochs=9", "train.stop_patience=2")
    scripted(small, [0.1, 0.3, 0.3, 0.2, 0.9], monkeypatch)
    said: list[str] = []
    monkeypatch.setattr(small.session.display, "print", said.append)
    small.train()
    counters = small.counters
    assert (counters.epoch, counters.improved_epoch, counters.best_score) == (4, 2, 0.3)
    assert counters.best_epoch == 3  # a tie goes to the later epoch, but is no reason to go on
    assert said[-1] == (
        "stopped early after epoch 4: 2 epochs (train.stop_patience) brought no val accuracy above 0.300, of epoch 2"
    )


@pytest.mark.parametrize("log_every", [1, 100])
def test_the_first_step_is_shown_and_counts_in_the_log_as_it_would(trainer: MakeTrainer, monkeypatch, log_every: int):
    small = trainer("train.epochs=2", f"train.log_every={log_every}", "loader.batch_size=2")
    said: list[str] = []
    monkeypatch.setattr(small.session.display, "print", said.append)
    monkeypatch.setattr(small.session.display, "update", said.append)
    small.train_epoch()
    first = next(text for text in said if "loss" in text)
    assert re.search(r"loss \d\.\d{4}  accuracy .* clips/s  data wait .*  0:00:0\d left$", first)
    assert first.startswith("epoch 1/2  step 1  loss") == (log_every == 100)
    assert small.meter.epoch["steps"] == 4
    assert small.meter.epoch["clips"] == 8


def test_the_rate_drops_after_more_than_lr_patience_epochs_without_a_better_one(trainer: MakeTrainer, monkeypatch):
    small = trainer("train.epochs=6", "train.lr=1.0", "train.lr_patience=1", "train.lr_factor=0.5")
    scripted(small, [0.5, 0.4, 0.4, 0.4, 0.6, 0.1], monkeypatch)
    small.train()
    assert [line["lr"] for line in lines(small, "epoch")] == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5]


@pytest.mark.parametrize(("losses", "best"), [([0.9, 0.5, 0.7], 2), ([0.5, 0.9, 0.5], 3)])
def test_train_monitor_names_the_metric_that_tells_the_best_epoch(trainer: MakeTrainer, monkeypatch, losses, best):
    small = trainer("train.epochs=3", "train.monitor=loss", "train.lr_patience=0", "train.lr_factor=0.5")
    remaining, real = iter(losses), small.validate
    monkeypatch.setattr(small, "validate", lambda: replace(real(), loss=next(remaining)))
    said: list[str] = []
    monkeypatch.setattr(small.session.display, "print", said.append)
    small.train()
    assert (small.counters.best_epoch, small.best_value, load_checkpoint(small.run.best)["epoch"]) == (best, 0.5, best)
    (text,) = (line for line in said if line.startswith(f"epoch {best}/3 "))
    assert text.endswith("val loss 0.500 (best)")
    assert small.learning_rate.num_drops == (1 if best == 2 else 2)  # a tie is no progress


def test_best_is_the_checkpoint_of_the_highest_validation_accuracy(trainer: MakeTrainer, monkeypatch):
    small = trainer("train.epochs=3", "train.lr=0.1")
    scripted(small, [0.6, 0.6, 0.2], monkeypatch)  # of equals the later one
    weights: list[torch.Tensor] = []
    real = small.end_epoch
    monkeypatch.setattr(
        small, "end_epoch", lambda result: (weights.append(small.model.linear.weight.detach().clone()), real(result))
    )
    small.train()
    best = load_checkpoint(small.run.best)
    assert (best["epoch"], best["top1"]) == (2, 0.6)
    assert torch.equal(best["model"]["linear.weight"], weights[1])
    assert not torch.equal(weights[1], weights[2])


@pytest.mark.parametrize("found", [0, 1])  # best.pt: none yet, that of an epoch before
def test_killed_between_last_pt_and_best_pt_a_run_makes_best_pt_anew(trainer: MakeTrainer, monkeypatch, found: int):
    small = trainer("train.epochs=2")
    scripted(small, [0.2, 0.6], monkeypatch)
    small.train()
    weights = {name: value.clone() for name, value in small.model.state_dict().items()}
    small.run.best.unlink()
    small.check_best(found)
    best = load_checkpoint(small.run.best)
    assert (best["epoch"], best["top1"]) == (2, 0.6)
    torch.testing.assert_close(best["model"], weights, rtol=0, atol=0)


def test_a_best_pt_of_another_epoch_is_noticed_and_the_epochs_to_come_decide(trainer: MakeTrainer, monkeypatch):
    small = trainer("train.epochs=3")
    scripted(small, [0.6, 0.2, 0.3], monkeypatch)
    small.settings = small.settings.model_copy(update={"epochs": 2})
    small.train()
    with pytest.raises(
        UserError, match=r"best.pt: is of epoch 2, but the best epoch was 1, and none is left to train;"
    ):
        small.check_best(2)
    small.settings = small.settings.model_copy(update={"epochs": 3})
    small.check_best(1)  # as it must be: nothing happens
    assert small.counters.best_score == 0.6
    with pytest.warns(match=r"best.pt: cannot be read, but the best epoch was 1, whose weights are lost; the best of"):
        small.check_best(0)
    small.train()
    assert (load_checkpoint(small.run.best)["epoch"], small.counters.best_epoch) == (3, 3)


def test_the_whole_gradient_is_clipped_and_logged_as_it_was(trainer: MakeTrainer):
    small = trainer("train.clip_norm=0.001", "train.epochs=1")
    small.train()
    gradients = [parameter.grad.flatten() for parameter in small.model.parameters() if parameter.grad is not None]
    assert torch.cat(gradients).norm().item() == pytest.approx(0.001, rel=1e-3)
    assert lines(small, "epoch")[0]["grad_norm"] > 0.01


def test_a_method_is_prepared_at_the_start_of_each_epoch_and_its_numbers_logged(trainer: MakeTrainer):
    small = trainer("train.epochs=2")
    small.train()
    assert small.model.prepared == [0, 1]
    assert [(line["epoch"], line["step"], line["weight"]) for line in lines(small, "prepare")] == [
        (1, 0, 0.5),
        (2, 4, 0.5),
    ]


def test_log_lines_stand_at_their_steps(trainer: MakeTrainer):
    small = trainer("train.epochs=2", "train.log_every=3")  # four steps an epoch
    small.train()
    assert [(line["epoch"], line["step"]) for line in lines(small, "train")] == [(1, 3), (2, 6)]
    assert [(line["epoch"], line["step"]) for line in lines(small, "val")] == [(1, 4), (2, 8)]


def test_nothing_between_logs_waits_for_the_device(trainer: MakeTrainer):
    small = trainer("train.log_every=100")
    waits: list[str] = []
    real: Callable[..., None] = small.meter.add

    def add(*arguments: Any) -> None:
        real(*arguments)
        waits.extend(counter.found)

    small.meter.add = add  # type: ignore[method-assign]
    with CountCalls() as counter:
        small.train_epoch()
    assert small.counters.step == 4
    assert waits == ["tolist"] * 3  # the first step is shown, and none after it
    assert counter.found == ["tolist"] * 2  # and once at the end: the meter's own, so the counting works


def without_gradient(trainer: Trainer, steps: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the gradient of these steps, counted from 1, be NaN."""
    calls = iter(range(1, 100))
    real = trainer.model.losses

    def losses(*arguments: Any) -> dict[str, torch.Tensor]:
        factor = float("nan") if trainer.model.training and next(calls) in steps else 1.0
        return {name: loss * factor for name, loss in real(*arguments).items()}

    monkeypatch.setattr(trainer.stepper.module, "losses", losses)


def test_one_gradient_that_is_not_finite_is_logged_and_poisons_nothing(trainer: MakeTrainer, monkeypatch):
    small = trainer("train.epochs=2", "train.log_every=1", "train.checkpoint_every=1")
    without_gradient(small, {3}, monkeypatch)
    with pytest.warns(
        match=r"epoch 1, step 3: the gradient is not finite \(cls nan, .* clips clip4, clip5; the step is"
    ):
        small.train()
    (line,) = lines(small, "not_taken")
    assert (line["epoch"], line["step"], line["clips"]) == (1, 3, ["clip4", "clip5"])
    assert [record["loss"] is None for record in lines(small, "train")] == [step == 3 for step in range(1, 9)]
    last = load_checkpoint(small.run.last)
    assert all(value.isfinite().all() for value in last["model"].values())
    assert last["counters"]["step"] == 8


def test_repeated_ones_end_the_run_and_last_pt_is_of_before(trainer: MakeTrainer, monkeypatch):
    small = trainer("train.epochs=2", "train.log_every=1", "train.checkpoint_every=1")
    without_gradient(small, {4, 5, 6}, monkeypatch)
    with (
        pytest.warns(match="the step is not taken"),
        pytest.raises(UserError, match=r"epoch 2, step 6: the gradient .* clips clip2, clip3; 3 steps in a row could"),
    ):
        small.train()
    assert [line["step"] for line in lines(small, "not_taken")] == [4, 5]
    last = load_checkpoint(small.run.last)
    assert last["counters"]["step"] == 5
    assert all(value.isfinite().all() for value in last["model"].values())


def test_a_slow_loader_shows_as_data_wait(trainer: MakeTrainer):
    waits = []
    for name, delay in (("fast", 0.0), ("slow", 0.05)):
        small = trainer("train.epochs=1", f"name={name}", loader=FakeLoader(delay=delay))
        small.train()
        waits.append(lines(small, "epoch")[0]["data_wait"])
    assert waits[1] > 0.5
    assert waits[0] < waits[1]


def test_compile_trains_to_the_same_weights(trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch):
    # All of torch.compile but the C++ compiler, which takes half a minute.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    weights = []
    for name, compiled in (("plain", "false"), ("compiled", "true")):
        small = trainer("train.epochs=1", f"name={name}", f"train.compile={compiled}")
        small.train()
        weights.append(load_checkpoint(small.run.best)["model"])
    assert weights[0].keys() == weights[1].keys()
    torch.testing.assert_close(weights[0], weights[1])
