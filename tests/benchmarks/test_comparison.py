"""docs/comparison.md is written from runs: each task between its markers, X-Norm's summary from all of them."""

import re
import shutil
from pathlib import Path

import pytest

import demo
from benchmarks import comparison
from tests import runs
from tests.engine.runs.test_comparison import MakeRun, hits
from tests.engine.runs.test_comparison import run as run  # a fixture

data, arguments, config = runs.data, runs.arguments, runs.config  # fixtures


@pytest.fixture
def document(tmp_path: Path) -> Path:
    return Path(shutil.copy(comparison.DOCUMENT, tmp_path / "comparison.md"))


def section(document: Path, name: str) -> str:
    (body,) = re.findall(rf"<!-- bench:{name} -->(.*?)<!-- /bench:{name} -->", document.read_text(), re.DOTALL)
    return str(body)


def test_the_document_has_markers_for_the_summary_and_each_task_and_no_other():
    assert re.findall("<!-- bench:(.*?) -->", comparison.DOCUMENT.read_text()) == ["summary", *demo.DEMOS]


def test_tasks_that_are_named_are_written_and_nothing_else(document: Path, run: MakeRun, tmp_path: Path):
    before = {name: section(document, name) for name in demo.DEMOS}
    late = run("late", "model.fusion=late", hits=hits(*range(10)))
    run("xnorm", hits=hits(*range(20)))
    run("early", "model.fusion=early", hits=hits(*range(1, 20)))
    run("unfinished", "train.epochs=90", "model.fusion=tfn", epochs=3)
    command = [f"binding={late.parent}", "-o", str(document)]
    assert comparison.main(command) == 0
    assert {name for name in demo.DEMOS if section(document, name) != before[name]} == {"binding"}
    binding = section(document, "binding")
    assert "| late | late | test | 20 | 0 | 1 | 50.0% | 30.0 to 70.0 | 25.0% |" in binding
    assert "`clip.num_frames=8`, `clip.crop_size=32`, `loader.batch_size=4`, `train.epochs=2`" in binding
    assert "; 3 trainings of 1.5 minutes on average." in binding
    assert str(tmp_path) not in document.read_text()
    assert (tmp_path / "img" / "comparison-binding.png").read_bytes().startswith(b"\x89PNG")
    summary = section(document, "summary")
    assert "| xnorm, points more than | binding |" in summary
    assert re.search(r"\| late \| \+50.0 \[\+30.0, \+70.0\] \|", summary)
    assert "- **binding**: xnorm is ahead of late; behind none; not told apart from early." in summary
    once = document.read_text()
    assert comparison.main(command) == 0
    assert document.read_text() == once


def test_without_runs_or_with_another_task_nothing_is_written(
    document: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    before = document.read_text()
    monkeypatch.chdir(tmp_path)
    assert comparison.main(["-o", str(document)]) == 1
    assert "make compare trains them" in capsys.readouterr().err
    assert comparison.main([f"xor={tmp_path}", "-o", str(document)]) == 1
    assert "no finished run" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        comparison.main([f"addition={tmp_path}"])
    assert "allowed: additive, xor, binding, each with =FOLDER" in capsys.readouterr().err
    assert document.read_text() == before


def test_faults_that_are_not_there_are_scored_once(document: Path, run: MakeRun, monkeypatch: pytest.MonkeyPatch):
    scored: list[list[str]] = []

    def score(words: list[str]) -> int:
        scored.append(words)
        folder = Path(words[0]) / "test-corrupt"
        folder.mkdir()
        known = {"stream": "flow", "kind": "missing", "severity": 1.0, "top1": 0.25, "low": 0.2, "high": 0.3}
        content = comparison.robustness.Robustness(
            checkpoint="best.pt", split="test", clips=20, scores=[known | {"mean_class": 0.25}]
        )
        (folder / "corruption.json").write_text(content.model_dump_json())
        return 0

    monkeypatch.setattr(comparison.evaluation, "main", score)
    late, _, _ = run("late", "model.fusion=late"), run("rgb", "model.fusion=rgb"), run("flow", "model.fusion=flow")
    command = [f"xor={late.parent}", "--score", "-o", str(document)]
    assert comparison.main(command) == comparison.main(command) == 0
    (words,) = scored  # of late alone: one stream has no other, and an ensemble no weights
    assert words[:4] == [str(late), "--split", "test", "--quiet"]
    assert set(comparison.FAULTS) < set(words)
    assert "| late | late | 25.0% |" in section(document, "xor")
