"""The demo's judgement, and the road from data to verdict with the trainings cut short."""

import json
import shutil
import sys
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import pytest
import yaml

import demo
from common.errors import UserError
from configs import load_config
from configs.methods import METHODS
from engine.runs.comparison.rows import Row
from engine.runs.records import Accuracy, Run, Summary
from tests.runs import shallow, undrawn

__all__ = ["shallow", "undrawn"]  # fixtures
ROOT = Path(__file__).parents[1]


def row(name: str, *accuracies: float) -> Row:
    configs = [{"name": f"{name}-seed{i}", "seed": i, "model": {"fusion": name}} for i in range(len(accuracies))]
    scored = [Accuracy(top1=accuracy, mean_class=accuracy) for accuracy in accuracies]
    summaries = [Summary.model_construct(val=accuracy, test=accuracy) for accuracy in scored]
    return Row(tuple(map(Run, repeat(Path(name)), configs, summaries)), "A")


@pytest.mark.parametrize(
    ("task", "method", "accuracy", "expected"),
    [
        ("additive", "rgb", 0.5, True),
        ("additive", "flow", 0.61, False),  # it would have seen what it cannot see
        ("additive", "xnorm", 0.9, True),
        ("additive", "xnorm", 0.89, False),
        *(("additive", fusion, 1.0, fusion not in ("rgb", "flow", "distill")) for fusion in METHODS),
        ("xor", "late", 0.75, True),  # what additive logits can reach at the best
        ("xor", "late", 0.76, False),
        ("xor", "xnorm", 0.94, False),
        *(("binding", fusion, 0.46, False) for fusion in ("rgb", "flow", "late", "xnorm")),
        ("binding", "late", 0.24, True),
        ("binding", "xnorm", 0.9, True),
        ("binding", "mult", 0.25, True),  # nothing is promised of pooled methods
        ("binding", "xnorm-unsynchronized", 0.5, True),
    ],
)
def test_each_task_has_its_limits(task: str, method: str, accuracy: float, expected: bool):
    assert demo.is_as_expected(task, row(method, accuracy)) is expected


def test_every_seed_must_come_out():
    assert demo.is_as_expected("binding", row("xnorm", 0.95, 0.97))
    assert not demo.is_as_expected("binding", row("xnorm", 0.95, 0.89))


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A demo in tmp_path, of nets so small and so short a training that no fusion can learn it."""
    additive = demo.DEMOS["additive"]
    content = yaml.safe_load(additive.config.read_text().replace("demo/", f"{tmp_path}/"))
    content["runs"] = str(tmp_path / "runs")
    content["clip"] |= {"crop_size": 32}
    content["model"] |= {"width": 0.05}
    content["data"] |= {"workers": 1}
    content["train"] |= {"epochs": 1}
    path = tmp_path / "demo.yaml"
    path.write_text(yaml.safe_dump(content))
    monkeypatch.setitem(demo.DEMOS, "additive", replace(additive, config=path))
    write = demo.synth.main
    few = ["--videos", "4", "1", "1", "--clips", "4", "--workers", "1"]
    monkeypatch.setattr(demo.synth, "main", lambda argv: write([*argv, *few]))
    return tmp_path


@pytest.mark.slow
def test_the_road_ends_in_a_comparison_and_fails_where_a_fusion_has_not_learned(short: Path, capfd):
    runs = short / "runs"
    (runs / "old").mkdir(parents=True)  # of a demo before
    assert demo.main(["--tasks", "additive", "--methods", "late", "--set", "train.log_every=3"]) == 1
    assert yaml.safe_load((runs / "late-seed0" / "config.yaml").read_text())["train"]["log_every"] == 3
    out = capfd.readouterr().out
    written = {f"comparison.{ending}" for ending in ("md", "csv", "png", "html")}
    assert {path.name for path in runs.iterdir()} == {"late-seed0", *written}
    accuracy = json.loads((runs / "late-seed0" / "summary.json").read_text())["test"]["top1"]
    assert f"{accuracy:.1%}" in out
    assert all(word in out for word in ("at least 90%", "chance 25%", "data wait"))
    assert "additive late-seed0: epoch 1/1" in out
    assert "WRONG" in out


def test_a_training_that_fails_ends_the_demo(short: Path, capfd, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(demo.synth, "main", lambda argv: 0)
    monkeypatch.setattr(demo.pack, "main", lambda argv: 1)
    assert demo.main([]) == 1
    assert "error: the demo stops: packing ended with exit code 1, see above" in capfd.readouterr().err


@pytest.mark.parametrize("override", ["runs=elsewhere", "name=x", "data.frames=elsewhere", "train.lr=fast"])
def test_what_would_remove_other_runs_or_is_wrong_is_refused_before_anything_is_deleted(
    short: Path, capsys: pytest.CaptureFixture[str], override: str
):
    (short / "runs").mkdir()
    assert demo.main(["--set", override]) == 2
    assert "error: " in capsys.readouterr().err
    assert (short / "runs").exists()


def test_an_unknown_method_is_refused_before_anything_is_deleted(short: Path, capsys):
    (short / "runs").mkdir()
    assert demo.main(["--methods", "xnrm"]) == 2
    assert "--methods: found 'xnrm', allowed: rgb, flow" in capsys.readouterr().err
    assert (short / "runs").exists()
    shutil.rmtree(short / "runs")


def test_an_override_does_not_make_another_method_of_the_one_that_is_named():
    settings = demo._command("additive", "xnorm-unsynchronized", 1, ["model.fusion=rgb", "clip.synchronized=true"])[4:]
    config = load_config(demo.DEMOS["additive"].config, settings)
    assert (config.model.fusion, config.clip.synchronized) == ("xnorm", False)
    assert [run.name for run in config.each_seed()] == ["xnorm-unsynchronized-seed1"]


def sleeper(log: Path, number: int) -> list[str]:
    """A command that stands in for a training: takes long if it is to end well, and notes its end."""
    code = "import sys, time; print('begun', flush=True); time.sleep({}); open({!r}, 'a').write('{} '); sys.exit({})"
    return [sys.executable, "-c", code.format(60 if number == 0 else 2, str(log), number, number)]


def test_trainings_run_side_by_side_and_the_first_that_fails_ends_them_all(tmp_path: Path, capfd, monkeypatch):
    monkeypatch.setattr(demo, "usable_cores", lambda: 2)
    log = tmp_path / "log"
    with pytest.raises(UserError, match="training b ended with exit code 3"):
        demo._train({"a": sleeper(log, 0), "b": sleeper(log, 3), "c": sleeper(log, 4)})
    assert log.read_text() == "3 "  # "a" was ended, "c" has not begun
    assert sorted(capfd.readouterr().out.split("\n")) == ["", "a: begun", "b: begun"]
