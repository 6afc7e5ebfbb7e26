"""The contact sheet shows the clip that the model sees, and its numbers tell whether the streams belong together."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline import inspect
from pipeline.loader import ClipLoader
from pipeline.sheet import Sheet, colour_flow

ROOT = Path(__file__).parents[2]
LOADER = {"batch_size": 1, "num_frames": 8, "crop_size": 48, "prefetch": 1}


def run(split: Path, *arguments: str) -> int:
    overrides = [f"data.shards={split.parent}", "clip.crop_size=48", "clip.num_frames=8"]
    return inspect.main(["-c", str(ROOT / "configs" / "xnorm.yaml"), *overrides, *arguments])


def sheet_of(split: Path, clip: int, epoch: int = 0) -> tuple[Sheet, ClipLoader]:
    with ClipLoader(split, **LOADER) as loader:
        return Sheet.of(loader, loader.load([clip], epoch)), loader


def test_a_sheet_is_a_png_of_all_frames(split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, whole = tmp_path / "plain.png", tmp_path / "whole.png"
    assert run(split, "--clip", "P03_02_1", "-o", str(plain)) == 0
    assert run(split, "--clip", "P03_02_1", "--raw", "-o", str(whole)) == 0
    with Image.open(plain) as small, Image.open(whole) as large:
        assert large.height > 1.5 * small.height
    assert "P03_02_1  label 1" in capsys.readouterr().out


def test_it_shows_the_pixels_that_training_sees_in_that_epoch(split: Path) -> None:
    with ClipLoader(split, **LOADER) as loader:
        list(loader)
        batch = next(iter(loader))  # of epoch 1
        assert batch.rgb is not None
        shown, _ = sheet_of(split, int(batch.clips[0]), epoch=1)
        np.testing.assert_array_equal(shown.rgb, batch.rgb[0].permute(1, 2, 3, 0).numpy())


def test_loading_a_clip_does_not_move_the_order(split: Path) -> None:
    with ClipLoader(split, **LOADER) as loader, ClipLoader(split, **LOADER) as untouched:
        loader.load([5], epoch=9)
        assert [b.clips.tolist() for b in loader] == [b.clips.tolist() for b in untouched]


@pytest.mark.parametrize(("clip_id", "stride"), [("P01_01_1", 2), ("P02_101_1", 1)])
def test_the_numbers_of_both_streams_are_those_of_the_same_moment(split: Path, clip_id: str, stride: int) -> None:
    with ClipLoader(split, **LOADER) as loader:
        clip = loader.clip_ids.index(clip_id)
    sheet, _ = sheet_of(split, clip)
    assert sheet.flow_numbers == [(number - 1) // stride + 1 for number in sheet.rgb_numbers]


def test_a_wrong_pairing_shows_in_the_numbers(split: Path) -> None:
    """The published fault: every video read as if it had half as many flow frames."""
    with ClipLoader(split, **LOADER) as loader:
        clip = loader.clip_ids.index("P02_101_1")
        right = Sheet.of(loader, loader.load([clip], 0))
        wrong_numbers = ((loader.table.rgb_index - 1) // 2 + 1).astype(np.int32)
        loader.table = dataclasses.replace(loader.table, flow_index=wrong_numbers)
        wrong = Sheet.of(loader, loader.load([clip], 0))
    assert right.rgb_numbers == wrong.rgb_numbers
    assert right.flow_numbers != wrong.flow_numbers


def test_no_motion_is_white_and_directions_differ() -> None:
    still = torch.tensor([127, 128], dtype=torch.uint8).repeat(2, 1, 4, 2)  # both roundings of zero
    assert (colour_flow(still) == 255).all()
    flow = torch.full((2, 2, 4, 4), 128, dtype=torch.uint8)
    flow[0, 0], flow[0, 1] = 228, 28  # right, then left
    right, left = colour_flow(flow)[:, 0, 0]
    assert right.tolist() != left.tolist()


def test_an_unknown_clip_names_the_nearest(split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(split, "--clip", "P03_02_9", "-o", str(tmp_path / "sheet.png")) == 1
    assert "'P03_02_9' is not among the 8 clips" in capsys.readouterr().err


def test_the_first_clip_of_the_order_is_the_default(split: Path, tmp_path: Path) -> None:
    assert run(split, "--eval", "-o", str(tmp_path / "sheet.png")) == 0
    assert (tmp_path / "sheet.png").stat().st_size > 1000
