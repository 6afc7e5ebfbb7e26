"""The checks that wait for a GPU go all their ways in a dry run on the CPU, and find there what is known of it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_check.__main__ import CHECKS, DRY, main, perform, table
from benchmarks.gpu_check.base import CONFIGS, Check, Row, Setup
from configs import load_config
from models import FUSIONS
from tests.conftest import pack_tree

LATER = float("inf")


@pytest.fixture(scope="module")
def setup(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Setup:
    restarts = pack_tree(tree, "restarts", "data.codec=jpeg-restarts").parent
    annotations = f"data.annotations={{train: [{tree / 'train.csv'}]}}"
    overrides = ("data.preset=none", annotations, f"data.shards={tree / 'shards'}", *DRY)
    return Setup(
        config=load_config(CONFIGS / "xnorm.yaml", overrides),
        overrides=overrides,
        device=torch.device("cpu"),
        folder=tmp_path_factory.mktemp("checks"),
        restarts=restarts,
        is_dry=True,
        steps=1,
        learning_steps=2,
        loaded=4,
    )


def rows(name: str, setup: Setup) -> list[Row]:
    found = perform(CHECKS[name], setup, LATER)
    assert (found["status"], found["why"]) == ("done", "")
    assert CHECKS[name].about in table(CHECKS[name], found)
    return found["rows"]


@pytest.mark.slow
def test_every_way_of_loading_gives_the_same_pixels(setup: Setup) -> None:
    found = rows("loaders", setup)
    assert len(found) == 2 + 3 * 3
    assert {row["largest levels off"] for row in found} == {0.0}
    assert all(row["clips/s"] > 0 for row in found)


@pytest.mark.slow
def test_training_is_the_same_again_and_resumed(setup: Setup) -> None:
    for row in rows("resume", setup):
        assert row["tensors"] > 100
        assert (row["different when run again"], row["different when resumed"]) == (0, 0)


@pytest.mark.slow
def test_every_method_has_a_row(setup: Setup) -> None:
    assert [row["method"] for row in rows("methods", setup)] == list(FUSIONS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convolutions", "memory_format", "end_to_end", "amp", "memory"])
def test_a_check_goes_all_its_ways(name: str, setup: Setup) -> None:
    found = rows(name, setup)
    least = {"convolutions": 20, "memory_format": 3, "end_to_end": 1, "amp": 2, "memory": 2}
    assert len(found) >= least[name]


@pytest.mark.slow
def test_the_command_makes_its_clips_and_trains_on_two_ranks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "gpu.json"
    assert main(["--dry-run", "--only", "memory", "ranks", "gpu_tests", "--json", str(report)]) == 0
    checks = json.loads(report.read_text())["checks"]
    assert [check["status"] for check in checks.values()][:2] == ["done", "done"]
    assert checks["ranks"]["rows"][0]["backend"] == "gloo"
    printed = capsys.readouterr().out
    assert "### ranks: two processes" in printed
    if not torch.cuda.is_available():
        assert "skipped in 0.0 s: needs 1 GPUs, found 0" in printed


def one(*found: Row) -> Check:
    def run(_: Setup) -> Iterator[Row]:
        yield from found

    return Check("one", "rows", run)


def judged(setup: Setup) -> Setup:
    return Setup(**{**vars(setup), "is_dry": False})


def test_a_row_that_is_not_as_it_has_to_be_fails_its_check_but_in_a_dry_run(setup: Setup) -> None:
    wrong = one({"ok": True}, {"ok": False})
    assert perform(wrong, judged(setup), LATER)["status"] == "failed"
    assert "| **no** |" in table(wrong, perform(wrong, judged(setup), LATER))
    assert perform(one({"ok": True}), judged(setup), LATER)["status"] == "done"
    assert perform(wrong, setup, LATER)["status"] == "done"


def test_a_check_that_fails_keeps_what_it_found_and_its_reason(setup: Setup) -> None:
    def run(_: Setup) -> Iterator[Row]:
        yield {"way": 1}
        raise RuntimeError("the device is lost")

    found = perform(Check("one", "rows", run), setup, LATER)
    assert (found["status"], found["why"], found["rows"]) == (
        "failed",
        "RuntimeError: the device is lost",
        [{"way": 1}],
    )


def test_a_check_is_skipped_when_there_is_no_time_left(setup: Setup) -> None:
    assert perform(one({}), setup, 0.0)["why"] == "no time left; --only runs it alone"
