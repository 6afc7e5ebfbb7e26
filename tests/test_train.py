"""The command train.py, through the real shards, loader and models."""

import dataclasses
import json
import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import train
from common.lock import locked
from configs import load_config
from engine.runs.checkpoint import load_checkpoint, plain_config
from engine.training.step import TrainStep
from engine.training.trainer import Trainer
from pipeline.format.split import open_split
from preprocess import pack
from tests import estimating, runs
from tests.runs import MakeArguments, difference, metrics
from tests.torchrun import forked

data, arguments = runs.data, runs.arguments  # fixtures
one_thread, undrawn, shallow = runs.one_thread, runs.undrawn, runs.shallow

ROOT = Path(__file__).parents[1]
LIGHT = ("model.fusion=rgb", "train.epochs=1")  # for what does not depend on the method


def assert_same_run(one: Path, other: Path) -> None:
    assert difference(one, other) is None


def after_calls(number: int, action: Callable[[], None], real: Callable[..., Any]) -> Callable[..., Any]:
    """`real`, and once it has been called `number` times, `action`."""
    calls = 0

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        result = real(*args, **kwargs)
        calls += 1
        if calls == number:
            action()
        return result

    return call


def counted(numbers: list[int], real: Callable[..., Any]) -> Callable[..., Any]:
    """`TrainStep.step`, noting the number of each step."""

    def step(self: TrainStep, batch: Any, number: int) -> Any:
        numbers.append(number)
        return real(self, batch, number)

    return step


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


class KilledError(Exception):
    """Stands for what ends a process in the middle of its work."""


def crash() -> None:
    raise KilledError


