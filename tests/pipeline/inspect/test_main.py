"""The command draws the clips that it is asked for, and says when the streams do not belong together."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.inspect import __main__ as inspect
from pipeline.loader import ClipLoader
from preprocess.sources.frames import Numbers, Video
from tests import trees
from tests.conftest import Packer

ROOT = Path(__file__).parents[3]


def run(split: Path, *arguments: str) -> int:
    overrides = [f"data.shards={split.parent}", "clip.crop_size=48", "clip.num_frames=8"]
    return inspect.main(["-c", str(ROOT / "configs" / "xnorm.yaml"), *overrides, *arguments])


def test_a_sheet_is_a_png_and_raw_adds_to_it(split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, whole = tmp_path / "plain.png", tmp_path / "whole.png"
    assert run(split, "--clip", "P03_02_1", "-o", str(plain)) == 0
    assert run(split, "--clip", "P03_02_1", "--raw", "-o", str(whole)) == 0
    with Image.open(plain) as small, Image.open(whole) as large:
        assert large.height > small.height
    assert "P03_02_1   label 1   video P03_02: crop 48 x 48 at row " in capsys.readouterr().out


def test_the_sheet_of_raw_frames_is_that_of_their_jpegs(split: Path, raw_split: Path, tmp_path: Path) -> None:
    sheets = [tmp_path / "jpeg.png", tmp_path / "raw.png"]
    for folder, sheet in zip((split, raw_split), sheets, strict=True):
        assert run(folder, "--clip", "P03_02_1", "--raw", "-o", str(sheet)) == 0
    jpeg, raw = (np.asarray(Image.open(sheet)) for sheet in sheets)
    np.testing.assert_array_equal(jpeg, raw)


def test_a_batch_is_that_of_the_epochs_order(split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(split, "--batch", "3", "--epoch", "2", "-o", str(tmp_path / "batch.png")) == 0
    shown = [line.split()[0] for line in capsys.readouterr().out.splitlines()[:-1]]
    with ClipLoader(split, 3, 8, 48) as loader:
        plan = next(iter(loader.sampler.batches(2, 0)))
        assert shown == [loader.clip_ids[clip] for clip in plan.clips]


def test_evaluation_shows_the_centre(split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(split, "--eval", "-o", str(tmp_path / "sheet.png")) == 0
    assert "crop 48 x 48 at row 8, column 24 of 64 x 96, not mirrored" in capsys.readouterr().out


@pytest.mark.parametrize(("clip_id", "stride"), [("P01_01_1", 2), ("P02_101_1", 1)])
def test_both_streams_of_a_packed_split_show_the_same_moments(
    split: Path, clip_id: str, stride: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(split, "--clip", clip_id, "-o", str(tmp_path / "sheet.png")) == 0
    covered = "each RGB frame" if stride == 1 else "two RGB frames"
    assert f"show the same times: one flow frame for {covered}, by the video's id" in capsys.readouterr().out


def test_a_wrong_pairing_is_said(
    packer: Packer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The published fault, packed for real: every video read as if it had half as many flow frames."""

    def of_half_the_number(video: Video, rgb: Numbers) -> Numbers:
        return np.minimum((rgb - 1) // 2 + 1, video.last_flow)

    monkeypatch.setattr(Video, "flow_of", of_half_the_number)
    split = packer([trees.Video("P02_101")])
    # RGB frames 21 to 40, beside flow frames 11 to 20 instead of 21 to 40: 20 frames at 50 a second
    assert run(split, "--clip", "P02_101_1", "-o", str(tmp_path / "sheet.png")) == 0
    said = capsys.readouterr().out
    assert "WRONG: 8 of 8 flow frames are of another time than their RGB frames, up to 0.40 s away" in said


def test_an_unknown_clip_names_the_nearest(split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(split, "--clip", "P03_02_9", "-o", str(tmp_path / "sheet.png")) == 1
    assert "'P03_02_9' is not among the 8 clips" in capsys.readouterr().err


def test_quiet_says_nothing(split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(split, "--quiet", "-o", str(tmp_path / "sheet.png")) == 0
    assert capsys.readouterr().out == ""
