"""train.py on several processes: the same curve as on one, and what a death among them does."""

import csv
import json
import signal
import time
from pathlib import Path

import pytest

import train
from engine.runs.checkpoint import load_checkpoint
from tests import runs
from tests.runs import MakeArguments
from tests.torchrun import DOUBLE, SIGNAL, compute_in_double, forked, torchrun

data, arguments, one_thread, undrawn = runs.data, runs.arguments, runs.one_thread, runs.undrawn  # fixtures

# Without dropout, which every rank draws for itself; six steps, three an epoch.
SAME = ("model.dropout=0.0", "train.log_every=1", "train.checkpoint_every=2")
# In fp64: rounding, which is not the same for 2 clips and for 4, grows from step to step under BatchNorm on few values.
SYNCHRONIZED, IN_DOUBLE = ("train.sync_batchnorm=true",), {DOUBLE: "1"}
FROZEN = ("model.freeze_trunk=true",)
DEATH = "1:5:9"  # the second rank, behind the second step of the second epoch


def curve(folder: Path) -> list[tuple[int, float, float]]:
    """Step, loss and gradient's norm of every training step that was logged."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"], line["grad_norm"]) for line in lines if line["kind"] == "train"]


def scores(folder: Path) -> list[list[str]]:
    with open(folder / "test" / "predictions.csv") as file:
        return list(csv.reader(file))[1:]


def assert_same_curve(found: Path, expected: Path) -> None:
    assert [step for step, _, _ in curve(found)] == [1, 2, 3, 4, 5, 6]
    for (_, loss, norm), (_, expected_loss, expected_norm) in zip(curve(found), curve(expected), strict=True):
        assert loss == pytest.approx(expected_loss, abs=1e-5)
        assert norm == pytest.approx(expected_norm, rel=1e-4)


@pytest.fixture(scope="module")
def alone(data: list[str], one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of a single process, `synchronized` and `frozen`."""
    folder = tmp_path_factory.mktemp("alone")
    common = ["-c", str(runs.CONFIG), *data, *runs.SMALL, *SAME, f"runs={folder}", "--quiet"]
    with pytest.MonkeyPatch.context() as patch:
        compute_in_double(patch)
        assert train.main([*common, *SYNCHRONIZED, "name=synchronized"]) == 0
    assert train.main([*common, *FROZEN, "name=frozen"]) == 0
    return folder


@pytest.mark.slow
def test_a_restarted_job_goes_on_by_itself_and_learns_and_predicts_what_one_process_does(
    arguments: MakeArguments, alone: Path, tmp_path: Path
) -> None:
    restart, environment = ["--max-restarts=1"], {**IN_DOUBLE, SIGNAL: DEATH}
    changed = arguments(*SAME, *SYNCHRONIZED)
    *printed, code = torchrun("tests.torchrun", *changed, ranks=2, options=restart, **environment)
    assert code == "0"
    assert any("another process of this run has died" in line for line in printed)  # the first attempt
    found = tmp_path / "runs" / "xnorm"
    assert_same_curve(found, alone / "synchronized")
    assert json.loads((found / "summary.json").read_text())["processes"] == 2
    for one, other in zip(scores(found), scores(alone / "synchronized"), strict=True):
        assert one[:3] == other[:3]  # clip, label, prediction
        assert list(map(float, one[3:])) == pytest.approx(list(map(float, other[3:])), abs=1e-5)


@pytest.mark.slow
def test_a_dead_rank_ends_the_others_and_one_process_goes_on_with_the_clips_that_are_left(
    arguments: MakeArguments, alone: Path, tmp_path: Path
) -> None:
    begin = time.monotonic()
    changed = arguments(*SAME, *FROZEN)
    printed, codes = forked("tests.torchrun", *changed, ranks=2, **{SIGNAL: DEATH})
    assert codes == [1, -signal.SIGKILL]  # the first noticed by itself
    assert time.monotonic() - begin < 60
    assert any("another process of this run has died, or does not answer any more" in line for line in printed)
    found = tmp_path / "runs" / "xnorm"
    assert load_checkpoint(found / "last.pt")["counters"]["step"] == 4  # one into the second epoch
    assert train.main([*changed, "--resume"]) == 0
    assert_same_curve(found, alone / "frozen")