@pytest.fixture(scope="module")
def never_stopped(data: list[str], one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    whole = ("train.tensorboard=true", f"runs={folder}", "--quiet")
    assert train.main(["-c", str(runs.CONFIG), *data, *runs.SMALL, *whole]) == 0
    return folder / "xnorm"


@pytest.mark.parametrize("step", [3, 5])  # after the last step of an epoch; within an epoch
def test_resume_after_sigterm_equals_never_stopping(
    step: int, arguments: MakeArguments, never_stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "step", after_calls(step, terminate, TrainStep.step))
        assert train.main(arguments()) == 128 + signal.SIGTERM
    assert f"stopped by SIGTERM; {tmp_path / 'runs/xnorm/last.pt'} is saved, --resume" in capsys.readouterr().err
    assert load_checkpoint(tmp_path / "runs/xnorm/last.pt")["counters"]["step"] == step
    assert train.main([*arguments(), "--resume"]) == 0
    assert_same_run(never_stopped, tmp_path / "runs" / "xnorm")


def test_resume_after_sigterm_in_validation_equals_never_stopping(
    arguments: MakeArguments, never_stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real = Trainer.score

    def score(self: Trainer, *args: Any) -> Any:
        terminate()
        return real(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "score", score)
        assert train.main(arguments()) == 128 + signal.SIGTERM
    assert train.main([*arguments(), "--resume"]) == 0
    assert_same_run(never_stopped, tmp_path / "runs" / "xnorm")


@pytest.mark.parametrize("step", [1, 5])  # before the first checkpoint; a step and a log line after one
def test_resume_after_a_crash_equals_never_stopping(
    step: int, arguments: MakeArguments, never_stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    every = "train.checkpoint_every=4"
    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "step", after_calls(step, crash, TrainStep.step))
        with pytest.raises(KilledError):
            train.main([*arguments(), every])
    assert train.main([*arguments(), every, "--resume"]) == 0
    assert_same_run(never_stopped, tmp_path / "runs" / "xnorm")


@pytest.mark.slow
def test_resume_with_all_of_the_recipe_equals_never_stopping(
    arguments: MakeArguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def recipe(name: str) -> list[str]:
        rates = "train.optimizer=sgd", "train.lr=0.01", "train.schedule=cosine", "train.warmup_steps=4"
        groups = "train.head_lr_factor=10", "train.decay_vectors=false", "train.accumulate=2"
        classes = "loader.balance=0.5", "train.class_weights=0.5", "train.label_smoothing=0.1"
        stages = "model.freeze=[Conv3d_1a_7x7]", "model.checkpoint_stages=all"
        return arguments(f"name={name}", "model.fusion=late", "--quiet", *rates, *groups, *classes, *stages)

    assert train.main(recipe("whole")) == 0
    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "step", after_calls(4, terminate, TrainStep.step))
        assert train.main(recipe("stopped")) == 128 + signal.SIGTERM
    assert train.main([*recipe("stopped"), "--resume"]) == 0
    assert_same_run(tmp_path / "runs/whole", tmp_path / "runs/stopped")
    rates = {line["lr"] for line in runs.metrics(tmp_path / "runs/whole") if line["kind"] == "train"}
    assert len(rates) == 3


@pytest.mark.slow
def test_resume_after_kill_9_in_mid_epoch_equals_never_stopping(
    arguments: MakeArguments, never_stopped: Path, tmp_path: Path
):
    every = "train.checkpoint_every=4"  # killed at step 5 of 6, three per epoch: after a checkpoint
    _, codes = forked("tests.estimating", *arguments(every), "--quiet", ranks=1, **{estimating.DIE_AFTER: "5"})
    assert codes == [-signal.SIGKILL]
    assert load_checkpoint(tmp_path / "runs/xnorm/last.pt")["counters"]["step"] == 4
    assert train.main([*arguments(every), "--resume"]) == 0
    assert_same_run(never_stopped, tmp_path / "runs" / "xnorm")


@pytest.mark.slow
def test_killed_inside_a_write_or_an_estimation_a_run_ends_with_the_same_bits():
    trials = ["--kills", "1", "--methods", "gblend", "--kinds", "saving", "estimation"]
    printed, codes = forked("chaos.train", *trials, ranks=1)
    assert codes == [0]
    assert "\n".join(printed).count("| 1 | 1 weights, metrics and predictions are bit for bit those of a run") == 2


@pytest.mark.slow
def test_a_full_disk_ends_training_with_one_message_and_it_resumes(arguments: MakeArguments, tmp_path: Path, capsys):
    assert train.main(arguments(*LIGHT, "name=whole", "--quiet")) == 0
    room = (tmp_path / "runs/whole/last.pt").stat().st_size // 2
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        assert train.main(arguments(*LIGHT, "--quiet", "train.checkpoint_every=2")) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    last = tmp_path / "runs/xnorm/last.pt"
    assert capsys.readouterr().err == (
        f"error: {last}: cannot be written: File too large; what was there before is still there\n"
    )
    assert not list(last.parent.rglob(".*"))
    assert train.main([*arguments(*LIGHT, "--quiet", "train.checkpoint_every=2"), "--resume"]) == 0
    assert_same_run(tmp_path / "runs/whole", last.parent)


def test_a_finished_run_is_left_alone_unless_it_gets_more_epochs(arguments: MakeArguments, tmp_path: Path, capsys):
    assert train.main(arguments(*LIGHT)) == 0
    summary = tmp_path / "runs/xnorm/summary.json"
    before = summary.read_bytes()
    parameters = f"{json.loads(summary.read_text())['parameters']['total'] / 1e6:.2f} M parameters"
    said = capsys.readouterr().out
    for text in (
        f"rgb, trunk i3d, {parameters}\n",
        "train: 12 clips; label: 0 4, 1 4, 2 4\nval: 6 clips; label: 0 2, 1 2, 2 2\ntest: 3 clips",
        "fp32, batches of 4 clips, each 8 x 32 x 32\n",
        f"writes into {summary.parent}\n",
        "epoch 1/1  step 1  loss ",
    ):
        assert text in said
    assert train.main([*arguments(*LIGHT), "--resume"]) == 0
    assert "runs/xnorm: finished already" in capsys.readouterr().out
    assert summary.read_bytes() == before
    assert train.main([*arguments(*LIGHT, "train.epochs=2"), "--resume"]) == 0
    assert json.loads(summary.read_text())["epochs"] == 2


# What a run must not be begun or gone on with


@pytest.fixture
def own_shards(data: list[str], tmp_path: Path) -> Path:
    """A copy of the packed splits."""
    packed = Path(next(value for value in data if value.startswith("data.shards=")).split("=", 1)[1])
    return shutil.copytree(packed, tmp_path / "shards")


def test_a_missing_test_split_is_said_before_the_first_step(
    arguments: MakeArguments, own_shards: Path, tmp_path: Path, capsys
):
    shutil.rmtree(own_shards / "test")
    assert train.main(arguments(*LIGHT, f"data.shards={own_shards}")) == 1
    assert f"{own_shards / 'test'}: no index.json here" in capsys.readouterr().err
    assert not (tmp_path / "runs/xnorm").exists()


def test_a_split_that_is_another_ones_files_is_refused_by_name(arguments: MakeArguments, own_shards: Path, capsys):
    shutil.rmtree(own_shards / "val")
    shutil.copytree(own_shards / "train", own_shards / "val")
    assert train.main(arguments(*LIGHT, f"data.shards={own_shards}")) == 1
    assert f"{own_shards / 'val'}: holds the split 'train', not 'val'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_split_that_was_packed_anew_is_not_gone_on_with(
    arguments: MakeArguments, data: list[str], own_shards: Path, tmp_path: Path, capsys
):
    changed = arguments(*LIGHT, f"data.shards={own_shards}")
    assert train.main([*changed, "--quiet"]) == 0
    shutil.rmtree(own_shards / "val")
    named = next(item for item in data if item.startswith("data.annotations"))
    rows = Path(named[named.index("val: [") + 6 : named.index("], test")]).read_text().splitlines(keepends=True)
    (tmp_path / "half.csv").write_text("".join(rows[: len(rows) // 2 + 1]))
    only = [item for item in data if not item.startswith(("data.annotations", "data.shards"))]
    where = (f"data.annotations={{val: [{tmp_path / 'half.csv'}]}}", f"data.shards={own_shards}")
    assert pack.main(["-c", str(runs.CONFIG), *only, *where, "--quiet"]) == 0
    assert train.main([*changed, "train.epochs=2", "--resume"]) == 1
    assert "the shards of val are not those that this run began with" in capsys.readouterr().err


@pytest.mark.slow
def test_what_changes_no_number_may_change_on_resume_and_fewer_epochs_may_not(
    arguments: MakeArguments, own_shards: Path, tmp_path: Path, capsys
):
    assert train.main(arguments(*LIGHT, "--quiet")) == 0
    (tmp_path / "moved").mkdir()
    (tmp_path / "runs/xnorm").rename(tmp_path / "moved/4711")
    moved = (f"runs={tmp_path / 'moved'}", "name=4711", "data.frames=/elsewhere", f"data.shards={own_shards}")
    faster = ("loader.num_threads=2", "data.workers=3", "train.log_every=1", "train.checkpoint_every=1")
    more = ("train.epochs=4", "train.stop_patience=1", "--quiet")
    assert train.main([*arguments(*LIGHT, *moved, *faster, *more), "--resume"]) == 0
    summary = json.loads((tmp_path / "moved/4711/summary.json").read_text())
    assert (summary["name"], summary["stopped_early"]) == ("4711", summary["epochs"] < 4)
    assert summary["epochs"] >= 2
    assert train.main([*arguments(*LIGHT, *moved), "--resume"]) == 2
    assert f"train.epochs: found 1, but {summary['epochs']} epochs are trained already" in capsys.readouterr().err


@pytest.mark.slow
def test_an_early_stop_says_why_and_more_patience_goes_on(
    arguments: MakeArguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    real = Trainer.validate
    monkeypatch.setattr(
        Trainer,
        "validate",
        lambda self: dataclasses.replace(result := real(self), metrics=dataclasses.replace(result.metrics, top1=0.5)),
    )
    patient = arguments(*LIGHT[:1], "train.epochs=3")
    assert train.main([*patient, "train.stop_patience=1"]) == 0
    assert "stopped early after epoch 2: 1 epochs (train.stop_patience) brought no val" in capsys.readouterr().out
    assert train.main([*patient, "train.stop_patience=2", "--resume", "--quiet"]) == 0
    summary = json.loads((tmp_path / "runs/xnorm/summary.json").read_text())
    assert (summary["epochs"], summary["stopped_early"]) == (3, False)


@pytest.mark.parametrize("words", [("--resume", "auto"), ("--resume=auto",)])
def test_resume_auto_starts_goes_on_and_leaves_alone(
    words: tuple[str, ...], arguments: MakeArguments, monkeypatch: pytest.MonkeyPatch, capsys
):
    steps: list[int] = []
    monkeypatch.setattr(TrainStep, "step", counted(steps, TrainStep.step))
    command = [*arguments(*LIGHT), *words]
    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "step", after_calls(2, terminate, TrainStep.step))
        assert train.main(command) == 128 + signal.SIGTERM
    assert train.main(command) == 0
    assert train.main(command) == 0
    assert steps == [0, 1, 2]
    assert "runs/xnorm: finished already" in capsys.readouterr().out


def test_overrides_may_follow_resume(arguments: MakeArguments, tmp_path: Path, capsys):
    assert train.main([*arguments(*LIGHT), "--resume", "seed=3"]) == 2
    assert f"{tmp_path / 'runs/xnorm'}: there is no run to resume here" in capsys.readouterr().err
    assert train.main([*arguments(*LIGHT), "--resume", "seed"]) == 2
    assert "'seed': overrides are written section.key=value" in capsys.readouterr().err


def test_a_second_process_in_the_folder_is_refused(arguments: MakeArguments, tmp_path: Path, capsys):
    assert train.main([*arguments(*LIGHT), "--quiet"]) == 0
    before = (tmp_path / "runs/xnorm/last.pt").read_bytes()
    with locked(tmp_path / "runs/xnorm"):
        assert train.main([*arguments(*LIGHT, "train.epochs=2"), "--resume"]) == 1
    assert "runs/xnorm: another process is writing here" in capsys.readouterr().err
    assert (tmp_path / "runs/xnorm/last.pt").read_bytes() == before


# Several seeds


@pytest.mark.slow
def test_a_sweep_trains_each_seed_in_a_folder_of_its_own_as_that_seed_alone_would(
    arguments: MakeArguments, tmp_path: Path
):
    assert train.main(arguments(*LIGHT, "name=rgb", "seeds=[0,7]", "--quiet")) == 0
    assert train.main(arguments(*LIGHT, "name=alone", "seed=7", "--quiet")) == 0
    folders = tmp_path / "runs"
    assert {path.name for path in folders.iterdir()} == {"rgb-seed0", "rgb-seed7", "alone"}
    assert_same_run(folders / "alone", folders / "rgb-seed7")
    assert metrics(folders / "rgb-seed0") != metrics(folders / "rgb-seed7")
    config = load_config(folders / "rgb-seed7" / "config.yaml")  # what eval.py -c may be given
    assert (config.name, config.seed, config.seeds) == ("rgb-seed7", 7, None)


@pytest.mark.slow
def test_a_resumed_sweep_skips_what_is_finished_resumes_what_is_not_and_starts_the_rest(
    arguments: MakeArguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    sweep = arguments(*LIGHT, "seeds=[0,1,2]")
    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "step", after_calls(5, terminate, TrainStep.step))  # three steps a seed
        assert train.main(sweep) == 128 + signal.SIGTERM
    assert "runs/xnorm-seed1/last.pt is saved, --resume goes on from it" in capsys.readouterr().err
    steps: list[int] = []
    monkeypatch.setattr(TrainStep, "step", counted(steps, TrainStep.step))
    assert train.main([*sweep, "--resume"]) == 0
    assert steps == [2, 0, 1, 2]
    assert all((tmp_path / "runs" / f"xnorm-seed{seed}" / "summary.json").exists() for seed in range(3))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("seeds=[0,1]",), "runs/xnorm-seed1: this run exists already; go on with it by --resume, or choose another"),
        (("seeds=[0,1]", "train.lr=0.5", "--resume"), "runs/xnorm-seed1: --resume needs the config that the run began"),
        (("seeds=[0,2]", "--resume"), "runs/xnorm-seed0: there is no run to resume here"),
    ],
)
def test_a_sweep_looks_at_all_folders_before_it_starts_a_seed(
    command: tuple[str, ...], message: str, arguments: MakeArguments, tmp_path: Path, capsys
):
    (tmp_path / "runs/xnorm-seed1").mkdir(parents=True)
    begun = load_config(runs.CONFIG, arguments(*LIGHT, "name=xnorm-seed1", "seed=1")[2:])
    (tmp_path / "runs/xnorm-seed1/config.yaml").write_text(yaml.safe_dump(plain_config(begun)))
    assert train.main(arguments(*LIGHT, *command)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs" / "xnorm-seed0").exists()


def test_a_run_folder_has_all_that_is_promised(never_stopped: Path):
    names = {path.name for path in never_stopped.iterdir()}
    files = {"config.yaml", "metrics.jsonl", "best.pt", "last.pt", "last.prev.pt", "summary.json", "curves.png"}
    assert names == files | {"tensorboard", "test", "report.html"}
    summary = json.loads((never_stopped / "summary.json").read_text())
    assert summary["test"]["top1"] == json.loads((never_stopped / "test" / "metrics.json").read_text())["top1"]
    assert (summary["epochs"], summary["steps"], summary["processes"]) == (2, 6, 1)
    assert summary["parameters"]["total"] == summary["parameters"]["trainable"] > 0
    assert {"python", "torch", "numpy"} < summary["versions"].keys()
    assert min(summary["clips_per_s"], summary["data_wait"], summary["wall_seconds"]) > 0
    assert summary["gflops_per_clip"] > 0
    assert summary["data"]["train"] == {"clips": 12, "classes": {"label": {"0": 4, "1": 4, "2": 4}}}
    assert {split: data["clips"] for split, data in summary["data"].items()} == {"train": 12, "val": 6, "test": 3}
    assert summary["peak_memory_bytes"] > 2**20
    assert summary["splits"].keys() == {"train", "val", "test"}
    log = [line for line in metrics(never_stopped) if line["kind"] == "val"]
    best = next(line for line in log if line["epoch"] == summary["best_epoch"])
    assert summary["val"] == {key: best[key] for key in ("loss", "top1", "top5", "mean_class")}


def test_without_a_test_split_the_test_is_left_out(arguments: MakeArguments, data: list[str], tmp_path: Path):
    only = next(item for item in data if item.startswith("data.annotations")).replace("test:", "val_:")
    named = only[: only.index(", val_:")] + "}"
    assert train.main(arguments(*LIGHT, named)) == 0
    assert not (tmp_path / "runs/xnorm/test").exists()
    assert json.loads((tmp_path / "runs/xnorm/summary.json").read_text())["test"] is None


def test_one_stream_alone_does_not_decode_the_other(arguments: MakeArguments, monkeypatch: pytest.MonkeyPatch):
    seen = []
    real = TrainStep.step

    def step(self: TrainStep, batch: Any, number: int) -> Any:
        seen.append((batch.rgb is None, batch.flow is None))
        return real(self, batch, number)

    monkeypatch.setattr(TrainStep, "step", step)
    for fusion in ("rgb", "flow"):
        assert train.main(arguments(*LIGHT, f"model.fusion={fusion}", f"name={fusion}")) == 0
    assert seen == [(False, True)] * 3 + [(True, False)] * 3


@pytest.mark.parametrize(
    ("override", "code", "message"),
    [
        ("train.epoch=3", 2, "train.epoch: unknown key; did you mean 'epochs'?"),
        ("data.annotations={train: [a.csv]}", 2, "data.annotations: names no val split; named: train"),
        ("loader.batch_size=64", 1, "lower loader.batch_size"),
        ("train.precision=fp16", 2, "train.precision: found 'fp16', which needs a GPU"),
        ("data.shards=/nowhere", 1, "base.yaml data.preset=none data.workers=1"),
        ("data.shards=/nowhere", 1, "data.shards=/nowhere` (again), or set data.shards to where it is"),
    ],
)
def test_mistakes_end_with_one_message(override: str, code: int, message: str, arguments: MakeArguments, capsys):
    if "fp16" in override and torch.cuda.is_available():
        pytest.skip("fp16 is fine here")
    assert train.main(arguments(override)) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in error


def test_a_rate_that_is_much_too_high_is_said_with_the_steps_that_were_not_taken(arguments: MakeArguments, capsys):
    assert train.main(arguments(*LIGHT, "train.lr=1e30")) == 1
    *warnings, error = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1] for line in warnings] == [" epoch 1, step 2", " epoch 1, step 3"]
    assert error.startswith("error: evaluation: the scores of 6 of 6 clips are not finite")


