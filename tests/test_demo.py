"""The demo's judgement, and the road from data to verdict with the trainings cut short."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

import demo
from configs.methods import METHODS
from engine.comparison import Row, Run

ROOT = Path(__file__).parents[1]


def row(fusion: str, accuracy: float) -> Row:
    return Row((Run(Path(fusion), {"model": {"fusion": fusion}}, {"test": {"top1": accuracy}}),), "A")


@pytest.mark.parametrize(
    ("fusion", "accuracy", "expected"),
    [
        ("rgb", 0.5, True),
        ("flow", 0.61, False),  # it would have seen what it cannot see
        ("xnorm", 0.9, True),
        ("xnorm", 0.89, False),
        *((fusion, 1.0, fusion not in ("rgb", "flow")) for fusion in METHODS),
    ],
)
def test_single_streams_must_stay_low_and_every_fusion_must_be_high(fusion: str, accuracy: float, expected: bool):
    assert demo.is_as_expected(row(fusion, accuracy)) is expected


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A demo in tmp_path, of nets so small and so short a training that no fusion can learn it."""
    content = yaml.safe_load(demo.CONFIG.read_text().replace("demo/", f"{tmp_path}/"))
    content["runs"] = str(tmp_path / "runs")
    content["clip"] |= {"crop_size": 32}
    content["model"] |= {"width": 0.05}
    content["data"] |= {"workers": 1}
    content["train"] |= {"epochs": 1}
    path = tmp_path / "demo.yaml"
    path.write_text(yaml.safe_dump(content))
    monkeypatch.setattr(demo, "CONFIG", path)
    write = demo.synth.main
    few = ["--videos", "4", "1", "1", "--clips", "4", "--workers", "1"]
    monkeypatch.setattr(demo.synth, "main", lambda argv: write([*argv, *few]))
    return tmp_path


def test_the_road_ends_in_a_comparison_and_fails_where_a_fusion_has_not_learned(short: Path, capfd):
    runs = short / "runs"
    (runs / "old").mkdir(parents=True)  # of a demo before
    assert demo.main(["--methods", "late", "--set", "train.log_every=3"]) == 1
    assert yaml.safe_load((runs / "late" / "config.yaml").read_text())["train"]["log_every"] == 3
    out = capfd.readouterr().out
    assert {path.name for path in runs.iterdir()} == {"late", "comparison.md", "comparison.csv", "comparison.png"}
    accuracy = json.loads((runs / "late" / "summary.json").read_text())["test"]["top1"]
    assert f"{accuracy:.1%}" in out
    assert all(word in out for word in ("at least 90%", "ceiling", "data wait"))
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
