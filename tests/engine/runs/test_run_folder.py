"""A run's folder: begun once, gone on with under the same config, its log cut to the checkpoint."""

import json
from collections.abc import Callable
from functools import partial

import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer as PluginEventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import list_session_groups
from tensorboard.plugins.hparams.api_pb2 import ListSessionGroupsRequest, Status
from tensorboard.plugins.hparams.backend_context import Context

from configs import ConfigError, UserError
from engine.runs.checkpoint import load_checkpoint, plain_config, save_checkpoint
from engine.runs.run_folder import RunFolder
from tests.runs import MakeConfig

Begin = Callable[..., RunFolder]
STATE = {"model": {"w": torch.zeros(1)}, "counters": {"step": 7}}


@pytest.fixture
def begin(config: MakeConfig) -> Begin:
    """Open a run's folder."""

    def make(*overrides: str, resume: bool = False) -> RunFolder:
        run = RunFolder(config("train.tensorboard=true", *overrides), writes=True)
        run.check(resume)
        run.open(run.load() if resume else None, {})
        return run

    return make


def test_a_run_that_exists_is_not_overwritten_and_one_that_does_not_is_not_resumed(config: MakeConfig, begin: Begin):
    with pytest.raises(ConfigError, match=r"runs/xnorm: there is no run to resume here; leave out --resume"):
        RunFolder(config(), writes=True).check(resume=True)
    begin()
    with pytest.raises(ConfigError, match=r"runs/xnorm: this run exists already; .* --resume, or choose another name="):
        RunFolder(config(), writes=True).check(resume=False)
    RunFolder(config("name=other"), writes=True).check(resume=False)


@pytest.mark.parametrize("saved", [True, False])
def test_a_changed_config_is_refused_with_both_values(config: MakeConfig, begin: Begin, saved: bool):
    run = begin()
    if saved:
        run.save_last(STATE)
    changed = RunFolder(config("train.lr=0.5", "model.dropout=0.3"), writes=True)
    with pytest.raises(ConfigError, match=r"model.dropout: was 0.1, is 0.3; train.lr: was 0.0001, is 0.5; undo that"):
        changed.check(resume=True)


def test_what_changes_no_result_may_change(config: MakeConfig, begin: Begin):
    begin().save_last(STATE)
    again = RunFolder(config("loader.num_threads=3", "loader.prefetch=5", "train.epochs=9"), writes=True)
    again.check(resume=True)
    state = again.load()
    assert state is not None
    assert state["counters"] == {"step": 7}


def test_a_run_killed_before_its_first_checkpoint_starts_at_the_beginning(config: MakeConfig, begin: Begin):
    run = begin()
    run.log("train", {"step": 1, "loss": 1.0})
    RunFolder(config(), writes=True).check(resume=True)
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
    run = begin("train.lr=0.5", "train.tensorboard=false")
    run.save_best({"model": {}})
    assert load_checkpoint(run.best)["config"] == plain_config(config("train.lr=0.5"))


def test_other_ranks_write_nothing(config: MakeConfig):
    run = RunFolder(config(), writes=False)
    run.open(None, {})
    run.log("train", {"step": 1})
    run.save_last(STATE)
    run.save_best(STATE)
    run.summarize({})
    assert not run.folder.exists()


ACCURACY = {"top1": 0.5, "mean_class": 0.5}
SUMMARY = {
    **{"epochs": 2, "best_epoch": 1, "val": ACCURACY, "test": None, "parameters": {"total": 2, "trainable": 2}},
    **{"gflops_per_clip": 1.0, "clips_per_s": 1.0, "data_wait": 0.0, "peak_memory_bytes": 1, "splits": {"val": 1}},
    **{"device": "CPU", "precision": "fp32", "processes": 1},
}


@pytest.mark.parametrize("more", ["train.epochs=9", "train.stop_patience=9"])
def test_a_finished_run_that_goes_on_keeps_its_summary_until_there_is_another(
    begin: Begin, config: MakeConfig, more: str
):
    few = ("train.epochs=2",) if "epochs" in more else ("train.epochs=9", "train.stop_patience=1")
    run = begin(*few)
    run.save_last(STATE)
    assert not run.finished
    run.summarize(SUMMARY)
    assert RunFolder(config(*few), writes=True).finished
    again = begin(*few, more, resume=True)
    assert not again.finished
    assert json.loads(again.summary.read_text()) == SUMMARY


