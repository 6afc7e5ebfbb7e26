"""A run's folder: begun once, gone on with under the same config, its log cut to the checkpoint."""

import json
from collections.abc import Callable
from functools import partial

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from configs import ConfigError
from engine.checkpoint import load_checkpoint, plain_config
from engine.runlog import RunLog
from tests.runs import MakeConfig

Begin = Callable[..., RunLog]
STATE = {"model": {"w": torch.zeros(1)}, "counters": {"step": 7}}


@pytest.fixture
def begin(config: MakeConfig) -> Begin:
    """Open a run's folder."""

    def make(*overrides: str, resume: bool = False) -> RunLog:
        run = RunLog(config(*overrides), writes=True)
        run.open(run.check(resume))
        return run

    return make


def test_a_run_that_exists_is_not_overwritten(config: MakeConfig, begin: Begin):
    begin()
    with pytest.raises(ConfigError, match=r"runs/xnorm: this run exists already; .* --resume, or choose another name="):
        RunLog(config(), writes=True).check(resume=False)
    assert RunLog(config("name=other"), writes=True).check(resume=False) is None


def test_nothing_to_resume_is_said(config: MakeConfig):
    with pytest.raises(ConfigError, match=r"runs/xnorm: there is no run to resume here; leave out --resume"):
        RunLog(config(), writes=True).check(resume=True)


@pytest.mark.parametrize("saved", [True, False])
def test_a_changed_config_is_refused_with_both_values(config: MakeConfig, begin: Begin, saved: bool):
    run = begin()
    if saved:
        run.save_last(STATE)
    changed = RunLog(config("train.lr=0.5", "model.dropout=0.3"), writes=True)
    with pytest.raises(ConfigError, match=r"model.dropout: was 0.1, is 0.3; train.lr: was 0.0001, is 0.5; undo that"):
        changed.check(resume=True)


def test_what_changes_no_result_may_change(config: MakeConfig, begin: Begin):
    begin().save_last(STATE)
    again = RunLog(config("loader.num_threads=3", "loader.prefetch=5", "train.epochs=9"), writes=True)
    state = again.check(resume=True)
    assert state is not None
    assert state["counters"] == {"step": 7}


def test_a_run_killed_before_its_first_checkpoint_starts_at_the_beginning(config: MakeConfig, begin: Begin):
    run = begin()
    run.log("train", {"step": 1, "loss": 1.0})
    assert RunLog(config(), writes=True).check(resume=True) is None
    again = begin(resume=True)
    assert again.metrics.read_text() == ""


def test_lines_after_the_checkpoint_are_dropped_even_half_a_line(begin: Begin):
    run = begin()
    run.log("train", {"step": 7, "loss": 1.0})
    run.save_last(STATE)
    run.log("train", {"step": 8, "loss": 2.0})
    with open(run.metrics, "a") as file:
        file.write('{"kind": "tra')
    again = begin(resume=True)
    again.log("train", {"step": 8, "loss": 3.0})
    losses = [json.loads(line)["loss"] for line in again.metrics.read_text().splitlines()]
    assert losses == [1.0, 3.0]


def test_a_number_that_json_lacks_is_null(begin: Begin):
    run = begin()
    run.log("train", {"step": 1, "grad_norm": float("inf")})
    assert json.loads(run.metrics.read_text()) == {"kind": "train", "step": 1, "grad_norm": None}


def test_a_checkpoint_has_the_resolved_config(config: MakeConfig, begin: Begin):
    run = begin("train.lr=0.5")
    run.save_best({"model": {}})
    assert load_checkpoint(run.best)["config"] == plain_config(config("train.lr=0.5"))


def test_other_ranks_write_nothing(config: MakeConfig):
    run = RunLog(config(), writes=False)
    run.open(None)
    run.log("train", {"step": 1})
    run.save_last(STATE)
    run.save_best(STATE)
    run.summarize({})
    assert not run.folder.exists()


def test_a_finished_run_that_goes_on_has_no_summary_until_it_is_finished_again(begin: Begin, config: MakeConfig):
    run = begin()
    run.save_last({**STATE, "metrics_lines": 0})
    assert not run.finished
    run.summarize({})
    assert run.finished
    assert not RunLog(config("train.epochs=9"), writes=True).finished
    assert not begin("train.epochs=9", resume=True).summary.exists()


def test_a_scratch_file_is_no_run(config: MakeConfig):
    run = RunLog(config(), writes=True)
    run.folder.mkdir(parents=True)
    (run.folder / ".config.yaml.1.tmp").touch()
    assert not run.exists
    assert run.check(resume=False) is None


def test_the_curves_are_those_that_tensorboard_reads_without_the_steps_that_were_taken_anew(begin: Begin):
    run = begin()
    run.log("train", {"step": 7, "loss": 1.0, "clips": 3})
    run.save_last(STATE)
    run.log("train", {"step": 8, "loss": 2.0})
    again = begin(resume=True)
    again.log("train", {"step": 8, "loss": 3.0, "accuracy": 0.5})
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"train/loss", "train/accuracy"}
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(7, 1.0), (8, 3.0)]


def test_pictures_of_steps_that_were_taken_anew_are_left_out_too(begin: Begin):
    run = begin()
    run.save_last(STATE)
    for step, side in ((7, 1), (8, 2)):
        run.show("val/confusion", partial(Image.new("RGB", (side, side)).save, format="PNG"), step)
    begin(resume=True).show("val/confusion", partial(Image.new("RGB", (3, 4)).save, format="PNG"), 8)
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    shown = [(event.step, event.width, event.height) for event in events.Images("val/confusion")]
    assert shown == [(7, 1, 1), (8, 3, 4)]


def test_nothing_is_drawn_where_nobody_looks(begin: Begin, config: MakeConfig):
    drawn: list[object] = []
    begin("train.tensorboard=false").show("val/confusion", drawn.append, 1)
    RunLog(config("name=other"), writes=False).show("val/confusion", drawn.append, 1)
    assert drawn == []


def test_what_a_killed_process_was_writing_is_removed(begin: Begin):
    run = begin()
    (run.folder / "test").mkdir()
    for name in (".last.pt.123.tmp", "test/.predictions.csv.123.tmp"):
        (run.folder / name).write_text("half")
    begin(resume=True)
    assert not list(run.folder.rglob(".*"))