def test_quiet_prints_nothing(arguments: MakeArguments, capsys):
    assert train.main([*arguments(*LIGHT), "--quiet"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_clips_that_were_left_out_are_counted_and_named(
    arguments: MakeArguments, own_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    table = open_split(own_shards / "train").table
    shard = own_shards / "train" / "00000.tfrecord"
    content = bytearray(shard.read_bytes())
    content[int(table.offset[table.first_frame[2], 0]) + 50] ^= 1
    shard.write_bytes(content)
    clip = table.clip_id[2].decode()
    damaged = arguments(*LIGHT, f"data.shards={own_shards}", "train.checkpoint_every=1")
    assert train.main([*damaged, "name=stops"]) == 1
    assert f"clip {clip}" in capsys.readouterr().err
    assert train.main([*damaged, "name=skips", "loader.on_corrupt=skip"]) == 0
    assert f"corrupt, others were trained on instead: {clip}" in capsys.readouterr().out
    summary = json.loads((tmp_path / "runs" / "skips" / "summary.json").read_text())
    assert summary["skipped_clips"] == {clip: 1}
    resumed = [*damaged, "name=resumed", "loader.on_corrupt=skip", "--quiet"]
    with monkeypatch.context() as patch:  # killed after the last step: the clip was left out before the checkpoint
        patch.setattr(Trainer, "validate", lambda self: crash())
        with pytest.raises(KilledError):
            train.main(resumed)
    assert train.main([*resumed, "--resume"]) == 0
    assert difference(tmp_path / "runs" / "skips", tmp_path / "runs" / "resumed") is None


def test_shards_that_were_packed_otherwise_are_noted(arguments: MakeArguments, capsys: pytest.CaptureFixture[str]):
    assert train.main(arguments(*LIGHT, "data.frames_per_clip=all", "clip.num_frames=16", "clip.temporal=jitter")) == 0
    said = capsys.readouterr().out
    assert "was packed with data.frames_per_clip=16, not all" in said
    assert "clip.temporal=jitter has no effect" in said