def test_a_damaged_summary_is_one_message(begin: Begin):
    run = begin()
    for content in ("", "[]", '{"epochs": 2}'):
        run.summary.write_text(content)
        with pytest.raises(UserError, match=r"summary.json: damaged, or of another version of train.py"):
            _ = run.finished


def test_fewer_epochs_than_are_trained_are_refused(begin: Begin, config: MakeConfig):
    run = begin("train.epochs=9")
    for epoch in (1, 2, 3):
        run.log("val", {"epoch": epoch, "step": epoch, "top1": 0.5})
    run.save_last(STATE)
    RunFolder(config("train.epochs=3"), writes=True).check(resume=True)
    with pytest.raises(
        ConfigError, match=r"train.epochs: found 2, but 3 epochs are trained already; allowed: 3 and more"
    ):
        RunFolder(config("train.epochs=2"), writes=True).check(resume=True)


@pytest.mark.parametrize("trace", ["a later epoch", "best.pt"])
def test_a_trained_run_whose_last_pt_is_gone_does_not_start_over(begin: Begin, config: MakeConfig, trace: str):
    run = begin()
    run.log("val", {"epoch": 1, "step": 3})
    if trace == "best.pt":
        run.save_best({"model": {}, "epoch": 1})
    else:
        run.log("train", {"epoch": 2, "step": 4})
    with pytest.raises(
        ConfigError, match=r"last.pt: missing, so that this run, which was in epoch [12], cannot go on;"
    ):
        RunFolder(config(), writes=True).check(resume=True)


@pytest.mark.parametrize("fault", ["damaged", "missing"])
def test_the_predecessor_of_last_pt_stands_in_for_it(begin: Begin, fault: str):
    run = begin()
    for step in (1, 2):
        run.log("train", {"step": step})
        run.save_last({"model": {}, "counters": {"step": step}})
    if fault == "damaged":
        run.last.write_bytes(run.last.read_bytes()[:200])
    else:
        run.last.unlink()
    with pytest.warns(match=r"last.pt: .*; going on from the one before, .*/last.prev.pt"):
        again = begin(resume=True)
    assert [json.loads(line)["step"] for line in again.metrics.read_text().splitlines()] == [1]
    again.save_last({"model": {}, "counters": {"step": 3}})
    kept = [load_checkpoint(path)["counters"]["step"] for path in (again.last, again.previous)]
    assert kept == [3, 1]  # what was damaged is not what is fallen back to next time


def test_a_last_pt_that_is_damaged_or_of_another_version_is_said(begin: Begin):
    run = begin()
    save_checkpoint(run.last, {**STATE, "config": {}})
    with pytest.raises(UserError, match=r"last.pt: of another version of train.py"):
        run.load()
    run.last.write_bytes(run.last.read_bytes()[:200])
    with pytest.raises(UserError, match=r"last.pt: damaged or not a checkpoint"):
        run.load()


def test_splits_that_changed_are_refused_by_name(begin: Begin, config: MakeConfig):
    run = RunFolder(config(), writes=True)
    run.open(None, {"train": 1, "val": 2})
    run.save_last(STATE)
    state = run.load()
    run.check_splits({"train": 1, "val": 2, "test": 3}, state)  # one more is no other
    with pytest.raises(UserError, match=r"runs/xnorm: the shards of train and val are not those that this run began"):
        run.check_splits({"train": 7, "val": 3}, state)


def test_a_line_that_was_cut_off_is_mended(begin: Begin):
    run = begin()
    for step in (1, 2, 3):
        run.log("val", {"epoch": 1, "step": step, "top1": 0.5})
    run.save_last(STATE)
    run.metrics.write_bytes(run.metrics.read_bytes()[:-20])
    again = begin(resume=True)
    again.log("val", {"epoch": 2, "step": 4, "top1": 0.7})
    assert [json.loads(line)["step"] for line in again.metrics.read_text().splitlines()] == [1, 2, 4]
    again.summarize(SUMMARY)
    assert (again.folder / "curves.png").exists()


