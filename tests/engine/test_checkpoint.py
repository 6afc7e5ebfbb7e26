"""Checkpoints are whole, hold no code, and know their config."""

import argparse
from pathlib import Path

import pytest
import torch

from configs import UserError
from engine.checkpoint import config_differences, load_checkpoint, save_checkpoint


def test_a_state_comes_back_as_it_was(tmp_path: Path):
    state = {"model": {"w": torch.arange(3)}, "config": {"a": 1, "b": [0.1, None, "x"]}}
    save_checkpoint(tmp_path / "last.pt", state)
    again = load_checkpoint(tmp_path / "last.pt")
    assert torch.equal(again["model"]["w"], torch.arange(3))
    assert again["config"] == state["config"]


def test_an_object_in_a_checkpoint_is_refused_not_run(tmp_path: Path):
    torch.save({"model": argparse.Namespace(), "config": {}}, tmp_path / "last.pt")
    with pytest.raises(UserError, match=r"last.pt: "):
        load_checkpoint(tmp_path / "last.pt")


@pytest.mark.parametrize("keep", [0, 10, 500])
def test_a_cut_checkpoint_is_refused(tmp_path: Path, keep: int):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"model": {"w": torch.arange(1000)}, "config": {}})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"last.pt: "):
        load_checkpoint(path)


def test_other_files_of_tensors_are_told_apart(tmp_path: Path):
    torch.save({"w": torch.arange(3)}, tmp_path / "weights.pt")
    with pytest.raises(UserError, match=r"weights.pt: not a checkpoint of train.py"):
        load_checkpoint(tmp_path / "weights.pt")


def test_a_write_that_fails_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"model": {}, "config": {"epoch": 1}})

    def half(state: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(UserError, match=r"last.pt: cannot be written: No space left on device; what was"):
        save_checkpoint(path, {"model": {}, "config": {"epoch": 2}})
    monkeypatch.undo()
    assert load_checkpoint(path)["config"] == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_differences_are_named_by_key_with_both_values():
    before = {"seed": 0, "train": {"lr": 0.1, "epochs": 5}, "model": {"width": 1}}
    now = {"seed": 0, "train": {"lr": 0.2, "epochs": 9}, "model": {"width": 1, "order": "x"}}
    found = config_differences(before, now, free=("train.epochs",))
    assert found == ["train.lr: was 0.1, is 0.2", "model.order: was None, is 'x'"]
