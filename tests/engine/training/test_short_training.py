"""Short trainings before an epoch: what they learn from, what they measure, and that the run does not notice them."""

import copy
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import models
import train
from configs import Config, UserError
from engine.loaders import open_loader
from engine.runs.checkpoint import load_checkpoint
from engine.runtime.session import RunContext
from engine.training.short_training import HoldoutSplit, ShortTraining, split_by_video
from engine.training.step import TrainStep
from pipeline.loader import ClipLoader
from tests.estimating import Estimating, first_loss
from tests.runs import MakeArguments, MakeConfig, shallow, undrawn
from tests.torchrun import forked

__all__ = ["shallow", "undrawn"]  # fixtures
RATE = "train.lr=0.05"  # enough to see it learn


@pytest.fixture
def settings(config: MakeConfig) -> Config:
    return config("model.fusion=rgb", RATE)


@pytest.fixture
def model(settings: Config) -> Estimating:
    torch.manual_seed(0)
    return Estimating(settings.model)


@pytest.fixture
def split(settings: Config, model: Estimating, session: RunContext) -> Iterator[ClipLoader]:
    """The run's own training loader: 12 clips of 4 videos."""
    with open_loader(settings, "train", model, session, train=True) as loader:
        yield loader


@pytest.fixture
def estimating(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `rgb` be the method that trains before its first epoch."""
    monkeypatch.setitem(models.FUSIONS, "rgb", Estimating)
    monkeypatch.setattr(Estimating, "fits", 0)


def parts_of(split: ClipLoader, holdout: float = 0.25) -> Any:
    return split_by_video(split.table.video_id.tolist(), split.labels, subset=1.0, holdout=holdout, seed=0)


@torch.no_grad()
def loss_of(model: Estimating, split: ClipLoader, clips: np.ndarray) -> float:
    """The mean loss over clips as evaluation shows them, all at once."""
    with ClipLoader(split.split_dir, 12, 8, 32, train=False, streams=("rgb",)) as loader:
        batch = next(iter(loader))
    return float(F.cross_entropy(model(batch.rgb, None).extra["first"][clips], batch.labels[clips]))


def test_losses_are_means_over_all_clips_of_each_part_before_and_after(
    settings: Config, model: Estimating, split: ClipLoader, session: RunContext
):
    parts = parts_of(split)
    assert (len(parts.train), len(parts.holdout)) == (9, 3)  # neither is a multiple of the batch size, 4
    expected = [loss_of(model, split, clips) for clips in parts]
    result = ShortTraining(0, settings, session, split)(model, first_loss, epochs=3, subset=1.0, holdout=0.25)
    assert [result.train_before, result.holdout_before] == pytest.approx(expected, rel=1e-5)
    expected = [loss_of(model, split, clips) for clips in parts]
    assert [result.train_after, result.holdout_after] == pytest.approx(expected, rel=1e-5)
    assert result.train_after < result.train_before


def test_it_learns_from_the_clips_that_are_not_held_out(
    settings: Config, model: Estimating, split: ClipLoader, session: RunContext, monkeypatch: pytest.MonkeyPatch
):
    seen: list[int] = []
    real = TrainStep.step

    def step(self: TrainStep, batch: Any, number: int) -> Any:
        seen.extend(batch.clips.tolist())
        return real(self, batch, number)

    monkeypatch.setattr(TrainStep, "step", step)
    ShortTraining(0, settings, session, split)(model, first_loss, epochs=4, subset=1.0, holdout=0.25)
    parts = parts_of(split)
    assert set(seen) == set(parts.train)
    assert len(seen) == 4 * 8  # full batches alone


def test_a_head_that_the_loss_does_not_look_at_stays_as_it_is(
    settings: Config, model: Estimating, split: ClipLoader, session: RunContext
):
    before = copy.deepcopy(model.state_dict())
    ShortTraining(0, settings, session, split)(model, first_loss, epochs=1, subset=1.0, holdout=0.25)
    assert torch.equal(model.second.weight, before["second.weight"])
    assert not torch.equal(model.first.weight, before["first.weight"])


def test_too_few_clips_for_a_step_say_the_way_out(
    config: MakeConfig, model: Estimating, split: ClipLoader, session: RunContext
):
    fit = ShortTraining(0, config("model.fusion=rgb", "loader.batch_size=10"), session, split)
    with pytest.raises(UserError, match=r"the 9 clips that are not held out do not fill one step of 10; use more"):
        fit(model, first_loss, epochs=1, subset=1.0, holdout=0.25)


def test_the_run_does_not_notice_it(
    arguments: MakeArguments, estimating: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def run(name: str) -> dict[str, Any]:
        assert train.main(arguments("model.fusion=rgb", f"name={name}", "--quiet")) == 0
        return load_checkpoint(tmp_path / "runs" / name / "last.pt")

    one = run("with")
    monkeypatch.setattr(Estimating, "prepare", lambda self, fit: {})
    other = run("without")
    assert one["model"].pop("estimate") > 0
    assert other["model"].pop("estimate") == 0
    assert one["loader"] == other["loader"]
    for key in ("model", "stepper"):
        torch.testing.assert_close(one[key], other[key], rtol=0, atol=0)


@pytest.mark.parametrize("moment", ["a step", "the first loss"])
def test_a_signal_in_it_ends_the_run_and_resuming_equals_never_stopping(
    moment: str, arguments: MakeArguments, estimating: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def command(name: str) -> list[str]:
        return [*arguments("model.fusion=rgb", RATE, f"name={name}"), "--quiet"]

    assert train.main(command("whole")) == 0
    owner, name = (TrainStep, "step") if moment == "a step" else (ShortTraining, "_mean_loss")
    real = getattr(owner, name)

    def stop(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, stop)
        assert train.main(command("stopped")) == 128 + signal.SIGTERM
    assert load_checkpoint(tmp_path / "runs/stopped/last.pt")["counters"]["prepared"] == 0
    assert train.main([*command("stopped"), "--resume"]) == 0
    assert Estimating.fits == 3  # of the whole run, of the stopped one, and of the resumed one, which begins it anew
    one, other = (load_checkpoint(tmp_path / "runs" / name / "last.pt") for name in ("whole", "stopped"))
    for key in ("model", "stepper"):
        torch.testing.assert_close(one[key], other[key], rtol=0, atol=0)


def test_what_was_found_out_is_logged_saved_and_not_repeated(
    arguments: MakeArguments, estimating: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real = TrainStep.step

    def crash_in_the_run(self: TrainStep, batch: Any, number: int) -> Any:
        if isinstance(self.module.losses, type(self.module.model.losses)):  # the model's own: no short training
            raise MemoryError("killed")
        return real(self, batch, number)

    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "step", crash_in_the_run)
        assert train.main(arguments("model.fusion=rgb", "--quiet")) == 1
    assert train.main([*arguments("model.fusion=rgb"), "--resume", "--quiet"]) == 0
    assert Estimating.fits == 1
    folder = tmp_path / "runs" / "xnorm"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    (found,) = (line for line in lines if line["kind"] == "prepare")
    assert (found["epoch"], found["step"]) == (1, 0)
    assert load_checkpoint(folder / "last.pt")["model"]["estimate"].item() == pytest.approx(found["holdout_after"])


@pytest.mark.filterwarnings("ignore:Gradient-Blending")  # nothing can be learned from these clips
@pytest.mark.parametrize(("online", "epochs"), [("null", [1]), ("1", [1, 2])])
def test_gradient_blending_estimates_with_it(online: str, epochs: list[int], arguments: MakeArguments, tmp_path: Path):
    options = ("model.estimation_epochs=1", f"model.online={online}", "loader.batch_size=2", "--quiet")
    assert train.main(arguments("model.fusion=gblend", *options)) == 0
    folder = tmp_path / "runs" / "xnorm"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found = [line for line in lines if line["kind"] == "prepare"]
    assert [line["epoch"] for line in found] == epochs  # of two
    for line in found:
        assert {f"{head}_{what}" for head in ("rgb", "flow", "joint") for what in ("dG", "dO", "w")} < line.keys()
        weights = [line[f"{head}_w"] for head in ("rgb", "flow", "joint")]
        assert sum(weights) == pytest.approx(1)
    assert load_checkpoint(folder / "last.pt")["model"]["head_weights"].tolist() == pytest.approx(weights)
    (step, *_) = (line for line in lines if line["kind"] == "train")
    assert {"loss", "loss/cls", "loss/rgb", "loss/flow"} < step.keys()


@pytest.mark.slow
def test_two_processes_measure_what_one_does(arguments: MakeArguments, estimating: None, tmp_path: Path):
    def command(name: str) -> list[str]:
        return [*arguments("model.fusion=rgb", RATE, "train.epochs=1", f"name={name}"), "--quiet"]

    def prepared(name: str) -> dict[str, float]:
        lines = (tmp_path / "runs" / name / "metrics.jsonl").read_text().splitlines()
        return next(line for line in map(json.loads, lines) if line["kind"] == "prepare")

    assert train.main(command("one")) == 0
    _, codes = forked("tests.estimating", *command("two"), ranks=2)
    assert codes == [0, 0]
    one, two = prepared("one"), prepared("two")
    for key in ("train_before", "holdout_before", "train_after", "holdout_after"):  # the same clips in the same steps
        assert two[key] == pytest.approx(one[key], rel=1e-4), key


def clips(*counts: tuple[int, ...]) -> tuple[list[bytes], np.ndarray]:
    """Video ids and labels of videos with so many clips of each class."""
    videos, labels = [], []
    for video, of_class in enumerate(counts):
        for label, number in enumerate(of_class):
            videos += [f"P01_{video:02d}".encode()] * number
            labels += [label] * number
    return videos, np.array(labels)


def random_clips(seed: int) -> tuple[list[bytes], np.ndarray]:
    """Thirty videos of 1 to 40 clips, eight classes, the last of which is rare."""
    rng = np.random.default_rng(seed)
    shares = np.array([30, 25, 15, 10, 8, 6, 4, 2]) / 100
    return clips(*(tuple(rng.multinomial(rng.integers(1, 41), shares)) for _ in range(30)))


def sides(parts: HoldoutSplit, videos: list[bytes]) -> list[set[bytes]]:
    return [{videos[position] for position in part} for part in parts]


@pytest.mark.parametrize("seed", range(5))
def test_a_video_is_on_one_side_and_every_class_on_both(seed: int):
    videos, labels = random_clips(seed)
    parts = split_by_video(videos, labels, subset=1.0, holdout=0.2, seed=seed)
    assert sorted(np.concatenate(parts)) == list(range(len(videos)))
    train, held = sides(parts, videos)
    assert not train & held
    assert set(labels[parts.train]) == set(labels[parts.holdout]) == set(range(8))
    for label in range(4):  # the frequent ones
        assert np.mean(labels[parts.holdout] == label) == pytest.approx(np.mean(labels == label), abs=0.05)
    assert len(parts.holdout) / len(videos) == pytest.approx(0.2, abs=0.05)


def test_a_subset_has_its_share_of_every_class():
    videos, labels = clips((40, 8), (40, 8), (40, 8), (40, 8))
    parts = split_by_video(videos, labels, subset=0.25, holdout=0.5, seed=0)
    used = np.concatenate(parts)
    assert np.bincount(labels[used]).tolist() == [40, 8]
    assert len(set(used)) == len(used)


def test_the_parts_follow_from_the_seed():
    videos, labels = random_clips(0)
    one, again, other = (split_by_video(videos, labels, subset=0.5, holdout=0.2, seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not np.array_equal(one.holdout, other.holdout)


def test_videos_are_chosen_by_what_they_hold():
    # Half of each class: the first with the last, or the two in the middle.
    videos, labels = clips((3, 1), (2, 2), (2, 2), (1, 3))
    for seed in range(5):
        _, held = sides(split_by_video(videos, labels, subset=1.0, holdout=0.5, seed=seed), videos)
        assert held in ({b"P01_00", b"P01_03"}, {b"P01_01", b"P01_02"})


def test_a_class_of_one_video_cannot_be_on_both_sides_but_the_others_are():
    videos, labels = clips((4, 4, 0), (4, 4, 0), (4, 4, 2))
    parts = split_by_video(videos, labels, subset=1.0, holdout=0.3, seed=0)
    assert {0, 1} <= set(labels[parts.train])
    assert {0, 1} <= set(labels[parts.holdout])


def test_one_video_alone_cannot_be_split():
    with pytest.raises(UserError, match=r"all of its 6 clips are of the video P01_00, so no video can be held out"):
        split_by_video(*clips((3, 3)), subset=1.0, holdout=0.2, seed=0)
