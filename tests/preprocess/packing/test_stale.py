"""Shards whose labels are not those of their annotations any more: one line says how many clips."""

import shutil
from pathlib import Path

import pytest

from common.display import Display
from configs.load import load_config
from preprocess.packing.stale import note_stale_labels
from tests.conftest import ROOT, Capture


def noted(shards: Path, annotations: Path, capsys: Capture) -> str:
    overrides = (f"data.shards={shards}", f"data.annotations={{train: [{annotations}]}}", "data.preset=none")
    data = load_config(ROOT / "configs/xnorm.yaml", overrides).data
    capsys.readouterr()
    note_stale_labels(data, ["train"], Display())
    return capsys.readouterr().out


def test_changed_labels_are_counted(tree: Path, tmp_path: Path, capsys: Capture) -> None:
    shards, annotations = tree / "shards", Path(shutil.copy(tree / "train.csv", tmp_path))
    assert noted(shards, annotations, capsys) == ""
    header, *rows = annotations.read_text().splitlines()
    assert rows[0] == "P01_01_0,P01,P01_01,1,20,0"
    changed = ["P01_01_0,P01,P01_01,1,20,7", *rows[1:-2], rows[-1].replace("_1,", "_9,")]
    annotations.write_text("\n".join([header, *changed]))
    said = noted(shards, annotations, capsys)
    assert f"note: {shards / 'train'}: of its 8 clips, 1 have other labels, 2 are no longer, 1 are new in" in said
    assert said.count("\n") == 1


def test_other_segments_are_noted(tree: Path, tmp_path: Path, capsys: Capture) -> None:
    annotations = tmp_path / "train.csv"
    annotations.write_text(
        (tree / "train.csv").read_text().replace("P01_01_0,P01,P01_01,1,20", "P01_01_0,P01,P01_01,2,20")
    )
    assert "segments lie elsewhere" in noted(tree / "shards", annotations, capsys)


@pytest.mark.parametrize("what", ["annotations", "shards"])
def test_what_is_not_here_says_nothing(tree: Path, tmp_path: Path, capsys: Capture, what: str) -> None:
    annotations = tmp_path / "none.csv" if what == "annotations" else tree / "train.csv"
    shards = tmp_path if what == "shards" else tree / "shards"
    assert noted(shards, annotations, capsys) == ""
