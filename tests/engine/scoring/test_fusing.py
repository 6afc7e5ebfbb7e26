"""Scores read back, matched and fused: against formulas written out, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from configs import UserError
from engine.runs import ensemble
from engine.scoring.evaluation import Evaluation, compute_metrics
from engine.scoring.fusing import fuse
from engine.scoring.predictions import Predictions, read_predictions
from engine.scoring.reports import write_reports
from pipeline.views import SINGLE_VIEW

LABELS = [0, 1, 2, 1]
IDS = ["b", "a", "d", "c"]


def scored(folder: Path, logits: torch.Tensor, labels=LABELS, ids=IDS, classes=None) -> Path:
    """Write the reports of a scoring into folder/test, and return the folder."""
    known = torch.tensor(labels)
    metrics = compute_metrics(logits, known)
    write_reports(Evaluation(ids, known, logits, 1.0, 1.0, SINGLE_VIEW, metrics, classes), folder / "test")
    return folder


def logits(seed: int) -> torch.Tensor:
    return 3 * torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))


def test_what_was_written_is_read_back_in_the_order_of_ids(tmp_path: Path):
    read = read_predictions(scored(tmp_path, logits(0)) / "test")
    order = np.argsort(IDS)
    assert read.clip_ids == sorted(IDS)
    assert read.labels.tolist() == [LABELS[place] for place in order]
    assert read.scores == pytest.approx(logits(0).double().softmax(dim=1).numpy()[order], rel=1e-6)
    assert read.hits.tolist() == (logits(0).argmax(dim=1) == torch.tensor(LABELS)).double().numpy()[order].tolist()


def test_both_ways_of_fusing_are_their_formulas(tmp_path: Path):
    one, two, three = (read_predictions(scored(tmp_path / str(n), logits(n)) / "test") for n in range(3))
    order = np.argsort(IDS)
    weights = [1.0, 1.5, 0.5]
    raw = [logits(n).double()[order] for n in range(3)]
    probabilities = sum(weight * each.softmax(dim=1) for weight, each in zip(weights, raw, strict=True)) / 3
    assert fuse([one, two, three], weights).scores == pytest.approx(probabilities.numpy(), rel=1e-6)
    late = (sum(weight * each for weight, each in zip(weights, raw, strict=True)) / 3).softmax(dim=1)
    assert fuse([one, two, three], weights, "logits").scores == pytest.approx(late.numpy(), rel=1e-6)


def test_a_score_of_zero_has_a_logarithm():
    sure, unsure = (
        Predictions(Path(), ["a"], np.array([0]), np.array([scores]), None) for scores in ([1.0, 0.0], [0.5, 0.5])
    )
    assert fuse([sure, unsure], level="logits").scores.tolist() == [[1.0, pytest.approx(0, abs=1e-150)]]


def test_classes_are_matched_by_name_whatever_their_order(tmp_path: Path):
    first = scored(tmp_path / "one", logits(0), classes=["cut", "open", "wash"])
    moved = logits(1)[:, [2, 0, 1]]  # of wash, cut, open
    other = scored(tmp_path / "two", moved, [1, 2, 0, 2], classes=["wash", "cut", "open"])
    same = scored(tmp_path / "three", logits(1), classes=["cut", "open", "wash"])
    one, two, three = (read_predictions(folder / "test") for folder in (first, other, same))
    assert fuse([one, two]).scores == pytest.approx(fuse([one, three]).scores)
    assert fuse([one, two]).labels.tolist() == one.labels.tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": ["b", "a", "d", "e"]}, "one/test and .*two/test: not of the same clips; in one alone: c, e"),
        ({"ids": ["b", "a", "a", "c"]}, "not of the same clips; in one alone: d"),
        ({"labels": [0, 1, 2, 0]}, "clip c has label 1 in the first and 0 in the other"),
        ({"logits": torch.zeros(4, 2), "labels": [0, 1, 0, 1], "classes": ["cut", "open"]}, "3 and 2 of them"),
        ({"classes": ["cut", "open", "pour"]}, "not of the same classes; in one alone: pour, wash"),
    ],
)
def test_other_clips_labels_or_classes_are_refused(change: dict, message: str, tmp_path: Path):
    given = {"logits": logits(1), "classes": ["cut", "open", "wash"], **change}
    folders = [scored(tmp_path / "one", logits(0), classes=["cut", "open", "wash"]), scored(tmp_path / "two", **given)]
    with pytest.raises(UserError, match=message):
        fuse([read_predictions(folder / "test") for folder in folders])


@pytest.mark.parametrize("content", ["", "clip_id,label\na,0\n", "clip_id,label,score_0\na,0\n", "\0", "a,\xff\n"])
def test_damaged_predictions_are_one_message(content: str, tmp_path: Path):
    path = scored(tmp_path, logits(0)) / "test" / "predictions.csv"
    path.write_text(content, "latin-1")
    with pytest.raises(UserError, match=r"predictions.csv: damaged \([^\n]*\); score that split anew"):
        read_predictions(path.parent)


def test_the_command_writes_what_a_scoring_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rgb, flow = scored(tmp_path / "rgb", logits(0)), scored(tmp_path / "flow", logits(1))
    assert ensemble.main([str(rgb), str(flow / "test"), "--weights", "1", "1.5", "--level", "logits"]) == 0
    folder = tmp_path / "rgb+test" / "test"
    assert f"written to {folder}" in capsys.readouterr().out
    late = (logits(0).double() + 1.5 * logits(1).double()) / 2.5
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["top1"] == float((late.argmax(dim=1) == torch.tensor(LABELS)).double().mean())
    assert metrics["loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(late, torch.tensor(LABELS))))
    assert metrics["checkpoint"] == f"1 x {rgb} + 1.5 x {flow}/test, mean of logits"
    assert {path.name for path in folder.iterdir()} == {path.name for path in (rgb / "test").iterdir()}
    assert ensemble.main([str(rgb), str(folder), "-o", str(tmp_path / "again"), "--quiet"]) == 0  # of an ensemble again


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["rgb"], 2, "--fuse: found one run, allowed: two and more"),
        (["rgb", "flow", "--weights", "1"], 2, "--weights: found 1, allowed: one for each of the 2 runs"),
        (["rgb", "flow", "--weights", "0", "0"], 2, "--weights: found 0 0"),
        (["rgb", "flow", "--weights", "1", "nan"], 2, "--weights: found 1 nan"),
        (["rgb", "gone"], 1, "gone/test/metrics.json: no such file; score that split first, by eval.py"),
        (["rgb", "flow", "--split", "val"], 1, "rgb/val/metrics.json: no such file"),
    ],
)
def test_mistakes_are_one_message(words: list[str], code: int, message: str, tmp_path: Path, capsys, monkeypatch):
    scored(tmp_path / "rgb", logits(0))
    scored(tmp_path / "flow", logits(1))
    monkeypatch.chdir(tmp_path)
    assert ensemble.main(words) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