def test_a_second_process_is_refused_and_leaves_nothing_of_its_own(config: MakeConfig):
    one, other = (RunFolder(config(), writes=True) for _ in range(2))
    with one.locked():
        with pytest.raises(UserError, match=r"runs/xnorm: another process is writing here"), other.locked():
            pass
        with RunFolder(config("name=other"), writes=True).locked(), RunFolder(config(), writes=False).locked():
            one.check(resume=False)  # the lock alone is no run
    assert not one.folder.parent.exists()


def test_a_scratch_file_is_no_run(config: MakeConfig):
    run = RunFolder(config(), writes=True)
    run.folder.mkdir(parents=True)
    (run.folder / ".config.yaml.1.tmp").touch()
    assert not run.exists
    run.check(resume=False)


def test_tensorboard_reads_numbers_and_images_without_the_steps_that_were_taken_anew(begin: Begin):
    def show(run: RunFolder, step: int, width: int, height: int) -> None:
        run.show("val/confusion", partial(Image.new("RGB", (width, height)).save, format="PNG"), step)

    run = begin()
    run.log("train", {"step": 7, "loss": 1.0, "clips": 3})
    show(run, 7, 1, 1)
    run.save_last(STATE)
    run.log("train", {"step": 8, "loss": 2.0})
    show(run, 8, 2, 2)
    again = begin(resume=True)
    again.log("train", {"step": 8, "loss": 3.0, "accuracy": 0.5})
    show(again, 8, 3, 4)
    again.log("val", {"step": 8, "top1": 0.25})
    events = EventMultiplexer().AddRunsFromDirectory(str(run.folder / "tensorboard")).Reload()
    scalars = {name: set(tags["scalars"]) for name, tags in events.Runs().items()}
    assert scalars == {".": set(), "train": {"loss", "top1"}, "val": {"top1"}}
    assert [(event.step, event.value) for event in events.Scalars("train", "loss")] == [(7, 1.0), (8, 3.0)]
    shown = [(event.step, event.width, event.height) for event in events.Images("val", "confusion")]
    assert shown == [(7, 1, 1), (8, 3, 4)]


def test_tensorboard_has_the_config_and_a_table_of_what_runs_were_set_to_and_came_to(begin: Begin):
    begin("name=one", "train.lr=0.5").log("val", {"step": 1, "top1": 0.25})
    run = begin("name=other", "train.lr=0.1", "train.schedule=cosine")
    run.log("train", {"step": 1, "accuracy": 0.75})
    events = PluginEventMultiplexer().AddRunsFromDirectory(str(run.folder.parent)).Reload()
    (text,) = events.Tensors("other/tensorboard", "config/text_summary")
    written = text.tensor_proto.string_val[0].decode().removeprefix("```yaml\n").removesuffix("```")
    assert yaml.safe_load(written)["train"]["schedule"] == "cosine"
    # The table of the plugin, by its own code: a row per run, its columns found in the runs' own folders.
    table, request = Context(TBContext(data_provider=MultiplexerDataProvider(events, ""))), RequestContext()
    rows = ListSessionGroupsRequest(allowed_statuses=[Status.STATUS_UNKNOWN, Status.STATUS_RUNNING], slice_size=9)
    found = list_session_groups.Handler(request, table, "", rows).run().session_groups
    settings = [group.hparams for group in found]
    learned = {(each["train.lr"].number_value, each["train.schedule"].string_value) for each in settings}
    assert learned == {(0.5, "plateau"), (0.1, "cosine")}
    metrics = {(value.name.group, value.name.tag, value.value) for group in found for value in group.metric_values}
    assert metrics == {("val", "top1", 0.25), ("train", "top1", 0.75)}


def test_nothing_is_drawn_where_nobody_looks(begin: Begin, config: MakeConfig):
    drawn: list[object] = []
    begin("train.tensorboard=false").show("val/confusion", drawn.append, 1)
    RunFolder(config("name=other"), writes=False).show("val/confusion", drawn.append, 1)
    assert drawn == []


def test_what_a_killed_process_was_writing_is_removed(begin: Begin):
    run = begin()
    (run.folder / "test").mkdir()
    for name in (".last.pt.123.tmp", "test/.predictions.csv.123.tmp"):
        (run.folder / name).write_text("half")
    begin(resume=True)
    assert not list(run.folder.rglob(".*"))
