"""How far packing is: its pace worked out by hand, and that no phase is silent."""

import re
from pathlib import Path

import pytest

from preprocess.packing import report, split_plan, verify
from preprocess.packing.report import pace
from tests.conftest import pack_tree


def test_rate_and_time_left_follow_from_the_share_that_is_written() -> None:
    # A quarter of 400 MB and 40 clips in 5 s: the other three quarters take 15 s.
    assert pace(100_000_000, 400_000_000, 40, 5.0) == "2.0 clips/s  20.0 MB/s  0:00:15 left"
    assert pace(0, 400_000_000, 40, 5.0) == "0.0 clips/s  0.0 MB/s"
    assert pace(500, 400, 40, 5.0) == "8.0 clips/s  0.0 MB/s  0:00:00 left"  # more bytes than planned are the whole


def test_every_phase_says_how_far_it_is(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (split_plan, report, verify):
        monkeypatch.setattr(module, "PLAIN_OFTEN", -1.0)  # seconds of silence, three of which are too many
    pack_tree(tree, str(tmp_path / "shards"))
    pack_tree(tree, str(tmp_path / "shards"), "--verify")
    said = capsys.readouterr().out
    assert "train: looking at the frames  4/4 videos\n" in said
    assert re.search(r"^train  \d/1 MB  .* clips/s  .* MB/s", said, re.M)
    assert "train: re-reading  1/1 shards\n" in said
