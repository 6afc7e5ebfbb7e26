"""Checkpoints are whole, hold no code, and know their config."""

import argparse
from pathlib import Path

import pytest
import torch

from configs import UserError
from engine.runs.checkpoint import config_differences, load_checkpoint, save_checkpoint


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


def test_a_flipped_bit_of_a_checkpoint_is_refused_or_harmless(tmp_path: Path):
    path = tmp_path / "last.pt"
    state = {"model": {"w": torch.arange(50.0), "v": torch.ones(3)}, "config": {"a": 1}}
    save_checkpoint(path, state)
    whole = path.read_bytes()
    num_refused = 0
    positions = range(0, len(whole), 5)
    for position in positions:
        bit = 1 << position % 8
        path.write_bytes(whole[:position] + bytes([whole[position] ^ bit]) + whole[position + 1 :])
        try:
            found = load_checkpoint(path)
        except UserError as error:
            assert str(error).startswith(f"{path}: ")  # noqa: PT017
            num_refused += 1
        else:
            assert found["config"] == state["config"]
            assert all(torch.equal(found["model"][name], value) for name, value in state["model"].items())
    assert num_refused > len(positions) / 2


def test_what_torch_would_read_as_a_folder_is_refused(tmp_path: Path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"model": {"w": torch.arange(50.0)}, "config": {}})
    data = bytearray(path.read_bytes())
    member = data.rindex(b"PK\x01\x02", 0, data.rindex(b"/data/0"))
    data[member + 38] |= 0x10
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"last.pt: damaged .*data/0 is not as it was saved"):
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
