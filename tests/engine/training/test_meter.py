"""What the meter adds up, and when."""

import math
from types import SimpleNamespace

import pytest
import torch

from configs import UserError
from engine.runtime.world import World
from engine.training.meter import Meter, describe, means
from engine.training.step import StepOutput
from pipeline.batch import Batch


def measured(cls: float, aux: float, norm: float = 2.0, correct: int = 2) -> StepOutput:
    losses = {"cls": torch.tensor(cls), "aux": torch.tensor(aux)}
    return StepOutput(losses, torch.tensor(correct), torch.tensor(norm))


def batch(labels: list[int], clips: list[int]) -> Batch:
    return Batch(None, None, torch.tensor(labels), torch.tensor(clips), torch.zeros(len(clips), dtype=torch.int64), ())


def run(meter: Meter, steps: list[tuple[StepOutput, Batch]]) -> None:
    for step, item in meter.timed(steps):
        meter.add(step, item)


def test_means_of_two_steps_worked_out_by_hand():
    meter = Meter(World(), ["a", "b"])
    steps = [measured(1.0, 0.5), measured(3.0, 0.5, norm=4.0, correct=1)]
    run(meter, list(zip(steps, [batch([0, 1], [0, 1]), batch([1, 1], [1, 0])], strict=True)))
    meter.flush(epoch=1, step=2)
    record = means(meter.epoch)
    assert record["loss"] == pytest.approx(2.5)
    assert record["loss/cls"] == pytest.approx(2.0)
    assert record["loss/aux"] == pytest.approx(0.5)
    assert record["accuracy"] == pytest.approx(3 / 4)
    assert record["grad_norm"] == pytest.approx(3.0)


def test_a_saved_window_goes_on_where_it_was_whenever_it_was_flushed():
    steps = [(measured(float(n), 0.1), batch([0, 1], [0, 1])) for n in range(4)]
    whole, first, second = (Meter(World(), ["a", "b"]) for _ in range(3))
    run(whole, steps)
    whole.flush(1, 4)
    run(first, steps[:3])
    first.flush(1, 3)
    second.load_state_dict(first.state_dict())
    run(second, steps[3:])
    second.flush(1, 4)
    untimed = [{key: value for key, value in meter.window.items() if "loss" in key} for meter in (whole, second)]
    assert untimed[0] == untimed[1]


NAN = float("nan")


def test_a_step_that_was_not_taken_is_noted_with_its_clips_and_counts_for_nothing_but_the_rate():
    meter = Meter(World(), ["a", "b", "c", "d"])
    good = (measured(1.0, 1.0), batch([0, 1], [0, 1]))
    run(meter, [good, (measured(NAN, 1, norm=NAN), batch([0, 1], [3, 2])), good])
    with pytest.warns(
        match=r"epoch 4, step 12: the gradient is not finite \(cls nan, aux 1, .* clips d, c; the step is"
    ):
        meter.flush(epoch=4, step=13)
    assert [(record["step"], record["clips"]) for record in meter.not_taken] == [(12, ["d", "c"])]
    assert meter.in_a_row == 0
    record = means(meter.epoch | {"seconds": 2.0})
    assert (record["loss"], record["accuracy"], record["grad_norm"]) == (2.0, 1.0, 2.0)
    assert record["clips_per_s"] == 3.0  # six clips in two seconds


def test_means_over_no_step_that_was_taken_are_nan():
    meter = Meter(World(), ["a", "b"])
    run(meter, [(measured(NAN, 1, norm=NAN), batch([0, 1], [0, 1]))])
    with pytest.warns(match="the step is not taken"):
        meter.flush(1, 1)
    record = means(meter.window)
    assert all(math.isnan(record[key]) for key in ("loss", "loss/cls", "accuracy", "grad_norm"))
    assert record["clips_per_s"] > 0
    assert "loss nan" in describe(record, clips_left=4)


@pytest.mark.parametrize(("precision", "most"), [("fp32", 3), ("bf16", 3), ("fp16", 30)])
def test_steps_in_a_row_that_are_not_taken_end_the_run_over_a_resume_too(precision: str, most: int):
    first, second = (Meter(World(), ["a", "b"], precision) for _ in range(2))
    bad = (measured(1, 1, norm=math.inf), batch([0, 1], [1, 0]))
    run(first, [bad] * (most - 1))
    with pytest.warns(match="the step is not taken"):
        first.flush(1, most - 1)
    second.load_state_dict(first.state_dict())
    run(second, [bad])
    with pytest.raises(
        UserError, match=rf"step {most}: the gradient .* clips b, a; {most} steps in a row could not be"
    ):
        second.flush(1, most)


def test_a_loss_that_is_not_finite_though_its_gradient_is_ends_the_run():
    meter = Meter(World(), ["a", "b"])
    run(meter, [(measured(math.inf, 1), batch([0, 1], [0, 1]))])
    with pytest.raises(
        UserError, match=r"epoch 1, step 1: the loss is not finite \(cls inf, .* clips a, b; lower train.lr"
    ):
        meter.flush(1, 1)


@pytest.mark.parametrize(("loading", "working", "share"), [(3.0, 1.0, 0.75), (0.0, 2.0, 0.0), (1.0, 4.0, 0.2)])
def test_data_wait_is_the_share_of_time_inside_next(
    loading: float, working: float, share: float, monkeypatch: pytest.MonkeyPatch
):
    now = 100.0
    monkeypatch.setattr("engine.training.meter.time", SimpleNamespace(perf_counter=lambda: now))

    def slow_loader():
        nonlocal now
        for _ in range(4):
            now += loading
            yield batch([0, 1], [0, 1])

    meter = Meter(World(), ["a", "b"])
    for item in meter.timed(slow_loader()):
        meter.add(measured(1, 1), item)
        now += working
    meter.flush(1, 4)
    assert means(meter.epoch)["data_wait"] == pytest.approx(share)
    assert means(meter.epoch)["clips_per_s"] == pytest.approx(2 / (loading + working))


def test_time_left_is_that_of_the_clips_left_at_this_rate():
    record = {"loss": 1.25, "accuracy": 0.5, "clips_per_s": 20.0, "data_wait": 0.125}
    assert describe(record, clips_left=1200) == (
        "loss 1.2500  accuracy 0.500  20.0 clips/s  data wait 12.5%  0:01:00 left"
    )
